"""The counts beside the list: those of another list, or of another score, call off those that are still counted."""

from __future__ import annotations

import time

from textual.app import App

from workbench.errors import Stopped
from workbench.store.facets import Facets
from workbench.tui.theme import DARK
from workbench.tui.widgets.facets import FacetList

COUNTS = Facets(3, [("kept", 3)], [("rows", 3)], [], [], ["length", "other"])


class FacetApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self):
        yield FacetList()


def until_called_off(ended: list[str], name: str, cancelled) -> None:
    waits = time.monotonic() + 10
    while not cancelled():
        if time.monotonic() > waits:
            return
        time.sleep(0.01)
    ended.append(name)
    raise Stopped("no longer wanted")


async def test_counts_of_another_list_and_of_another_score_are_called_off(tui):
    ended: list[str] = []
    async with FacetApp().run_test(size=(40, 20)) as pilot:
        listed = pilot.app.query_one(FacetList)
        listed.set_source(lambda cancelled: until_called_off(ended, "count", cancelled) or COUNTS, lambda *_: [])
        await pilot.pause(0.1)
        listed.set_source(
            lambda cancelled: COUNTS,
            lambda scorer, cancelled: (
                [(0.0, 1.0, 3)] if scorer == "other" else until_called_off(ended, scorer, cancelled) or []
            ),
        )
        await tui.until(pilot, lambda: "length" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: ended == ["count"], 5)
        listed.show_histogram("length")
        await pilot.pause(0.1)
        listed.show_histogram("other")
        await tui.until(pilot, lambda: "█" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: ended == ["count", "length"], 5)
