"""The list of clusters: a line for each survivor, and below it those of the rows that fall for it."""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from trainer.conversation import Side
from workbench.store.duplicates import ClusterRow
from workbench.store.previews import RowPreview
from workbench.text import counted
from workbench.tui.cells import fit
from workbench.tui.widgets.row_cells import cell
from workbench.tui.widgets.row_list import RowList

_ALIKE, _NOW = 13, 13  # cells
_FIXED = 2 + _ALIKE + 2 + _NOW + 1  # with the gutter and the gaps
_MEMBER = {"kept": "would fall", "fell": "fell", "dropped": "dropped", "back": "taken back", "gone": "gone"}
_SURVIVOR = {"kept": "kept", "fell": "fell", "dropped": "gave way", "back": "kept", "gone": "gone"}


def standing(row: ClusterRow, *, reported: bool = False) -> str:
    """Where a row stands now, in a word or two; nothing falls in a list that is only `reported`."""
    if row.alone:
        return "survivor left"
    if reported and row.standing == "kept":
        return "kept"
    return (_SURVIVOR if row.is_survivor else _MEMBER)[row.standing]


class ClusterHeading(Widget):
    """The names of the columns."""

    DEFAULT_CSS = "ClusterHeading { height: 1; color: $muted; background: $background; }"

    def render(self) -> RenderResult:
        """One line, as the list below it is divided."""
        return Text(f"  {'alike':>{_ALIKE}}  {'now':<{_NOW}} text", no_wrap=True, overflow="ellipsis", end="")


class ClusterList(RowList):
    """Rows that fall below those that they fall for; `side` is what is shown of them.

    In a list that is only `reported` none falls by itself.
    """

    side: Side = "prompt"
    reported = False

    def cells(self, pos: int, row: RowPreview | None, base: Style) -> list[Segment]:
        """How many fall for a survivor, or how alike a row is; where it stands; its text."""
        if not isinstance(row, ClusterRow):
            return [Segment("·".rjust(_ALIKE), base + self._style("muted"))]
        now = standing(row, reported=self.reported)
        return cluster_cells(row, now, self.side, max(self._width - _FIXED, 0), base, self._style)


def cluster_cells(
    row: ClusterRow, now: str, side: Side, room: int, base: Style, style: Callable[[str], Style]
) -> list[Segment]:
    """A line of the list: `now` is where the row stands, and its text takes `room` cells.

    `style` gives the styles of `RowList` by name.
    """
    muted = base + style("muted")
    text = cell(row.response if side == "response" else row.prompt, room)
    now = fit(now, _NOW)
    if row.similarity is None:
        strong = base + Style(bold=True)
        told = counted(row.members, "row").rjust(_ALIKE)
        out = row.standing in ("dropped", "gone", "fell")
        return [Segment(told, base + style("accent")), Segment(f"  {now} ", base + style("dropped") if out else muted),
                Segment(text, strong)]  # fmt: skip
    changed = {"dropped": base + style("dropped"), "back": base + style("edited")}.get(row.standing, muted)
    down = row.standing not in ("kept", "back")
    return [
        Segment(f"{row.similarity:.3f}".rjust(_ALIKE), muted),
        Segment(f"  {now} ", changed),
        Segment(text, muted if down else base),
    ]
