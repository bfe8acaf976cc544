"""Ablations in the app: asked, followed, read step by step, stopped, gone on with; jobs are as if they ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from workbench.store import experiments as rows
from workbench.tui.widgets.ablate_dialog import AblateDialog
from workbench.tui.widgets.ablation_view import AblationView
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace

from ..ablated import Faked, Followed, plant_job, to_ablate


@pytest.fixture
def ws(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with source `rows` and recipe `r.yaml`, whose last step does nothing."""
    monkeypatch.chdir(tmp_path)
    workspace = to_ablate(tmp_path, tiny_model)
    yield workspace
    workspace.close()


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    """Jobs that never run."""
    return Faked(monkeypatch)


async def test_asked_begun_followed_to_its_end_and_read(tui, ws, faked):
    async with tui.running(ws, size=(80, 24)) as pilot:
        app = pilot.app
        await pilot.press("E")
        await tui.until(pilot, lambda: ":ablate tells what each step" in tui.screen_text(app))
        tui.type_text(app, ":ablate r.yaml\n")
        await tui.until(pilot, lambda: "r: over which rows?" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "Which way?" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: isinstance(app.screen, AblateDialog) and app.screen.focused)
        for name, value in {"model": "./tiny", "seeds": "2"}.items():
            app.screen.query_one(f"#{name}", Input).value = value
        await tui.until(pilot, lambda: "2 comparisons with rows-r, 6 runs in all." in tui.screen_text(app))
        told = tui.screen_text(app)
        assert "way         leave one out" in told
        assert "About 10 min in all" in told
        assert "smallest effect to be found is not known yet" in told
        assert "Not trained, as the rows are the same with and without: length-3." in told
        await pilot.press("enter")
        await tui.until(pilot, lambda: "running 0/6" in tui.screen_text(app))
        await tui.until(pilot, lambda: len(rows.states(ws.store)) == 1)
        plant_job(ws, faked.started[0])
        faked.running.clear()
        await tui.until(pilot, lambda: len(faked.started) == 2)
        await tui.until(pilot, lambda: "running 4/6" in tui.screen_text(app))
        plant_job(ws, faked.started[1])
        faked.running.clear()
        await tui.until(pilot, lambda: "1 no difference, 1 worse" in tui.screen_text(app))
        await pilot.press("g", "enter")
        await tui.until(pilot, lambda: "so it earns its place: exact." in tui.screen_text(app))
        text = tui.screen_text(app)
        exact = next(line for line in text.splitlines() if line.lstrip("▌ ").startswith("exact"))
        assert exact.split()[-1] != "…"
        assert "worse" in exact
        assert "same rows: not trained" in text
        assert app.focused is app.screen.query_one(AblationView).home()
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.screen.query_one(VerdictView).has_focus_within)
        assert app.screen.current.name == "rows-r vs rows-r-without-exact"
        await pilot.press("escape")
        await tui.until(pilot, lambda: "2 experiments · 1 ablation" in tui.screen_text(app))


async def test_found_again_stopped_gone_on_with_and_forgotten(tui, ws, faked):
    id = Followed(ws, faked).begin()
    async with tui.running(ws) as pilot:
        app = pilot.app
        await tui.until(pilot, lambda: len(faked.started) == 1, 30)
        await pilot.press("E")
        await tui.until(pilot, lambda: app.screen.query("#experiments") and app.screen.table.keys[1:])
        app.screen.table.go_to(f"ablation {id}")
        await tui.until(pilot, lambda: "not run yet" in tui.screen_text(app))
        await pilot.press("x")
        await tui.until(pilot, lambda: "Stop r over rows: leave one out?" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: "stopped 0/6" in tui.screen_text(app))
        await pilot.press("r")
        await tui.until(pilot, lambda: len(faked.started) == 2)
        assert faked.started[0] == faked.started[1]
        await tui.until(pilot, lambda: "running 0/6" in tui.screen_text(app))
        await pilot.press("X")
        await tui.until(pilot, lambda: "r over rows: leave one out runs" in tui.said(app))
        app.experiments.runs.stop(id)
        await tui.until(pilot, lambda: "stopped 0/6" in tui.screen_text(app))
        await pilot.press("X")
        await tui.until(pilot, lambda: "Forget r over rows" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: not app.screen.ablation and app.screen.current is not None)
        assert len(rows.states(ws.store)) == 1, "its comparisons stay"


async def test_a_recipe_that_changes_nothing_is_not_trained(tui, ws, tmp_path):
    (tmp_path / "idle.yaml").write_text("steps:\n  - length: {on: prompt, max_words: 100}\n")
    async with tui.running(ws) as pilot:
        await pilot.press("E")
        tui.type_text(pilot.app, ":ablate idle.yaml\n")
        await tui.until(pilot, lambda: "idle: over which rows?" in tui.screen_text(pilot.app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "Which way?" in tui.screen_text(pilot.app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "No step of idle changes a row of rows" in tui.said(pilot.app))
