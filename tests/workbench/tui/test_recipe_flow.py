"""Running a recipe from the app: tried first, then run; the guard's question; stopped and gone on with."""

from __future__ import annotations

import asyncio

from workbench.tui.widgets.report_dialog import ReportDialog


async def test_a_recipe_of_the_workspace_is_tried_then_run_and_its_version_opened(tui, workspace):
    (workspace.root / "short.yaml").write_text("steps:\n  - exact\n  - length: {on: response, min_words: 3}\n")
    async with tui.running(workspace) as pilot:
        app = pilot.app
        await pilot.press("p")
        await tui.until(pilot, lambda: "short.yaml" in tui.screen_text(app))
        assert "safe-default" in tui.screen_text(app), "the shipped ones are offered too"
        await pilot.press("enter")
        await tui.until(pilot, lambda: "Run short over rows" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: isinstance(app.screen, ReportDialog))
        await tui.until(pilot, lambda: "6 too short" in tui.screen_text(app))
        assert "54 of 60 rows would be left" in tui.screen_text(app)
        assert not workspace.store.version("rows-short"), "nothing is made before enter"
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.base == "rows-short")
        await tui.until(pilot, lambda: tui.said(app) == "rows-short: 54 of 60 rows; dropped 6 by length.")


async def test_the_guard_asks_and_no_makes_nothing(tui, workspace, tmp_path):
    recipe = tmp_path / "greedy.yaml"
    recipe.write_text("steps:\n  - length: {on: response, min_words: 3, max_drop: 0.05}\n")
    async with tui.running(workspace) as pilot:
        app = pilot.app
        for answer, told in (("n", "No version was made."), ("y", "rows-greedy: 54 of 60 rows; dropped 6 by length.")):
            tui.type_text(app, f":run {recipe}\n")
            await tui.until(pilot, lambda: "Run greedy over rows" in tui.screen_text(app))
            await pilot.press("enter")
            await tui.until(pilot, lambda: "would drop 6 of 60 rows" in tui.screen_text(app))
            await pilot.press(answer)
            if answer == "y":
                await tui.until(pilot, lambda: "54 of 60 rows would be left" in tui.screen_text(app))
                await pilot.press("enter")
            await tui.until(pilot, lambda told=told: tui.said(app) == told)


async def test_a_judge_is_not_asked_before_a_person_has_seen_what_it_takes(tui, workspace, tmp_path):
    recipe = tmp_path / "rated.yaml"
    recipe.write_text("steps:\n  - judge: {base_url: 'http://127.0.0.1:9/v1', model: m, budget_calls: 3}\n")
    async with tui.running(workspace) as pilot:
        app = pilot.app
        tui.type_text(app, f":run {recipe}\n")
        await tui.until(pilot, lambda: "Run rated over rows" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "Ask m at http://127.0.0.1:9/v1?" in tui.screen_text(app))
        assert "60 calls without retries" in " ".join(tui.screen_text(app).split())
        await pilot.press("n")
        await tui.until(pilot, lambda: tui.said(app) == "Nothing was asked. No version was made.")
        assert not workspace.store.version("rows-rated")


async def test_a_broken_recipe_is_told_by_its_line(tui, workspace, tmp_path):
    recipe = tmp_path / "broken.yaml"
    recipe.write_text("steps:\n  - lenght: {}\n")
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, f":run {recipe}\n")
        await tui.until(pilot, lambda: "Run broken over rows" in tui.screen_text(pilot.app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "broken.yaml:2" in tui.said(pilot.app))


async def test_a_run_that_was_stopped_goes_on_behind_its_finished_steps(tui, workspace, tmp_path, monkeypatch):
    recipe = tmp_path / "two.yaml"
    recipe.write_text("steps:\n  - exact\n  - length: {on: response, min_words: 3}\n")
    made, stop_at = workspace.run_recipe, ["length"]

    def run_recipe(*args, progress, dry_run, **options):
        def watched(done, total, what):
            if not dry_run and [what] == stop_at:
                loop.call_soon_threadsafe(app.tasks.running[-1].stopped.set)
                while not app.tasks.running[-1].stopped.is_set():
                    pass
            progress(done, total, what)

        return made(*args, progress=watched, dry_run=dry_run, **options)

    monkeypatch.setattr(workspace, "run_recipe", run_recipe)
    async with tui.running(workspace) as pilot:
        app, loop = pilot.app, asyncio.get_running_loop()
        for told in ("Stopped. The same recipe", "rows-two: 54 of 60 rows; dropped 6 by length. 1 finished step"):
            tui.type_text(app, f":run {recipe}\n")
            await tui.until(pilot, lambda: "Run two over rows" in tui.screen_text(app))
            await pilot.press("enter")
            await tui.until(pilot, lambda: "would be left" in tui.screen_text(app))
            await pilot.press("enter")
            await tui.until(pilot, lambda told=told: tui.said(app).startswith(told))
            assert bool(workspace.store.version("rows-two")) is not bool(stop_at)
            stop_at.clear()
