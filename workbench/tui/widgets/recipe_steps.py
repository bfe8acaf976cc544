"""The steps of a recipe with what each drops, and the parameters of one: the rows of two tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from workbench.store.recipe_runs import StepRow
from workbench.tables import Value
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.table import Cell, Column, Table

if TYPE_CHECKING:
    from filters.overlap import Overlap
    from workbench.recipe_counts import StepCount
    from workbench.recipe_draft import Param

STEP_COLUMNS = (
    Column("step"),
    Column("in", right=True),
    Column("dropped", right=True),
    Column("left", right=True),
    Column("why"),
)
PARAM_COLUMNS = (Column("parameter"), Column("value"), Column("default", optional=True))
_STATES = {"guarded": "too much", "waits": "not run", "failed": "failed"}
_WIDEST = 40  # cells of a value


class PlainTable(Table):
    """A table whose order means something: it is not sorted by the keys of a table."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Not sorted, not marked."""
        return action not in ("sort_next", "reverse", "mark")


def about_lines(name: str, base: str, counts: Mapping[int, StepCount], width: int, *, done: bool) -> list[str]:
    """The recipe, what it leaves of the rows, and the steps that need a decision. `done`: every step is counted."""
    outcomes = [count.outcome for _, count in sorted(counts.items()) if count.outcome]
    left = f" · {outcomes[-1].rows_out:,} of {outcomes[0].rows_in:,} rows left" if outcomes else ""
    lines = [f"{name} over {base}{left}{' so far' if left and not done else ''}"]
    for count in counts.values():
        if count.state == "guarded":
            lines += wrap(f"{count.name}: {count.told}. Let it pass? y does, or raise its max_drop.", width)
        elif count.state == "waits":
            lines += wrap(f"{count.name} is not run: {count.told} c begins it.", width)
        elif count.state == "failed":
            lines += wrap(f"{count.name} cannot be run: {count.told}", width)
    return lines


def step_rows(
    names: Sequence[str], counts: Mapping[int, StepCount], counting: int | None, muted: Style, warning: Style
) -> list[tuple[str, list[Value | Cell]]]:
    """A row a step; `counting` is the one that is being counted."""
    rows: list[tuple[str, list[Value | Cell]]] = []
    for position, name in enumerate(names):
        count = counts.get(position)
        outcome = count.outcome if count else None
        cells: list[Value | Cell] = [flat(name)]
        if count is None:
            cells += ["", Cell(None, "…" if position == counting else "·", muted), "", ""]
        elif outcome is None:
            cells += ["", Cell(None, _STATES[count.state], warning), "", Cell(count.told, flat(count.told), muted)]
        else:
            guarded = count.state == "guarded"
            dropped: Value | Cell = len(outcome.drops)
            if guarded:
                dropped = Cell(len(outcome.drops), f"{len(outcome.drops):,} !", warning)
            why = ("too much: " if guarded else "") + reasons_told(count)
            cells += [outcome.rows_in, dropped, outcome.rows_out, Cell(why, flat(why), muted)]
        rows.append((str(position), cells))
    return rows


def reasons_told(count: StepCount) -> str:
    """Why rows fall, the most frequent reason first, and what could not be judged."""
    if count.outcome is None:
        return count.told
    step = StepRow.of(count.outcome)
    return ", ".join([*(f"{number:,} {reason}" for reason, number in step.reasons.items()), *step.notes])


def param_rows(params: Sequence[Param], muted: Style) -> list[tuple[str, list[Value | Cell]]]:
    """A row a parameter, those first that the recipe names; what has its default is muted."""
    rows: list[tuple[str, list[Value | Cell]]] = []
    for param in sorted(params, key=lambda param: not param.given):
        value = flat(param.value if len(param.value) <= _WIDEST else param.value[: _WIDEST - 1] + "…")
        turns = " ‹›" if param.choices else ""
        text = Text.assemble((value, Style(bold=True) if param.given else muted), (turns, muted))
        default = Cell(param.default, flat(param.default[:_WIDEST]) if param.given else "", muted)
        rows.append((param.name, [flat(param.name), Cell(param.value, text), default]))
    return rows


def overlap_lines(found: Overlap, behind: Sequence[str], width: int) -> list[Line]:
    """A line a step: what it would drop of all rows, what of that no other step would, what it could not judge.

    `behind` names the steps that have not been counted and are not in it.
    """
    named = max([len(flat(step.name)) for step in found.steps] + [4])
    lines: list[Line] = [[(f"{'step':<{named}} {'alone':>10} {'only it':>10} {'also others':>12}", "muted")]]
    for step in found.steps:
        numbers = f" {step.alone:>10,} {step.only:>10,} {step.alone - step.only:>12,}"
        unjudged = f"  {step.unjudged:,} not judged" if step.unjudged else ""
        lines.append([(fit(flat(step.name), named), "strong"), (numbers, "text"), (unjudged, "warning")])
    lines.append([])
    lines.append([(f"{found.dropped:,} of {found.rows:,} rows fall to any of them.", "text")])
    if out := [*found.left_out, *behind]:
        lines.append([(fit(flat(f"Left out: {', '.join(out)}."), width).rstrip(), "muted")])
    return lines
