"""Keys typed ahead: none is lost, none overtakes another, and the end of one hold does not end another."""

from __future__ import annotations

import pytest
from textual import events
from textual.app import App

from workbench.tui import held_keys
from workbench.tui.held_keys import HeldKeys


class KeyApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.held = HeldKeys(self)
        self.got = ""

    async def on_event(self, event: events.Event) -> None:
        for due in self.held.take(event):
            await super().on_event(due)

    def on_key(self, event: events.Key) -> None:
        self.got += event.key

    def typed(self, *keys: str) -> None:
        for key in keys:
            self.post_message(events.Key(key, key))


@pytest.fixture
async def typing(monkeypatch):
    """(app, pilot); what is held is not let go by the clock."""
    monkeypatch.setattr(held_keys, "_AT_MOST", 60)
    app = KeyApp()
    async with app.run_test() as pilot:
        yield app, pilot


async def test_keys_wait_for_the_end_of_every_hold(tui, typing):
    app, pilot = typing
    first = app.held.hold()
    app.typed("a")
    second = app.held.hold()
    app.typed("b")
    app.held.release(second)
    await pilot.pause()
    assert app.got == ""
    app.typed("c")
    app.held.release(second)  # again: it changes nothing
    app.held.release(first)
    await tui.until(pilot, lambda: app.got == "abc")


async def test_a_key_that_the_app_has_yet_to_look_at_does_not_come_before_those_that_were_held(tui, typing):
    app, pilot = typing
    app.held.hold()
    app.typed("a")
    await pilot.pause()
    app.typed("b")  # in the queue of the app when the hold ends
    app.held.release()
    app.typed("c")
    await tui.until(pilot, lambda: len(app.got) == 3)
    assert app.got == "abc"


async def test_a_hold_that_begins_before_the_keys_are_let_go_keeps_them(tui, typing):
    app, pilot = typing
    app.held.release(app.held.hold())
    again = app.held.hold()
    app.typed("a")
    await pilot.pause()
    assert app.got == ""
    app.held.release(again)
    await tui.until(pilot, lambda: app.got == "a")


async def test_keys_are_held_for_a_moment_at_most(tui, monkeypatch):
    monkeypatch.setattr(held_keys, "_AT_MOST", 0.05)
    app = KeyApp()
    async with app.run_test() as pilot:
        app.held.hold()
        app.typed("a")
        await tui.until(pilot, lambda: app.got == "a")
