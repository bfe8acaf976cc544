"""The use case behind `workbench tokens`: rows of a file, source or version, and their tokens as plain data."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.chat import (
    Audit,
    Cut,
    Fitted,
    Issue,
    MaskPolicy,
    Tokenised,
    TrainingExample,
    audit,
    configured_stops,
    fit,
    tag_issues,
    tokenise,
    window,
)
from trainer.chat.audit import TAGGED
from workbench.errors import BadInput, NotFound, Stopped, UsageProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.chat import Truncation, Turns
    from trainer.chat.example import Special
    from workbench.formats.read import Opened
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class Row:
    """One conversation: its zero-based position, its id (a file's row number, else the example's), its JSON texts."""

    position: int
    id: int
    messages: str
    tools: str | None


class FileRows:
    """The rows of a file, read without a workspace. `rejected` counts those that are no conversation."""

    cache = None  # what is looked at in passing leaves nothing behind

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected = 0
        self._opened: Opened | None = None
        self._estimate = 0

    def total(self, done: int) -> int | None:
        """How many rows there are, as far as the `done` ones and the bytes they took tell; None at the start.

        An estimate is kept until it is a tenth off: a progress bar begins to measure anew with each total.
        """
        if self._opened is None or not self._opened.done_bytes:
            return None
        guess = max(done, round(done * self._opened.total_bytes / self._opened.done_bytes))
        if done > self._estimate or abs(guess - self._estimate) > self._estimate / 10:
            self._estimate = guess
        return self._estimate

    def __iter__(self) -> Iterator[Row]:
        from workbench.formats.read import Record, open_source

        self.rejected = 0
        self._opened = open_source(self.path)
        for entry in self._opened.rows():
            if isinstance(entry, Record):
                yield Row(entry.row, entry.row, entry.messages, entry.tools)
            else:
                self.rejected += 1


class WorkspaceRows:
    """The rows of a source or version, in order. Raises NotFound for a name that is neither."""

    rejected = 0

    def __init__(self, workspace: Workspace, name: str) -> None:
        from trainer.chat.cache import TokenCache
        from workbench.store.members import resolve

        self.cache = TokenCache(workspace.cache_dir / "tokens")
        self.workspace = workspace
        self.name = name
        self._total = resolve(workspace.store, name).rows

    def total(self, done: int) -> int | None:
        """How many rows there are, however many are `done`."""
        return self._total

    def __iter__(self) -> Iterator[Row]:
        position = 0
        for batch in self.workspace.rows(self.name):
            columns = (batch.column(name).to_pylist() for name in ("id", "messages", "tools"))
            for id_, messages, tools in zip(*columns, strict=True):
                yield Row(position, id_, messages, tools)
                position += 1


Rows = FileRows | WorkspaceRows


def is_file(target: str) -> bool:
    """Whether `target` names a file. Raises BadInput where it can only be one, and is not there."""
    path = Path(target).expanduser()
    if path.is_file():
        return True
    if path.suffix.lower() in {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz"} or path.is_absolute():
        raise BadInput("there is no such file", where=target, do="Check the path.")
    return False


def rows_at(rows: Rows, position: int) -> list[Row]:
    """The conversations of the row at `position`: one, or several of a file's row that holds several.

    Raises NotFound with what there is.
    """
    last = -1
    found: list[Row] = []
    for row in rows:
        last = row.position
        if last == position:
            found.append(row)
        elif last > position:
            break
    if found:
        return found
    if last > position:
        raise NotFound(f"row {position} is not a conversation", do="`workbench import` says why it is rejected.")
    there = f"the rows are numbered 0 to {last}" if last >= 0 else "there are no rows"
    raise NotFound(f"there is no row {position}; {there}", do="Give one of these numbers.")


def first_rows(rows: Rows, limit: int | None) -> Iterator[Row]:
    """The first `limit` rows, or all."""
    return islice(iter(rows), limit)


@dataclass(frozen=True)
class Lens:
    """A model's view of conversations: its tokenizer and template, which tokens are trained, and how long is too long.

    `limit` is in tokens, `limit_is` says where it comes from, `truncate` what becomes of longer rows.
    """

    model: str
    tokenizer: PreTrainedTokenizerBase
    policy: MaskPolicy
    limit: int
    limit_is: str
    truncate: Truncation

    @property
    def label(self) -> str:
        """A short name for tables: a folder's last part, a hub name without its organisation."""
        return Path(self.model).name or self.model


