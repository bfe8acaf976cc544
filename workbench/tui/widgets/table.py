"""A table of up to some thousand rows: versions, experiments, items. Rows of a data set go into `RowList`.

Textual's DataTable, with text from data as flat text (its own cells would parse markup), our keys, sorting by what a
cell stands for rather than how it reads, marks, and export to a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import DataTable

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

_MARKS = "marks"
_MARK = "●"


@dataclass(frozen=True)
class Column:
    """A column: its title, whether its cells stand at the right, and its width in cells (None: as wide as needed)."""

    title: str
    right: bool = False
    width: int | None = None


@dataclass(frozen=True)
class Cell:
    """A cell that reads otherwise than the value it stands for: `Cell(0.123456, "+0.123")`, or with a style.

    The value is what it is sorted by, where None comes last, and exported as.
    """

    value: Value
    text: str | Text


class Table(DataTable[Text], inherit_bindings=False):
    """Rows by key. `show` replaces what is there; cursor, marks and order stay with the keys and columns."""

    SCREEN_ACTIONS = TABLE_ACTIONS
    BINDINGS: ClassVar[list[BindingType]] = bindings("table")
    DEFAULT_CSS = """
    Table {
        background: $background; height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1;
        &:focus { background-tint: transparent; }
        & > .datatable--header, &:focus > .datatable--header {
            background: $background; background-tint: transparent; color: $muted; text-style: none;
        }
        & > .datatable--hover { background: $background; }
    }
    """

    @dataclass
    class Highlighted(Message):
        """The cursor came to the row of this key."""

        table: Table
        key: str

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.Highlighted, "#id")`."""
            return self.table

    class Chosen(Highlighted):
        """Enter or a click on the row under the cursor."""

    @dataclass
    class MarksChanged(Message):
        """Rows were marked, or their marks taken away."""

        table: Table

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.MarksChanged, "#id")`."""
            return self.table

    def __init__(self, *, marks: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, id=id, classes=classes)
        self._with_marks = marks
        self._titles: Sequence[Column] = ()
        self._values: dict[str, Sequence[Value | Cell]] = {}
        self._marked: list[str] = []
        self._order: tuple[int, bool] | None = None

    @property
    def marked(self) -> list[str]:
        """Keys of the marked rows, in the order in which they were marked."""
        return list(self._marked)

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor; None where there are no rows."""
        keys = list(self._shown_keys())
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def show(self, columns: Sequence[Column], rows: Sequence[tuple[str, Sequence[Value | Cell]]]) -> None:
        """Show these rows: (key, cells), one cell for each column."""
        at = self.current
        if list(columns) != list(self._titles):
            self._order = None
        self._titles = columns
        self._values = dict(rows)
        self._marked = [key for key in self._marked if key in self._values]
        self._fill(at)

    def unmark(self) -> bool:
        """Take all marks away; False where there was none."""
        if not self._marked:
            return False
        self._marked.clear()
        self._fill(self.current)
        self.post_message(self.MarksChanged(self))
        return True

    def go_to(self, key: str) -> None:
        """Put the cursor on the row of `key`, where there is one."""
        keys = list(self._shown_keys())
        if key in keys:
            self.move_cursor(row=keys.index(key), animate=False)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Marks are for tables that have them."""
        return self._with_marks if action == "mark" else True

    def action_mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        if (key := self.current) is None:
            return
        if key in self._marked:
            self._marked.remove(key)
        else:
            self._marked.append(key)
        self.update_cell(key, _MARKS, Text(_MARK if key in self._marked else " "))
        self.post_message(self.MarksChanged(self))

    def action_sort_next(self) -> None:
        """Order by the next column: numbers the largest first, text from a to z; after the last, as it came."""
        column = 0 if self._order is None else self._order[0] + 1
        numbers = any(
            isinstance(_value(cells[column]), int | float) for cells in self._values.values() if cells[column:]
        )
        self._order = (column, numbers) if column < len(self._titles) else None
        self._fill(self.current)

    def action_reverse(self) -> None:
        """Turn the order round."""
        if self._order is not None:
            self._order = (self._order[0], not self._order[1])
            self._fill(self.current)

    @dialogue
    async def action_export_table(self, file: str = "") -> None:
        """Write what the table shows."""
        named = file or await ask_text(self.app, "Write the table to", "table.csv", detail=f"A {ENDINGS} file.")
        if not named:
            return
        path = Path(named).expanduser()
        titles = [column.title for column in self._titles]
        rows = [[_value(cell) for cell in self._values[key]] for key in self._shown_keys()]

        def write(cancelled: Cancelled) -> Said:
            return Said(f"{write_table(path, titles, rows):,} rows are in {path}.")

        background(self, write, lambda said: said)

    # Inside

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Say it by key."""
        event.stop()
        if event.row_key.value is not None and self._values:
            self.post_message(self.Highlighted(self, event.row_key.value))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Say it by key."""
        event.stop()
        if event.row_key.value is not None:
            self.post_message(self.Chosen(self, event.row_key.value))

    def _shown_keys(self) -> list[str]:
        return [row.key.value or "" for row in self.ordered_rows]

    def _fill(self, at: str | None) -> None:
        top = self.scroll_offset.y
        self.clear(columns=True)
        if self._with_marks:
            self.add_column("", width=1, key=_MARKS)
        for number, column in enumerate(self._titles):
            arrow = "" if self._order is None or self._order[0] != number else " ↓" if self._order[1] else " ↑"
            title = Text(column.title + arrow, justify="right" if column.right else "left", no_wrap=True)
            self.add_column(title, width=column.width, key=str(number))
        for key in self._sorted():
            cells = [_painted(cell, column) for cell, column in zip(self._values[key], self._titles, strict=True)]
            mark = [Text(_MARK if key in self._marked else " ")] if self._with_marks else []
            self.add_row(*mark, *cells, key=key)
        self.scroll_to(y=top, animate=False)
        if at is not None:
            self.go_to(at)

    def _sorted(self) -> list[str]:
        if self._order is None:
            return list(self._values)
        column, descending = self._order
        known = {key: value for key in self._values if (value := _value(self._values[key][column])) is not None}
        ordered = sorted(known, key=lambda key: _rank(known[key]), reverse=descending)
        return ordered + [key for key in self._values if key not in known]


def _value(cell: Value | Cell) -> Value:
    return cell.value if isinstance(cell, Cell) else cell


def _rank(value: Value) -> tuple[bool, float, str]:
    return (True, 0.0, value.casefold()) if isinstance(value, str) else (False, float(value or 0), "")


def _painted(cell: Value | Cell, column: Column) -> Text:
    shown = cell.text if isinstance(cell, Cell) else cell
    if isinstance(shown, Text):
        text = shown.copy()
    else:
        text = Text(f"{shown:,}" if isinstance(shown, int | float) else flat(shown or ""))
    text.no_wrap, text.overflow = True, "ellipsis"
    if column.right:
        text.justify = "right"
    return text
