"""A list of rows as long as it likes: it holds a few windows of them and never waits for the rest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.store.windows import RowPreview
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import fit
from workbench.tui.widgets.row_cells import Columns, cell, short_count
from workbench.tui.workers import Cancelled, background

WINDOW = 256
"""Rows fetched at a time."""
_HELD = 24  # windows kept, the latest used
_WANTED = 4  # windows waited for: of those that were passed by, only the last still matter

Fetch = Callable[[int, int], list[RowPreview]]
"""`fetch(start, count)`: rows from a position on, called in a thread."""

STATE_GLYPHS = {"kept": " ", "dropped": "×", "edited": "~", "restored": "+"}

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
    class Highlighted(Message):
        """The cursor came to another row, or the row under it is known at last."""

        id: int
        pos: int

    class Chosen(Highlighted):
        """A row was clicked twice."""

    @dataclass
    class MarksChanged(Message):
        """There are other marks than before; `count` of them."""

        count: int

    @dataclass
    class _Window(Message):
        generation: int
        number: int
        rows: list[RowPreview]

    @dataclass
    class _Marked(Message):
        generation: int
        ids: list[int]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows = 0
        self.cursor = 0
        self.marks: set[int] = set()
        self.highlight = ""
        self._anchor: int | None = None
        self._fetch: Fetch = lambda start, count: []
        self._ids: Callable[[int, int], list[int]] = lambda start, stop: []
        self._generation = 0
        self._windows: OrderedDict[int, list[RowPreview]] = OrderedDict()
        self._stale: set[int] = set()
        self._wanted: list[int] = []
        self._loading: int | None = None

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
        self._fetch = fetch
        self._ids = ids or (lambda start, stop: [row.id for row in fetch(start, stop - start)])
        self._generation += 1
        self._windows.clear()
        self._wanted.clear()
        self._stale.clear()
        self._loading = None
        self._anchor = None
        self.cursor = max(min(cursor, rows - 1), 0)
        self.virtual_size = Size(0, rows)
        self._show_cursor(middle=True)
        self.refresh()
        self._want(self.cursor // WINDOW)

    def reload(self) -> None:
        """Fetch again what is shown: the rows are the same ones, but may stand otherwise now."""
        self._generation += 1
        self._loading = None
        self._stale = set(self._windows)
        self._want(self.cursor // WINDOW)
        self.refresh()

    def row(self, pos: int) -> RowPreview | None:
        """The row at a position, where it is known already."""
        window = self._windows.get(pos // WINDOW)
        offset = pos % WINDOW
        return window[offset] if window is not None and offset < len(window) else None

    @property
    def current(self) -> RowPreview | None:
        """The row under the cursor, where it is known already."""
        return self.row(self.cursor)

    def _want(self, number: int) -> None:
        if number in self._windows and number not in self._stale:
            self._windows.move_to_end(number)
            return
        if number == self._loading:
            return
        if number in self._wanted:
            self._wanted.remove(number)
        self._wanted.append(number)
        del self._wanted[:-_WANTED]
        if self._loading is None:
            self._fetch_next()

    def _fetch_next(self) -> None:
        if not self._wanted or not self.is_attached:
            return
        number, generation, fetch = self._wanted.pop(), self._generation, self._fetch
        self._loading = number

        def work(cancelled: Cancelled) -> RowList._Window:
            return RowList._Window(generation, number, fetch(number * WINDOW, WINDOW))

        background(self, work, lambda window: window)

    def on_mount(self) -> None:
        """Begin with what was asked for before there was a screen."""
        self._fetch_next()

    def on_row_list__window(self, message: RowList._Window) -> None:
        """Show what came, and go on with what is still wanted."""
        message.stop()
        if message.generation != self._generation:
            return
        self._loading = None
        self._windows[message.number] = message.rows
        self._windows.move_to_end(message.number)
        self._stale.discard(message.number)
        while len(self._windows) > _HELD:
            self._windows.popitem(last=False)
        self._fetch_next()
        self.refresh()
        if message.number == self.cursor // WINDOW:
            self._tell()

    def on_failure(self) -> None:
        """Ask again for rows that could not be had when they are next in sight; the app tells what was wrong."""
        self._loading = None

    # Moving

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor and what is shown by a page."""
        page = max(self.size.height - 1, 1)
        self.scroll_to(y=self.scroll_offset.y + by * page, animate=False)
        self.move_to(self.cursor + by * page)

    def action_first(self) -> None:
        """Go to the first row."""
        self.move_to(0)

    def action_last(self) -> None:
        """Go to the last row."""
        self.move_to(self.rows - 1)

    def move_to(self, pos: int, *, middle: bool = False) -> None:
        """Put the cursor on a position, as near as there is one, and show it."""
        pos = max(min(pos, self.rows - 1), 0)
        if pos == self.cursor:
            return
        before, self.cursor = self.cursor, pos
        top = self.scroll_offset.y
        self._show_cursor(middle=middle)
        if self._anchor is not None or top != self.scroll_offset.y:
            self.refresh()
        else:
            self.refresh_line(before)
            self.refresh_line(pos)
        self._want(pos // WINDOW)
        self._tell()

    def _show_cursor(self, *, middle: bool = False) -> None:
        height = self.size.height
        if not height:
            return
        top = self.scroll_offset.y
        if middle and not top <= self.cursor < top + height:
            top = self.cursor - height // 2
        top = min(max(top, self.cursor - height + 1), self.cursor)
        self.scroll_to(y=max(top, 0), animate=False)

    def _tell(self) -> None:
        if row := self.current:
            self.post_message(self.Highlighted(row.id, self.cursor))

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._show_cursor()

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
            return
        start, stop = sorted((self._anchor, self.cursor))
        self._anchor = None
        self._mark_between(start, stop + 1)

    def action_mark_all(self) -> None:
        """Mark every row listed, or none where all are marked."""
        if len(self.marks) >= self.rows:
            self.clear_marks()
        else:
            self._mark_between(0, self.rows)

    def clear_marks(self) -> bool:
        """Take all marks and a range that was begun away; returns whether there was one."""
        had = bool(self.marks) or self._anchor is not None
        self._anchor = None
        self.marks.clear()
        self.refresh()
        if had:
            self.post_message(self.MarksChanged(0))
        return had

    def _mark_between(self, start: int, stop: int) -> None:
        generation, ids = self._generation, self._ids
        background(self, lambda cancelled: ids(start, stop), lambda found: self._Marked(generation, found))

    def on_row_list__marked(self, message: RowList._Marked) -> None:
        """Show the marks whose ids were looked up."""
        message.stop()
        self.marks.update(message.ids)
        self.refresh()
        self.post_message(self.MarksChanged(len(self.marks)))

    # Painting

    def render_line(self, y: int) -> Strip:
        """One line of the screen; a row that is not there yet is a number and a dot."""
        pos = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        base = self.rich_style
        if pos >= self.rows:
            return Strip.blank(width, base)
        on_cursor = pos == self.cursor
        if on_cursor:
            base = base + self._style("cursor")
        row = self.row(pos)
        if row is None or pos // WINDOW in self._stale:
            self._want(pos // WINDOW)
        columns = Columns.of(width, self.rows)
        segments = [self._gutter(pos, row, base, on_cursor)]
        number = f"{(row.pos if row else pos) + 1:,}".rjust(columns.number)
        segments.append(Segment(number, base + self._style("muted")))
        if row is None:
            segments.append(Segment("   ·", base + self._style("muted")))
        else:
            segments += self._cells(row, columns, base)
        return Strip(segments).adjust_cell_length(width, base)

    def _gutter(self, pos: int, row: RowPreview | None, base: Style, on_cursor: bool) -> Segment:
        low, high = sorted((self._anchor, self.cursor)) if self._anchor is not None else (0, -1)
        marked = (row is not None and row.id in self.marks) or low <= pos <= high
        return Segment(("▌" if on_cursor else " ") + ("●" if marked else " "), base + self._style("accent"))

    def _cells(self, row: RowPreview, columns: Columns, base: Style) -> list[Segment]:
        muted = base + self._style("muted")
        changed = base + self._style("dropped" if row.state == "dropped" else "edited")
        text = muted if row.state == "dropped" else base
        cells = [
            Segment(f" {STATE_GLYPHS[row.state]} ", changed),
            Segment(fit(row.label or "", 5), base + self._style("accent")),
            Segment(f"{row.turns:>6} {short_count(row.chars):>5}  ", muted),
            *self._text(row.prompt, columns.prompt, text, base),
        ]
        if columns.response:
            cells.append(Segment("  ", base))
            cells += self._text(row.response, columns.response, muted, base)
        return cells

    def _text(self, text: str, width: int, style: Style, base: Style) -> list[Segment]:
        line = cell(text, width)
        start = line.casefold().find(self.highlight) if self.highlight else -1
        if start < 0:
            return [Segment(line, style)]
        stop = start + len(self.highlight)
        hit = base + self._style("hit")
        return [Segment(line[:start], style), Segment(line[start:stop], hit), Segment(line[stop:], style)]

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"row-list--{name}", partial=True)

    def refresh_line(self, y: int) -> None:
        """Paint one row again, if it is in sight."""
        line = y - self.scroll_offset.y
        if 0 <= line < self.size.height:
            self.refresh(Region(0, line, self.size.width, 1))