@dataclass(frozen=True)
class Seen:
    """One row through a lens: its tokens as they stand, and what of them is left under the limit."""

    row: Row
    done: Tokenised
    fitted: Fitted
    tags: Sequence[Issue] = ()

    @property
    def issues(self) -> list[Issue]:
        """What a person should know of the row, the limit's doing and what the template's own tags say included."""
        return [*self.done.issues, *self.tags, *self.fitted.issues]

    @property
    def cut_away(self) -> bool:
        """Whether tokens of an example that is trained are cut away."""
        return any(cut.end > cut.start for cut in self.fitted.cuts)

    def parts(self) -> Iterator[tuple[Cut | None, list[TrainingExample]]]:
        """For each example of the row what the limit does to it, and what there is to show of it.

        That is the example as it stands, with marks on what is trained after a cut; without its oldest turns, what
        was made of the rest.
        """
        cuts = {cut.example: cut for cut in self.fitted.cuts}
        fitted = iter(self.fitted.examples)
        for number, example in enumerate(self.done.examples):
            cut = cuts.get(number)
            left = list(islice(fitted, cut.kept if cut else 1))
            if cut is None or cut.dropped:
                yield cut, left
            elif not left:
                yield cut, [example]
            else:
                behind = len(example.input_ids) - cut.end
                yield cut, [replace(example, trained=[False] * cut.start + left[0].trained + [False] * behind)]


@dataclass(frozen=True)
class AuditReport:
    """All rows through a lens. `ids` gives the example's id for each key in the audit's issues."""

    lens: Lens
    audit: Audit
    ids: Callable[[int], int]


def lens(
    model: str,
    *,
    turns: Turns = "all",
    date: str | None = None,
    template_args: Mapping[str, Any] | None = None,
    tool_calls: bool = True,
    reasoning: bool = True,
    special: Special = "flag",
    template: str | None = None,
    add_tokens: bool = False,
    max_length: int | None = None,
    truncate: Truncation = "drop",
) -> Lens:
    """The lens of a command line. Without `max_length` the limit is training's, or the model's where that is less.

    `template` and `add_tokens` are those of `trainer.chat.plain_formats.with_template`.

    Raises ModelUnavailable where the tokenizer cannot be had, UsageProblem for arguments that cannot be read.
    """
    from trainer.chat.plain_formats import with_template
    from trainer.models import load_tokenizer, resolve_model
    from trainer.plan import SHORT

    tokenizer = load_tokenizer(model)
    if template is not None:
        tokenizer = with_template(tokenizer, template, add_tokens=add_tokens)
    elif add_tokens:
        raise UsageProblem("there are no tokens to add without a template", do="Name one with --template.")
    policy = MaskPolicy(
        turns=turns,
        template_args=tuple(sorted((template_args or {}).items())),
        date=date,
        stop_ids=configured_stops(resolve_model(model, weights=False).path),
        tool_calls=tool_calls,
        reasoning=reasoning,
        special=special,
    )
    limit, limit_is = max_length, "--max-length"
    if limit is None:
        limit, limit_is = SHORT.max_length, "what training takes"
        most = window(tokenizer, resolve_model(model, weights=False).path)
        if most is not None and most < limit:
            limit, limit_is = most, "what the model can see"
    return Lens(model, tokenizer, policy, limit, limit_is, truncate)


def template_args(given: Sequence[str]) -> dict[str, Any]:
    """Template arguments, each `name=value` with the value as JSON or else as text. Raises UsageProblem."""
    parsed: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageProblem(f"cannot read the template argument {text!r}", do="Write it as name=value.")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed


