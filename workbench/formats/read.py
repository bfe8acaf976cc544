"""Reading conversations: the rows of one file or of many in, records and rejects out, streamed.

Every row of the files comes out in order: as a `Record`, as several of one row where the row holds several
conversations (a reply tree, nested instances), or as a `Reject` with its reason and its text. A row of which one
conversation cannot be imported is rejected whole, so that rows = imported + rejected counts rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from workbench.errors import BadInput, UsageProblem
from workbench.formats.containers import EmptyFile, open_container
from workbench.formats.files import InputFile
from workbench.formats.folders import find_files
from workbench.formats.hub import HUB, fetch
from workbench.formats.parts import Row, columns
from workbench.formats.records import FORMAT_GLUE, Record, Reject, converted, read_row
from workbench.formats.rows import Container, RawRow
from workbench.formats.shapes import SHAPES, TREE, TREE_ALL, UNKNOWN, Shape, detect, mapped

__all__ = ["Opened", "Part", "Record", "Reject", "Span", "open_source", "read_row"]

Trees = Literal["best", "all"]

_DETECT_ROWS = 50
_DETECT_TEXT = 1 << 24  # characters or bytes: enough of long rows to tell their shape


@dataclass(frozen=True)
class Part:
    """One file of a source: its name (below the folder, if it was one), what it is, and the shape of its rows."""

    name: str
    file: InputFile
    container: Container
    shape: Shape | None

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.path

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the bytes of the file."""
        return self.file.sha256()

    def rows(self) -> Iterator[RawRow]:
        """The rows, and one with the problem behind them where a packed file gave out.

        Raises BadInput at the end where the file is not what it was when it was opened.
        """
        yield from self.container.rows()
        if self.file.problem:
            yield RawRow(None, "", self.file.problem)
        if self.file.changed() and ("sha256" not in self.__dict__ or self.file.sha256() != self.sha256):
            raise BadInput(
                "the file changed while it was read",
                where=str(self.path),
                do="Read it when nothing writes to it, or read a copy.",
            )


@dataclass(frozen=True)
class Span:
    """The rows of a source that came from one file: `rows` of them from the source's row `first_row` on."""

    name: str
    path: Path
    first_row: int
    rows: int


