"""The counts beside the list: those of another list, or of another score, call off those that are still counted."""

from __future__ import annotations

import time

from textual.app import App

from workbench.errors import Stopped
from workbench.store.facets import Facets
from workbench.tui.theme import DARK
from workbench.tui.widgets.facets import FacetList

COUNTS = Facets(3, [("kept", 3)], [("rows", 3)], [], [], [("length", 3), ("other", 3)])


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
        await tui.until(pilot, lambda: ended == ["count"])
        listed.show_histogram("length")
        await pilot.pause(0.1)
        listed.show_histogram("other")
        await tui.until(pilot, lambda: "█" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: ended == ["count", "length"])


async def test_what_tells_two_settings_of_a_scorer_apart_is_seen_in_a_narrow_column(tui):
    names = ["judge-helpfulness@0af0", "judge-helpfulness@8f6b", "a-scorer-with-a-name-that-is-long"]
    counts = Facets(3, [("kept", 3)], [("rows", 3)], [], [], [(name, 3) for name in names])
    async with FacetApp().run_test(size=(30, 20)) as pilot:
        pilot.app.query_one(FacetList).set_source(lambda cancelled: counts, lambda *_: [])
        await tui.until(pilot, lambda: "@0af0     3" in tui.screen_text(pilot.app))
        assert "@8f6b     3" in tui.screen_text(pilot.app)
        assert "a-scorer-with-a-n…     3" in tui.screen_text(pilot.app)
