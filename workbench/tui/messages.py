"""Messages that cross from workers and widgets to screens and the app."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from workbench.errors import Problem
from workbench.tui.advice import in_app


@dataclass
class Failure(Message):
    """A worker failed. The app shows `text` and writes the traceback to its log."""

    error: BaseException

    @property
    def text(self) -> str:
        """What a person is told: a problem's own sentence, or what kind of bug it was."""
        if isinstance(self.error, Problem):
            return in_app(str(self.error))
        said = str(self.error).strip().splitlines()
        return f"{type(self.error).__name__}: {said[0] if said else 'no more is known'}"


@dataclass
class Said(Message):
    """A sentence for the status bar."""

    text: str


@dataclass
class BaseChanged(Message):
    """Another source or version is in view, or the one in view has changed."""

    base: str
