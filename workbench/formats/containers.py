"""Which container a file is: told by its content first and by its name second."""

from __future__ import annotations

import codecs
import json
import re

from workbench.errors import BadInput
from workbench.formats.files import InputFile
from workbench.formats.json_rows import DECODER, JsonArray, JsonLines, JsonStream, could_be_cut
from workbench.formats.rows import Container
from workbench.formats.tables import Csv

_HEAD_BYTES = 1 << 16
_MAGIC = {
    b"\x1f\x8b": "packed twice, at last with gzip",
    b"\x28\xb5\x2f\xfd": "packed twice, at last with zstd",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"FEA1": "Feather of version 1",
}
_IPC_FILE = b"ARROW1\0\0"
_IPC_STREAM = b"\xff\xff\xff\xff"
_TAR = slice(257, 262)  # where a tar archive says "ustar"
_TABLE_SUFFIXES = (".csv", ".tsv")
_LINES_SUFFIXES = (".jsonl", ".ndjson")
# An object whose rows stand in one of these lists, perhaps behind a few plain entries: {"version": "1", "data": [{...
_WRAPPED = re.compile(
    r'\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*"(?:data|rows|examples|train|records|items)"'
    r"\s*:\s*\[(?=\s*[{\]])"
)
_SUPPORTED = (
    "Give a JSON array, JSON Lines, CSV (.csv or .tsv), Parquet or Arrow, as it is or packed with gzip or zstd."
)


class EmptyFile(BadInput):
    """A file without any content."""


def open_container(file: InputFile) -> Container:
    """The container of the file. Raises EmptyFile, and BadInput for a file that is none or cannot be read."""
    where = str(file.path)
    with file.open() as stream:
        head = stream.read(_HEAD_BYTES)
    if not head and file.problem:
        raise BadInput(file.problem, where=where, do="Copy it again from where it came.")
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise EmptyFile("the file is empty", where=where, do="Check that what wrote it ran to its end.")
    if container := _arrow(file, head):
        return container
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise BadInput(f"the file is {what}", where=where, do=f"Unpack it first. {_SUPPORTED}")
    if head[_TAR] == b"ustar":
        raise BadInput("the file is a tar archive", where=where, do="Unpack it and import the folder.")
    if encoding := _other_encoding(head):
        raise BadInput(
            f"the file is {encoding}, not UTF-8 text",
            where=where,
            do=f"Save it as UTF-8, for instance by `iconv -f {encoding} -t UTF-8 IN > OUT`.",
        )
    # Decoded as the readers do it, so that positions mean the same there.
    text = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode(head)
    first = text.lstrip(" \t\r\n")[:1]
    table = file.suffix in _TABLE_SUFFIXES
    if first == "[" and not (table and not re.match(r"\s*\[\s*[{\]]", text)):
        if file.suffix in _LINES_SUFFIXES and _bad_first_line(text):
            return JsonLines(file)
        return JsonArray(file, start=text.index("[") + 1)
    if first == "{" and not (table and not re.match(r'\s*\{\s*["}]', text)):
        return _json_objects(file, text)
    if table:
        return Csv(file)
    if file.suffix in _LINES_SUFFIXES:
        return JsonLines(file)  # perhaps only its first line is broken
    raise BadInput("cannot tell what this file is", where=where, do=_SUPPORTED)


def _arrow(file: InputFile, head: bytes) -> Container | None:
    if not head.startswith((b"PAR1", _IPC_FILE, _IPC_STREAM)):
        return None
    # Here, because importing pyarrow takes a while and most files do not need it.
    from workbench.formats.arrow import ArrowIpc, Parquet

    return Parquet(file) if head.startswith(b"PAR1") else ArrowIpc(file, is_file=head.startswith(_IPC_FILE))


def _other_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, told by the byte order mark or by where the NULs of the first characters lie."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if (head[:3] == b"\0\0\0" and head[3:4].strip(b"\0")) or (head[1:4] == b"\0\0\0" and head[:1] != b"\0"):
        return "UTF-32"
    pairs = {head[0::2][:8].count(0), head[1::2][:8].count(0)}
    return "UTF-16" if len(head) > 3 and pairs == {0, min(8, len(head) // 2)} else None


def _json_objects(file: InputFile, head: str) -> Container:
    """The container of a file that begins with an object: one a line, a wrapped array, or spread over lines."""
    line, newline, rest = head.lstrip().partition("\n")
    whole_line = _is_json(line)
    wrapped = _WRAPPED.match(head)
    if whole_line and rest.strip() and (not wrapped or file.suffix in _LINES_SUFFIXES or _begins_with_object(rest)):
        return JsonLines(file)
    if wrapped:
        return JsonArray(file, start=wrapped.end(), wrapped=True)
    if whole_line or not newline or (file.suffix in _LINES_SUFFIXES and _begins_with_object(rest)):
        return JsonLines(file)
    try:
        _, end = DECODER.raw_decode(head.lstrip())
    except json.JSONDecodeError as error:
        return JsonStream(file) if could_be_cut(error) and line.rstrip()[-1] in "{[,:" else JsonLines(file)
    except (ValueError, RecursionError):
        return JsonLines(file)
    if end <= len(line) and file.suffix in _LINES_SUFFIXES:
        return JsonLines(file)  # there is something behind the object on its line
    return JsonStream(file)


def _bad_first_line(head: str) -> bool:
    """Whether lines of JSON follow on a first one that begins like an array, but is none that goes on below."""
    line, _, rest = head.lstrip().partition("\n")
    if _is_json(line):
        return bool(rest.strip())
    return line.rstrip()[-1] not in "[," and _begins_with_object(rest)


def _begins_with_object(text: str) -> bool:
    """Whether the first line is one JSON object, whole."""
    line = text.lstrip().partition("\n")[0]
    return line.startswith("{") and _is_json(line)


def _is_json(text: str) -> bool:
    try:
        DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