@dataclass(frozen=True)
class Opened:
    """A source ready to be read: one file, or several one behind the other with their rows numbered through.

    `where` is what was asked for. `format` is what the rows were recognised as ("alpaca"; "alpaca + sharegpt" where
    files differ), "unknown" where as nothing known. `ignored` names the files of a folder that hold no rows.
    """

    where: str
    format: str
    parts: tuple[Part, ...]
    ignored: tuple[str, ...] = ()
    _starts: list[int] = field(default_factory=list)  # the first row of each file that was begun, and the end

    @property
    def container(self) -> str:
        """What the files are, in words: "JSON Lines, gzip" or "3 files (2 Parquet, 1 CSV)"."""
        kinds = Counter(", ".join(filter(None, [part.container.kind, part.file.packing])) for part in self.parts)
        if len(self.parts) == 1:
            return next(iter(kinds))
        return f"{len(self.parts):,} files ({'; '.join(f'{count:,} {kind}' for kind, count in kinds.items())})"

    @property
    def total_bytes(self) -> int:
        """The size of the files as they lie there."""
        return sum(part.file.size for part in self.parts)

    @property
    def done_bytes(self) -> int:
        """How far into the files the rows have come, for a progress bar."""
        return sum(min(part.file.position, part.file.size) for part in self.parts[: max(len(self._starts), 1)])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the file; of several, of their list of hashes and names as `sha256sum` writes it."""
        if len(self.parts) == 1:
            return self.parts[0].sha256
        listed = "".join(f"{part.sha256}  {part.name}\n" for part in self.parts)
        return hashlib.sha256(listed.encode("utf-8")).hexdigest()

    def rows(self) -> Iterator[Record | Reject]:
        """Every row from the top, numbered from zero through all files; the records of one row stand together.

        Raises BadInput when a file cannot be read to its end or changed meanwhile.
        """
        self._starts.clear()
        number = 0
        for part in self.parts:
            self._starts.append(number)
            for row in part.rows():
                yield from converted(number, row, part.shape)
                number += 1
        self._starts.append(number)

    def spans(self) -> list[Span]:
        """Which rows came from which file; complete when `rows()` has come to its end."""
        ends = zip(self.parts, self._starts, self._starts[1:], strict=False)
        return [Span(part.name, part.path, first, end - first) for part, first, end in ends]


def open_source(
    target: str | Path, *, format: str | None = None, mapping: dict[str, str] | None = None, trees: Trees = "best"
) -> Opened:
    """Opens rows of conversations: a file, a folder or glob of files, or a data set of the hub.

    A file is JSON, JSON Lines, CSV, Parquet or Arrow, perhaps packed with gzip or zstd; a folder may be one that
    `datasets.save_to_disk` wrote; `hf:org/name[/config][:split]` names a data set of the hub, or `hf:./folder[:split]`
    one of that layout on this disk.

    The shape of its rows is told from the first 50 of each file, unless `format` names it or `mapping` gives its
    columns (`prompt`, `response`, perhaps `system`). Of a reply tree comes the best-ranked path, or with
    `trees="all"` every path to a last answer (the format is then "tree-all"). Raises BadInput for files without rows
    or without the mapped columns, UsageProblem for an unknown format or mapping key, HubUnavailable where the hub
    does not give the data set.
    """
    wanted = _wanted_shape(format, mapping)
    where = str(target)
    found = fetch(where.removeprefix(HUB)) if where.startswith(HUB) else find_files(Path(target))
    parts = []
    heads: list[Row] = []
    rows = 0
    for name, path in found.files:
        file = InputFile(path)
        try:
            container = open_container(file)
        except EmptyFile:
            if len(found.files) == 1:
                raise
            container = _Empty()
        first = _first_rows(container)
        rows += len(first)
        heads_here = [row.value for row in first if isinstance(row.value, dict)]
        heads += heads_here
        parts.append(Part(name, file, container, wanted or _told(heads_here, trees)))
    if not rows:
        what = "the file has no rows" if len(parts) == 1 else "the files have no rows"
        raise BadInput(what, where=where, do="Check that what wrote it ran to its end.")
    if mapping and heads and wanted and not any(wanted.fits(head) for head in heads):
        absent = next(name for name in (mapping["prompt"], mapping["response"]) if name not in heads[0])
        raise BadInput(f"no column {absent!r}", where=where, do=f"Map to columns that are there: {columns(heads[0])}.")
    return Opened(where, _named(parts), tuple(parts), tuple(found.ignored))


class _Empty:
    """An empty file among others: a reject says that it was there."""

    kind = "empty"

    def rows(self) -> Iterator[RawRow]:
        yield RawRow(None, "", "the file is empty")


def _first_rows(container: Container) -> list[RawRow]:
    """Rows enough to tell their shape."""
    first: list[RawRow] = []
    text = 0
    for row in container.rows():
        first.append(row)
        text += len(row.raw or "")
        if len(first) == _DETECT_ROWS or text > _DETECT_TEXT:
            break
    return first


def _told(heads: list[Row], trees: Trees) -> Shape | None:
    shape = detect(heads)
    return SHAPES[TREE_ALL] if shape is SHAPES[TREE] and trees == "all" else shape


def _named(parts: list[Part]) -> str:
    names = dict.fromkeys(part.shape.name for part in parts if part.shape)
    return FORMAT_GLUE.join(names) or UNKNOWN


def _wanted_shape(format: str | None, mapping: dict[str, str] | None) -> Shape | None:
    if mapping:
        if format is not None:
            raise UsageProblem("a format and a mapping exclude each other", do="Give --format or --map, not both.")
        return mapped(mapping)
    if format is not None and format not in SHAPES:
        raise UsageProblem(f"there is no format {format!r}", do=f"Formats are {', '.join(SHAPES)}; or use --map.")
    return None if format is None else SHAPES[format]
