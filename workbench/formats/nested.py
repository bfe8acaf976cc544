"""One instruction with several instances in one row, as self-instruct writes its tasks: one example for each."""

from __future__ import annotations

from dataclasses import replace

from workbench.formats.pairs import ALPACA_ANSWERS, from_alpaca
from workbench.formats.parts import Parts, Row, columns, has, has_list
from workbench.formats.rows import RowProblem
from workbench.formats.turns import decoded, kind

_INSTANCES = "instances"


def is_nested(row: Row) -> bool:
    """Whether the row has an instruction and a list of instances."""
    return has(row, "instruction") and has_list(row, _INSTANCES)


def from_nested(row: Row) -> list[Parts]:
    """Each instance as the Alpaca row that it is together with the row's own columns."""
    if _INSTANCES not in row:
        raise RowProblem(f"no column `{_INSTANCES}`; this row has {columns(row)}")
    instances = decoded(row[_INSTANCES], _INSTANCES)
    if not isinstance(instances, list):
        raise RowProblem(f"`{_INSTANCES}` is {kind(instances)}, not a list")
    if not instances:
        raise RowProblem(f"`{_INSTANCES}` is empty: there is an instruction, but no answer")
    return [_instance(row, instance, i) for i, instance in enumerate(instances)]


def _instance(row: Row, instance: object, position: int) -> Parts:
    where = f"{_INSTANCES}[{position}]"
    if not isinstance(instance, dict):
        raise RowProblem(f"`{where}` is {kind(instance)}, not an object")
    if not instance.keys() & ALPACA_ANSWERS:
        raise RowProblem(f"`{where}` has no answer; it has {columns(instance)}")
    try:
        parts = from_alpaca({**row, **instance})
    except RowProblem as problem:
        raise RowProblem(f"`{where}`: {problem}") from None
    rest = {name: value for name, value in instance.items() if name not in parts.used}
    used = parts.used - instance.keys() | {_INSTANCES}  # the row's own column of the same name is metadata
    return replace(parts, used=used, extra={"instance": rest} if rest else {})
