"""A list of rows as long as it likes: it holds a few windows of them and never waits for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from workbench.store.previews import RowPreview
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.widgets.row_cells import Columns, row_cells
from workbench.tui.widgets.row_windows import WINDOW, Fetch, RowWindows
from workbench.tui.workers import background

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

_PATIENCE = 0.04  # seconds: rows come sooner, as a rule, and a list of numbers and dots would only delay them

ROW_ACTIONS = declare(
    Action("move(1)", ("j", "down"), "down", "Go to the next row.", "rows"),
    Action("move(-1)", ("k", "up"), "up", "Go to the row before.", "rows"),
    Action("page(1)", ("pagedown", "ctrl+f"), "page down", "Go a page down.", "rows"),
    Action("page(-1)", ("pageup", "ctrl+b"), "page up", "Go a page up.", "rows"),
    Action("first", ("g", "home"), "first", "Go to the first row.", "rows"),
    Action("last", ("G", "end"), "last", "Go to the last row.", "rows"),
    Action("mark", ("space",), "mark", "Mark this row, or take its mark away, and go on to the next.", "rows"),
    Action("range", ("v",), "range", "Begin a range here; at its other end, v again marks it.", "rows"),
    Action("mark_all", ("a",), "all", "Mark all rows listed; a second time, none.", "rows"),
)


class RowList(ScrollView, can_focus=True):
    """Rows of a view by position, with a cursor and marks. Marks are example ids, so they outlast another order."""

    SCREEN_ACTIONS = ROW_ACTIONS
    BINDINGS = bindings("rows")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "row-list--cursor", "row-list--accent", "row-list--dropped", "row-list--edited", "row-list--muted",
        "row-list--hit",
    }  # fmt: skip
    DEFAULT_CSS = """
    RowList {
        background: $background; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1;
        & > .row-list--cursor { background: $cursor-blurred; }
        &:focus > .row-list--cursor { background: $cursor; }
        & > .row-list--accent { color: $accent; text-style: bold; }
        & > .row-list--dropped { color: $error; }
        & > .row-list--edited { color: $warning; }
        & > .row-list--muted { color: $muted; }
        & > .row-list--hit { color: $accent; text-style: bold underline; }
    }
    """

    @dataclass
    class _AtRow(Message):
        id: int
        pos: int

    class Highlighted(_AtRow):
        """The cursor came to another row, or the row under it is known at last."""

    class Chosen(_AtRow):
        """A row was clicked twice. Not a `Highlighted`, whose handlers would get it too."""

    @dataclass
    class MarksChanged(Message):
        """There are other marks than before, `count` of them, or a range was begun."""

        count: int

    @dataclass
    class _Marked(Message):
        marking: int
        hold: int
        ids: list[int]
        or_none: bool

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows = 0
        self.cursor = 0
        self.marks: set[int] = set()
        self.highlight = ""
        self.empty = ""
        """What is shown where there are no rows."""
        self._base = Style()
        self._width = 0
        self._anchor: int | None = None
        self._marking = 0  # how often all marks were taken away
        self._ids: Callable[[int, int], list[int]] = lambda start, stop: []
        self._windows = RowWindows(self)
        self._landing: int | None = None  # the top line to be shown once its rows are known
        self._patience: Timer | None = None
        self._told = -1  # the generation of windows in which the row under the cursor was told

    # What is listed

    def set_source(
        self,
        rows: int,
        fetch: Fetch,
        ids: Callable[[int, int], list[int]] | None = None,
        *,
        cursor: int = 0,
        highlight: str = "",
    ) -> None:
        """List other rows: how many there are, and how to get them.

        `ids(start, stop)` gives the example ids of a range, where that is cheaper than to fetch its rows.
        `highlight` is text to show where it stands in prompts and responses.
        """
        self.rows = rows
        self.highlight = highlight.casefold()
        self._ids = ids or (lambda start, stop: [row.id for row in fetch(start, stop - start)])
        self._windows.set_source(rows, fetch)
        self._anchor = None
        self.cursor = max(min(cursor, rows - 1), 0)
        self.virtual_size = Size(0, rows)
        self._landing = None
        self._show(self._top_for(self.cursor, self._top, middle=True))
        self._windows.want(self.cursor)

    def grow(self, rows: int) -> None:
        """There are `rows` rows now, the new ones behind those that were there."""
        self._windows.grow(rows)
        self.rows = rows
        self.virtual_size = Size(0, rows)
        self.refresh()

    def reload(self) -> None:
        """Fetch again what is shown: the rows are the same ones, but may stand otherwise now."""
        self._windows.mark_stale()
        self._windows.want(self.cursor)
        self.refresh()

    def row(self, pos: int) -> RowPreview | None:
        """The row at a position, where it is known already."""
        return self._windows.row(pos)

    @property
    def current(self) -> RowPreview | None:
        """The row under the cursor, where it is known already."""
        return self.row(self.cursor)

    def on_mount(self) -> None:
        """Begin with what was asked for before there was a screen."""
        self._windows.fetch_next()

    def on_row_windows_fetched(self, message: RowWindows.Fetched) -> None:
        """Show what came."""
        message.stop()
        known = self.current
        number = self._windows.take(message)
        if number is None:
            return
        if self._landing is not None:
            if self._is_known(self._landing):
                self._show(self._landing)
        elif self._top < (number + 1) * WINDOW and number * WINDOW < self._top + self.size.height:
            self.refresh()
        # A list that grows has its last window fetched again and again: the row is told once.
        if number == self.cursor // WINDOW and (known is None or self._told != self._windows.generation):
            self._tell()

    def on_failure(self) -> None:
        """Ask again for rows that could not be had when they are next in sight; the app tells what was wrong."""
        self._windows.give_up()
        self._land()

    # Moving

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor and what is shown by a page."""
        by *= max(self.size.height - 1, 1)
        self._go(self.cursor + by, self._top + by)

    def action_first(self) -> None:
        """Go to the first row."""
        self.move_to(0)

    def action_last(self) -> None:
        """Go to the last row."""
        self.move_to(self.rows - 1)

    def move_to(self, pos: int, *, middle: bool = False) -> None:
        """Put the cursor on a position, as near as there is one, and show it."""
        self._go(pos, self._top, middle=middle)

    def _go(self, pos: int, top: int, *, middle: bool = False) -> None:
        pos = max(min(pos, self.rows - 1), 0)
        if pos == self.cursor:
            return
        before, self.cursor = self.cursor, pos
        top = self._top_for(pos, top, middle=middle)
        if top != self._top or self._anchor is not None:
            self._go_and_show(top)
        elif self._landing is None:
            self.refresh_line(before)
            self.refresh_line(pos)
        self._windows.want(pos)
        self._tell()

    def _go_and_show(self, top: int) -> None:
        """Show other lines: painted once, when their rows are known, or without them where that takes too long."""
        if self._is_known(top):
            self._show(top)
            return
        self._windows.want(self._last(top))
        self._windows.want(top)
        self._landing = top
        if self._patience is None:
            self._patience = self.set_timer(_PATIENCE, self._land)

    def _land(self) -> None:
        if self._landing is not None:
            self._show(self._landing)

    def _show(self, top: int) -> None:
        self._landing = None
        if self._patience:
            self._patience.stop()
            self._patience = None
        self.scroll_to(y=top, animate=False)
        self.refresh()

    @property
    def _top(self) -> int:
        """The top line, or the one that is about to be."""
        return self.scroll_offset.y if self._landing is None else self._landing

    def _top_for(self, pos: int, top: int, *, middle: bool = False) -> int:
        """The top line nearest to `top` at which a position is in sight; far from it, with the position amid."""
        height = self.size.height
        if not height:
            return top
        if middle and not top <= pos < top + height:
            top = pos - height // 2
        top = min(max(top, pos - height + 1), pos)
        return max(min(top, self.rows - height), 0)

    def _last(self, top: int) -> int:
        return max(min(top + self.size.height, self.rows) - 1, top)

    def _is_known(self, top: int) -> bool:
        return self._windows.has(top, self._last(top))

    def _tell(self) -> None:
        if row := self.current:
            self._told = self._windows.generation
            self.post_message(self.Highlighted(row.id, self.cursor))

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._show(self._top_for(self.cursor, self._top))

    async def _on_click(self, event: events.Click) -> None:
        pos = self.scroll_offset.y + event.get_content_offset_capture(self).y
        if pos < self.rows:
            self.move_to(pos)
            if event.chain == 2 and (row := self.current):
                self.post_message(self.Chosen(row.id, pos))

    # Marks

    def chosen_ids(self) -> list[int]:
        """What an action works on: the marked rows, or the one under the cursor."""
        if self.marks:
            return sorted(self.marks)
        return [row.id] if (row := self.current) else []

    @property
    def ranging(self) -> bool:
        """Whether a range was begun: its rows are shown as marked, and are not yet."""
        return self._anchor is not None

    def action_mark(self) -> None:
        """Mark the row, or take its mark away, and go on."""
        if self._anchor is not None:
            self.action_range()
        elif row := self.current:
            self.marks ^= {row.id}
            self.refresh_line(self.cursor)
            self.post_message(self.MarksChanged(len(self.marks)))
            self.action_move(1)

    def action_range(self) -> None:
        """Begin a range, or mark the one that was begun."""
        if not self.rows:
            return
        if self._anchor is None:
            self._anchor = self.cursor
            self.refresh_line(self.cursor)
            self.post_message(self.MarksChanged(len(self.marks)))
            return
        start, stop = sorted((self._anchor, self.cursor))
        self._anchor = None
        self._mark_between(start, stop + 1)

    def action_mark_all(self) -> None:
        """Mark every row listed, or none of them where all are marked."""
        self._mark_between(0, self.rows, or_none=True)

    def clear_marks(self, ids: Iterable[int] | None = None) -> bool:
        """Take all marks, or those of `ids`, and a range that was begun away; returns whether there was one."""
        if ids is None:
            self._marking += 1
        gone = self.marks if ids is None else self.marks.intersection(ids)
        had = bool(gone) or self._anchor is not None
        self._anchor = None
        self.marks = self.marks - gone
        self.refresh()
        if had:
            self.post_message(self.MarksChanged(len(self.marks)))
        return had

    def _mark_between(self, start: int, stop: int, *, or_none: bool = False) -> None:
        ids, marking = self._ids, self._marking
        hold = cast("WorkbenchApp", self.app).hold_keys()  # they are meant for the rows that are being marked
        background(self, lambda cancelled: ids(start, stop), lambda found: self._Marked(marking, hold, found, or_none))

    def on_row_list__marked(self, message: RowList._Marked) -> None:
        """Show the marks whose ids were looked up, unless all were taken away meanwhile."""
        message.stop()
        cast("WorkbenchApp", self.app).release_keys(message.hold)
        if message.marking != self._marking:
            return
        ids = set(message.ids)
        self.marks = self.marks - ids if message.or_none and ids <= self.marks else self.marks | ids
        self.refresh()
        self.post_message(self.MarksChanged(len(self.marks)))

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint some lines: what they share is worked out once, as Textual would work it out for every line."""
        self._base, self._width = self.rich_style, self.scrollable_content_region.width
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen; a row that is not there yet is a number and a dot."""
        pos = self.scroll_offset.y + y
        width, base = self._width, self._base
        if pos >= self.rows:
            told = f"  {self.empty}" if not self.rows and y == 0 else ""
            return Strip([Segment(told, base + self._style("muted"))]).adjust_cell_length(width, base)
        on_cursor = pos == self.cursor
        if on_cursor:
            base = base + self._style("cursor")
        self._windows.want(pos)
        row = self.row(pos)
        low, high = sorted((self._anchor, self.cursor)) if self._anchor is not None else (0, -1)
        marked = (row is not None and row.id in self.marks) or low <= pos <= high
        gutter = Segment(("▌" if on_cursor else " ") + ("●" if marked else " "), base + self._style("accent"))
        return Strip([gutter, *self.cells(pos, row, base)]).adjust_cell_length(width, base)

    def cells(self, pos: int, row: RowPreview | None, base: Style) -> list[Segment]:
        """What stands behind the gutter: other lists have other columns."""
        return row_cells(pos, row, Columns.of(self._width, self.rows), self.highlight, base, self._style)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"row-list--{name}", partial=True)

    def refresh_line(self, y: int) -> None:
        """Paint one row again, if it is in sight."""
        line = y - self.scroll_offset.y
        if 0 <= line < self.size.height:
            self.refresh(Region(0, line, self.size.width, 1))
