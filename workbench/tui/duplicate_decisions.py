"""What people decide about the duplicates that are listed: each is a change of the draft, in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from workbench.draft import Draft
from workbench.duplicate_review import Decision, carry_out
from workbench.duplicates import OpenDuplicates
from workbench.tui.duplicate_work import Decide, as_shown
from workbench.tui.widgets.dialogs import confirm

if TYPE_CHECKING:
    from workbench.tui.screens.duplicates import DuplicatesScreen


class Decisions:
    """Changes the draft as the Duplicates screen is told; the screen gets `Changed`."""

    def __init__(self, screen: DuplicatesScreen) -> None:
        self._screen = screen

    def chosen(self, decide: Callable[[OpenDuplicates, Sequence[int], Sequence[int]], Decision]) -> None:
        """Decide about the marked rows, or the one under the cursor; a survivor stands for its cluster."""
        screen = self._screen
        marks, row = sorted(screen.rows.marks), screen.current
        if marks:
            self.change(lambda opened: decide(opened, marks, marks))
        elif row is not None:
            survivors, ids = ([row.id], []) if row.is_survivor else ([], [row.id])
            self.change(lambda opened: decide(opened, survivors, ids))
        elif screen.is_ready():
            screen.say("There is no row here.")

    async def all(self, decide: Decide, question: str) -> None:
        """Decide about all that is listed, after a question that says what it does."""
        screen = self._screen
        opened, shown = screen.opened, screen.shown
        if not screen.is_ready() or opened is None or shown is None:
            return
        told = (await asyncio.to_thread(as_shown, opened, shown, decide)).would
        if not told:
            screen.say("Nothing would change: the rows stand so already.")
        elif await confirm(screen.app, question, f"It {told}. u undoes it."):
            self.change(decide)

    def change(self, decide: Decide) -> None:
        """Decide by the list as it is shown now."""
        screen = self._screen
        opened, shown = screen.opened, screen.shown
        if opened is None or shown is None or not screen.is_ready():
            return

        def work(draft: Draft) -> str:
            with opened.lock:
                return carry_out(draft, opened, as_shown(opened, shown, decide))

        screen.bench.changes.put(screen, screen.base, work)
        screen.rows.clear_marks()

    def draft(self, change: Callable[[Draft], str | None], what: str, nothing: str) -> None:
        """Undo or redo: `change` returns what it did, None where there was `nothing`."""

        def work(draft: Draft) -> str:
            done = change(draft)
            return f"{what}: {done}." if done else nothing

        self._screen.bench.changes.put(self._screen, self._screen.base, work)
