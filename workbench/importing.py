"""Bringing files into a workspace as sources to curate."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filters.step import Progress
from trainer.conversation import canonical_json
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Opened, Record, Reject, file_hash, open_source
from workbench.formats.shapes import UNKNOWN
from workbench.store.database import Connection, Store
from workbench.store.members import find
from workbench.store.rejects import reject_reasons
from workbench.store.sources import Source, SourceFile, SourceWriter, same_import, set_license

BATCH = 2000  # rows between two writes, unless they are long
SHOWN_REASONS = 3
_BATCH_CHARS = 1 << 24
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_MOST_REJECTED = 0.5


@dataclass(frozen=True)
class ImportReport:
    """What came of an import: how the source stands now, and how many rows this import `added`.

    `already` when nothing was to be added: the same bytes had been imported the same way.
    """

    source: str
    format: str
    rows: int
    imported: int
    rejected: int
    duplicates_of_known: int  # of the examples added, those whose content another source had
    reasons: list[tuple[str, int, int]]  # (reason, how many rejects, the first of their rows)
    added: int
    fixed: int = 0  # earlier rejects that are corrected in the file and came in
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

    Raises UsageProblem where the name is taken, BadInput where no row, or less than half, can be used, or where the
    file changed meanwhile.
    """
    if name:
        check_name(name)
    state = FileState(path)
    opened = open_file(path, format, mapping)
    mapping = mapping or {}
    hashed = file_hash(path)
    if known := same_import(store, hashed, opened.format, mapping):
        return _known(store, known, path, name, license)
    name = name or name_for(path)
    if taken := find(store, name):
        grown = " If the file has grown, take in its new rows with --grow." if taken.kind == "source" else ""
        raise UsageProblem(
            f"there is a {taken.kind} {name!r} already, with other content",
            where=str(path),
            do=f"Give this one a name of its own: --name {name}-2.{grown}",
        )
    with store.transaction() as cursor:
        writer = SourceWriter(cursor)
        write_rows(writer, reading(opened, progress))
        imported, rejected = writer.counts()
        _check_enough(cursor, writer.source_id, opened, imported, rejected)
        state.check()
        writer.create(name, str(path.resolve()), opened.format, hashed, license, mapping)
        writer.add_files([SourceFile(str(path.resolve()), hashed, 0, 0, imported + rejected)])
        duplicates = writer.known_elsewhere()
        reasons = reject_reasons(cursor, writer.source_id, SHOWN_REASONS)
    rows = imported + rejected
    return ImportReport(name, opened.format, rows, imported, rejected, duplicates, reasons, added=rows)


class FileState:
    """What tells whether a file was changed while it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _stamp(path)

    def check(self) -> None:
        """Raises BadInput if the file is not as it was."""
        if _stamp(self._path) != self._seen:
            raise BadInput(
                "the file changed while it was read",
                where=str(self._path),
                do="Nothing was kept. Import it when nothing writes to it, or import a copy.",
            )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


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


def reading(opened: Opened, progress: Progress | None) -> Iterator[Record | Reject]:
    """The rows, with the progress in bytes told now and then."""
    for number, row in enumerate(opened.rows()):
        if progress and number % BATCH == 0:
            progress(opened.done_bytes, opened.total_bytes, f"reading, {number:,} rows")
        yield row


def write_rows(writer: SourceWriter, rows: Iterable[Record | Reject]) -> None:
    """Write every row as examples or as a reject, in batches whose memory is bounded."""
    examples: list[tuple[int, str, str, str | None, str | None]] = []
    rejects: list[tuple[int, str, str]] = []
    chars = 0
    for row in rows:
        if isinstance(row, Record):
            meta = canonical_json(row.meta) if row.meta else None
            examples.append((row.row, row.content_hash, row.messages, row.tools, meta))
            chars += len(row.messages) + len(row.tools or "") + len(meta or "")
        else:
            rejects.append((row.row, row.reason, row.raw))
            chars += len(row.raw)
        if len(examples) + len(rejects) >= BATCH or chars >= _BATCH_CHARS:
            writer.add_examples(examples)
            writer.add_rejects(rejects)
            examples, rejects, chars = [], [], 0
    writer.add_examples(examples)
    writer.add_rejects(rejects)


def list_reasons(counts: list[tuple[str, int]]) -> str:
    """Reasons for rejects with how many rows each has, for a message."""
    return "; ".join(f"{reason} ({count:,} rows)" for reason, count in counts) or "it holds no rows"


def _known(store: Store, known: Source, path: Path, name: str | None, license: str | None) -> ImportReport:
    """The report for bytes that are a source already, which may get a licence. UsageProblem if by another name."""
    if name not in (None, known.name):
        raise UsageProblem(
            f"these bytes are source {known.name!r} already, imported from {known.path}",
            where=str(path),
            do=f"Use it by that name, or remove it first with `workbench sources rm {known.name}`.",
        )
    return unchanged(store, known, license)


def unchanged(store: Store, source: Source, license: str | None) -> ImportReport:
    """The report for bytes that a source has already; the source gets the licence, if one is given."""
    if license:
        set_license(store, source.id, license)
    with store.reading() as cursor:
        reasons = reject_reasons(cursor, source.id, SHOWN_REASONS)
    return ImportReport(
        source.name,
        source.format,
        source.rows,
        source.imported,
        source.rejected,
        source.imported,
        reasons,
        added=0,
        already=True,
    )


def name_for(path: Path) -> str:
    """What a source is called that nobody named: as its file."""
    name = re.sub(r"[^\w.+-]+", "-", path.stem).strip("-.+")[:100]
    return name or "source"


def _check_enough(cursor: Connection, source_id: int, opened: Opened, imported: int, rejected: int) -> None:
    rows = imported + rejected
    if imported and rejected <= _MOST_REJECTED * rows:
        return
    shape = "" if opened.format == UNKNOWN else f" as {opened.format}"
    what = "no row" if not imported else f"only {imported:,} of {rows:,} rows"
    reasons = [(reason, count) for reason, count, _ in reject_reasons(cursor, source_id, SHOWN_REASONS)]
    raise BadInput(
        f"{what} can be imported{shape}: {list_reasons(reasons)}",
        where=str(opened.path),
        do="Nothing was kept. Correct the file, or say how to read it with --map or --format.",
    )
