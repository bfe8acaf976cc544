"""The use case behind `workbench tokens`: rows of a file, source or version, and their tokens as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.chat import MaskPolicy, Tokenised, configured_stops, tokenise
from workbench.errors import BadInput, NotFound, UsageProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.chat import Turns
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejected = 0

    def __iter__(self) -> Iterator[Row]:
        from workbench.formats.read import Record, open_source

        self.rejected = 0
        for entry in open_source(self.path).rows():
            if isinstance(entry, Record):
                yield Row(entry.row, entry.row, entry.messages, entry.tools)
            else:
                self.rejected += 1


class WorkspaceRows:
    """The rows of a source or version, in order."""

    rejected = 0

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name

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


def one_row(rows: Rows, position: int) -> Row:
    """The row at `position`. Raises NotFound with what there is."""
    last = -1
    for row in rows:
        last = row.position
        if last == position:
            return row
        if last > position:
            raise NotFound(f"row {position} is not a conversation", do="`workbench import` says why it is rejected.")
    there = f"the rows are numbered 0 to {last}" if last >= 0 else "there are no rows"
    raise NotFound(f"there is no row {position}; {there}", do="Give one of these numbers.")


def first_rows(rows: Rows, limit: int | None) -> Iterator[Row]:
    """The first `limit` rows, or all."""
    return islice(iter(rows), limit)


def mask_policy(model: str, turns: Turns, date: str | None, template_args: tuple[str, ...]) -> MaskPolicy:
    """The policy of a command line. `template_args` are `key=value`, the value as JSON or else as text."""
    from trainer.models import resolve_model

    parsed: dict[str, Any] = {}
    for given in template_args:
        key, equals, value = given.partition("=")
        if not equals or not key.isidentifier():
            raise UsageProblem(f"cannot read the template argument {given!r}", do="Write it as name=value.")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    stops = configured_stops(resolve_model(model, weights=False).path)
    return MaskPolicy(turns=turns, template_args=tuple(sorted(parsed.items())), date=date, stop_ids=stops)


def tokenise_row(tokenizer: PreTrainedTokenizerBase, row: Row, policy: MaskPolicy) -> Tokenised:
    """The tokens of one row."""
    return tokenise(tokenizer, json.loads(row.messages), json.loads(row.tools) if row.tools else None, policy)


def row_data(row: Row, done: Tokenised) -> dict[str, Any]:
    """One row's tokens for other programs.

    Where a row became several training examples, `text` and `tokens` are those of all, one after the other, and
    `examples` tells them apart. A token's `text` is what it came from; the tokens of one character share it.
    """
    tokens = [
        {"id": id_, "text": example.text[start:end], "role": role, "trained": trained, "special": special}
        for example in done.examples
        for id_, (start, end), role, trained, special in zip(
            example.input_ids, example.offsets, example.roles, example.trained, example.special, strict=True
        )
    ]
    return {
        "row": row.position,
        "id": row.id,
        "text": "".join(example.text for example in done.examples),
        "tokens": tokens,
        "trained": sum(sum(example.trained) for example in done.examples),
        "total": len(tokens),
        "issues": [{"kind": issue.kind, "turn": issue.turn, "detail": issue.detail} for issue in done.issues],
        "examples": [
            {"turns": list(example.turns), "trained": sum(example.trained), "total": len(example.input_ids)}
            for example in done.examples
        ],
    }
