"""A field of a form that holds one of a few values: left and right go through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from workbench.tui.cells import fit, flat


class Choice(Widget, can_focus=True):
    """One line: `‹ value ›` and which of how many it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l,space", "turn(1)", "next", show=False),
        Binding("left,h", "turn(-1)", "previous", show=False),
    ]
    DEFAULT_CSS = """
    Choice { height: 1; background: $panel; }
    Choice:focus { background: $cursor; }
    """

    at: reactive[int] = reactive(0)

    @dataclass
    class Changed(Message):
        """Another value was chosen."""

        choice: Choice

        @property
        def control(self) -> Choice:
            """The field, for `@on(Choice.Changed, "#id")`."""
            return self.choice

    def __init__(self, options: Sequence[tuple[str, str]], value: str | None = None, *, id: str | None = None) -> None:
        """`options` are (value, label)."""
        super().__init__(id=id)
        self._options: list[tuple[str, str]] = []
        self.set_options(options, value)

    def set_options(self, options: Sequence[tuple[str, str]], value: str | None = None) -> None:
        """Offer other values, and choose `value` where it is among them."""
        self._options = list(options)
        values = [each for each, _ in options]
        self.set_reactive(Choice.at, values.index(value) if value in values else 0)
        self.refresh()

    @property
    def value(self) -> str | None:
        """The value that is chosen; None where there are none."""
        return self._options[self.at][0] if self._options else None

    def action_turn(self, by: int) -> None:
        """Choose the next value, or the one before."""
        if len(self._options) > 1:
            self.at = (self.at + by) % len(self._options)
            self.post_message(self.Changed(self))

    def on_click(self) -> None:
        """Choose the next value."""
        self.action_turn(1)

    def render(self) -> RenderResult:
        """The value between the signs that show where the keys lead."""
        muted = self.app.theme_variables["muted"]
        if not self._options:
            return Text("none yet", muted)
        label = flat(self._options[self.at][1])
        many = len(self._options) > 1
        count = f"  {self.at + 1} of {len(self._options)}" if many else ""
        label = fit(label, max(self.size.width - 4 - len(count), 4)).rstrip()
        signs = ("‹ ", " ›") if many else ("", "")
        return Text.assemble((signs[0], muted), label, (signs[1], muted), (count, muted))
