"""The count of a recipe in the background: what each of its steps drops, as far as that is known by now."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.dom import DOMNode
from textual.message import Message

from workbench.tui.pace import Pace
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from filters.overlap import Overlap
    from filters.recipe import Recipe
    from filters.step import Progress
    from workbench.recipe_counts import RecipeCounter, StepCount
    from workbench.workspace import Workspace

_TELL = 0.1  # seconds between two tellings


@dataclass
class Counted(Message):
    """A step was counted by the count of this number; the last message of a count has none."""

    number: int
    count: StepCount | None


@dataclass
class Came(Message):
    """How far the count of this number came."""

    number: int
    told: str


class RecipeWatch:
    """One count at a time: the next calls it off. `node` gets `Counted`, `Came` or `Failure`, and hands them back."""

    def __init__(self, node: DOMNode, workspace: Workspace) -> None:
        self._node = node
        self._workspace = workspace
        self._counter: RecipeCounter | None = None
        self._number = 0
        self.counts: dict[int, StepCount] = {}
        """What is known, by the position of the step."""
        self.counting: int | None = None
        """The position of the step that is being counted."""

    def start(self, recipe: Recipe, base: str, *, let: Collection[str], begin: Collection[str]) -> None:
        """Count what each step drops of `base`. `let` may drop more than they may, `begin` may begin their job."""
        self._number += 1
        self.counts = {}
        self.counting = 0 if recipe.steps else None
        if not recipe.steps:
            return
        number, let, begin = self._number, frozenset(let), frozenset(begin)

        def work(cancelled: Cancelled) -> Counted:
            from workbench.recipe_counts import RecipeCounter

            pace, due = Pace(), 0.0

            def progress(done: int, total: int | None, what: str) -> None:
                nonlocal due
                if (now := time.monotonic()) >= due:
                    due = now + _TELL
                    self._node.post_message(Came(number, pace.told(done, total, what)))

            counter = self._counter = self._counter or RecipeCounter(self._workspace)
            for count in counter.count(recipe, base, let=let, begin=begin, progress=progress, cancelled=cancelled):
                self._node.post_message(Counted(number, count))
            return Counted(number, None)

        background(self._node, work, lambda last: last, group="count")

    def take(self, message: Counted) -> bool:
        """Keep what was counted; False where it belongs to a count that was called off."""
        if message.number != self._number:
            return False
        if message.count is None:
            self.counting = None
        else:
            self.counts[message.count.position] = message.count
            self.counting = message.count.position + 1
        return True

    def told(self, message: Came) -> str:
        """How far the count is, in words; empty where nothing is counted any more."""
        is_counting = message.number == self._number and self.counting is not None
        return f"counting: {message.told} · esc stops" if is_counting else ""

    def stop(self) -> bool:
        """Call the count off; False where nothing is being counted."""
        if self.counting is None:
            return False
        self._number += 1
        self._node.workers.cancel_group(self._node, "count")
        self.counting = None
        return True

    def overlap(self, recipe: Recipe, base: str, progress: Progress) -> Overlap:
        """What each step would drop by itself. Slow: for a worker."""
        from workbench.recipe_counts import RecipeCounter

        self._counter = self._counter or RecipeCounter(self._workspace)
        return self._counter.overlap(recipe, base, progress)
