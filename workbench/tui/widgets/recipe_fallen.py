"""The rows that a step would drop: a list of them, and the text of one beside the row that is kept in its place."""

from __future__ import annotations

import json

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget

from workbench.store.database import Store
from workbench.store.fallen import FallenRow, row_texts
from workbench.store.previews import RowPreview
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.preview import turn_lines
from workbench.tui.widgets.row_cells import cell
from workbench.tui.widgets.row_list import RowList

_REASON, _SCORE, _GUTTER = 20, 7, 2  # cells
_TWO_TEXTS = 50  # cells that are left, from which on prompt and response are both shown


class FallenHeading(Widget):
    """How many rows fall, and why."""

    DEFAULT_CSS = "FallenHeading { height: 1; color: $muted; background: $background; }"

    told: reactive[str] = reactive("")

    def render(self) -> RenderResult:
        """One line."""
        return Text(fit(" " + flat(self.told), self.size.width).rstrip(), no_wrap=True, end="")


class FallenList(RowList):
    """Rows that fall at one step. They are only looked at: nothing is marked."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No marks."""
        return action not in ("mark", "range", "mark_all")

    def cells(self, pos: int, row: RowPreview | None, base: Style) -> list[Segment]:
        """Why it falls, its score, its text."""
        muted = base + self._style("muted")
        if not isinstance(row, FallenRow):
            return [Segment("·", muted)]
        score = "" if row.score is None else f"{row.score:.4g}"
        room = max(self._width - _GUTTER - _REASON - _SCORE - 3, 0)
        segments = [
            Segment(cell(row.reason or "", _REASON), base + self._style("dropped")),
            Segment(f" {score:>{_SCORE}}  ", muted),
        ]
        if room < _TWO_TEXTS:
            return [*segments, Segment(cell(row.prompt or row.response, room), base)]
        half = (room - 2) // 2
        return [
            *segments,
            Segment(cell(row.prompt, half), base),
            Segment("  " + cell(row.response, room - half - 2), muted),
        ]


def fallen_lines(store: Store, row: FallenRow, width: int) -> list[Line]:
    """The text of a row that falls with what was seen in it, and below it the row that is kept in its place."""
    texts = row_texts(store, [row.id] if row.of is None else [row.id, row.of])
    if row.id not in texts:
        return [[("This row is gone.", "muted")]]
    why = f"{row.reason}" + (f" · {row.detail}" if row.detail else "")
    if row.score is not None:
        why += f" · {row.score:.4g}"
    lines: list[Line] = [[(piece, "accent")] for piece in wrap(f"{row.source} row {row.row:,}", width)[:1]]
    lines += [[(piece, "warning")] for piece in wrap(why, width)]
    mine = json.loads(texts[row.id].messages)
    kept = texts.get(row.of) if row.of is not None else None
    other = json.loads(kept.messages) if kept else []
    lines += [[], *turn_lines(mine, width, beside=other)[0]]
    if kept:
        head = wrap(f"kept in its place: {kept.source} row {kept.row:,}", width)[0]
        lines += [[], [(head, "accent")], [], *turn_lines(other, width, beside=mine)[0]]
    return lines
