"""Preference pairs: the chosen side is the conversation, the rejected side stays in the metadata.

`chosen` is the text of an answer, one turn, or a whole conversation.
"""

from __future__ import annotations

from trainer.conversation import Message
from workbench.formats.pairs import alpaca_prompt
from workbench.formats.parts import PROMPTS, Parts, Row, alternatives, columns, first_of, has, side, with_columns
from workbench.formats.rows import RowProblem

_CONVERSATIONS = ("conversations", "conversation", "messages")
_PROMPTS = (*PROMPTS, "input")


def is_preference(row: Row) -> bool:
    """Whether the row has a chosen and a rejected side."""
    return has(row, "chosen") and "rejected" in row


def from_preference(row: Row) -> Parts:
    """The prompt and the chosen answer to it, or the chosen conversation where it has its prompt with it."""
    if "chosen" not in row:
        raise RowProblem(f"no column `chosen`; this row has {columns(row)}")
    chosen = side(row["chosen"], "chosen", "assistant")
    if chosen[0]["role"] not in ("assistant", "tool"):
        said_again = (name for name in (*_CONVERSATIONS, *_PROMPTS) if name in row and _opens(row[name], chosen))
        return with_columns(chosen, row, ("chosen", *said_again))
    context, used = _context(row)
    if context[-1]["role"] == "assistant":
        raise RowProblem(f"`{used[0]}` ends with an assistant turn already, before the `chosen` one")
    return with_columns(context + chosen, row, (*used, "chosen"))


def _context(row: Row) -> tuple[list[Message], tuple[str, ...]]:
    """The turns before the chosen answer, and the columns they come from."""
    names = (*_CONVERSATIONS, "instruction", *_PROMPTS)
    column = next((name for name in names if row.get(name) not in (None, "")), first_of(row, names))
    if column == "instruction":
        return alpaca_prompt(row)
    if column is None:
        wanted = alternatives((*_PROMPTS, "instruction", *_CONVERSATIONS))
        raise RowProblem(f"`chosen` is an answer alone, and no column has the prompt ({wanted})")
    return side(row[column], column, "user"), (column,)


def _opens(prompt: object, conversation: list[Message]) -> bool:
    """Whether the column `prompt` only repeats what the conversation says."""
    if isinstance(prompt, str):
        return any(turn["role"] == "user" and turn["content"] == prompt for turn in conversation)
    try:
        turns = side(prompt, "prompt", "user")
    except RowProblem:
        return False
    return conversation[: len(turns)] == turns
