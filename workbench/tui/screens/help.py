"""`?`: the keys that work now, from the focused widget outwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Static

from workbench.tui.actions import Action


class HelpScreen(ModalScreen[None]):
    """The actions offered where `?` was pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter,f1", "dismiss", "close", show=False),
        Binding("j", "down", "down", show=False),
        Binding("k", "up", "up", show=False),
    ]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen > VerticalScroll {
        width: 100; max-width: 96%; height: auto; max-height: 92%; padding: 0 1; scrollbar-size-vertical: 1;
        background: $surface; border: round $border; border-title-color: $foreground; border-title-style: bold;
        border-subtitle-color: $muted;
    }
    HelpScreen Static { width: 100%; height: auto; }
    """

    def __init__(self, offered: Sequence[tuple[DOMNode, Action]]) -> None:
        super().__init__()
        self._offered = offered

    def compose(self) -> ComposeResult:
        """A section a scope, a line an action."""
        with VerticalScroll() as box:
            box.border_title = "Keys that work here"
            box.border_subtitle = "j k scroll · esc closes · ctrl+p finds any action"
            yield Static(self._grid(), markup=False)

    def _grid(self) -> Table:
        muted = self.app.theme_variables["muted"]
        accent = self.app.theme_variables["accent"]
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(min_width=14)
        grid.add_column(ratio=1)
        for scope, group in groupby((action for _, action in self._offered), key=lambda action: action.scope):
            grid.add_row(Text(scope, f"bold {accent}"))
            for action in group:
                does = Text(action.help)
                if action.takes:
                    does.append(f"  :{action.command} {action.takes}", muted)
                grid.add_row(Text(f"  {action.shown_keys or ':' + action.command}", "bold"), does)
        return grid

    def action_down(self) -> None:
        """Scroll down."""
        self.query_one(VerticalScroll).scroll_down(animate=False)

    def action_up(self) -> None:
        """Scroll up."""
        self.query_one(VerticalScroll).scroll_up(animate=False)
