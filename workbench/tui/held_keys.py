"""Keys that are typed ahead: kept until the question that they are meant for stands, so that rows do not take them."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import App
from textual.timer import Timer

_AT_MOST = 1.0  # seconds


class HeldKeys:
    """The keys of an app while they are held; `take` is asked about each of its events."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._timer: Timer | None = None
        self._held: list[events.Key] = []

    def hold(self) -> None:
        """Keep the keys that are pressed from now on; for a second at most."""
        if self._timer:
            self._timer.stop()
        self._timer = self._app.set_timer(_AT_MOST, self.release)

    def release(self) -> None:
        """Let the keys that were kept go to where the focus is now."""
        if self._timer:
            self._timer.stop()
        self._timer = None
        held, self._held = sorted(self._held, key=lambda event: event.time), []
        for key in held:
            self._app.post_message(events.Key(key.key, key.character).set_sender(self._app))

    def take(self, event: events.Event) -> bool:
        """Keep an event where it is a key that is held: a new one, or one that a widget had no use for."""
        if self._timer is None or not isinstance(event, events.Key):
            return False
        self._held.append(event)
        return True
