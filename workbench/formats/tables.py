"""Rows out of tables: CSV with any of the usual separators, and Parquet by batches."""

from __future__ import annotations

import base64
import csv
import datetime
import decimal
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workbench.errors import BadInput
from workbench.formats.rows import RawRow

_SEPARATORS = (",", "\t", ";")
_BATCH_ROWS = 1024
# Columns of these need no conversion to be JSON-able.
_PLAIN_TYPES = frozenset(["string", "large_string", "bool", "int8", "int16", "int32", "int64", "float", "double"])


class Csv:
    """A CSV file with a header. Cells are text; quotes are doubled inside quoted cells (RFC 4180).

    Raises BadInput when the header is missing or names a column twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position = 0
        # The limit is the csv module's own and global. Answers are longer than its 128 kB default.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        with path.open("rb") as file:
            text = _decoded(file)
            first = text.readline()
            self._separator = max(_SEPARATORS, key=first.count)
            text.seek(0)
            try:
                self._header = next(filter(None, self._reader(text)), [])
            except csv.Error as error:
                raise BadInput(
                    f"the header cannot be read: {error}", where=str(path), do="Put one line of column names on top."
                ) from None
        self._header = [name or f"column {i + 1}" for i, name in enumerate(self._header)]
        twice = sorted({name for name in self._header if self._header.count(name) > 1})
        if twice:
            raise BadInput(f"two columns are named {twice[0]!r}", where=str(path), do="Rename one of them.")

    def rows(self) -> Iterator[RawRow]:
        """Every record below the header as a dict of texts; lines without any cell are not rows."""
        self.position = 0
        with self._path.open("rb") as file:
            lines: list[str] = []  # the text lines of the current record
            reader = self._reader(_recorded(_decoded(file), lines))
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
                self.position = file.tell()
                if not cells:
                    continue
                if not seen_header:
                    seen_header = True
                elif len(cells) == len(header):
                    yield RawRow(dict(zip(header, cells, strict=True)), "".join(lines))
                else:
                    problem = f"the row has {len(cells)} cells where the header has {len(header)}"
                    yield RawRow(None, "".join(lines), problem)

    def _reader(self, lines: Iterator[str] | io.TextIOWrapper) -> Iterator[list[str]]:
        # `strict`: a stray quote is an error to report, where the default would glue cells together.
        return csv.reader(lines, delimiter=self._separator, strict=True)


def _decoded(file: BinaryIO) -> io.TextIOWrapper:
    # Undecodable bytes become lone surrogates and cost their own row only.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _recorded(text: io.TextIOWrapper, lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


class Parquet:
    """A Parquet file, read by batches. Nulls inside structs count as absent, because Arrow puts them there itself.

    Raises BadInput when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position = 0

    def rows(self) -> Iterator[RawRow]:
        """Every row as a dict of JSON-able values."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.position = 0
        size = self._path.stat().st_size
        done = 0
        try:
            with pq.ParquetFile(self._path) as file:
                plain = all(str(field.type) in _PLAIN_TYPES for field in file.schema_arrow)
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    done += batch.num_rows
                    self.position = size * done // max(file.metadata.num_rows, 1)
                    for row in batch.to_pylist():
                        yield RawRow(row if plain else {name: jsonable(cell) for name, cell in row.items()}, None)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            raise BadInput(
                f"the Parquet file is damaged behind row {done}: {reason}",
                where=str(self._path),
                do="Write it anew, or copy it again from where it came.",
            ) from None


def jsonable(value: object) -> object:
    """A value of Arrow as JSON can carry it: structs without their nulls, dates as ISO 8601, bytes as base64."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):  # an entry of an Arrow map
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, decimal.Decimal) else value
