"""A tab of a finished experiment with a widget of its own.

To add one: a subclass of `ResultPane`, or of `TablePane`, in a module of its own, and its class in `PANES` of
`verdict_view`, where tabs have the order of the list. Its key, its name on the `:` line and its line in the help come
from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from workbench.report.verdict import number
from workbench.tables import Value
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import COLOURS, GLYPHS, p_told

if TYPE_CHECKING:
    from workbench.results import Finished

Shown = tuple[Sequence[Column], Sequence[tuple[str, Sequence[Value | Cell]]]]
"""What `Table.show` takes."""

_PLAIN = {"no difference detected": "no difference"}


class ResultPane(Vertical):
    """Shows one side of a result. It is mounted once, with its `NAME` as id, and shown another result as one opens.

    Messages of tables within it are its own: it stops them.
    """

    NAME: ClassVar[str]
    """The name of the tab."""
    KEY: ClassVar[str]
    """The key that opens it."""
    HELP: ClassVar[str]
    """What it shows, in a sentence for the help."""
    HINT: ClassVar[str] = ""
    """A few words on its keys, shown beside the tabs where there is room."""
    DEFAULT_CSS = "ResultPane { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id=self.NAME)

    def show(self, shown: Finished | None) -> None:
        """Show a result; nothing for None, while another one is read."""
        raise NotImplementedError

    def home(self) -> Widget:
        """What takes the keys when the tab is opened."""
        raise NotImplementedError

    def escape(self) -> bool:
        """Close one thing that is open in it; False where there is none."""
        return False


class TablePane(ResultPane):
    """A tab that is a table, below what it is about. Nothing hangs on its cursor, nor on enter."""

    DEFAULT_CSS = """
    TablePane Static { height: auto; padding: 0 1; color: $muted; }
    TablePane Table { scrollbar-size-horizontal: 0; }
    TablePane.-empty .shown { display: none; }
    """

    def compose(self) -> ComposeResult:
        """What it is about, and the table; what has the class `shown` is there only with rows."""
        yield Static(id="by", markup=False)
        yield Table(id="listed", classes="shown")

    @property
    def table(self) -> Table:
        """The table."""
        return self.query_one("#listed", Table)

    def home(self) -> Widget:
        """The table."""
        return self.table

    def fill(self, about: str, rows: Shown = ((), ())) -> None:
        """Show rows below what they are about; without rows, that alone."""
        self.set_class(not rows[1], "-empty")
        self.table.show(*rows)
        self.query_one("#by", Static).update(Text("\n".join(map(flat, about.split("\n")))))

    def on_table_highlighted(self, message: Table.Highlighted) -> None:
        """Nothing hangs on the cursor."""
        message.stop()

    def on_table_chosen(self, message: Table.Chosen) -> None:
        """Nor on enter."""
        message.stop()


DIFFERENCE = (Column("B - A", right=True), Column("95% interval", right=True))


def difference_cells(measured: Mapping[str, Any]) -> list[Value | Cell]:
    """The columns of `DIFFERENCE` of something measured in the JSON of `compare`, and its p value."""
    low, high = measured["ci"]
    interval = "unknown" if low is None else f"{number(low, signed=True)} … {number(high, signed=True)}"
    p = measured["p_decisive"]
    return [
        Cell(measured["delta"], number(measured["delta"], signed=True)),
        Cell(low, interval),
        Cell(p, p_told(p)),
    ]


def verdict_cell(widget: Widget, verdict: str, *, terse: bool = False) -> Cell:
    """A verdict in its colour; a `terse` one is a mark alone where nothing was found."""
    colour = COLOURS.get(verdict)
    said = GLYPHS[verdict] if terse and colour is None else f"{GLYPHS[verdict]} {_PLAIN.get(verdict, verdict)}"
    return Cell(verdict, said, Style(color=widget.app.theme_variables[colour]) if colour else None)


def name_cell(name: str, width: int) -> Cell:
    """A name in at most `width` cells: what tells arms apart stands at both of its ends."""
    told = flat(name)
    if cell_len(told) > width:
        behind = width // 2
        told = f"{told[: width - behind - 1]}…{told[-behind:]}" if told.isascii() else fit(told, width)
    return Cell(name, told.rstrip())
