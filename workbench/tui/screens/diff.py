"""Diff: the rows that came and went between two versions, why each went, and what stands in its place."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.store.diff import DiffRow, OpenDiff
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat, wrap
from workbench.tui.screen import BenchScreen
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.preview import turn_lines
from workbench.tui.widgets.row_cells import RowHeading
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.workers import Cancelled, background

DIFF_ACTIONS = declare(
    Action("open_row", ("enter",), "open row", "Open the row in Browse, in the version that has it.", "diff"),
    Action("turn", ("tab",), "next pane", "Go to the next of reasons, rows and texts.", "diff"),
    Action("turn_back", ("shift+tab",), "pane before", "Go to the pane before.", "diff"),
)

_CAME = "+"  # the key of the rows that B has more; reasons are keyed by themselves, behind a space


@dataclass
class _Opened(Message):
    diff: OpenDiff


@dataclass
class _Row(Message):
    row: DiffRow
    texts: list[list[Line]]


class DiffScreen(BenchScreen):
    """B against A. It is made for one look, over the screen that asks."""

    NAME = "diff"
    SCREEN_ACTIONS = DIFF_ACTIONS
    BINDINGS = bindings("diff")
    HINTS = ("help", "turn", "open_row", "back", "command_palette")
    DEFAULT_CSS = """
    DiffScreen #about { height: auto; max-height: 2; padding: 0 1; }
    DiffScreen #lists { height: 1fr; layout: vertical; }
    DiffScreen Table { height: 35%; min-height: 4; }
    DiffScreen #rows { height: 1fr; border-top: solid $rule; }
    DiffScreen #rows:focus-within { border-top: solid $border; }
    DiffScreen #texts { height: 45%; }
    DiffScreen LineView { width: 1fr; padding: 0 0 0 1; border-top: solid $rule; }
    DiffScreen LineView:focus { border-top: solid $border; }
    DiffScreen #right { border-left: solid $rule; }
    DiffScreen.-wide {
        & #lists { layout: horizontal; }
        & Table { width: 50; height: 100%; }
        & #rows { width: 1fr; height: 100%; border-top: none; border-left: solid $rule; }
        & #rows:focus-within { border-left: solid $border; }
    }
    """

    def __init__(self, a: str, b: str) -> None:
        super().__init__()
        self._a = a
        self._b = b
        self._diff: OpenDiff | None = None
        self._row_id: int | None = None

    def body(self) -> ComposeResult:
        """The counts in a line; reasons and rows; the texts of one row and of what stands in its place."""
        yield Static(id="about", markup=False)
        with Horizontal(id="lists"):
            yield Table()
            with Vertical(id="rows"):
                yield RowHeading()
                yield RowList()
        with Horizontal(id="texts"):
            yield LineView(id="left")
            yield LineView(id="right")

    def home(self) -> Widget:
        """The reasons."""
        return self.query_one(Table)

    @property
    def rows(self) -> RowList:
        """The rows of the reason under the cursor."""
        return self.query_one(RowList)

    def on_mount(self) -> None:
        """Compare."""
        super().on_mount()
        workspace, a, b = self.bench.workspace, self._a, self._b
        self.progress("comparing …")

        def work(cancelled: Cancelled) -> _Opened | None:
            diff = workspace.open_diff(a, b, cancelled)
            if cancelled():
                diff.close()
                return None
            return _Opened(diff)

        background(self, work, lambda opened: opened)

    def on_unmount(self) -> None:
        """Let go of the rows."""
        if self._diff:
            self._diff.close()

    def on_failure(self) -> None:
        """Nothing is compared any more; the app tells what was wrong."""
        self.progress("")

    @on(_Opened)
    def _opened(self, message: _Opened) -> None:
        diff = self._diff = message.diff
        self.progress("")
        a, b = flat(self._a), flat(self._b)
        about = Text(f"{a} → {b}", "bold")
        about.append(
            f": {diff.common:,} rows in both, {diff.removed:,} only in {a}, {diff.added:,} only in {b}.", "not bold"
        )
        self.query_one("#about", Static).update(about)
        lines = [(" " + reason, (count, reason)) for reason, count in diff.by_reason.items()]
        came = [(_CAME, (diff.added, Cell(f"only in {self._b}", f"only in {b}")))] if diff.added else []
        self.query_one(Table).show(
            (Column("rows", right=True), Column(f"why they are not in {b}" if lines else "rows")), [*lines, *came]
        )
        if not (lines or came):
            self.query_one("#left", LineView).set_lines([[("Both hold the same rows.", "muted")]])

    # Rows

    @on(Table.Highlighted)
    def _reason(self, message: Table.Highlighted) -> None:
        if diff := self._diff:
            reason = None if message.key == _CAME else message.key[1:]
            total = diff.by_reason[reason] if reason else diff.added
            self.query_one(RowHeading).rows = total
            self.rows.set_source(total, lambda start, count: diff.window(reason, start, count))

    @on(Table.Chosen)
    def _reason_chosen(self) -> None:
        self.rows.focus()

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        self._row_id = message.id
        self._read()

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.action_open_row()

    @on(LineView.Widened)
    def _read(self) -> None:
        diff, id = self._diff, self._row_id
        widths = [self.query_one(f"#{side}", LineView).width for side in ("left", "right")]
        if diff is None or id is None or min(widths) < 10:
            return

        def work(cancelled: Cancelled) -> _Row | None:
            row = diff.row(id)
            return (
                _Row(row, [_row_lines(row, self._a, self._b, widths[0]), _other_lines(row, widths[1])]) if row else None
            )

        background(self, work, lambda row: row, group="row")

    @on(_Row)
    def _show(self, message: _Row) -> None:
        if message.row.id == self._row_id:
            for side, lines in zip(("left", "right"), message.texts, strict=True):
                self.query_one(f"#{side}", LineView).set_lines(lines)

    # Keys

    def action_open_row(self) -> None:
        """Open the row in Browse."""
        if (row := self.rows.current) is None:
            self.say("There is no row here.")
            return
        came = self.query_one(Table).current == _CAME
        self.bench.base = self._b if came else self._a
        self.bench.go("browse", base=self.bench.base, row=row.id)

    def action_turn(self) -> None:
        """Go to the next pane."""
        self._turn(1)

    def action_turn_back(self) -> None:
        """Go to the pane before."""
        self._turn(-1)

    def _turn(self, by: int) -> None:
        panes: list[Widget] = [self.query_one(Table), self.rows, *self.query(LineView)]
        at = next((number for number, pane in enumerate(panes) if pane is self.focused), 0)
        panes[(at + by) % len(panes)].focus()

    def escape(self) -> bool:
        """Back to the reasons; then out."""
        if self.focused is self.query_one(Table):
            return False
        self.focus_home()
        return True


def _row_lines(row: DiffRow, a: str, b: str, width: int) -> list[Line]:
    """A row with where it stands, and why it is not in B."""
    where = f"only in {a}" if row.reason else f"only in {b}"
    lines: list[Line] = [[(flat(row.source), "accent"), (f" row {row.row:,}", "accent"), (f"  {flat(where)}", "muted")]]
    if row.reason:
        told = row.reason + (f" ({row.detail})" if row.detail else "")
        lines += [[(piece, "warning")] for piece in wrap(told, width)]
    beside = row.instead[2] if row.instead else ()
    return [*lines, [], *turn_lines(row.messages, width, beside=beside)[0]]


def _other_lines(row: DiffRow, width: int) -> list[Line]:
    """The row that a row duplicates, was edited into or from; or that there is none."""
    if row.instead is None:
        told = "No other row stands in its place." if row.reason else "It was made from no other row."
        return [[(piece, "muted")] for piece in wrap(told, width)]
    source, number, messages = row.instead
    what = "edited from" if row.reason is None else "edited into" if row.is_edit else "kept instead"
    if row.similarity is not None:
        what += f", {row.similarity:.3f} alike"
    return [
        [(flat(source), "accent"), (f" row {number:,}", "accent"), (f"  {what}", "muted")],
        [],
        *turn_lines(messages, width, beside=row.messages)[0],
    ]
