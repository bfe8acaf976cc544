"""Bringing files into a workspace as sources to curate."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from filters.step import Progress
from workbench.errors import BadInput, UsageProblem
from workbench.formats.hub import HUB
from workbench.formats.read import Opened, Record, Reject, Trees, open_source
from workbench.formats.rows import printable
from workbench.formats.shapes import UNKNOWN
from workbench.store.database import Connection, Store
from workbench.store.members import find, resolve
from workbench.store.rejects import mostly_rejected, reject_reasons
from workbench.store.sources import Counts, Source, SourceFile, SourceWriter, same_import, set_license
from workbench.text import counted

BATCH = 2000  # rows between two writes, unless they are long
SHOWN_REASONS = 3
_BATCH_CHARS = 1 << 24
RECODE = "Is it in another encoding? `iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW` makes UTF-8 of it."
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_MOST_REJECTED = 0.5


@dataclass
class Noted:
    """Examples that came in and are not what they may be taken for; the reader of an import is told.

    `lost_keys`: keys of content parts that have no place in the joined text, each with the examples that had it.
    """

    empty_turns: int = 0  # with an assistant turn that says nothing
    other_weights: int = 0  # with an assistant turn whose weight is neither 0 nor 1: it is trained like any other
    lost_keys: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one more."""
        self.empty_turns += record.empty_turn
        self.other_weights += record.other_weight
        self.lost_keys.update(record.lost_keys)


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
    examples: int  # that the imported rows became
    duplicates_of_known: int  # of the examples added, those whose content another source had
    reasons: list[tuple[str, int, int]]  # (reason, how many rejects, the first of their rows)
    added: int
    fixed: int = 0  # earlier rejects that are corrected in the file and came in
    mostly_rejected: list[tuple[str, int, int]] = field(default_factory=list)
    """Of several files, those of which more than half was rejected: (path, rows, rejected)."""
    noted: Noted = field(default_factory=Noted)  # of the examples added
    passed_over: tuple[str, ...] = ()  # files of the folder or data set that were not read
    already: bool = False


def check_name(name: str) -> str:
    """`name`, if sources, versions and eval sets can be called so. Raises UsageProblem otherwise."""
    if _NAME.fullmatch(name):
        return name
    raise UsageProblem(
        f"{name!r} cannot be a name",
        do="Use letters, digits and . _ - + (at most 100, starting with a letter or digit).",
    )


def parse_mapping(text: str) -> dict[str, str]:
    """`prompt=COL,response=COL` as a dict; a column's name may hold commas. Raises UsageProblem."""
    mapping = {}
    for part in re.split(r",(?=\s*\w+=)", text):
        key, equals, column = part.strip().partition("=")
        if not equals or not column:
            raise UsageProblem(
                f"the columns (--map) cannot be read at {part!r}", do="Write them as prompt=COLUMN,response=COLUMN."
            )
        mapping[key] = column
    return mapping


