"""The rows that a step would drop: a list of them, and the text of one beside the row that is kept in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult, RenderResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from workbench.store.database import Store
from workbench.store.fallen import FallenRow, fallen_rows, row_texts
from workbench.store.previews import RowPreview
from workbench.text import counted
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.preview import turn_lines
from workbench.tui.widgets.recipe_steps import reasons_told
from workbench.tui.widgets.row_cells import cell
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import background

if TYPE_CHECKING:
    from workbench.recipe_counts import StepCount
    from workbench.tui.app import WorkbenchApp

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


class FallenPane(Container):
    """The rows that fall at one step, over or beside the text of the one under the cursor."""

    @dataclass
    class _Read(Message):
        id: int
        lines: list[Line]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None  # what the list was made of

    def compose(self) -> ComposeResult:
        """How many fall, the rows, the text of one."""
        with Vertical(id="falls"):
            yield FallenHeading()
            yield FallenList()
        yield LineView()

    @property
    def rows(self) -> FallenList:
        """The rows that fall."""
        return self.query_one(FallenList)

    @property
    def text(self) -> LineView:
        """The text of the row under the cursor."""
        return self.query_one(LineView)

    def show(self, count: StepCount | None) -> None:
        """Show what falls at a step, as far as that is known."""
        outcome = count.outcome if count else None
        heading = self.query_one(FallenHeading)
        heading.told = ""
        if count is not None and outcome is not None:
            falls = "falls" if len(outcome.drops) == 1 else "fall"
            heading.told = f"{counted(len(outcome.drops), 'row')} {falls} at {count.name}: {reasons_told(count)}"
            if not outcome.drops:
                heading.told = f"No row falls at {count.name}. {reasons_told(count)}"
        shown = (count.key if count else "", outcome is not None)
        if shown == self._shown:
            return
        self._shown = shown
        drops, store = (outcome.drops if outcome else []), self._store
        self.rows.set_source(len(drops), lambda start, some: [*fallen_rows(store, drops, start, some)])
        if not drops:
            why = reasons_told(count) if count else ""
            self.text.set_lines([[(line, "muted")] for line in wrap(why, max(self.text.width, 20))])

    def reader(self, width: int) -> Callable[[], list[Line]] | None:
        """What lays the text of the row under the cursor out, in a worker; None where there is no row."""
        row = self.rows.current
        return partial(fallen_lines, self._store, row, width) if isinstance(row, FallenRow) else None

    @property
    def _store(self) -> Store:
        return cast("WorkbenchApp", self.app).workspace.store

    @on(LineView.Widened)
    @on(RowList.Highlighted)
    def _read(self) -> None:
        row, width = self.rows.current, self.text.width
        if row is None or width < 10 or (read := self.reader(width)) is None:
            return
        id = row.id
        background(self, lambda cancelled: FallenPane._Read(id, read()), lambda read: read, group="row")

    @on(_Read)
    def _show_text(self, message: FallenPane._Read) -> None:
        message.stop()
        if (row := self.rows.current) and row.id == message.id:
            self.text.set_lines(message.lines)


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
