"""The line at the foot of a screen where a search or a command is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp
    from workbench.tui.screen import BenchScreen


class _Line(Input):
    """Submits at once: what is typed behind the enter, and may wait here already, is not part of the line."""

    def on_key(self, event: events.Key) -> None:
        line = cast("CommandLine", self.parent)
        if not line.is_open:
            event.prevent_default()  # it goes on to where the focus is
        elif event.key == "enter":
            event.stop()
            event.prevent_default()
            line.submit(self.value)


class CommandLine(Horizontal):
    """Hidden until it is asked for; enter submits, escape closes, up and down bring back what was typed before."""

    DEFAULT_CSS = """
    CommandLine { display: none; height: 1; background: $panel; }
    CommandLine.-open { display: block; }
    CommandLine > Static { width: 2; padding: 0 0 0 1; color: $accent; background: $panel; text-style: bold; }
    CommandLine > Input { height: 1; border: none; padding: 0; background: $panel; }
    CommandLine > Input:focus { border: none; background-tint: transparent; }
    """

    @dataclass
    class Submitted(Message):
        """`text` was typed behind `prompt`: `/` for a search, `:` for a command."""

        prompt: str
        text: str

    def __init__(self) -> None:
        super().__init__()
        self._prompt = ":"
        self._typed: dict[str, list[str]] = {}
        self._back = 0

    def compose(self) -> ComposeResult:
        """The prompt and the input."""
        yield Static(":", markup=False)
        yield _Line(compact=True)

    def open(self, prompt: str, text: str = "", suggestions: Sequence[str] = ()) -> None:
        """Show the line and type into it."""
        self._prompt = prompt
        self._back = 0
        self.query_one(Static).update(prompt)
        line = self.query_one(Input)
        line.suggester = SuggestFromList(suggestions) if suggestions else None
        line.value = text
        self.add_class("-open")
        hold = cast("WorkbenchApp", self.app).hold_keys()  # what is typed ahead is meant for this line
        self.call_after_refresh(self._take_keys, hold)

    def _take_keys(self, hold: int) -> None:
        self.screen.set_focus(self.query_one(Input))
        cast("WorkbenchApp", self.app).release_keys(hold)

    def close(self) -> None:
        """Hide the line."""
        self.remove_class("-open")

    @property
    def is_open(self) -> bool:
        """Whether something is being typed."""
        return self.has_class("-open")

    def submit(self, text: str) -> None:
        """Close and hand over what was typed."""
        self.close()
        cast("BenchScreen", self.screen).focus_home()
        if text:
            typed = self._typed.setdefault(self._prompt, [])
            if text in typed:
                typed.remove(text)
            typed.append(text)
        self.post_message(self.Submitted(self._prompt, text))

    def on_key(self, event: events.Key) -> None:
        """Close, or go through what was typed before."""
        if event.key == "escape":
            event.stop()
            self.close()
            cast("BenchScreen", self.screen).focus_home()
        elif event.key in ("up", "down"):
            event.stop()
            typed = self._typed.get(self._prompt, [])
            self._back = max(min(self._back + (1 if event.key == "up" else -1), len(typed)), 0)
            line = self.query_one(Input)
            line.value = typed[-self._back] if self._back else ""
            line.cursor_position = len(line.value)
        elif event.key == "tab":
            event.stop()
            event.prevent_default()
            self.query_one(Input).action_cursor_right()
