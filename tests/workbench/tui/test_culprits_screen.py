"""From an eval item to the rows that may have done it: ranked both ways, dropped, taken back."""

from __future__ import annotations

import threading
import zlib
from contextlib import asynccontextmanager

import numpy as np
import pytest

from workbench import culprits
from workbench.errors import Stopped
from workbench.tui.screens.culprits import CulpritsScreen
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace


class WordVectors:
    """What stands for the encoder, which would take seconds to load: counts of the words of a text."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, texts: list[str], model: str) -> np.ndarray:
        vectors = np.zeros((len(texts), 256), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.lower().replace("?", " ").split():
                vector[zlib.crc32(word.encode()) % 256] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def ws(compared_copy, monkeypatch):
    monkeypatch.setattr(culprits, "CachedEmbeddings", WordVectors)
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


@pytest.fixture
def suspects(ws, tui):
    """`async with suspects(size) as (pilot, screen)`: the suspects of the item that came out worst, ranked."""

    @asynccontextmanager
    async def opened(size=(120, 40), ranked=True):
        async with tui.running(ws, base="no", size=size) as pilot:
            app = pilot.app
            app.go("experiments")
            await tui.until(pilot, lambda: bool(app.screen.query(VerdictView)))
            view = app.screen.query_one(VerdictView)
            await tui.until(pilot, lambda: view.shown is not None and view.item is not None)
            await pilot.press("C")
            await tui.until(pilot, lambda: isinstance(app.screen, CulpritsScreen))
            screen = app.screen
            if ranked:
                await tui.until(pilot, lambda: screen.found is not None and bool(text_of(screen, "row")))
            yield pilot, screen

    return opened


def text_of(screen: CulpritsScreen, id: str) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.query_one(f"#{id}", LineView)._lines)


def drawn(screen: CulpritsScreen, column: str) -> list[object]:
    titles = [one.title for one in screen.table._columns]
    return [screen.table._values[key][titles.index(column)] for key in screen.table.keys]


async def test_rows_are_dropped_by_one_key_with_their_marks_kept_and_taken_back(suspects, ws, tui):
    async with suspects() as (pilot, screen):
        found = screen.found
        item = text_of(screen, "item")
        assert found.item.asked[0]["content"].split()[0] in item
        assert [name in item for name in ("base", "A yes", "B no", f"yes {found.item.item}")] == [True] * 4
        assert f"1 of {len(found.suspects)} by neighbours" in text_of(screen, "row")
        ours = next(one for one in found.suspects if one.row.side == "only in the arm")
        screen.table.go_to(str(ours.row.id))
        await pilot.press("space", "x")
        await tui.until(pilot, lambda: "dropped" in drawn(screen, "draft"))
        draft = ws.draft("no")
        assert draft.dropped([ours.row.id]) == {ours.row.id}
        assert draft.log(1) == [f"dropped 1 row ({culprits.reason_of(found)})"]
        assert screen.table.marked == [str(ours.row.id)]
        await pilot.press("u")
        await tui.until(pilot, lambda: "dropped" not in drawn(screen, "draft"))
        assert draft.dropped([ours.row.id]) == set()
        await pilot.press("escape")
        assert screen.table.marked == []
        missed = next(one for one in found.suspects if one.row.side == "only in the baseline")
        screen.table.go_to(str(missed.row.id))
        await pilot.press("x")
        await tui.until(pilot, lambda: "does not have that row" in tui.said(pilot.app))
        assert ws.draft("yes").log(1) == []


async def test_gradients_are_a_job_that_tells_its_progress_and_can_be_stopped(suspects, monkeypatch, tui):
    stopped = threading.Event()

    def endless(module, folder, on_event, *, wish):
        on_event({"event": "progress", "done": 1, "total": 60, "what": "gradients of rows"})
        while wish() != "stop":
            stopped.wait(0.01)
        stopped.set()
        raise Stopped("Stopped", do="")

    monkeypatch.setattr(culprits, "run_job", endless)
    async with suspects() as (pilot, screen):
        await pilot.press("m")
        await tui.until(pilot, lambda: "gradients of rows 1 of 60 · ctrl+c stops it" in tui.screen_text(pilot.app))
        await pilot.press("ctrl+c")
        await tui.until(pilot, lambda: "what was done is kept" in tui.said(pilot.app))
        assert (screen.found.by, bool(screen.table.keys)) == ("neighbours", True)
        stopped.clear()
        await pilot.press("m")
        await tui.until(pilot, lambda: "gradients of rows 1 of 60" in tui.screen_text(pilot.app))
        await pilot.press("q")
        await tui.until(pilot, stopped.is_set)
        await tui.until(pilot, lambda: not isinstance(pilot.app.screen, CulpritsScreen))


async def test_a_ranking_that_was_called_off_goes_on_by_the_same_key_and_not_with_a_job(suspects, monkeypatch, tui):
    stopped, begun = threading.Event(), threading.Event()

    class Endless(WordVectors):
        def __init__(self, *args) -> None:
            self._cancelled = args[-1]

        def __call__(self, texts: list[str], model: str) -> np.ndarray:
            begun.set()
            while not stopped.is_set():
                if self._cancelled():
                    stopped.set()
                    raise Stopped("Stopped", do="")
                stopped.wait(0.01)
            return super().__call__(texts, model)

    monkeypatch.setattr(culprits, "CachedEmbeddings", Endless)
    monkeypatch.setattr(culprits, "run_job", lambda *_, **__: pytest.fail("a job was begun"))
    async with suspects(ranked=False) as (pilot, screen):
        await tui.until(pilot, begun.is_set)
        await pilot.press("ctrl+c")
        await tui.until(pilot, lambda: "m goes on with it" in tui.said(pilot.app))
        await pilot.press("m")
        await tui.until(pilot, lambda: screen.found is not None)
        assert screen.found.by == "neighbours"


@pytest.mark.model
async def test_both_rankings_stand_beside_each_other(suspects, monkeypatch, tui):
    from trainer.gradients import measure_gradients
    from trainer.protocol import Events

    monkeypatch.setattr(
        culprits, "run_job", lambda module, folder, on_event, *, wish: measure_gradients(folder, Events(folder))
    )
    async with suspects(size=(80, 24)) as (pilot, screen):
        await pilot.press("m")
        await tui.until(pilot, lambda: screen.found.by == "gradients")
        scores = [cell.value for cell in drawn(screen, "gradients")]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == len(drawn(screen, "neighbours")) == 60
        await pilot.press("m")
        assert screen.found.by == "neighbours", "it is not computed again"


async def test_where_nothing_differs_the_screen_says_so(suspects, monkeypatch, tui):
    monkeypatch.setattr(culprits, "_differing", lambda *_: [])
    async with suspects(ranked=False) as (pilot, screen):
        await tui.until(pilot, lambda: "no and yes have the same rows" in tui.screen_text(pilot.app))
        assert not screen.table.display
        await pilot.press("x", "r", "u", "t", "b", "tab")


async def test_without_a_finished_experiment_the_key_says_where_culprits_come_from(workspace, tui):
    async with tui.running(workspace) as pilot:
        pilot.app.go("experiments")
        await tui.until(pilot, lambda: bool(pilot.app.screen.query(VerdictView)))
        await pilot.press("C")
        await tui.until(pilot, lambda: "from an item of a finished experiment" in tui.said(pilot.app))
