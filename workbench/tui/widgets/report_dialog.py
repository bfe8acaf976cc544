"""Something to read, over the screen, and a yes to go on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from workbench.tui.widgets.dialogs import Dialog
from workbench.tui.widgets.line_view import Line, LineView

Lines = Callable[[int], Sequence[Line]]
"""`lines(width)`: what is read, as lines of at most `width` cells."""


class ReportDialog(Dialog[bool]):
    """Lines that scroll. Gives True on enter, None on esc."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "go_on", "go on", show=False)]
    DEFAULT_CSS = """
    ReportDialog > Vertical { width: 110; }
    ReportDialog LineView { height: auto; min-height: 1; max-height: 30; background: $surface; }
    """

    def __init__(self, title: str, lines: Lines, *, detail: str = "", foot: str = "enter or esc closes") -> None:
        super().__init__(title, detail, foot)
        self._lines = lines

    def inside(self) -> ComposeResult:
        """The text."""
        yield LineView()

    def on_mount(self) -> None:
        """Lay the text out, and let keys scroll it."""
        super().on_mount()
        self.query_one(LineView).focus()

    @on(LineView.Widened)
    def _lay_out(self) -> None:
        text = self.query_one(LineView)
        lines = list(self._lines(max(text.width, 10)))
        text.styles.height = len(lines)
        text.set_lines(lines)

    def action_go_on(self) -> None:
        """Yes."""
        self.dismiss(True)
