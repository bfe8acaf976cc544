"""A table of up to many thousand rows: versions, experiments, items. Rows of a data set go into `RowList`.

It paints what is in sight and lays out nothing else, as Textual's DataTable took seconds for some thousand rows and
parses markup in its cells. Text from data is flat text; columns are sorted by what a cell stands for, not how it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.tables import ENDINGS, Value, write_table
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.messages import Said
from workbench.tui.widgets.dialogs import ask_text, dialogue
from workbench.tui.workers import Cancelled, background

TABLE_ACTIONS = declare(
    Action("cursor_down", ("j", "down"), "down", "Go to the next row.", "table"),
    Action("cursor_up", ("k", "up"), "up", "Go to the row before.", "table"),
    Action("page_down", ("pagedown", "ctrl+f"), "page down", "Go a page down.", "table"),
    Action("page_up", ("pageup", "ctrl+b"), "page up", "Go a page up.", "table"),
    Action("scroll_top", ("g", "home"), "first", "Go to the first row.", "table"),
    Action("scroll_bottom", ("G", "end"), "last", "Go to the last row.", "table"),
    Action("select_cursor", ("enter",), "choose", "Open the row.", "table"),
    Action("mark", ("space",), "mark", "Mark this row, or take its mark away.", "table"),
    Action("sort_next", ("s",), "sort table", "Order the rows by the next column.", "table"),
    Action("reverse", ("S",), "reverse table", "Turn the order round.", "table"),
    Action("export_table", (), "export table", f"Write the table to a {ENDINGS} file.", "table", takes="FILE"),
)

_MARK = "●"
_NO_MARK = "   "
_CURSOR = "▌"
_HEADER = 1  # lines


@dataclass(frozen=True)
class Column:
    """A column: its title, and whether its cells stand at the right.

    One that is `optional` is left away, the last first, where there is no room for all.
    """

    title: str
    right: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell that reads otherwise than the value it stands for: `Cell(0.123456, "+0.123")`, and its style.

    The value is what it is sorted by, where None comes last, and exported as.
    """

    value: Value
    text: str | Text
    style: Style | None = None


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows by key. `show` replaces what is there; cursor, marks and order stay with the keys and columns."""

    SCREEN_ACTIONS = TABLE_ACTIONS
    BINDINGS = bindings("table")
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--header", "table--cursor"}
    DEFAULT_CSS = """
    Table {
        background: $background; height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1;
        & > .table--header { color: $muted; }
        & > .table--cursor { background: $cursor-blurred; }
        &:focus > .table--cursor { background: $cursor; }
    }
    """

    @dataclass
    class _AtRow(Message):
        table: Table
        key: str

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.Highlighted, "#id")`."""
            return self.table

    class Highlighted(_AtRow):
        """The cursor came to the row of this key."""

    class Chosen(_AtRow):
        """Enter, or a click on the row under the cursor. Not a `Highlighted`, whose handlers would get it too."""

    @dataclass
    class MarksChanged(Message):
        """Rows were marked, or their marks taken away."""

        table: Table

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.MarksChanged, "#id")`."""
            return self.table

    def __init__(self, *, marks: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._with_marks = marks
        self._columns: Sequence[Column] = ()
        self._values: dict[str, Sequence[Value | Cell]] = {}
        self._keys: list[str] = []  # in the order shown
        self._needed: list[int] = []  # cells that the widest text of each column takes
        self._titles: list[str] = []
        self._widths: list[int] = []
        self._seen: list[int] = []  # numbers of the columns that there is room for
        self._marked: list[str] = []
        self._order: tuple[int, bool] | None = None
        self._cursor = 0
        self._told: str | None = None
        self._base = Style()
        self._width = 0

    @property
    def marked(self) -> list[str]:
        """Keys of the marked rows, in the order in which they were marked."""
        return list(self._marked)

    @property
    def keys(self) -> list[str]:
        """Keys of the rows, in the order shown."""
        return list(self._keys)

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor; None where there are no rows."""
        return self._keys[self._cursor] if self._keys else None

    def show(self, columns: Sequence[Column], rows: Sequence[tuple[str, Sequence[Value | Cell]]]) -> None:
        """Show these rows: (key, cells), one cell for each column."""
        at = self.current
        if list(columns) != list(self._columns):
            self._order = None
        self._columns = columns
        self._values = dict(rows)
        self._needed = [max((_cells(cells[number]) for _, cells in rows), default=0) for number in range(len(columns))]
        self._marked = [key for key in self._marked if key in self._values]
        self._arrange(at)

    def unmark(self) -> bool:
        """Take all marks away; False where there was none."""
        if not self._marked:
            return False
        self._marked.clear()
        self.refresh()
        self.post_message(self.MarksChanged(self))
        return True

    def go_to(self, key: str) -> None:
        """Put the cursor on the row of `key`, where there is one."""
        if key in self._values:
            self._move_to(self._keys.index(key))

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Marks are for tables that have them."""
        return self._with_marks if action == "mark" else True

    def action_cursor_down(self) -> None:
        """Go to the next row."""
        self._move_to(self._cursor + 1)

    def action_cursor_up(self) -> None:
        """Go to the row before."""
        self._move_to(self._cursor - 1)

    def action_page_down(self) -> None:
        """Go a page down."""
        self._page(1)

    def action_page_up(self) -> None:
        """Go a page up."""
        self._page(-1)

    def action_scroll_top(self) -> None:
        """Go to the first row."""
        self._move_to(0)

    def action_scroll_bottom(self) -> None:
        """Go to the last row."""
        self._move_to(len(self._keys) - 1)

    def action_select_cursor(self) -> None:
        """Choose the row under the cursor."""
        if (key := self.current) is not None:
            self.post_message(self.Chosen(self, key))

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        if (key := self.current) is None:
            return
        if key in self._marked:
            self._marked.remove(key)
        else:
            self._marked.append(key)
        self.refresh()
        self.post_message(self.MarksChanged(self))

    def action_sort_next(self) -> None:
        """Order by the next column: numbers the largest first, text from a to z; after the last, as it came."""
        column = 0 if self._order is None else self._order[0] + 1
        numbers = any(
            isinstance(_value(cells[column]), int | float) for cells in self._values.values() if cells[column:]
        )
        self._order = (column, numbers) if column < len(self._columns) else None
        self._arrange(self.current)

    def action_reverse(self) -> None:
        """Turn the order round."""
        if self._order is not None:
            self._order = (self._order[0], not self._order[1])
            self._arrange(self.current)

    @dialogue
    async def action_export_table(self, file: str = "") -> None:
        """Write what the table shows."""
        named = file or await ask_text(self.app, "Write the table to", "table.csv", detail=f"A {ENDINGS} file.")
        if not named:
            return
        path = Path(named).expanduser()
        titles = [column.title for column in self._columns]
        rows = [[_value(cell) for cell in self._values[key]] for key in self._keys]

        def write(cancelled: Cancelled) -> Said:
            return Said(f"{write_table(path, titles, rows):,} rows are in {path}.")

        background(self, write, lambda said: said)

    # Moving

    def _page(self, by: int) -> None:
        page = max(self.size.height - _HEADER - 1, 1)
        self.scroll_to(y=self.scroll_offset.y + by * page, animate=False)
        self._move_to(self._cursor + by * page)

    def _move_to(self, row: int) -> None:
        row = max(min(row, len(self._keys) - 1), 0)
        if row != self._cursor:
            self._cursor = row
            self.refresh()
        self._show_cursor()
        self._tell()

    def _show_cursor(self) -> None:
        seen = self.size.height - _HEADER
        if seen > 0:
            top = min(max(self.scroll_offset.y, self._cursor - seen + 1), self._cursor)
            self.scroll_to(y=top, animate=False)

    def _tell(self) -> None:
        if self.current != self._told:
            self._told = self.current
            if self._told is not None:
                self.post_message(self.Highlighted(self, self._told))

    def on_resize(self) -> None:
        """Show the columns that there is room for; keep the cursor in sight."""
        self._fit_columns()
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """Go to a row; choose the one that the cursor is on."""
        row = self.scroll_offset.y + event.get_content_offset_capture(self).y - _HEADER
        if not self.scroll_offset.y <= row < len(self._keys):  # on the header, or below the last row
            return
        if row == self._cursor:
            self.action_select_cursor()
        else:
            self._move_to(row)

    # The order

    def _arrange(self, at: str | None) -> None:
        """Put the rows in order, and the cursor on row `at`; where it is gone, it stays where it was."""
        self._keys = self._sorted()
        arrow = " ↓" if self._order and self._order[1] else " ↑"
        by = self._order[0] if self._order else None
        self._titles = [column.title + arrow * (number == by) for number, column in enumerate(self._columns)]
        self._widths = [max(cell_len(title), cells) for title, cells in zip(self._titles, self._needed, strict=True)]
        self._fit_columns()
        self._move_to(self._keys.index(at) if at in self._values else self._cursor)

    def _fit_columns(self) -> None:
        self._seen = list(range(len(self._columns)))
        for number in reversed(range(len(self._columns))):
            if self._columns[number].optional and self._row_width() > self.scrollable_content_region.width > 0:
                self._seen.remove(number)
        self.virtual_size = Size(self._row_width(), len(self._keys) + _HEADER)
        self.refresh()

    def _row_width(self) -> int:
        return len(_NO_MARK) * self._with_marks + sum(self._widths[number] + 2 for number in self._seen)

    def _sorted(self) -> list[str]:
        if self._order is None:
            return list(self._values)
        column, descending = self._order
        known = {key: value for key in self._values if (value := _value(self._values[key][column])) is not None}
        ordered = sorted(known, key=lambda key: _rank(known[key]), reverse=descending)
        return ordered + [key for key in self._values if key not in known]

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint some lines: what they share is worked out once, as Textual would work it out for every line."""
        self._base, self._width = self.rich_style, self.scrollable_content_region.width
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the titles, or a row."""
        left, top = self.scroll_offset
        row = top + y - _HEADER
        base = self._base
        if y < _HEADER:
            strip = self._heading(base + self.get_component_rich_style("table--header", partial=True))
        elif row < len(self._keys):
            strip = self._row(row, base)
            if row == self._cursor:
                base = base + self.get_component_rich_style("table--cursor", partial=True)
        else:
            return Strip.blank(self._width, base)
        right = left + self._width
        if strip.cell_length > right and strip.crop(right - 1).text.strip():
            return Strip([*strip.crop(left, right - 1), Segment("…", base)])
        return strip.crop_extend(left, right, base)

    def _heading(self, style: Style) -> Strip:
        parts = [_NO_MARK * self._with_marks]
        for number in self._seen:
            title, width = self._titles[number], self._widths[number]
            parts.append(f" {title.rjust(width) if self._columns[number].right else title.ljust(width)} ")
        return Strip([Segment("".join(parts), style)])

    def _row(self, row: int, base: Style) -> Strip:
        key, at = self._keys[row], row == self._cursor
        if at:
            base = base + self.get_component_rich_style("table--cursor", partial=True)
        segments: list[Segment] = []
        before = _CURSOR if at else " "
        if self._with_marks:
            segments.append(Segment(f"{before}{_MARK if key in self._marked else ' '} ", base))
            before = " "
        for number in self._seen:
            segments.append(Segment(before, base))
            segments += self._painted(self._values[key][number], self._columns[number], self._widths[number], base)
            segments.append(Segment(" ", base))
            before = " "
        return Strip(segments)

    def _painted(self, cell: Value | Cell, column: Column, width: int, base: Style) -> list[Segment]:
        text = _text(cell)
        if isinstance(text, str):
            style = base + cell.style if isinstance(cell, Cell) and cell.style else base
            pieces = [Segment(text, style)]
        else:
            pieces = [Segment(text, base + (style or Style())) for text, style, _ in text.render(self.app.console)]
        blank = Segment(" " * (width - _cells(cell)), base)
        return [blank, *pieces] if column.right else [*pieces, blank]


def _value(cell: Value | Cell) -> Value:
    return cell.value if isinstance(cell, Cell) else cell


def _rank(value: Value) -> tuple[bool, float, str]:
    return (True, 0.0, value.casefold()) if isinstance(value, str) else (False, float(value or 0), "")


def _text(cell: Value | Cell) -> str | Text:
    """How a cell reads; a Text is flat already."""
    shown = cell.text if isinstance(cell, Cell) else cell
    if isinstance(shown, Text):
        return shown
    return f"{shown:,}" if isinstance(shown, int | float) else flat(shown or "")


def _cells(cell: Value | Cell) -> int:
    """How many cells of the terminal it takes."""
    text = _text(cell)
    if isinstance(text, Text):
        return text.cell_len
    return len(text) if text.isascii() else cell_len(text)
