"""Rows out of Arrow's containers: Parquet, and IPC files and streams (`.arrow`, `.feather`), batch by batch."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import BadInput
from workbench.formats.files import InputFile
from workbench.formats.json_rows import DECODER
from workbench.formats.rows import RawRow

_IPC_MAGIC = b"ARROW1\0\0"

_BATCH_ROWS = 512
_PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_null)
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError)  # a wrong length asks for any memory
Convert = Callable[[Any], Any]


class Parquet:
    """A Parquet file. Nulls inside structs count as absent, because Arrow puts them there itself.

    Raises BadInput where its end, which says what lies where, is damaged or missing.
    """

    kind = "Parquet"

    def __init__(self, file: InputFile) -> None:
        self._file = file
        with _seekable(file) as stream:
            try:
                pq.ParquetFile(stream).close()
            except _DAMAGE as error:
                raise BadInput(
                    f"the Parquet file is damaged: {_first_line(error)}",
                    where=str(file.path),
                    do="Write it anew, or copy it again from where it came.",
                ) from None

    def rows(self) -> Iterator[RawRow]:
        """Every row as a dict of JSON-able values. What is damaged costs the rest of its row group, told in one row."""
        with _seekable(self._file) as stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
            columns = _converters(parquet.schema_arrow)
            total = parquet.metadata.num_rows
            first = 0
            self._file.position = 0
            for group in range(parquet.num_row_groups):
                end = first + parquet.metadata.row_group(group).num_rows
                try:
                    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                        first += batch.num_rows
                        self._file.position = self._file.size * first // total
                        yield from _rows(batch, columns)
                except _DAMAGE as error:
                    problem = f"rows {first} to {end - 1} of the Parquet file are damaged: {_first_line(error)}"
                    yield RawRow(None, "", problem)
                first = end


class ArrowIpc:
    """An Arrow IPC file or stream, read as a stream, so that a file without its end gives the rows before.

    Nulls inside structs count as absent, as in Parquet.
    """

    kind = "Arrow"

    def __init__(self, file: InputFile, *, is_file: bool) -> None:
        self._file = file
        self._is_file = is_file

    def rows(self) -> Iterator[RawRow]:
        """Every row as a dict of JSON-able values; where the data breaks off, one row with the problem ends it."""
        done = 0
        with self._file.open() as stream:
            if self._is_file:
                stream.read(len(_IPC_MAGIC))
            try:
                with pa.ipc.open_stream(stream) as reader:
                    columns = _converters(reader.schema)
                    for batch in reader:
                        batch.validate(full=True)  # otherwise bad offsets would end this process
                        for start in range(0, batch.num_rows, _BATCH_ROWS):
                            yield from _rows(batch.slice(start, _BATCH_ROWS), columns)
                        done += batch.num_rows
            except _DAMAGE as error:
                yield RawRow(None, "", f"the Arrow data breaks off behind row {done}: {_first_line(error)}")
                return
            if self._is_file and self._file.problem is None and not _ends_with_magic(stream):
                yield RawRow(None, "", f"the Arrow file breaks off behind row {done}: its end is missing")


def _ends_with_magic(stream: BinaryIO) -> bool:
    """Whether the rest of a stream, the footer of an IPC file, ends as it must."""
    tail = b""
    while chunk := stream.read(1 << 16):
        tail = (tail + chunk)[-6:]
    return tail == _IPC_MAGIC[:6]


@contextmanager
def _seekable(file: InputFile) -> Iterator[IO[bytes]]:
    """The file's bytes where one can jump about in them: a packed file is unpacked into a temporary one."""
    if not file.packing:
        with file.raw() as stream:
            yield stream
        return
    with file.open() as packed, tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(packed, unpacked)
        unpacked.seek(0)
        yield unpacked


def _first_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _rows(batch: pa.RecordBatch, columns: dict[str, Convert]) -> Iterator[RawRow]:
    """The rows of a batch. One that cannot become text (bytes that are not UTF-8) costs itself only."""
    try:
        values = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            for i in range(batch.num_rows):
                yield from _rows(batch.slice(i, 1), columns)
        else:
            yield RawRow(None, _unread(batch), f"a value cannot be read: {_first_line(error)}")
        return
    for row in values:
        try:
            for name, convert in columns.items():
                row[name] = convert(row[name])
        except (ValueError, RecursionError) as error:
            yield RawRow(None, str(row), f"a JSON value cannot be read: {_first_line(error)}")
        else:
            yield RawRow(row, None)


def _unread(row: pa.RecordBatch) -> str:
    """A row with bytes that are not UTF-8 in its texts, as JSON; they are lone surrogates in it (U+DC80 to U+DCFF).

    Empty where something else cannot be read.
    """

    def said(value: object) -> str:
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)

    try:
        values = {
            name: column.cast(_bytewise(column.type))[0].as_py()
            for name, column in zip(row.schema.names, row.columns, strict=True)
        }
    except (pa.ArrowException, ValueError, OverflowError):
        return ""
    return json.dumps(values, ensure_ascii=False, default=said)


def _bytewise(type_: pa.DataType) -> pa.DataType:
    """The type with binaries in the place of texts, which Arrow takes for UTF-8 unseen."""
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return pa.large_binary() if pa.types.is_large_string(type_) else pa.binary()
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(field.name, _bytewise(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(_bytewise(type_.value_type))
    return type_


def _converters(schema: pa.Schema) -> dict[str, Convert]:
    """For each column that is not JSON-able as it comes, what makes it so. Raises ArrowInvalid for twin names."""
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise pa.ArrowInvalid(f"two columns are named {twice[0]!r}")
    found = {field.name: _converter(field.type) for field in schema}
    return {name: convert for name, convert in found.items() if convert is not None}


def _converter(type_: pa.DataType) -> Convert | None:
    """From a Python value of an Arrow type to a JSON-able one; None where it is one already.

    Structs lose their nulls, JSON columns are parsed, dates are ISO 8601, bytes base64, durations seconds, decimals
    and all else text.
    """
    if any(is_plain(type_) for is_plain in _PLAIN) or pa.types.is_floating(type_):
        return None
    if isinstance(type_, pa.JsonType):
        return lambda value: None if value is None else DECODER.decode(value)
    if isinstance(type_, pa.BaseExtensionType):
        return _converter(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return _converter(type_.value_type)
    if pa.types.is_struct(type_):
        fields = {field.name: _converter(field.type) for field in type_}
        return lambda value: None if value is None else _struct(value, fields)
    if pa.types.is_map(type_):
        key, item = _converter(type_.key_type) or _same, _converter(type_.item_type) or _same
        return lambda value: None if value is None else [[key(k), item(v)] for k, v in value]
    if hasattr(type_, "value_type"):  # the kinds of lists
        element = _converter(type_.value_type)
        if element is None:
            return None
        return lambda value: None if value is None else [element(entry) for entry in value]
    return _scalar


def _same(value: Any) -> Any:
    return value


def _struct(value: dict[str, Any], fields: dict[str, Convert | None]) -> dict[str, Any]:
    return {
        name: convert(value[name]) if convert else value[name]
        for name, convert in fields.items()
        if value.get(name) is not None
    }


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, datetime.timedelta) else str(value)
