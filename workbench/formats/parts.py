"""A row taken apart: what every shape of row shares about columns, texts, system prompts and tools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.conversation import Message
from workbench.formats.rows import RowProblem
from workbench.formats.turns import kind, turns

Row = dict[str, Any]

PROMPTS = ("prompt", "question")
SYSTEMS = ("system", "system_prompt")
_TOOLS = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Parts:
    """One conversation of a row: its messages, its tools as they stand in the row, and the columns used.

    Columns not used become metadata; `extra` is metadata that did not stand in a column of its own. `asked_only`
    marks a prompt that needs no answer, in an eval set.
    """

    messages: list[Message]
    tools: object
    used: frozenset[str]
    extra: dict[str, Any] = field(default_factory=dict)
    asked_only: bool = False


def with_columns(
    messages: list[Message],
    row: Row,
    used: Iterable[str | None],
    *,
    systems: tuple[str, ...] = SYSTEMS,
    extra: dict[str, Any] | None = None,
) -> Parts:
    """The parts of a row whose turns are `messages`, made of the columns `used`.

    A system column that the row has goes in front, unless a system turn stands there already.
    """
    taken = {name for name in used if name is not None}
    for column in systems:
        if column in taken or column not in row:
            continue
        if row[column] in (None, ""):
            taken.add(column)
        elif messages[0]["role"] != "system":
            messages = [{"role": "system", "content": text_of(row, column)}, *messages]
            taken.add(column)
    tools = first_of(row, _TOOLS)
    if tools is not None:
        taken.add(tools)
    return Parts(messages, row[tools] if tools is not None else None, frozenset(taken), extra or {})


def has(row: Row, *names: str) -> bool:
    """Whether one of the columns has a value: tables have every column, and null where a row has none."""
    return any(row.get(name) is not None for name in names)


def has_list(row: Row, *names: str) -> bool:
    """The same for columns that are no use empty: a CSV has no nulls, but empty cells."""
    return any(row.get(name) not in (None, "") for name in names)


def first_of(row: Row, names: tuple[str, ...]) -> str | None:
    """The first of the columns that the row has, one with a value before one that is null."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


def one_of(row: Row, names: tuple[str, ...]) -> str:
    """As `first_of`. Raises RowProblem when the row has none of them."""
    column = first_of(row, names)
    if column is None:
        raise RowProblem(f"no column {alternatives(names)}; this row has {columns(row)}")
    return column


def text_of(row: Row, column: str) -> str:
    """The text in a column. Raises RowProblem when it is something else."""
    value = row[column]
    if not isinstance(value, str):
        raise RowProblem(f"`{column}` is {kind(value)}, not text")
    return value


def side(value: object, column: str, role: str) -> list[Message]:
    """One side of a pair: text is one turn of `role`; turns may stand there too."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, (list, dict)):
        return turns(value, column)
    raise RowProblem(f"`{column}` is {kind(value)}, not text")


def alternatives(names: tuple[str, ...]) -> str:
    """Columns of which one is wanted, for a sentence."""
    quoted = [f"`{name}`" for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def columns(row: Row) -> str:
    """The names of a row's columns, for a reason; the first twelve of them."""
    names = [f"`{name[:60]}`" for name in list(row)[:12]] + (["..."] if len(row) > 12 else [])
    return ", ".join(names) or "none"
