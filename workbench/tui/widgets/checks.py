"""A field of a form that holds any of a few values: left and right go through them, space takes or leaves one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

_BETWEEN = 2  # cells


class Checks(Widget, can_focus=True):
    """One line: `[x] one  [ ] another`; the one that space would change is underlined while the field has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "move(1)", "next", show=False),
        Binding("left,h", "move(-1)", "previous", show=False),
        Binding("space", "turn", "take or leave", show=False),
    ]
    DEFAULT_CSS = """
    Checks { height: 1; background: $panel; }
    Checks:focus { background: $cursor; }
    """

    at: reactive[int] = reactive(0)
    chosen: reactive[tuple[str, ...]] = reactive(())

    @dataclass
    class Changed(Message):
        """One was taken or left."""

        checks: Checks

        @property
        def control(self) -> Checks:
            """The field, for `@on(Checks.Changed, "#id")`."""
            return self.checks

    def __init__(self, options: Sequence[str], *, id: str | None = None) -> None:
        """None of `options` is taken at first."""
        super().__init__(id=id)
        self._options = list(options)

    def action_move(self, by: int) -> None:
        """Go to the next value, or the one before."""
        self.at = (self.at + by) % len(self._options)

    def action_turn(self) -> None:
        """Take the value, or leave it."""
        turned = self._options[self.at]
        self.chosen = tuple(one for one in self._options if (one in self.chosen) != (one == turned))
        self.post_message(self.Changed(self))

    def on_click(self, event: events.Click) -> None:
        """Take or leave the value that was clicked."""
        x = event.get_content_offset_capture(self).x
        start = 0
        for number, one in enumerate(self._options):
            end = start + len(_box(one, one in self.chosen))
            if start <= x < end:
                self.at = number
                self.action_turn()
            start = end + _BETWEEN

    def render(self) -> RenderResult:
        """The values, each with its box."""
        line = Text(no_wrap=True, end="")
        for number, one in enumerate(self._options):
            here = self.has_focus and number == self.at
            taken = one in self.chosen
            line.append(_box(one, taken), Style(bold=taken, underline=here))
            line.append(" " * _BETWEEN)
        if self.has_focus:
            line.append("space", self.app.theme_variables["muted"])
        return line


def _box(value: str, taken: bool) -> str:
    return f"[{'x' if taken else ' '}] {value}"