def import_source(
    store: Store,
    target: str,
    *,
    name: str | None,
    format: str | None,
    mapping: dict[str, str] | None,
    trees: Trees,
    license: str | None,
    progress: Progress | None,
) -> ImportReport:
    """Import a file, folder, glob or data set of the hub as one source, in one transaction: all of it or nothing.

    Raises UsageProblem where the name is taken, BadInput where no row, or less than half, can be used, or where a
    file changes while it is read.
    """
    if name:
        check_name(name)
    opened = open_target(target, format=format, mapping=mapping, trees=trees)
    mapping = mapping or {}
    if known := same_import(store, opened.content_hash, opened.format, mapping):
        if name not in (None, known.name):
            raise UsageProblem(
                f"these bytes are source {known.name!r} already, imported from {known.path}",
                where=target,
                do=f"Use it by that name, or remove it first with `workbench sources rm {known.name}`.",
            )
        return unchanged(store, known, license)
    name = name or name_for(target)
    if taken := find(store, name):
        grown = " If it has grown, take in its new rows with --grow." if taken.kind == "source" else ""
        raise UsageProblem(
            f"there is a {taken.kind} {name!r} already, with other content",
            where=target,
            do=f"Give this one a name of its own: --name {name}-2.{grown}",
        )
    if opened.format == UNKNOWN:
        seen = Counter(row.reason for row in _first_rejects(opened))
        raise _not_enough(opened, "none of the rows", seen.most_common(), seen.total())
    with store.bulk() as cursor:
        writer = SourceWriter(cursor)
        noted = write_rows(writer, reading(opened, progress))
        counts = writer.counts()
        _check_enough(cursor, writer.source_id, opened, counts)
        writer.create(name, origin_of(target), opened.format, opened.content_hash, license, mapping)
        writer.add_files(files_of(opened))
        duplicates = writer.known_elsewhere()
        reasons = reject_reasons(cursor, writer.source_id, SHOWN_REASONS)
        poor = mostly_rejected(cursor, writer.source_id) if len(opened.parts) > 1 else []
    rows = counts.imported + counts.rejected
    return ImportReport(
        name,
        opened.format,
        rows,
        *counts,
        duplicates,
        reasons,
        added=rows,
        mostly_rejected=poor,
        noted=noted,
        passed_over=opened.ignored,
    )


def open_target(target: str, *, format: str | None, mapping: dict[str, str] | None, trees: Trees) -> Opened:
    """`open_source` for what a person gave. Raises UsageProblem for a path that leads nowhere."""
    if not target.startswith(HUB):
        path = Path(os.path.expanduser(target))  # a user that is not known stays as it is
        if not path.exists() and not glob.has_magic(target):
            raise UsageProblem("there is no such file", where=target, do="Check the path.")
        target = str(path)
    return open_source(target, format=format, mapping=mapping, trees=trees)


def origin_of(target: str) -> str:
    """What is written down as the origin of a source: the name on the hub, or the whole path, as text."""
    return target if target.startswith(HUB) else printable(os.path.abspath(os.path.expanduser(target)))


def name_for(target: str) -> str:
    """What a source is called that nobody named: as its file, folder or data set."""
    if target.startswith(HUB):
        place = re.sub(r"^hf:([\w-][\w.-]*/)?", "", target)  # without the organisation
    else:
        path = Path(os.path.abspath(os.path.expanduser(target)))
        while glob.has_magic(path.name.partition(".")[0]) and not re.search(r"\w", path.name.partition(".")[0]):
            path = path.parent
        place = path.name if path.is_dir() else Path(re.sub(r"\.(gz|zstd?)$", "", path.name)).stem
    return re.sub(r"[^\w.+-]+", "-", place).strip("-.+")[:100] or "source"


def files_of(opened: Opened, after: int = 0) -> list[SourceFile]:
    """Which rows of a source that was read came from which file, for those from row `after` on."""
    found = []
    for part, span in zip(opened.parts, opened.spans(), strict=True):
        first = max(span.first_row, after)
        end = span.first_row + span.rows
        if first < end:
            path = printable(os.path.abspath(span.path))
            found.append(SourceFile(path, part.sha256, first - span.first_row, first, end - first))
    return found


def reading(opened: Opened, progress: Progress | None) -> Iterator[Record | Reject]:
    """The rows, with the progress in bytes told now and then."""
    for number, row in enumerate(opened.rows()):
        if progress and number % BATCH == 0:
            progress(opened.done_bytes, opened.total_bytes, f"reading, {number:,} rows")
        yield row


