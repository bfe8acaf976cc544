"""Changes to a draft, one after the other, in the order in which the keys were pressed, off the UI thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.dom import DOMNode
from textual.message import Message

from workbench.draft import Draft
from workbench.tui.messages import Failure
from workbench.tui.workers import background

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

_PATIENCE = 0.5  # seconds that a change may take before it is told that it waits

Change = Callable[[Draft], str]
"""Changes a draft and tells what was done, in a sentence. Each is one committed transaction."""


@dataclass
class Changed(Message):
    """A change is committed. `base` is the source or version whose draft it is in."""

    base: str
    told: str


class ChangeQueue:
    """The changes that wait. An edit waits for an import that writes; all behind it wait with it, so they are told.

    Only the UI thread calls this, but for `finish`.
    """

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self._waiting: deque[tuple[DOMNode, str, Change]] = deque()  # the first is being done: it goes when it is
        self._behind: list[Callable[[], None]] = []
        self._busy = False
        self._begun = 0.0

    def put(self, node: DOMNode, base: str, change: Change) -> None:
        """Do `change` to the draft of `base` when those before it are done. `node` gets `Changed` or `Failure`."""
        self._waiting.append((node, base, change))
        if not self._busy:
            self._next()
        self._app.set_timer(_PATIENCE, self._app.tasks.show)

    def behind(self, then: Callable[[], None]) -> None:
        """Call `then` when nothing waits: to close what changes may still read."""
        self._behind.append(then)
        self._call_those_behind()

    def _call_those_behind(self) -> None:
        while self._behind and not self._waiting:
            self._behind.pop(0)()

    @property
    def told(self) -> str:
        """How many wait, where that takes longer than a moment; else empty."""
        if not self._busy or time.monotonic() - self._begun < _PATIENCE:
            return ""
        return f"{self.count} to be saved"

    @property
    def count(self) -> str:
        """How many wait: `3 changes wait`; empty where none does."""
        count = len(self._waiting)
        return f"{count:,} change{'s' * (count != 1)} wait{'s' * (count == 1)}" if count else ""

    def finish(self) -> list[Failure]:
        """Do what still waits, at the end of the app: nothing else runs any more. Returns what failed."""
        done = [self._do(base, change) for _, base, change in list(self._waiting)]
        self._call_those_behind()
        return [message for message in done if isinstance(message, Failure)]

    def _do(self, base: str, change: Change) -> Message:
        try:
            return Changed(base, change(self._app.workspace.draft(base)))
        except Exception as error:  # told like any failure, but the changes behind it still get their turn
            return Failure(error)
        finally:
            self._waiting.popleft()

    def _tell(self, node: DOMNode, message: Message) -> None:
        self._next()
        if not node.post_message(message) and (screen := self._app.bench_screen()):
            screen.post_message(message)  # the one that was behind a screen which is closed by now

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        self._begun = time.monotonic()
        self._app.tasks.show()
        if not self._waiting:
            self._call_those_behind()
            return
        node, base, change = self._waiting[0]

        def done(message: Message) -> None:
            self._app.call_from_thread(self._tell, node, message)

        # The app's own, as no screen that is closed may take it away.
        background(self._app, lambda cancelled: self._do(base, change), done)
