"""Changes to a draft, one after the other, in the order in which the keys were pressed, off the UI thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from textual.dom import DOMNode
from textual.message import Message

from workbench.draft import Draft
from workbench.tui.messages import Failure
from workbench.tui.workers import background
from workbench.workspace import Workspace

Change = Callable[[Draft], str]
"""Changes a draft and tells what was done, in a sentence. Each is one committed transaction."""


@dataclass
class Changed(Message):
    """A change is committed. `base` is the source or version whose draft it is in."""

    base: str
    told: str


class ChangeQueue:
    """The changes that wait. `node` gets `Changed` or `Failure` for each."""

    def __init__(self, node: DOMNode, workspace: Workspace) -> None:
        self._node = node
        self._workspace = workspace
        self._waiting: deque[tuple[str, Change]] = deque()
        self._busy = False

    def put(self, base: str, change: Change) -> None:
        """Do `change` to the draft of `base` when those before it are done."""
        self._waiting.append((base, change))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if not self._waiting:
            return
        base, change = self._waiting.popleft()
        workspace = self._workspace

        def work(cancelled: Callable[[], bool]) -> Message:
            try:
                return Changed(base, change(workspace.draft(base)))
            except Exception as error:  # told like any failure, but the changes behind it still get their turn
                return Failure(error)

        def done(message: Message) -> Message:
            self._node.app.call_from_thread(self._next)
            return message

        background(self._node, work, done)
