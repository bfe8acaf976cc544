"""The list of experiments and ablations: its columns and its rows."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ablation_runs import ListedAblation, in_order
from workbench.comparing import Listed
from workbench.tables import Value
from workbench.tui.cells import flat
from workbench.tui.widgets.ablation_view import ablation_state
from workbench.tui.widgets.live_view import state_told
from workbench.tui.widgets.table import Cell, Column

COLUMNS = (
    Column("experiment"),
    Column("state"),
    Column("verdict"),
    Column("change", right=True),
    Column("budget", right=True),
    Column("seeds", right=True),
    Column("model", optional=True),  # told below the list
    Column("made (UTC)", optional=True),
)
_NAME = 34  # cells of a name

Row = tuple[str, list[Value | Cell]]


def ablation_key(ablation: str) -> str:
    """The key of an ablation in the list, where the ids of experiments are keys too."""
    return f"ablation {ablation}"


def listed_rows(experiments: Sequence[Listed], ablations: Sequence[ListedAblation]) -> list[Row]:
    """A row for each by its key, the newest first, every ablation before its experiments."""
    return [_row(listed) for listed in in_order(experiments, ablations)]


def _row(listed: Listed | ListedAblation) -> Row:
    name = flat(listed.name)
    if isinstance(listed, ListedAblation):
        key, state, change = ablation_key(listed.id), ablation_state(listed), None
    else:
        key, state = listed.id, state_told(listed)
        change = None if listed.delta is None else Cell(listed.delta, f"{listed.delta:+.3f}")
    return key, [
        Cell(name, name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"),
        state,
        listed.verdict_told,
        change,
        Cell(listed.trained_tokens or listed.minutes, listed.budget),
        listed.seeds,
        listed.model,
        f"{listed.created_at:%Y-%m-%d %H:%M}",
    ]
