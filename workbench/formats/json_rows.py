"""Rows out of JSON text: JSON Lines, arrays of rows, objects that wrap such an array, objects one after the other.

Python's own decoder over a sliding window, not ijson: yajl turns a lone surrogate into `?` without a word,
gives Decimals or refuses integers above 64 bits, and one bad row would end the whole array.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from workbench.formats.files import InputFile
from workbench.formats.rows import RAW_BYTES, RAW_LIMIT, RawRow


class RepeatedKey(ValueError):
    """An object has one key twice: Python's decoder would keep the last value and drop the others without a word."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise RepeatedKey(f"the key {twice[:60]!r} stands twice in one object, and only one value could be kept")
    return found


ROW_LIMIT = 1 << 27
"""Characters (bytes, in JSON Lines) that a row may have: of a longer one nothing but the beginning is looked at."""

# `strict=False`: a raw tab inside a string is text to us. Refusing it would buy nothing and lose the row.
DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
_BOM = codecs.BOM_UTF8
_CHUNK = 1 << 18
_SPACE = re.compile(r"[ \t\r\n]*")
_STRUCTURE = re.compile(r'\\.?|["\[\]{},]', re.DOTALL)
_TOO_DEEP = "the JSON is nested too deep"
_TOO_LONG = f"the row is longer than {ROW_LIMIT:,} characters"


class JsonLines:
    """One JSON value a line. Lines end at a line feed and nowhere else; blank lines are not rows."""

    kind = "JSON Lines"

    def __init__(self, file: InputFile) -> None:
        self._file = file

    def rows(self) -> Iterator[RawRow]:
        """Every line that is not blank; a line that is no UTF-8 or no JSON is a row with a problem."""
        with self._file.open() as file:
            # Binary files split at b"\n" alone: U+2028, U+0085 and form feeds stay text.
            for i, line in enumerate(iter(partial(file.readline, ROW_LIMIT), b"")):
                if i == 0:
                    line = line.removeprefix(_BOM)
                if len(line) == ROW_LIMIT and not line.endswith(b"\n"):
                    yield RawRow(None, line[:RAW_BYTES], _TOO_LONG)
                    while (more := file.readline(ROW_LIMIT)) and not more.endswith(b"\n"):
                        pass
                elif line.strip():
                    yield _line_row(line)


def _line_row(line: bytes) -> RawRow:
    try:
        return RawRow(DECODER.decode(line.decode("utf-8")), line)
    except UnicodeDecodeError as error:
        return RawRow(None, line, f"byte {error.start + 1} of the line is not UTF-8")
    except (ValueError, RecursionError) as error:
        return RawRow(None, line, _why(error, 0))


class JsonArray:
    """The rows of `[...]`, from character `start` on, which stands behind the opening bracket.

    A row that is not JSON is told apart by its brackets and reported, and reading goes on behind it. Where the
    text breaks off, the rows before come out and then one row with the problem. With `wrapped`, an object goes
    on behind the closing bracket: a second list of rows there is not read, and reported.
    """

    kind = "JSON array"

    def __init__(self, file: InputFile, *, start: int, wrapped: bool = False) -> None:
        self._file = file
        self._start = start
        self._wrapped = wrapped

    def rows(self) -> Iterator[RawRow]:
        """The elements in order. Commas between them may be missing: the rows are clear without."""
        with self._file.open() as file:
            window = _Window(file, self._start)
            while char := window.peek():
                if char == "]":
                    window.pos += 1
                    if self._wrapped:
                        yield from _rest_of_object(window)
                    if window.peek():
                        yield RawRow(None, window.skip()[0], "there is text behind the end of the array")
                    return
                if char == ",":
                    window.pos += 1
                    continue
                row, whole = _next_row(window)
                yield row
                if not whole:
                    return
        yield RawRow(None, "", "the array breaks off: its closing bracket is missing")


class JsonStream:
    """JSON values one after the other, each over as many lines as it likes: pretty-printed rows."""

    kind = "JSON objects"

    def __init__(self, file: InputFile) -> None:
        self._file = file

    def rows(self) -> Iterator[RawRow]:
        """The values in order."""
        with self._file.open() as file:
            window = _Window(file, 0)
            while window.peek():
                row, whole = _next_row(window)
                yield row
                if not whole:
                    return


def parse_json(text: str, where: str) -> object:
    """JSON text that stands inside a row's cell. Raises ValueError with a sentence that starts with `where`."""
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {_why(error, 0)}") from None


