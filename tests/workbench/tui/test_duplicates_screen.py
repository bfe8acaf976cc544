"""Duplicates: what is listed, at which threshold, and what each key does to the version."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import asynccontextmanager

import pytest

from workbench.tui.duplicate_work import open_first
from workbench.tui.screens.duplicates import DuplicatesScreen
from workbench.tui.widgets.duplicate_list import ClusterList
from workbench.workspace import Workspace

from .test_layouts import compare


def words(start, stop):
    return " ".join(f"w{i}" for i in range(start, stop))


ROWS = [
    (words(0, 44), 9),
    (words(2, 46), 8),  # 0.905 with row 0
    (words(6, 50), 7),  # 0.739 with row 0, 0.818 with row 1
    (words(10, 54), 6),  # 0.818 with row 2
    (words(100, 144), 5),
    (words(100, 144), 4),  # equal to row 4
]


@pytest.fixture(scope="module")
def made_near(tmp_path_factory, tui):
    """A workspace with source `rows` and version `v`: row 5 fell in `exact`, 1 and 3 in `minhash` at 0.8."""
    folder = tmp_path_factory.mktemp("near") / "ws"
    path = folder.with_name("rows.jsonl")
    lines = [{"prompt": prompt, "completion": words(900, 900 + n)} for prompt, n in ROWS]
    for line in lines[4:]:
        line["prompt"] = f"{tui.hostile[:-1]} {line['prompt']}"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = folder.with_name("recipe.yaml")
    recipe.write_text("steps:\n  - exact: {on: prompt}\n  - minhash: {on: prompt, threshold: 0.8}\n")
    workspace = Workspace.init(folder)
    workspace.import_file(path, name="rows")
    workspace.run_recipe(recipe, ["rows"], "v")
    workspace.close()
    return folder


@pytest.fixture
def near(made_near, tmp_path):
    workspace = Workspace.open(shutil.copytree(made_near, tmp_path / "near"))
    yield workspace
    workspace.close()


@asynccontextmanager
async def looking(tui, workspace, size=(100, 30)):
    """The screen over version `v`, and its pilot."""
    async with tui.running(workspace, base="v", size=size) as pilot:
        await pilot.press("d")
        await tui.until(pilot, lambda: "minhash on" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: pilot.app.screen.query_one(ClusterList).current is not None)
        yield pilot


def told(tui, pilot, *texts):
    return tui.until(pilot, lambda: all(text in tui.screen_text(pilot.app) for text in texts))


def kept(workspace):
    return dict(workspace.facets("v").states)["kept"]


async def test_a_row_of_browse_opens_at_its_cluster_and_esc_comes_back(tui, near):
    async with tui.running(near, base="v", size=(100, 30)) as pilot:
        await pilot.press("j", "d")
        await told(tui, pilot, "minhash on prompt · threshold 0.8 · 2 rows fall in 2 clusters")
        await told(tui, pilot, "rows row 2  kept", "rows row 3  0.818, fell")
        assert pilot.app.screen.query_one(ClusterList).current.row == 2, "the second row that the version has"
        await pilot.press("enter", "escape")
        assert isinstance(pilot.app.screen, DuplicatesScreen), "out of the text first"
        await pilot.press("escape", "G", "d")
        await told(tui, pilot, "exact on prompt", "1 row falls in 1 cluster", "⟨202E⟩")
        await pilot.press("escape")
        await tui.until(pilot, lambda: pilot.app.screen.NAME == "browse")


async def test_nothing_is_decided_before_the_rows_are_there(tui, near):
    async with tui.running(near, base="v", size=(100, 30)) as pilot:
        pilot.app.open_duplicates("v")
        await told(tui, pilot, "v · exact on prompt")
        screen = pilot.app.screen
        go_on = threading.Event()
        screen._list(lambda cancelled: go_on.wait(20) and open_first(near.store, "v", None))
        await pilot.press("x")
        assert tui.said(pilot.app) == "The duplicates are still being looked for."
        go_on.set()
        await tui.until(pilot, lambda: not screen._looking and screen.query_one(ClusterList).current is not None)
        await pilot.press("x")
        await told(tui, pilot, "the rows stand so already")


async def test_from_versions_and_by_its_name_and_for_a_row_that_has_none(tui, near):
    async with tui.running(near, base="rows", size=(100, 30)) as pilot:
        await pilot.press("V")
        await told(tui, pilot, "made (UTC)")
        await pilot.press("j", "D")
        await told(tui, pilot, "v · exact on prompt")
        await pilot.press("right_square_bracket")
        await told(tui, pilot, "v · minhash on prompt")
        await pilot.press("escape")
        assert pilot.app.screen.NAME == "versions"
        await pilot.press("d")
        await told(tui, pilot, "kept instead, 0.905 alike")  # what lies between says it too
        await pilot.press("escape")
        tui.type_text(pilot.app, ":duplicates v\n")
        await told(tui, pilot, "v · exact on prompt")
        pilot.app.open_duplicates("v", 999)
        await tui.until(pilot, lambda: "That row has no duplicates" in tui.said(pilot.app))


async def test_a_threshold_moves_both_ways_and_says_where_pairs_end(tui, near):
    async with looking(tui, near) as pilot:
        tui.type_ahead(pilot.app, "plus", "plus")
        await told(tui, pilot, "threshold 0.82 (run at 0.8) · 1 row falls in 1 cluster · -1 to the run")
        tui.type_ahead(pilot.app, *["minus"] * 12)
        await told(
            tui, pilot, "threshold 0.7 (run at 0.8) · 2 rows fall in 1 cluster", "X drops 1 row, takes back 1 row"
        )
        await pilot.press("minus")
        assert "only kept from 0.7" in tui.said(pilot.app)
        tui.type_text(pilot.app, ":threshold 0.99\n")
        await told(tui, pilot, "no row falls", "No row falls here.")
        tui.type_text(pilot.app, ":threshold 2\n")
        await tui.until(pilot, lambda: "1 is the highest" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":threshold x\n")
        await tui.until(pilot, lambda: "is no number" in tui.said(pilot.app))
        await pilot.press("equals_sign")
        await told(tui, pilot, "threshold 0.8 · 2 rows fall")
        await pilot.press("left_square_bracket")
        await told(tui, pilot, "exact on prompt")
        await pilot.press("plus")
        assert "has no threshold" in tui.said(pilot.app)


async def test_rows_are_taken_back_and_let_fall_again_by_row_by_marks_and_by_cluster(tui, near):
    async with looking(tui, near) as pilot:
        rows = pilot.app.screen.query_one(ClusterList)
        await pilot.press("j", "r")
        await told(tui, pilot, "Took back 1 row. u undoes.", "taken back", "X drops 1 row")
        assert kept(near) == 4
        await pilot.press("x")
        await told(tui, pilot, "Dropped 1 row. u undoes.", "the rows stand as listed")
        await pilot.press("g", "r")  # on a survivor: its cluster
        await told(tui, pilot, "Took back 1 row")
        await pilot.press("a", "r")
        await tui.until(pilot, lambda: kept(near) == 5)
        assert not rows.marks
        await pilot.press("n", "x")
        await tui.until(pilot, lambda: kept(near) == 4)
        assert rows.current.row == 2
        await pilot.press("N")
        await tui.until(pilot, lambda: rows.current.row == 0)
        tui.type_ahead(pilot.app, "n", "n", "n")  # each goes on from where the one before it came to
        await tui.until(pilot, lambda: "no further cluster" in tui.said(pilot.app))


async def test_another_survivor_all_at_once_and_undo_also_after_a_restart(tui, near):
    async with looking(tui, near) as pilot:
        await pilot.press("j", "s")
        await told(tui, pilot, "Dropped 1 row, took back 1 row. u undoes.", "gave way")
        await pilot.press("u")
        await told(tui, pilot, "Undid: dropped 1 row, took back 1 row (minhash at 0.8).")
        await pilot.press("ctrl+r")
        await told(tui, pilot, "Did again:")
        await pilot.press("X")
        await told(tui, pilot, "Make it as listed?", "It drops 1 row, takes back 1 row.")
        await pilot.press("n")
        await pilot.press("R")
        await told(tui, pilot, "Take every row back?")
        await pilot.press("y")
        await tui.until(pilot, lambda: kept(near) == 5)
        listed = pilot.app.screen.rows._windows._held
        await tui.until(pilot, lambda: [row.standing for row in listed[0]] == ["kept", "back", "kept", "back"])
    folder = near.root
    near.close()
    again = Workspace.open(folder)
    try:
        async with looking(tui, again) as pilot:
            await pilot.press("u", "u")
            await told(tui, pilot, "Undid: dropped 1 row, took back 1 row")
            assert kept(again) == 3
            await pilot.press("u")
            await told(tui, pilot, "There is nothing to undo.")
    finally:
        again.close()


async def test_what_is_decided_is_what_was_shown_and_browse_shows_it_too(tui, near):
    """A key behind one that moves the threshold is refused while the list is made, not done to another list."""
    async with looking(tui, near) as pilot:
        with pilot.app.screen.opened.lock:
            tui.type_ahead(pilot.app, "minus", "x")
            await tui.until(pilot, lambda: "still being looked for" in tui.said(pilot.app))
            await told(tui, pilot, "counting …")
        await told(tui, pilot, "threshold 0.79 (run at 0.8) · 2 rows")
        await tui.until(pilot, lambda: pilot.app.screen.current is not None)
        assert kept(near) == 3
        await pilot.press("r", "escape")
        await told(tui, pilot, "by hand: 1 restored")


async def test_what_is_decided_right_before_the_screen_is_left_is_done(tui, near):
    """The list that it is decided by stays open for it."""
    go_on = threading.Event()

    def other(draft):
        go_on.wait(20)
        return "Another change."

    async with looking(tui, near) as pilot:
        pilot.app.changes.put(pilot.app.screen, "v", other)
        await pilot.press("j", "r", "escape")
        await tui.until(pilot, lambda: pilot.app.screen.NAME == "browse")
        go_on.set()
        await told(tui, pilot, "by hand: 1 restored", "Took back 1 row. u undoes.")


async def test_a_survivor_that_is_dropped_in_browse_says_what_was_down_for_it(tui, near):
    async with tui.running(near, base="v", size=(100, 30)) as pilot:
        tui.type_text(pilot.app, ":drop off topic\n")
        await told(tui, pilot, "Dropped 1 row. u undoes. 1 duplicate of it is down: D, then s keeps one.")
        await pilot.press("D")
        await told(tui, pilot, "v · exact on prompt")
        await pilot.press("right_square_bracket")
        await told(tui, pilot, "minhash on", "survivor left")
        await pilot.press("j", "s")
        await told(tui, pilot, "Took back 1 row", "taken back")
        await tui.until(pilot, lambda: "survivor left" not in tui.screen_text(pilot.app))


async def test_a_source_that_was_never_looked_through_is_looked_through_from_here(tui, near):
    async with tui.running(near, base="rows", size=(100, 30)) as pilot:
        await pilot.press("d")
        await told(tui, pilot, "no step on the way here has looked", "d looks now")
        await pilot.press("d")
        await told(tui, pilot, "rows-duplicates")
        await pilot.press("enter")
        await told(tui, pilot, "3 of 6 rows would be left", "minhash")
        await pilot.press("enter")
        await told(tui, pilot, "rows-duplicates · exact on prompt · 1 row falls")
        assert near.show_version("rows-duplicates").version.rows == 3


async def test_the_list_is_written_to_a_file_and_a_row_goes_to_the_tokens(tui, near, tmp_path, monkeypatch):
    async with looking(tui, near) as pilot:
        asked = []
        monkeypatch.setattr(pilot.app, "open_tokens", lambda *row: asked.append(row))  # it would load a tokenizer
        await pilot.press("t")
        assert asked == [("v", 1)]
        tui.type_text(pilot.app, f":export {tmp_path / 'out.json'}\n")
        await tui.until(pilot, lambda: "Wrote 4 rows" in tui.said(pilot.app))
    written = json.loads((tmp_path / "out.json").read_text())
    assert [(line["cluster"], line["row"], line["now"], line["threshold"]) for line in written] == [
        (0, 0, "kept", 0.8), (0, 1, "fell", 0.8), (1, 2, "kept", 0.8), (1, 3, "fell", 0.8)
    ]  # fmt: skip


async def test_what_stands_where(tui, near):
    """As text; see test_layouts.py."""
    async with looking(tui, near) as pilot:
        await pilot.press("j", "r")
        await told(tui, pilot, "rows row 1  0.905, taken back", "X drops 1 row")
        for width, height in ((80, 24), (100, 30), (160, 48)):
            await pilot.resize_terminal(width, height)
            await compare(tui, pilot, f"duplicates-{width}x{height}")


async def test_conflicts_are_a_second_list_in_which_a_person_decides(tui, near, tmp_path):
    path = tmp_path / "asked.jsonl"
    answers = ["The river goes down to the sea.", "Nobody ever found that out again!"]
    path.write_text("".join(json.dumps({"prompt": words(0, 30), "completion": text}) + "\n" for text in answers))
    recipe = tmp_path / "look.yaml"
    recipe.write_text("steps: [{conflicts: {}}]")
    near.import_file(path, name="asked")
    near.run_recipe(recipe, ["asked"], "c")
    async with tui.running(near, base="c", size=(100, 30)) as pilot:
        await pilot.press("D")
        await told(tui, pilot, "c · conflicts · 1 answer to near prompts differ: nothing was dropped", "1.000  kept")
        await pilot.press("X")
        await tui.until(pilot, lambda: "decided one by one" in tui.said(pilot.app))
        await pilot.press("j", "x")
        await told(tui, pilot, "Dropped 1 row", "1.000  dropped")
        await pilot.press("s")
        await told(tui, pilot, "Dropped 1 row, took back 1 row", "gave way")
        assert near.draft("c").summary().dropped == 1
