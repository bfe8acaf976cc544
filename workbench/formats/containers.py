"""Which container a file is: told by its content first and by its name second."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path

from workbench.errors import BadInput
from workbench.formats.json_rows import DECODER, JsonArray, JsonLines, JsonStream, could_be_cut
from workbench.formats.rows import Container
from workbench.formats.tables import Csv, Parquet

_HEAD_BYTES = 1 << 16
_MAGIC = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}
_TABLE_SUFFIXES = (".csv", ".tsv")
# An object whose rows stand in one of these lists, perhaps behind a few plain entries: {"version": "1", "data": [{...
_WRAPPED = re.compile(
    r'\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*"(?:data|rows|examples|train|records|items)"'
    r"\s*:\s*\[(?=\s*[{\]])"
)
_SUPPORTED = "Give a JSON array, JSON Lines, CSV (.csv or .tsv) or Parquet."


def open_container(path: Path) -> Container:
    """The container of the file. Raises BadInput for a file that is none, is empty or cannot be read."""
    where = str(path)
    if path.is_dir():
        raise BadInput("this is a folder", where=where, do="Give one file.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise BadInput("there is no such file", where=where, do="Check the path.") from None
    except OSError as error:
        raise BadInput(f"the file cannot be read: {error.strerror}", where=where, do="Check its permissions.") from None
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise BadInput("the file is empty", where=where, do="Check that what wrote it ran to its end.")
    if head.startswith(b"PAR1"):
        return Parquet(path)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise BadInput(f"the file is {what}", where=where, do="Unpack it first.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head[:64]:
        raise BadInput("the file is not UTF-8 text", where=where, do=f"Save it as UTF-8. {_SUPPORTED}")
    # Decoded as the readers do it, so that positions mean the same there.
    text = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode(head)
    first = text.lstrip()[:1]
    table = path.suffix.lower() in _TABLE_SUFFIXES
    if first == "[" and not (table and not re.match(r"\s*\[\s*[{\]]", text)):
        return JsonArray(path, start=text.index("[") + 1)
    if first == "{" and not (table and not re.match(r'\s*\{\s*["}]', text)):
        return _json_objects(path, text)
    if table:
        return Csv(path)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return JsonLines(path)  # perhaps only its first line is broken
    raise BadInput("cannot tell what this file is", where=where, do=_SUPPORTED)


def _json_objects(path: Path, head: str) -> Container:
    """The container of a file that begins with an object: one a line, a wrapped array, or spread over lines."""
    line, newline, rest = head.lstrip().partition("\n")
    whole_line = _is_json(line)
    if whole_line and rest.strip():
        return JsonLines(path)
    if wrapped := _WRAPPED.match(head):
        return JsonArray(path, start=wrapped.end(), wrapped=True)
    if whole_line or not newline:
        return JsonLines(path)
    try:
        DECODER.raw_decode(head.lstrip())
    except json.JSONDecodeError as error:
        return JsonStream(path) if could_be_cut(error) and line.rstrip()[-1] in "{[,:" else JsonLines(path)
    except (ValueError, RecursionError):
        return JsonLines(path)
    return JsonStream(path)


def _is_json(text: str) -> bool:
    try:
        DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