def see(lens: Lens, row: Row, *, tags: bool = False) -> Seen:
    """One row through the lens; with `tags` compared with the generation tags of the template, where it has some."""
    messages, tools = json.loads(row.messages), json.loads(row.tools) if row.tools else None
    done = tokenise(lens.tokenizer, messages, tools, lens.policy)
    fitted = fit(lens.tokenizer, done, messages, tools, lens.policy, limit=lens.limit, how=lens.truncate)
    theirs = tag_issues(lens.tokenizer, messages, tools, lens.policy) if tags else None
    return Seen(row, done, fitted, theirs or ())


def audit_rows(
    lens: Lens, rows: Rows, limit: int | None = None, progress: Callable[[int, int | None, str], None] | None = None
) -> AuditReport:
    """The first `limit` rows, or all, through the lens; of their text nothing is kept.

    Raises Stopped where the user stops it.
    """
    ids = array("q")
    done = 0

    def entries() -> Iterator[tuple[int, str, str | None]]:
        for row in first_rows(rows, limit):
            ids.append(row.id)
            yield row.position, row.messages, row.tools

    def tell(count: int) -> None:
        nonlocal done
        done = count
        if progress:
            progress(count, limit or rows.total(count), f"tokenising ({lens.label})")

    try:
        found = audit(
            entries(),
            lens.tokenizer,
            lens.policy,
            limit=lens.limit,
            how=lens.truncate,
            cache=rows.cache,
            on_row=tell,
            tagged=TAGGED,
        )
    except KeyboardInterrupt:
        kept = "What was tokenised is kept for the next time." if rows.cache else "Nothing was written."
        raise Stopped(f"Stopped after {done:,} rows", do=kept) from None
    by_position = isinstance(rows, WorkspaceRows)  # a file's rows are named by their place in it, rejected ones counted
    return AuditReport(lens, found, lambda key: ids[key] if by_position else key)


def new_audit(lens: Lens) -> Audit:
    """An empty audit under the lens, to add rows to."""
    return Audit(lens.limit, lens.truncate, lens.policy.turns)


def labels(lenses: Sequence[Lens]) -> list[str]:
    """A name for each lens, short where that tells them apart."""
    short = [lens.label for lens in lenses]
    return short if len(set(short)) == len(short) else [lens.model for lens in lenses]


def audit_data(report: AuditReport) -> dict[str, Any]:
    """An audit for other programs."""
    data = report.audit.as_dict()
    ids = {kind: [report.ids(key) for key in keys] for kind, keys in data["issue_rows"].items()}
    return {"model": report.lens.model, **data, "issue_ids": ids}


def row_data(seen: Seen, lens: Lens) -> dict[str, Any]:
    """One row's tokens for other programs.

    Where a row became several training examples, `text` and `tokens` are those of all, one after the other, and
    `examples` tells them apart. A token's `text` is what it came from; the tokens of one character share it. All of
    this is the row without a limit; `cuts` says what a limit does to each example that is longer, `left` what remains.
    """
    row, done, fitted = seen.row, seen.done, seen.fitted
    tokens = [
        {"id": id_, "text": example.text[start:end], "role": role, "trained": trained, "special": special}
        for example in done.examples
        for id_, (start, end), role, trained, special in zip(
            example.input_ids, example.offsets, example.roles, example.trained, example.special, strict=True
        )
    ]
    return {
        "model": lens.model,
        "row": row.position,
        "id": row.id,
        "text": "".join(example.text for example in done.examples),
        "tokens": tokens,
        "trained": sum(sum(example.trained) for example in done.examples),
        "total": len(tokens),
        "issues": [{"kind": issue.kind, "turn": issue.turn, "detail": issue.detail} for issue in seen.issues],
        "examples": [
            {"turns": list(example.turns), "trained": sum(example.trained), "total": len(example.input_ids)}
            for example in done.examples
        ],
        "limit": lens.limit,
        "truncate": lens.truncate,
        "cuts": [asdict(cut) for cut in fitted.cuts],
        "left": {
            "examples": len(fitted.examples),
            "tokens": sum(len(example.input_ids) for example in fitted.examples),
            "trained": sum(sum(example.trained) for example in fitted.examples),
        },
    }
