"""What is compared of a row, and who survives of rows that say the same, whatever order they came in."""

from __future__ import annotations

from typing import Literal

from filters.step import Row
from filters.text import words
from trainer.conversation import Side, canonical_json

Keep = Literal["longest", "shortest", "first", "newest"]
Rank = tuple[int, str, int]


def rank(row: Row, keep: Keep) -> Rank:
    """A sort key: of any two rows the one with the smaller key survives.

    `longest` and `shortest` go by the words of the response. `first` and `newest` go by the id, which grows with
    every import: they ask for the order of input. Equals are settled by content hash; the id comes last and
    decides only between rows of the very same content.
    """
    if keep == "first":
        return (row.id, row.content_hash, row.id)
    if keep == "newest":
        return (-row.id, row.content_hash, row.id)
    length = len(words(row.text("response")))
    return (length if keep == "shortest" else -length, row.content_hash, row.id)


def compared_text(row: Row, on: Side) -> str:
    """The text of a side with the tools that it calls: answers that only call a tool are not all the same."""
    text = row.text(on)
    calls = [message["tool_calls"] for message in row.messages if message.get("tool_calls")]
    return f"{text}\n{canonical_json(calls)}" if calls and on != "prompt" else text
