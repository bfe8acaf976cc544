"""Recipe: what each step drops while it is changed, and what each key does to it."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import pytest

from filters.recipe import load_recipe
from workbench.tui.widgets.recipe_fallen import FallenList
from workbench.tui.widgets.report_dialog import ReportDialog

from .test_layouts import compare

TEXT = """\
# what is fit to be trained on
steps:
  # one copy is enough
  - exact: {on: both}
  # an answer says something
  - length: {on: response, min_words: 3}  # not one word
"""


@pytest.fixture
def mine(workspace):
    path = workspace.root / "mine.yaml"
    path.write_text(TEXT)
    return path


@asynccontextmanager
async def editing(tui, workspace, path, size=(100, 30)):
    """The screen over `rows` with the recipe at `path`, counted; and its pilot."""
    async with tui.running(workspace, size=size) as pilot:
        await pilot.press("R")
        await tui.until(pilot, lambda: pilot.app.screen.NAME == "recipe")
        if path:
            tui.type_text(pilot.app, f":open-recipe {path}\n")
            await settled(tui, pilot)
        yield pilot


def settled(tui, pilot):
    return tui.until(pilot, lambda: bool(pilot.app.screen.counts) and pilot.app.screen.count_watch.counting is None)


def told(tui, pilot, *texts):
    return tui.until(pilot, lambda: all(text in tui.screen_text(pilot.app) for text in texts))


def names(pilot):
    return [step.name for step in pilot.app.bench_screen().draft.steps]


async def test_steps_are_counted_and_what_falls_is_shown(tui, workspace, mine):
    async with editing(tui, workspace, mine) as pilot:
        await told(tui, pilot, "mine over rows · 54 of 60 rows left", "No row falls at exact")
        await pilot.press("j")
        await told(
            tui, pilot, "6 rows fall at length: 6 too short", "Question 0: where", "rows row 0", "1 word, at least 3"
        )
        await pilot.press("tab", "tab", "j")
        await told(tui, pilot, "rows row 10")
        assert not pilot.app.screen.fallen.marks
        await pilot.press("enter")
        assert pilot.app.screen.focused.__class__.__name__ == "LineView"
        await pilot.press("escape")
        assert pilot.app.screen.focused is pilot.app.screen.steps
        await pilot.press("t")
        await tui.until(pilot, lambda: pilot.app.screen.NAME == "tokens")


async def test_a_parameter_is_typed_turned_and_reset_and_the_counts_follow(tui, workspace, mine):
    async with editing(tui, workspace, mine) as pilot:
        screen = pilot.app.screen
        await pilot.press("j", "enter")
        screen.params.go_to("min_words")
        await pilot.press("enter")
        await told(tui, pilot, "length: min_words", "The default is null")
        await pilot.press("backspace", "x", "enter")
        await told(tui, pilot, "min_words must be a valid integer, not 'x'")
        await pilot.press("backspace", "9", "9", "enter")
        await told(tui, pilot, "mine (not saved) over rows", "would drop 60 of 60 rows")
        await pilot.press("u")
        await told(tui, pilot, "mine over rows · 54 of 60 rows left")
        screen.params.go_to("on")
        await pilot.press("l")
        await tui.until(pilot, lambda: screen.draft.steps[1].params.on == "both")
        await pilot.press("h", "h")
        assert screen.draft.steps[1].params.on == "prompt"
        screen.params.go_to("min_words")
        await pilot.press("l")
        assert "enter types one" in tui.said(pilot.app)
        await pilot.press("backspace")
        assert "needs at least one of min_words" in tui.said(pilot.app)


async def test_steps_are_added_moved_removed_undone_and_saved_with_comments(tui, workspace, mine):
    async with editing(tui, workspace, mine) as pilot:
        app = pilot.app
        await pilot.press("a")
        await told(tui, pilot, "Add a step", "Drop rows whose text is outside the bounds.")
        await pilot.press("escape")
        tui.type_text(app, ":add random-k\n")
        await told(tui, pilot, "Parameters of random-k")
        tui.type_text(app, "k: 0\n")
        await told(tui, pilot, "k must be greater than or equal to 1, not 0")
        await pilot.press("end", "backspace", "9", "enter")
        await tui.until(pilot, lambda: names(pilot) == ["exact", "random-k", "length"])
        await pilot.press("J")
        assert names(pilot) == ["exact", "length", "random-k"]
        await told(tui, pilot, "9 of 60 rows left")
        await pilot.press("K", "K", "K")
        assert names(pilot) == ["random-k", "exact", "length"]
        await pilot.press("x")
        assert names(pilot) == ["exact", "length"]
        await pilot.press("u", "u", "u", "u")
        assert names(pilot) == ["exact", "random-k", "length"]
        await pilot.press("ctrl+r", "G", "e")
        await told(tui, pilot, "Parameters of random-k")
        await pilot.press("end")
        tui.type_text(app, ", seed: 4\n")
        await tui.until(pilot, lambda: app.bench_screen().draft.steps[2].params.seed == 4)
        await pilot.press("w")
        await told(tui, pilot, "The recipe is in", "mine over rows")
        assert mine.read_text() == TEXT + "  - random-k: {k: 9, seed: 4}\n"
        await pilot.press("q")
        await tui.until(pilot, lambda: app.screen.NAME == "browse")
        await pilot.press("R")
        await tui.until(pilot, lambda: app.screen.NAME == "recipe" and names(pilot) == ["exact", "length", "random-k"])


async def test_nothing_open_is_given_up_and_no_file_written_over_unasked(tui, workspace, mine):
    async with editing(tui, workspace, mine) as pilot:
        app = pilot.app
        await pilot.press("x", "N")
        await told(tui, pilot, "Give up the changes of mine?")
        await pilot.press("n")
        assert names(pilot) == ["length"]
        mine.write_text("steps: [refusal]\n")
        await pilot.press("w")
        await told(tui, pilot, "Write over mine.yaml?", "changed since it was opened")
        await pilot.press("n", "W")
        await told(tui, pilot, "Write the recipe to")
        await pilot.press("ctrl+u")
        tui.type_text(app, f"{workspace.root}/recipes.yml\n")
        await told(tui, pilot, "The recipe is in")
        assert mine.read_text() == "steps: [refusal]\n"
        assert [step.name for step in load_recipe(workspace.root / "recipes.yml").steps] == ["length"]
        await pilot.press("N")
        await told(tui, pilot, "new over rows", "No step yet")
        await pilot.press("x", "f")
        assert "would leave the rows as they are" in tui.said(app)
        await pilot.press("O")
        await told(tui, pilot, "Open a recipe", "safe-default")
        await pilot.press("escape")
        tui.type_text(app, ":add refusal\n")
        await told(tui, pilot, "60 of 60 rows left")


async def test_the_guard_asks_here_and_the_recipe_makes_a_version(tui, workspace, mine):
    mine.write_text(TEXT.replace("min_words: 3}", "min_words: 3, max_drop: 0.05}") + "  - refusal\n")
    async with editing(tui, workspace, mine) as pilot:
        app = pilot.app
        await told(tui, pilot, "length: it would drop 6 of 60 rows", "Let it pass? y does", "6 !")
        await pilot.press("f")
        await told(tui, pilot, "Let length drop that much?")
        await pilot.press("n")
        assert not workspace.store.version("rows-mine")
        await pilot.press("y")
        await told(tui, pilot, "mine over rows · 54 of 60 rows left")
        await pilot.press("f")
        await told(tui, pilot, "name of the version", "54 rows are left.")
        await pilot.press("enter")
        await tui.until(pilot, lambda: "rows-mine: 54 of 60 rows; dropped 6 by length." in tui.said(app))
        assert workspace.store.version("rows-mine").rows == 54
        await pilot.press("y")
        assert "No step here would drop too much." in tui.said(app)


async def test_a_job_is_not_begun_before_it_is_asked_and_what_only_a_step_drops_is_told(tui, workspace, mine):
    mine.write_text(TEXT + "  - judge: {base_url: 'http://127.0.0.1:9/v1', model: m}\n  - refusal\n")
    async with editing(tui, workspace, mine) as pilot:
        app = pilot.app
        await told(tui, pilot, "judge is not run: 54 rows without a rating", "not run", "54 of 60 rows left so far")
        assert not list(workspace.runs_dir.glob("score-*"))
        for key in ("c", "f"):
            await pilot.press(key)
            await told(tui, pilot, "Begin the job of judge?")
            await pilot.press("n")
        await pilot.press("v")
        await tui.until(pilot, lambda: isinstance(app.screen, ReportDialog))
        await told(tui, pilot, "only it", "6 of 60 rows fall to any of them.", "Left out: judge, refusal.")


async def test_counting_is_stopped_and_goes_on(tui, workspace, mine, monkeypatch):
    from workbench.recipe_counts import RecipeCounter

    count, held = RecipeCounter.count, [True]

    def slow(self, *args, cancelled, **options):
        for each in count(self, *args, cancelled=cancelled, **options):
            yield each
            while held and not cancelled():
                time.sleep(0.01)

    monkeypatch.setattr(RecipeCounter, "count", slow)
    async with tui.running(workspace, size=(80, 24)) as pilot:
        await pilot.press("R")
        tui.type_text(pilot.app, f":open-recipe {mine}\n")
        await told(tui, pilot, "rows left so far")
        await pilot.press("escape")
        assert "Stopped counting" in tui.said(pilot.app)
        assert pilot.app.screen.NAME == "recipe"
        held.clear()
        await pilot.press("r")
        await told(tui, pilot, "54 of 60 rows left")
        await pilot.press("j", "enter", "escape", "tab", "tab", "enter")
        await told(tui, pilot, "What falls", "rows row 0")


async def test_it_opens_over_the_version_under_the_cursor_and_over_what_duplicates_shows(tui, workspace, mine):
    async with editing(tui, workspace, mine) as pilot:
        app = pilot.app
        await pilot.press("V")
        await told(tui, pilot, "made (UTC)")
        await pilot.press("G", "R")
        await told(tui, pilot, "mine over curated")
        app.open_duplicates("rows")
        await told(tui, pilot, "no step on the way here")
        tui.type_text(app, ":recipe\n")
        await told(tui, pilot, "mine over rows · 54 of 60 rows left")
        tui.type_text(app, ":open-recipe nowhere.yaml\n")
        await tui.until(pilot, lambda: "there is no such recipe" in tui.said(app))


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48)])
async def test_layouts(tui, workspace, mine, size):
    mine.write_text(TEXT + '  - conflicts\n  - top: {by: "[bold]\\e[2Jx", k: 3}\n')
    async with editing(tui, workspace, mine, size) as pilot:
        await pilot.press("j", "tab", "tab", "j")
        assert pilot.app.screen.query_one(FallenList).has_focus
        await compare(tui, pilot, f"recipe-{size[0]}x{size[1]}")


async def test_layout_without_steps(tui, workspace):
    async with editing(tui, workspace, None, (80, 24)) as pilot:
        await compare(tui, pilot, "recipe-empty-80x24")
