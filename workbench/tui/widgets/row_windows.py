"""Windows of a long list: fetched in the background as they come in sight or near it, and a few of them held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from workbench.store.previews import RowPreview
from workbench.tui.workers import Cancelled, background

WINDOW = 256
"""Rows fetched at a time."""
_HELD = 24  # windows kept, the latest used
_IDLE = 0.06  # seconds until windows beside those in sight are fetched: what is in sight is to be painted first
_WANTED = 4  # windows waited for: of those that were passed by, only the last still matter

Fetch = Callable[[int, int], list[RowPreview]]
"""`fetch(start, count)`: rows from a position on, called in a thread."""


class RowWindows:
    """The rows of one list that are known by now. `node` gets `Fetched` and hands it to `take`.

    `generation` counts the lists, and the times that one was to be fetched again.
    """

    @dataclass
    class Fetched(Message):
        """A window came; `total` is how many rows the list had when it was asked for."""

        generation: int
        number: int
        total: int
        rows: list[RowPreview]

    def __init__(self, node: Widget) -> None:
        self._node = node
        self._fetch: Fetch = lambda start, count: []
        self._rows = 0
        self.generation = 0
        self._held: OrderedDict[int, list[RowPreview]] = OrderedDict()
        self._stale: set[int] = set()
        self._wanted: list[int] = []
        self._loading: int | None = None
        self._near = 0  # the window in sight
        self._idle: Timer | None = None

    def set_source(self, rows: int, fetch: Fetch) -> None:
        """Forget everything: another list of `rows` rows."""
        self.generation += 1
        self._fetch = fetch
        self._rows = rows
        self._held.clear()
        self._wanted.clear()
        self._stale.clear()
        self._loading = None
        self._near = 0

    def grow(self, rows: int) -> None:
        """There are `rows` rows now: the last window may not have been full."""
        if self._rows % WINDOW:
            self._stale.add(self._rows // WINDOW)
        self._rows = rows

    def mark_stale(self) -> None:
        """What is held is to be fetched again when it is in sight; it is shown until then."""
        self.generation += 1
        self._loading = None
        self._stale = set(self._held)

    def row(self, pos: int) -> RowPreview | None:
        """The row at a position, where it is known already."""
        window = self._held.get(pos // WINDOW)
        offset = pos % WINDOW
        return window[offset] if window is not None and offset < len(window) else None

    def has(self, first: int, last: int) -> bool:
        """Whether the rows of all these positions are known already."""
        return all(number in self._held for number in range(first // WINDOW, last // WINDOW + 1))

    def want(self, pos: int) -> None:
        """See to it that the window of a position comes, unless it is here as it stands now; then those beside it."""
        number = pos // WINDOW
        if number in self._held and number not in self._stale:
            if number != self._near:
                self._near = number
                self._held.move_to_end(number)
                self._fetch_beside_soon()
            return
        self._near = number
        if number == self._loading:
            return
        if number in self._wanted:
            self._wanted.remove(number)
        self._wanted.append(number)
        del self._wanted[:-_WANTED]
        if self._loading is None:
            self.fetch_next()

    def _fetch_beside_soon(self) -> None:
        if self._idle is None and self._node.is_attached:
            self._idle = self._node.set_timer(_IDLE, self._fetch_beside)

    def _fetch_beside(self) -> None:
        self._idle = None
        if self._loading is None and (number := self._beside()) is not None:
            self._fetch_window(number)

    def _beside(self) -> int | None:
        """A window next to the one in sight that is not known yet."""
        if self._near in self._held:
            for number in (self._near + 1, self._near - 1):
                if 0 <= number * WINDOW < self._rows and number not in self._held:
                    return number
        return None

    def fetch_next(self) -> None:
        """Fetch the window that was wanted last; where none is, soon one beside what is in sight."""
        if not self._node.is_attached:
            return
        if self._wanted:
            self._fetch_window(self._wanted.pop())
        else:
            self._fetch_beside_soon()

    def _fetch_window(self, number: int) -> None:
        generation, total, fetch = self.generation, self._rows, self._fetch
        self._loading = number

        def work(cancelled: Cancelled) -> RowWindows.Fetched:
            return RowWindows.Fetched(generation, number, total, fetch(number * WINDOW, WINDOW))

        background(self._node, work, lambda window: window)

    def take(self, message: RowWindows.Fetched) -> int | None:
        """Hold a window that came and fetch the next one; returns its number, None where it is of another list."""
        if message.generation != self.generation:
            return None
        number = message.number
        self._loading = None
        self._held[number] = message.rows
        self._held.move_to_end(number)
        if len(message.rows) == WINDOW or message.total == self._rows:
            self._stale.discard(number)
        while len(self._held) > _HELD:
            self._held.popitem(last=False)
        self.fetch_next()
        return number

    def give_up(self) -> None:
        """A fetch failed: ask again when its rows are next in sight."""
        self._loading = None
