"""The shapes of rows: which columns a format is known by, and how they become messages.

A shape gives `Parts`: the messages, the value that holds tool schemas, and the columns it used up. What it did not
use is metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.conversation import Message
from workbench.errors import UsageProblem
from workbench.formats.rows import RowProblem
from workbench.formats.turns import decoded, kind, turns

Row = dict[str, Any]

_CONVERSATIONS = ("conversations", "conversation")
_PROMPTS = ("prompt", "question")
_ANSWERS = ("completion", "response", "answer")
_ALPACA_ANSWERS = ("output", "response")
_ALPACA_INPUTS = ("input", "context")  # Dolly calls it context
_SYSTEMS = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
UNKNOWN = "unknown"
MAPPED = "mapped"
EXPECTED = (
    "`messages`; `conversations`; `instruction` with `output` or `response`; "
    "or `prompt` or `question` with `completion`, `response` or `answer`"
)


class Parts(NamedTuple):
    """A row taken apart: its messages, its tools as they stand in the row, and the columns used."""

    messages: list[Message]
    tools: object
    used: frozenset[str]


@dataclass(frozen=True)
class Shape:
    """A way to write a conversation in columns. `convert` raises RowProblem for rows that do not fit."""

    name: str
    fits: Callable[[Row], bool]
    convert: Callable[[Row], Parts]


def detect(rows: Iterable[Row]) -> Shape | None:
    """The shape that most of the rows fit, the first named one among equals; None when no row fits any."""
    counts = {shape.name: 0 for shape in SHAPES.values()}
    for row in rows:
        for shape in SHAPES.values():
            counts[shape.name] += shape.fits(row)
    best = max(counts, key=lambda name: counts[name])
    return SHAPES[best] if counts[best] else None


def mapped(mapping: dict[str, str]) -> Shape:
    """The shape of rows whose columns the user named: `prompt`, `response` and, if there is one, `system`.

    Raises UsageProblem for other keys or a missing one.
    """
    unknown = sorted(mapping.keys() - {"prompt", "response", "system"})
    missing = sorted({"prompt", "response"} - mapping.keys())
    if unknown or missing:
        what = f"a mapping has no {unknown[0]!r}" if unknown else f"the mapping names no {missing[0]!r} column"
        raise UsageProblem(what, do="Write --map prompt=COL,response=COL or --map prompt=COL,response=COL,system=COL.")
    prompt, response = mapping["prompt"], mapping["response"]
    systems = (mapping["system"],) if "system" in mapping else ()

    def fits(row: Row) -> bool:
        return prompt in row and response in row

    def convert(row: Row) -> Parts:
        for column in (prompt, response):
            if column not in row:
                raise RowProblem(f"no column `{column}`; this row has {columns(row)}")
        return _pair(row, prompt, response, systems)

    return Shape(MAPPED, fits, convert)


def unknown_shape(row: Row) -> RowProblem:
    """Why a row of no known shape is not imported, and what would help."""
    if _is_preference(row):
        return RowProblem(
            f"preference pairs, which are not read as such: the columns are {columns(row)}. "
            "The chosen side can be imported with --map prompt=COL,response=chosen"
        )
    return RowProblem(
        f"no known shape: the columns are {columns(row)}; expected {EXPECTED}. "
        "Name the columns with --map prompt=COL,response=COL"
    )


def columns(row: Row) -> str:
    """The names of a row's columns, for a reason; the first twelve of them."""
    names = [f"`{name[:60]}`" for name in list(row)[:12]] + (["..."] if len(row) > 12 else [])
    return ", ".join(names) or "none"


def _first(row: Row, names: tuple[str, ...]) -> str | None:
    """The first of the columns that the row has, one with a value before one that is null."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


def _one_of(row: Row, names: tuple[str, ...]) -> str:
    column = _first(row, names)
    if column is None:
        wanted = " or ".join(f"`{name}`" for name in names)
        raise RowProblem(f"no column {wanted}; this row has {columns(row)}")
    return column


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise RowProblem(f"`{column}` is {kind(value)}, not text")
    return value


def _parts(messages: list[Message], row: Row, used: Iterable[str | None], systems: tuple[str, ...] = _SYSTEMS) -> Parts:
    """The parts of a row. A system column it has goes in front, unless a system turn stands there already."""
    taken = {name for name in used if name is not None}
    for column in systems:
        if column in taken or column not in row:
            continue
        if row[column] in (None, ""):
            taken.add(column)
        elif messages[0]["role"] != "system":
            messages = [{"role": "system", "content": _text(row, column)}, *messages]
            taken.add(column)
    tools = _first(row, _TOOLS)
    if tools is not None:
        taken.add(tools)
    return Parts(messages, row[tools] if tools is not None else None, frozenset(taken))


def _from_messages(row: Row) -> Parts:
    column = _one_of(row, ("messages",))
    return _parts(turns(row[column], column), row, (column,))


def _from_sharegpt(row: Row) -> Parts:
    column = _one_of(row, _CONVERSATIONS)
    return _parts(turns(row[column], column), row, (column,))


def _from_alpaca(row: Row) -> Parts:
    instruction = _one_of(row, ("instruction",))
    answer = _one_of(row, _ALPACA_ANSWERS)
    given = _first(row, _ALPACA_INPUTS)
    prompt = _text(row, instruction)
    if given is not None and row[given] not in (None, ""):
        prompt = f"{prompt}\n\n{_text(row, given)}" if prompt else _text(row, given)
    messages = _history(row["history"]) if row.get("history") else []
    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": _text(row, answer)}]
    return _parts(messages, row, (instruction, answer, given, "history"))


def _history(value: object) -> list[Message]:
    pairs = decoded(value, "history")
    if not isinstance(pairs, list):
        raise RowProblem(f"`history` is {kind(pairs)}, not a list of [prompt, answer] pairs")
    messages: list[Message] = []
    for i, pair in enumerate(pairs):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowProblem(f"`history[{i}]` is not a pair of texts [prompt, answer]")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages


def _from_pair(row: Row) -> Parts:
    return _pair(row, _one_of(row, _PROMPTS), _one_of(row, _ANSWERS), _SYSTEMS)


def _pair(row: Row, prompt: str, answer: str, systems: tuple[str, ...]) -> Parts:
    messages = _side(row[prompt], prompt, "user") + _side(row[answer], answer, "assistant")
    return _parts(messages, row, (prompt, answer), systems)


def _side(value: object, column: str, role: str) -> list[Message]:
    """One side of a pair: text is one turn of `role`; turns may stand there too."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, (list, dict)):
        return turns(value, column)
    raise RowProblem(f"`{column}` is {kind(value)}, not text")


def _is_preference(row: Row) -> bool:
    return "chosen" in row and "rejected" in row


def _is_sharegpt(row: Row) -> bool:
    # A preference row's conversation ends before the answer: reading it alone would lose the chosen side.
    return _first(row, _CONVERSATIONS) is not None and not _is_preference(row)


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("messages", lambda row: "messages" in row, _from_messages),
        Shape("sharegpt", _is_sharegpt, _from_sharegpt),
        Shape("alpaca", lambda row: "instruction" in row and _first(row, _ALPACA_ANSWERS) is not None, _from_alpaca),
        Shape(
            "prompt-completion",
            lambda row: _first(row, _PROMPTS) is not None and _first(row, _ANSWERS) is not None,
            _from_pair,
        ),
    )
}
"""By name, in the order that decides between shapes that fit equally many rows."""