def write_rows(
    writer: SourceWriter, rows: Iterable[Record | Reject], kept: Mapping[int, int | None] = MappingProxyType({})
) -> Noted:
    """Write every row as examples or as a reject, in batches whose memory is bounded.

    `kept` gives the example ids that were kept free for rows. Returns what is to be told of the examples.
    """
    examples: list[tuple[int, int, str, str, str | None, str | None]] = []
    rejects: list[tuple[int, str, str, str | None, int]] = []
    noted = Noted()
    chars = 0
    for row in rows:
        if isinstance(row, Record):
            noted.add(row)
            id = (kept.get(row.row) if row.part == 0 else None) or writer.take_id()
            examples.append((id, row.row, row.content_hash, row.messages, row.tools, row.meta_json))
            chars += len(row.messages) + len(row.tools or "") + len(row.meta_json or "")
        else:
            rejects.append((row.row, row.reason, row.raw, row.altered, writer.take_id()))
            chars += len(row.raw)
        if len(examples) + len(rejects) >= BATCH or chars >= _BATCH_CHARS:
            writer.add_examples(examples)
            writer.add_rejects(rejects)
            examples, rejects, chars = [], [], 0
    writer.add_examples(examples)
    writer.add_rejects(rejects)
    return noted


def enough(imported: int, rejected: int) -> bool:
    """Whether so many rows can be used that the file was meant."""
    return imported > 0 and rejected <= _MOST_REJECTED * (imported + rejected)


def seen_as(opened: Opened) -> str:
    """What a source was taken for: "JSON Lines, read as alpaca"."""
    return f"{opened.container}, " + ("of no known shape" if opened.format == UNKNOWN else f"read as {opened.format}")


def is_encoding(reason: str) -> bool:
    """Whether a row was rejected because its bytes are not UTF-8."""
    return reason.endswith("is not UTF-8")


def list_reasons(counts: list[tuple[str, int]], rejected: int) -> str:
    """The first reasons for so many rejects, with how many rows each has, for a message."""
    shown = [f"{reason} ({counted(count, 'row')})" for reason, count in counts[:SHOWN_REASONS]]
    if rest := rejected - sum(count for _, count in counts[:SHOWN_REASONS]):
        shown.append(f"other reasons ({counted(rest, 'row')})")
    return "; ".join(shown) or "it holds no rows"


def unchanged(store: Store, source: Source, license: str | None) -> ImportReport:
    """The report for bytes that a source has already; the source gets the licence, if one is given."""
    if license:
        set_license(store, source.id, license)
    with store.reading() as cursor:
        reasons = reject_reasons(cursor, source.id, SHOWN_REASONS)
    examples = resolve(store, source.name).rows
    return ImportReport(
        source.name,
        source.format,
        source.rows,
        source.imported,
        source.rejected,
        examples,
        examples,
        reasons,
        added=0,
        already=True,
    )


def _first_rejects(opened: Opened) -> Iterator[Reject]:
    return (row for row in islice(opened.rows(), BATCH) if isinstance(row, Reject))


def _check_enough(cursor: Connection, source_id: int, opened: Opened, counts: Counts) -> None:
    imported, rejected, _ = counts
    if enough(imported, rejected):
        return
    rows = imported + rejected
    reasons = [(reason, count) for reason, count, _ in reject_reasons(cursor, source_id)]
    what = f"only {imported:,} of {counted(rows, 'row')}" if imported else f"none of {counted(rows, 'row')}"
    raise _not_enough(opened, what, reasons, rejected)


def _not_enough(opened: Opened, what: str, reasons: list[tuple[str, int]], rejected: int) -> BadInput:
    preview = f"`workbench import --preview {shlex.quote(opened.where)}` shows how it is read"
    # A reason that names a column says that the rows may be of another shape; the others are about the file itself.
    of_shape = any("`" in reason for reason, _ in reasons)
    encoding = f" {RECODE}" * any(is_encoding(reason) for reason, _ in reasons)
    return BadInput(
        f"{what} can be imported ({seen_as(opened)}): {list_reasons(reasons, rejected)}",
        where=opened.where,
        do=f"Nothing was kept. {preview}; correct it{', or say how to read it with --map or --format' * of_shape}."
        + encoding,
    )
