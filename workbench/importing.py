"""Bringing files into a workspace as sources to curate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filters.step import Progress
from trainer.conversation import canonical_json
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Opened, Record, Reject, file_hash, open_source
from workbench.formats.shapes import UNKNOWN
from workbench.store.database import Store
from workbench.store.members import find
from workbench.store.sources import (
    SourceWriter,
    duplicates_of_known,
    reject_reasons,
    same_import,
    set_license,
)

BATCH = 2000  # rows between two writes
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_MOST_REJECTED = 0.5
SHOWN_REASONS = 3


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
    opened = open_file(path, format, mapping)
    mapping = mapping or {}
    hashed = file_hash(path)
    known = same_import(store, hashed, opened.format, mapping)
    if known:
        if license:
            set_license(store, known.id, license)
        reasons = reject_reasons(store, known.id, SHOWN_REASONS)
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
        reject_reasons(store, source_id, SHOWN_REASONS),
    )


def open_file(path: Path, format: str | None, mapping: dict[str, str] | None) -> Opened:
    """`open_source` for a path that a person gave. Raises UsageProblem for one that leads to no file."""
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


def reading(opened: Opened, progress: Progress | None) -> Iterator[Record | Reject]:
    """The rows, with the progress in bytes told now and then."""
    for number, row in enumerate(opened.rows()):
        if progress and number % BATCH == 0:
            progress(opened.done_bytes, opened.total_bytes, "reading")
        yield row


def _write_rows(writer: SourceWriter, opened: Opened, progress: Progress | None) -> Counter[str]:
    """Write every row as an example or a reject; returns how often each reason for rejects came."""
    reasons: Counter[str] = Counter()
    examples: list[tuple[int, str, str, str | None, str | None]] = []
    rejects: list[tuple[int, str, str]] = []
    for row in reading(opened, progress):
        if isinstance(row, Record):
            meta = canonical_json(row.meta) if row.meta else None
            examples.append((row.row, row.content_hash, row.messages, row.tools, meta))
        else:
            reasons[row.reason] += 1
            rejects.append((row.row, row.reason, row.raw))
        if len(examples) >= BATCH or len(rejects) >= BATCH:
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
        f"{what} can be imported{shape}: {list_reasons(reasons.most_common(SHOWN_REASONS))}",
        where=str(opened.path),
        do="Nothing was kept. Correct the file, or say how to read it with --map or --format.",
    )


def list_reasons(counts: list[tuple[str, int]]) -> str:
    """Reasons for rejects with how many rows each has, for a message."""
    return "; ".join(f"{reason} ({count:,} rows)" for reason, count in counts) or "it holds no rows"
