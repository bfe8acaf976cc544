"""Work that belongs to the whole app and not to one screen: an import, a run of a recipe. It goes on wherever one is.

A flow (`import_flow`, `recipe_flow`) awaits it from a `dialogue`; the status bar of every screen shows how far it is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from textual.message import Message

from filters.step import Progress
from workbench.errors import Stopped
from workbench.tui.cells import fit, flat
from workbench.tui.messages import BaseChanged, Said
from workbench.tui.pace import Pace
from workbench.tui.screen import BenchScreen
from workbench.tui.widgets.command_line import CommandLine
from workbench.tui.widgets.dialogs import confirm
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

T = TypeVar("T")

_TELL = 0.1  # seconds between two tellings
_TITLE = 24  # cells


@dataclass(eq=False)
class Task:
    """One piece of work. `title` is a few words: `importing chats.jsonl`.

    `if_stopped` says in a sentence what becomes of it then.
    """

    title: str
    if_stopped: str = ""
    told: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def line(self) -> str:
        """What the status bar shows of it."""
        title = flat(self.title)
        title = title if len(title) <= _TITLE else fit(title, _TITLE).rstrip()
        if self.stopped.is_set():
            return f"{title} · stopping …"
        told = flat(self.told)
        return f"{title} · {told} · esc stops" if told else f"{title} …"


class Tasks:
    """What runs. Only the UI thread calls this."""

    @dataclass
    class Told(Message):
        """A task came further."""

        task: Task
        text: str

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self.running: list[Task] = []
        self._asking = False

    @property
    def line(self) -> str:
        """How many changes wait, the newest that runs, and how many do beside it; empty where there is nothing."""
        parts = [self._app.changes.told]
        if self.running:
            more = f" (+{len(self.running) - 1})" if len(self.running) > 1 else ""
            parts.append(self.running[-1].line + more)
        return "  ".join(part for part in parts if part)

    async def run(
        self, title: str, work: Callable[[Progress, Cancelled], T], *, if_stopped: str = "", in_bytes: bool = False
    ) -> T:
        """Do `work(progress, cancelled)` in a thread. Raises what it raises; Stopped where a person stopped it.

        `if_stopped` says what becomes of it then, where it is asked whether to stop.
        """
        task, pace = Task(title, if_stopped), Pace(in_bytes=in_bytes)
        due = 0.0

        def progress(done: int, total: int | None, what: str) -> None:
            nonlocal due
            if task.stopped.is_set():
                raise Stopped("Stopped")
            if (now := time.monotonic()) >= due:
                due = now + _TELL
                self._app.post_message(self.Told(task, pace.told(done, total, what)))

        self.running.append(task)
        self.show()
        try:
            return await asyncio.to_thread(work, progress, task.stopped.is_set)
        finally:
            task.stopped.set()  # where the app ends, too: the thread is not waited for
            self.running.remove(task)
            self.show()

    def came_further(self, message: Tasks.Told) -> None:
        """Show how far a task came."""
        message.task.told = message.text
        self.show()

    def show(self) -> None:
        """Show what runs and what waits on the screen that is open."""
        if screen := self._app.bench_screen():
            screen.show_task(self.line)

    async def stop(self) -> None:
        """Stop the newest, after a question that says what becomes of it."""
        if not self.running:
            self._app.say("Nothing runs that could be stopped.")
            return
        task = self.running[-1]
        if await confirm(self._app, f"Stop {task.title}?", task.if_stopped):
            task.stopped.set()
            self.show()

    def ask_to_leave(self) -> bool:
        """Ask before the app is left, if that stops something; returns whether a question stands. It is asked once."""
        if not self.running or self._asking:
            return False

        async def ask() -> None:
            titles = ", ".join(task.title for task in self.running)
            parts = [*dict.fromkeys(task.if_stopped for task in self.running)]
            if count := self._app.changes.count:
                parts.append(f"{count} to be saved: that is done before the app ends.")
            leave = await confirm(self._app, f"Leave and stop {titles}?", " ".join(part for part in parts if part))
            self._asking = False
            if leave:
                self._app.exit()

        self._asking = True
        self._app.run_worker(ask(), exit_on_error=False)
        return True

    async def until_free(self) -> None:
        """Wait until no dialog or command line is open, so that a question takes no key that was meant for them."""
        while not self._is_free():
            await asyncio.sleep(_TELL)

    def _is_free(self) -> bool:
        screen = self._app.screen
        return isinstance(screen, BenchScreen) and not screen.query_one(CommandLine).is_open

    def land(self, base: str, told: str) -> None:
        """Something new is there: look at it, unless a person is at something that this would take them from."""
        app = self._app
        at_rest = self._is_free() and len(app.screen_stack) == 1 and app.current_mode in ("browse", "start")
        if at_rest and not any(rows.marks for rows in app.screen.query(RowList)):
            app.post_message(BaseChanged(base))
            app.post_message(Said(told))
        else:
            app.say(f"{told} :open {base} looks at it.")
