"""Rows out of CSV with any of the usual separators."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from typing import BinaryIO

from workbench.errors import BadInput
from workbench.formats.files import InputFile
from workbench.formats.json_rows import ROW_LIMIT
from workbench.formats.rows import RawRow

_SEPARATORS = (",", "\t", ";")


class Csv:
    """A CSV file with a header. Cells are text; quotes are doubled inside quoted cells (RFC 4180).

    Raises BadInput when the header is missing or names a column twice.
    """

    kind = "CSV"

    def __init__(self, file: InputFile) -> None:
        self._file = file
        # The limit is the csv module's own and global. Answers are longer than its 128 kB default.
        csv.field_size_limit(ROW_LIMIT)
        with _decoded(file.open()) as text:
            first = text.readline()
            self._separator = max(_SEPARATORS, key=first.count)
            try:
                self._header = next(filter(None, self._reader(itertools.chain([first], text))), [])
            except csv.Error as error:
                raise BadInput(
                    f"the header cannot be read: {error}",
                    where=str(file.path),
                    do="Put one line of column names on top.",
                ) from None
        self._header = [name or f"column {i + 1}" for i, name in enumerate(self._header)]
        twice = sorted({name for name in self._header if self._header.count(name) > 1})
        if twice:
            raise BadInput(f"two columns are named {twice[0]!r}", where=str(file.path), do="Rename one of them.")

    def rows(self) -> Iterator[RawRow]:
        """Every record below the header as a dict of texts; lines without any cell are not rows."""
        with _decoded(self._file.open()) as text:
            lines: list[str] = []  # the text lines of the current record
            reader = self._reader(_recorded(text, lines))
            header = self._header
            seen_header = False
            while True:
                lines.clear()
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    yield RawRow(None, "".join(lines), f"not CSV: {error}")
                    continue
                if cells is None:
                    return
                if not cells:
                    continue
                if not seen_header:
                    seen_header = True
                elif len(cells) == len(header):
                    yield RawRow(dict(zip(header, cells, strict=True)), "".join(lines))
                else:
                    problem = f"the row has {len(cells)} cells where the header has {len(header)}"
                    yield RawRow(None, "".join(lines), problem)

    def _reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        # `strict`: a stray quote is an error to report, where the default would glue cells together.
        return csv.reader(lines, delimiter=self._separator, strict=True)


def _decoded(file: BinaryIO) -> io.TextIOWrapper:
    # Undecodable bytes become lone surrogates and cost their own row only.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _recorded(text: io.TextIOWrapper, lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line
