"""Bringing files into a workspace: as sources to curate, or as eval sets to measure with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filters.step import Progress
from trainer.conversation import canonical_json, content_text
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Opened, Record, Reject, file_hash, open_source
from workbench.formats.shapes import UNKNOWN
from workbench.store.database import Store
from workbench.store.evalsets import (
    EvalItem,
    EvalSet,
    add_eval_set,
    hold_out_order,
    normalised_prompt,
    overlapping,
    read_examples,
)
from workbench.store.members import Named, find
from workbench.store.sources import (
    SourceWriter,
    duplicates_of_known,
    reject_reasons,
    same_import,
    set_license,
)

_BATCH = 2000  # rows between two writes
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_MOST_REJECTED = 0.5
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class ImportReport:
    """What came of an import. `already` when the same bytes had been imported the same way: nothing was added."""

    source: str
    format: str
    rows: int
    imported: int
    rejected: int
    duplicates_of_known: int
    reasons: list[tuple[str, int, int]]  # (reason, how many rejects, the first of their rows)
    already: bool = False


@dataclass(frozen=True)
class EvalImport:
    """What came of making an eval set: rejected (row, reason), and how many rows of its source share its prompts."""

    evalset: EvalSet
    new: bool
    rejected: list[tuple[int, str]] = field(default_factory=list)
    overlaps: int = 0


def check_name(name: str) -> str:
    """`name`, if sources, versions and eval sets can be called so. Raises UsageProblem otherwise."""
    if _NAME.fullmatch(name):
        return name
    raise UsageProblem(
        f"{name!r} cannot be a name",
        do="Use letters, digits and . _ - + (at most 100, starting with a letter or digit).",
    )


def import_file(
    store: Store,
    path: Path,
    *,
    name: str | None,
    format: str | None,
    mapping: dict[str, str] | None,
    license: str | None,
    progress: Progress | None,
) -> ImportReport:
    """Import `path` as one source, in one transaction: all of it or, after an error or a kill, nothing.

    Raises UsageProblem where the name is taken, BadInput where no row, or less than half, can be used.
    """
    opened = _open(path, format, mapping)
    mapping = mapping or {}
    hashed = file_hash(path)
    known = same_import(store, hashed, opened.format, mapping)
    if known:
        if license:
            set_license(store, known.id, license)
        reasons = reject_reasons(store, known.id, _SHOWN_REASONS)
        return ImportReport(
            known.name, known.format, known.rows, known.imported, known.rejected, known.imported, reasons, already=True
        )
    name = check_name(name) if name else _name_of(path)
    taken = find(store, name)
    if taken:
        raise UsageProblem(
            f"there is a {taken.kind} {name!r} already, with other content",
            where=str(path),
            do=f"Give this one a name of its own: --name {name}-2.",
        )
    with store.transaction() as cursor:
        writer = SourceWriter(cursor)
        _check_enough(writer, opened, _write_rows(writer, opened, progress))
        writer.finish(name, str(path.resolve()), opened.format, hashed, license, mapping)
    source_id = writer.source_id
    return ImportReport(
        name,
        opened.format,
        writer.imported + writer.rejected,
        writer.imported,
        writer.rejected,
        duplicates_of_known(store, source_id),
        reject_reasons(store, source_id, _SHOWN_REASONS),
    )


def import_evalset(store: Store, path: Path, name: str, progress: Progress | None) -> EvalImport:
    """Freeze the usable rows of `path` as an eval set: those with a prompt and a last turn that answers it.

    The metadata `task` or `category` becomes the slice, `cluster` the cluster (else each item is its own).
    Raises BadInput where no row can be used.
    """
    check_name(name)
    opened = _open(path, None, None)
    items: list[EvalItem] = []
    rejected: list[tuple[int, str]] = []
    for row in _told(opened, progress):
        if isinstance(row, Reject):
            rejected.append((row.row, row.reason))
        elif problem := reference_problem(row.messages):
            rejected.append((row.row, problem))
        else:
            items.append(_eval_item(row.messages, row.tools, row.meta, len(items)))
    if not items:
        counts = Counter(reason for _, reason in rejected).most_common(_SHOWN_REASONS)
        raise BadInput(
            f"no row can be an eval item: {_list_reasons(counts)}",
            where=str(path),
            do="An item is a prompt and, as its last turn, the reference answer.",
        )
    made, new = add_eval_set(store, name, items)
    return EvalImport(made, new, rejected)


def hold_out(store: Store, named: Named, name: str, n: int, seed: int) -> EvalImport:
    """Freeze `n` rows of a source or version as an eval set, chosen by seed and content, one for each prompt.

    The rows stay where they are; `overlaps` says how many rows a version to train on must leave out.
    """
    check_name(name)
    items: list[EvalItem] = []
    prompts: set[str] = set()
    ids = hold_out_order(store, named, seed)
    for start in range(0, len(ids), _BATCH):
        for messages, tools, meta in read_examples(store, ids[start : start + _BATCH]):
            prompt = normalised_prompt(messages)
            if len(items) < n and prompt not in prompts and reference_problem(messages) is None:
                prompts.add(prompt)
                items.append(_eval_item(messages, tools, json.loads(meta or "{}"), len(items)))
        if len(items) == n:
            break
    if len(items) < n:
        raise UsageProblem(
            f"{named.name!r} has {len(items):,} different prompts with an answer, fewer than {n:,}",
            do="Ask for fewer with --n.",
        )
    made, new = add_eval_set(store, name, items)
    return EvalImport(made, new, overlaps=len(overlapping(store, named, made)))


def reference_problem(messages: str) -> str | None:
    """Why a conversation (canonical JSON) cannot be an eval item, or None if it can."""
    turns = json.loads(messages)
    last = turns[-1]
    if last["role"] != "assistant":
        return f"no reference: the last turn is the {last['role']}'s, not the assistant's"
    if not content_text(last.get("content")).strip() and not last.get("tool_calls"):
        return "no reference: the last turn is empty"
    if not any(turn["role"] == "user" for turn in turns[:-1]):
        return "no prompt: no user turn before the last turn"
    return None


def _open(path: Path, format: str | None, mapping: dict[str, str] | None) -> Opened:
    if str(path).startswith("hf:"):
        raise UsageProblem(
            "hub data sets cannot be imported yet",
            where=str(path),
            do="Save the data set as JSON Lines or Parquet and import that file.",
        )
    if path.is_dir():
        raise UsageProblem("this is a folder", where=str(path), do="Import its files one by one.")
    if not path.exists():
        raise UsageProblem("there is no such file", where=str(path), do="Check the path.")
    return open_source(path, format=format, mapping=mapping)


def _name_of(path: Path) -> str:
    name = re.sub(r"[^\w.+-]+", "-", path.stem).strip("-.+")[:100]
    return name or "source"


def _told(opened: Opened, progress: Progress | None) -> Iterator[Record | Reject]:
    """The rows, with the progress in bytes told now and then."""
    for number, row in enumerate(opened.rows()):
        if progress and number % _BATCH == 0:
            progress(opened.done_bytes, opened.total_bytes, "reading")
        yield row


def _write_rows(writer: SourceWriter, opened: Opened, progress: Progress | None) -> Counter[str]:
    """Write every row as an example or a reject; returns how often each reason for rejects came."""
    reasons: Counter[str] = Counter()
    examples: list[tuple[int, str, str, str | None, str | None]] = []
    rejects: list[tuple[int, str, str]] = []
    for row in _told(opened, progress):
        if isinstance(row, Record):
            meta = canonical_json(row.meta) if row.meta else None
            examples.append((row.row, row.content_hash, row.messages, row.tools, meta))
        else:
            reasons[row.reason] += 1
            rejects.append((row.row, row.reason, row.raw))
        if len(examples) >= _BATCH or len(rejects) >= _BATCH:
            writer.add_examples(examples)
            writer.add_rejects(rejects)
            examples, rejects = [], []
    writer.add_examples(examples)
    writer.add_rejects(rejects)
    return reasons


def _check_enough(writer: SourceWriter, opened: Opened, reasons: Counter[str]) -> None:
    rows = writer.imported + writer.rejected
    if writer.imported and writer.rejected <= _MOST_REJECTED * rows:
        return
    shape = "" if opened.format == UNKNOWN else f" as {opened.format}"
    what = "no row" if not writer.imported else f"only {writer.imported:,} of {rows:,} rows"
    raise BadInput(
        f"{what} can be imported{shape}: {_list_reasons(reasons.most_common(_SHOWN_REASONS))}",
        where=str(opened.path),
        do="Nothing was kept. Correct the file, or say how to read it with --map or --format.",
    )


def _list_reasons(counts: list[tuple[str, int]]) -> str:
    return "; ".join(f"{reason} ({count:,} rows)" for reason, count in counts) or "it holds no rows"


def _eval_item(messages: str, tools: str | None, meta: dict[str, Any], number: int) -> EvalItem:
    sliced = meta.get("task", meta.get("category"))
    cluster = meta.get("cluster", f"item-{number}")
    return EvalItem(messages, tools, str(cluster), None if sliced is None else str(sliced))
