"""Lines that were made elsewhere, scrolled and painted: any number of them, as nothing is laid out here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.tui.actions import Action, bindings, declare

Line = list[tuple[str, str | Style]]
"""Pieces of one line: flat text, and the name of a style of `LineView` or a style of its own."""

TEXT_ACTIONS = declare(
    Action("scroll_by(1)", ("j", "down"), "down", "Scroll a line down.", "text"),
    Action("scroll_by(-1)", ("k", "up"), "up", "Scroll a line up.", "text"),
    Action("page_by(1)", ("pagedown", "space", "ctrl+f"), "page down", "Scroll a page down.", "text"),
    Action("page_by(-1)", ("pageup", "ctrl+b"), "page up", "Scroll a page up.", "text"),
    Action("top", ("g", "home"), "top", "Go to the first line.", "text"),
    Action("bottom", ("G", "end"), "bottom", "Go to the last line.", "text"),
)


class LineView(ScrollView, can_focus=True):
    """Text that fits its width already; `set_lines` takes what a worker has wrapped."""

    SCREEN_ACTIONS = TEXT_ACTIONS
    BINDINGS = bindings("text")
    STYLES: ClassVar[tuple[str, ...]] = ("text", "strong", "muted", "accent", "warning", "error", "hit")
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line-view--{name}" for name in STYLES}
    DEFAULT_CSS = """
    LineView {
        background: $background; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > .line-view--strong { text-style: bold; }
        & > .line-view--muted { color: $muted; }
        & > .line-view--accent { color: $accent; text-style: bold; }
        & > .line-view--warning { color: $warning; }
        & > .line-view--error { color: $error; }
        & > .line-view--hit { color: $accent; text-style: bold underline; }
    }
    """

    @dataclass
    class Widened(Message):
        """Lines have another `width` now: what is to be shown is to be wrapped again."""

        width: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()
        self._base = Style()
        self._width = 0
        self._told = 0

    @property
    def width(self) -> int:
        """Cells of a line, whether or not there is a scroll bar; 0 where it is not on the screen."""
        return self.scrollable_content_region.width

    def on_resize(self) -> None:
        """Tell of another width."""
        if self.width != self._told:
            self._told = self.width
            self.post_message(self.Widened(self.width))

    def set_lines(self, lines: Sequence[Line], top: int = 0) -> None:
        """Show other lines, from line `top` on."""
        self._lines = lines
        self.virtual_size = Size(0, len(lines))
        self.scroll_to(y=top, animate=False)
        self.refresh()

    def action_scroll_by(self, lines: int) -> None:
        """Scroll by lines."""
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False)

    def action_page_by(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll_by(pages * max(self.size.height - 1, 1))

    def action_top(self) -> None:
        """Go to the first line."""
        self.scroll_to(y=0, animate=False)

    def action_bottom(self) -> None:
        """Go to the last line."""
        self.scroll_to(y=len(self._lines), animate=False)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint some lines: what they share is worked out once, as Textual would work it out for every line."""
        self._base, self._width = self.rich_style, self.scrollable_content_region.width
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        number = self.scroll_offset.y + y
        base = self._base
        if number >= len(self._lines):
            return Strip.blank(self._width, base)
        segments = [Segment(text, base + self._style(style)) for text, style in self._lines[number]]
        return Strip(segments).adjust_cell_length(self._width, base)

    def _style(self, style: str | Style) -> Style:
        if isinstance(style, Style):
            return style
        return self.get_component_rich_style(f"line-view--{style}", partial=True)