def could_be_cut(error: json.JSONDecodeError) -> bool:
    """Whether more text could cure the error: it lies at the end of what was read, or in an open string.

    16 characters are more than any token that is cut in two (`-Infinity`, a pair of `\\u` escapes) needs.
    """
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - 16


def _next_row(window: _Window) -> tuple[RawRow, bool]:
    """The row at the window's position, and whether reading can go on behind it."""
    try:
        return RawRow(*window.value()), True
    except json.JSONDecodeError as error:
        cut = could_be_cut(error)
        problem = _why(error, window.pos)
    except (ValueError, RecursionError) as error:
        cut = False
        problem = _why(error, 0)
    raw, whole = window.skip()
    if whole:
        return RawRow(None, raw, problem), True
    if cut:
        return RawRow(None, raw, f"the file breaks off inside this row ({problem})"), False
    return RawRow(None, raw, f"{problem}; where this row ends cannot be told, so nothing behind it was read"), False


def _rest_of_object(window: _Window) -> Iterator[RawRow]:
    """What is not read behind the rows of an object: other lists of rows. Stays where the object is no JSON."""
    while window.peek() == ",":
        window.pos += 1
        try:
            key = window.value()[0] if window.peek() == '"' else ""
            if window.peek() != ":":
                return
            window.pos += 1
            if window.peek() not in ("[", "{"):
                window.value()
                continue
        except (ValueError, RecursionError):
            return
        raw, _ = window.skip()
        if raw.startswith("[") and raw[1:].lstrip().startswith("{"):
            yield RawRow(None, raw, f"a second list, {key[:60]!r}, which is not read: give it a file of its own")
    if window.peek() == "}":
        window.pos += 1


def _why(error: Exception, start: int) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos - start + 1}"
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, (RepeatedKey, _TooLong)):
        return str(error)
    return "not JSON that can be read: a number has too many digits"


class _TooLong(ValueError):
    """A row of more than ROW_LIMIT characters."""


class _Window:
    """A window that slides over the text of a file: `text[pos:]` is what was read and not yet used.

    Bytes that are not UTF-8 become lone surrogates (U+DC80 to U+DCFF), so that one of them costs its own row only.
    """

    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._ended = False
        self.text = ""
        self.pos = 0
        self.more()
        self.pos = start

    def more(self) -> bool:
        """Drops what is used and reads on; a row that does not fit doubles the window. False at the end."""
        if self._ended:
            return False
        data = self._file.read(max(_CHUNK, len(self.text) - self.pos))
        self._ended = not data
        self.text = self.text[self.pos :] + self._decode(data, not data)
        self.pos = 0
        return True

    def peek(self) -> str:
        """The next character that is not white space, left where it is; empty at the end of the file."""
        while True:
            space = _SPACE.match(self.text, self.pos)
            self.pos = space.end() if space else self.pos
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, str]:
        """The JSON value at `pos` and its text; moves behind it. Raises what the decoder raises, then stays."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.pos)
            except json.JSONDecodeError as error:
                if not could_be_cut(error):
                    raise
                if len(self.text) - self.pos > ROW_LIMIT:
                    raise _TooLong(_TOO_LONG) from None
                if self.more():
                    continue
                raise
            if len(self.text) - end <= 2 and self.more():  # a number may go on: "1.5" of "1.5e+3"
                continue
            raw = self.text[self.pos : end]
            self.pos = end
            return value, raw

    def skip(self) -> tuple[str, bool]:
        """Moves behind a value that cannot be decoded, by its brackets and quotes alone, in constant memory.

        Gives the beginning of its text and whether its end was found.
        """
        kept: list[str] = []
        room = RAW_LIMIT + 1  # one more than is kept tells that it is not all
        depth = 0
        in_string = False
        scan = self.pos
        while True:
            end = -1
            escaped = False
            for match in _STRUCTURE.finditer(self.text, scan):
                char = match.group()
                if char[0] == "\\":
                    escaped = len(char) == 1  # the escaped character lies in the next chunk
                elif char == '"':
                    in_string = not in_string
                elif in_string:
                    continue
                elif char in "[{":
                    depth += 1
                elif char in "]}" and depth > 1:
                    depth -= 1
                elif depth == 0 or char in "]}":  # a comma or closing bracket of the array itself, or the row's own end
                    at_start = not kept and match.start() == self.pos  # taken along, or reading would stand still
                    end = match.end() if depth == 1 or at_start else match.start()
                    break
            whole = end >= 0
            stop = end if whole else len(self.text)
            kept.append(self.text[self.pos : min(stop, self.pos + room)])
            room -= len(kept[-1])
            self.pos = stop
            if whole or not self.more():
                return "".join(kept), whole
            scan = 1 if escaped else 0
