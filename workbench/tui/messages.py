"""Messages that cross from workers and widgets to screens and the app."""

from __future__ import annotations

from textual.message import Message

from workbench.errors import Problem


class Failure(Message):
    """A worker failed. The app shows `text` and writes the traceback to its log."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    @property
    def text(self) -> str:
        """What a person is told: a problem's own sentence, or what kind of bug it was."""
        if isinstance(self.error, Problem):
            return str(self.error)
        said = str(self.error).strip().splitlines()
        return f"{type(self.error).__name__}: {said[0] if said else 'no more is known'}"


class Said(Message):
    """A sentence for the status bar."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class BaseChanged(Message):
    """Another source or version is in view, or the one in view has changed."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
