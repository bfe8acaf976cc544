"""Keys that are typed ahead: kept until the question that they are meant for stands, so that rows do not take them."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import App
from textual.timer import Timer

_AT_MOST = 1.0  # seconds


class Released(events.Event):
    """The last hold has ended: keys that the app got before this go on, as do those that come behind it."""


class HeldKeys:
    """The keys of an app while they are held; `take` is asked about each of its events.

    What a command begins may hold them while the next command line, which holds them too, opens already: they go on
    when each hold has ended.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._holds: dict[int, Timer] = {}
        self._last = 0
        self._held: list[events.Key] = []
        self._holding = False

    def hold(self) -> int:
        """Keep the keys that are pressed from now on, for a second at most; returns the number of this hold."""
        self._last += 1
        hold = self._last
        self._holds[hold] = self._app.set_timer(_AT_MOST, lambda: self.release(hold))
        self._holding = True
        return hold

    def release(self, hold: int | None = None) -> None:
        """End a hold, or all there are; behind the last one, the keys that were kept go to where the focus is.

        The app may have keys already that were pressed behind those, so the end gets to it by the same queue: nothing
        overtakes.
        """
        ended = [*self._holds] if hold is None else [hold]
        for number in ended:
            if timer := self._holds.pop(number, None):
                timer.stop()
        if self._holding and not self._holds:
            self._app.post_message(Released())

    def take(self, event: events.Event) -> list[events.Event]:
        """What the app is to do now: nothing of a key that is held, a new one or one that a widget had no use for."""
        if isinstance(event, Released):
            return [] if self._holds else self._let_go()
        if not self._holding or not isinstance(event, events.Key):
            return [event]
        self._held.append(event)
        return []

    def _let_go(self) -> list[events.Event]:
        self._holding = False
        held, self._held = sorted(self._held, key=lambda event: event.time), []
        return [events.Key(key.key, key.character).set_sender(self._app) for key in held]
