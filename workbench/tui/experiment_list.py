"""The list of experiments and ablations: its columns and its rows."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ablation_runs import ListedAblation, in_order
from workbench.comparing import Listed
from workbench.tables import Value
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.ablation_view import ablation_state
from workbench.tui.widgets.live_view import state_told
from workbench.tui.widgets.table import Cell, Column

COLUMNS = (
    Column("experiment"),
    Column("state"),
    Column("verdict"),
    Column("change", right=True),
    Column("budget", right=True, optional=True),
    Column("seeds", right=True, optional=True),
    Column("model", optional=True),  # told below the list
    Column("made (UTC)", optional=True),
)
_NAME, _NAMES = 26, 34  # cells of a name, on a narrow screen and elsewhere

Row = tuple[str, list[Value | Cell]]


def ablation_key(ablation: str) -> str:
    """The key of an ablation in the list, where the ids of experiments are keys too."""
    return f"ablation {ablation}"


def listed_rows(
    experiments: Sequence[Listed], ablations: Sequence[ListedAblation], *, narrow: bool = False
) -> list[Row]:
    """A row for each by its key, the newest first, every ablation before its experiments."""
    return [_row(listed, _NAME if narrow else _NAMES) for listed in in_order(experiments, ablations)]


def _row(listed: Listed | ListedAblation, room: int) -> Row:
    name = flat(listed.name)
    if isinstance(listed, ListedAblation):
        key, state, change = ablation_key(listed.id), ablation_state(listed), None
    else:
        key, state = listed.id, state_told(listed)
        change = None
        if listed.delta is not None and len(listed.verdicts) < 2:  # it would be that of the first candidate alone
            change = Cell(listed.delta, f"{listed.delta:+.3f}")
    return key, [
        Cell(name, fit(name, room).rstrip()),
        state,
        listed.verdict_told,
        change,
        Cell(listed.trained_tokens or listed.minutes, listed.budget),
        listed.seeds,
        listed.model,
        f"{listed.created_at:%Y-%m-%d %H:%M}",
    ]
