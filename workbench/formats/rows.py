"""What the containers hand to the shapes: one raw row after the other, whatever the file looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

RAW_LIMIT = 1 << 24
"""Characters of a rejected row's text that are kept."""

RAW_BYTES = 4 * (RAW_LIMIT + 1)
"""Bytes that are more characters than are kept, whatever they are: enough to tell that a text is cut."""

Altered = Literal["cut", "escaped", "cut, escaped"]
"""What the text of a rejected row is not as the file has it: its end is missing, or bytes that are no text are written
as escapes (`\\xff`)."""


class RowProblem(Exception):
    """Why one row cannot be imported, in words for the person who owns the file. It never ends an import."""


class RawRow(NamedTuple):
    """One row as the container saw it.

    `value` is the parsed row (a dict when all is well); `raw` its text or bytes, None where the container has
    none (Parquet); `problem` is why there is no value, None where there is one.
    """

    value: Any
    raw: str | bytes | None
    problem: str | None = None


class Container(Protocol):
    """A file opened as a sequence of rows; `rows()` starts from the top each time."""

    kind: str  # in words: "JSON Lines"

    def rows(self) -> Iterator[RawRow]:
        """The rows in order, each of them once, streamed."""
        ...


def printable(text: str) -> str:
    """`text` as it can be stored: bytes that were no text and lone surrogates as escapes."""
    try:
        data = text.encode("utf-8", "surrogateescape")  # a byte that was smuggled in comes out as itself
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def kept(raw: str | bytes) -> tuple[str, Altered | None]:
    """What is kept of the text of a rejected row, and how that is not what the file has; None where it is."""
    if isinstance(raw, bytes):
        raw = raw[:RAW_BYTES].decode("utf-8", "surrogateescape")
    text = printable(raw[:RAW_LIMIT])
    cut = len(raw) > RAW_LIMIT or len(text) > RAW_LIMIT
    if text != raw[:RAW_LIMIT]:
        return text[:RAW_LIMIT], "cut, escaped" if cut else "escaped"
    return text[:RAW_LIMIT], "cut" if cut else None
