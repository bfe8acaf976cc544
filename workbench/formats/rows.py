"""What the containers hand to the shapes: one raw row after the other, whatever the file looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

RAW_LIMIT = 100_000
"""Characters of a rejected row's text that are kept."""


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


def printable(raw: str | bytes) -> str:
    """Text that can be stored: cut at RAW_LIMIT, undecodable bytes and lone surrogates as escapes."""
    if isinstance(raw, bytes):
        data = raw[: 4 * RAW_LIMIT]
    else:
        text = raw[:RAW_LIMIT]
        try:
            data = text.encode("utf-8", "surrogateescape")  # a byte that was smuggled in comes out as itself
        except UnicodeEncodeError:
            data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")[:RAW_LIMIT]
