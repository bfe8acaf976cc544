"""Browse: what a person can do to rows by hand, over the real store."""

from __future__ import annotations

import csv
import json
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.widgets import Input, TextArea

from workbench.errors import Problem
from workbench.store.windows import View, ViewQuery
from workbench.tui.messages import Failure
from workbench.tui.widgets.dialogs import Dialog
from workbench.tui.widgets.edit_dialog import EditDialog, Glyphs
from workbench.tui.widgets.facets import FacetList
from workbench.tui.widgets.preview import Preview
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.rows_pane import RowsPane
from workbench.workspace import Workspace

TOKENIZER = Path(__file__).parents[3] / "../shared/tokenizers/smollm2"


def listed(workspace, name="rows", **query):
    """The rows of a source or version as the store has them."""
    view = workspace.view(ViewQuery(name, **query))
    try:
        return view.window(0, 100)
    finally:
        view.close()


def the(pilot, kind=RowList):
    return pilot.app.screen.query_one(kind)


async def test_marked_rows_are_dropped_with_a_reason_and_undo_outlives_the_app(tui, made, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("space", "space", "space", "x")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        assert "Drop 3 rows" in tui.screen_text(pilot.app)
        await pilot.press(*"off", "enter")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Dropped 3 rows. u undoes.")
        await tui.until(pilot, lambda: "by hand: 3 dropped" in tui.screen_text(pilot.app))
        assert [(row.pos, row.step, row.reason) for row in listed(workspace) if row.state == "dropped"] == [
            (0, "manual", "off"), (1, "manual", "off"), (2, "manual", "off"),
        ]  # fmt: skip
        assert the(pilot).marks == set()
    async with tui.running(workspace) as pilot:
        await pilot.press("u")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Undid: dropped 3 rows (off).")
        await pilot.press("u")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "There is nothing to undo.")
        assert {row.state for row in listed(workspace)} == {"kept"}
        await pilot.press("ctrl+r")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Did again: dropped 3 rows (off).")
        await pilot.press("r")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Restored 1 row. u undoes.")
        assert sum(row.state == "dropped" for row in listed(workspace)) == 2


async def test_labels_are_one_key_and_go_on_to_the_next_row(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("plus", "minus", "4")
        await tui.until(pilot, lambda: [row.label for row in listed(workspace)[:3]] == ["good", "bad", "4"])
        assert the(pilot).cursor == 3
        await pilot.press("g", "0", "colon", *"label", "space", *"5", "enter")
        await tui.until(pilot, lambda: [row.label for row in listed(workspace)[:2]] == [None, "5"])
        tui.type_text(pilot.app, ":label 6\n")
        await tui.until(pilot, lambda: "'6' is no label" in tui.said(pilot.app))


async def test_changes_are_done_in_the_order_of_the_keys(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_ahead(pilot.app, *("plus", "minus", "u") * 6, "3")
        await tui.until(pilot, lambda: "3" in [row.label for row in listed(workspace)])
        # Each round labels one row good for good; the cursor goes on by two.
        assert [row.pos for row in listed(workspace) if row.label == "good"] == [0, 2, 4, 6, 8, 10]
        assert [row.pos for row in listed(workspace) if row.label == "3"] == [12]


async def test_changes_that_wait_for_an_import_are_told_and_saved_when_the_app_is_left(tui, workspace):
    root, writes = workspace.root, threading.Event()

    def bring_in(progress, cancelled):
        with workspace.store.bulk():
            writes.set()
            while not cancelled():
                time.sleep(0.02)

    async with tui.running(workspace) as pilot:
        app = pilot.app
        app.run_worker(app.tasks.run("importing many", bring_in), exit_on_error=False)
        await tui.until(pilot, writes.is_set)
        await pilot.press("e")
        await tui.until(pilot, lambda: isinstance(app.screen, EditDialog) and app.focused is not None)
        await pilot.press("end", *"!", "ctrl+s")
        await tui.until(pilot, lambda: not isinstance(app.screen, EditDialog))
        await pilot.press("j", "plus", "minus")
        await tui.until(pilot, lambda: "3 changes wait to be saved  importing many" in tui.screen_text(app))
        await pilot.press("ctrl+q")
        await tui.until(pilot, lambda: "3 changes wait to be saved: that is done before" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: app._exit)
    assert app.close_workspace() == []
    reopened = Workspace.open(root)
    try:
        rows = listed(reopened)
        assert [(row.state, row.label) for row in rows[:3]] == [("edited", None), ("kept", "good"), ("kept", "bad")]
    finally:
        reopened.close()


async def test_an_edit_makes_a_new_example_and_keeps_the_old_one(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("j", "e")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, EditDialog) and pilot.app.focused is not None)
        assert pilot.app.focused.text == "Answer 1: it goes down to the sea, slowly."
        await pilot.press("end", *" Yes.", "ctrl+s")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Edited 1 row"))
        row = listed(workspace)[1]
        assert (row.state, row.response) == ("edited", "Answer 1: it goes down to the sea, slowly. Yes.")
        detail = workspace.detail("rows", row.id)
        assert detail.shown_id != detail.id
        await tui.until(pilot, lambda: "slowly. Yes." in tui.screen_text(pilot.app))
        await pilot.press("e")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, EditDialog) and pilot.app.focused is not None)
        await pilot.press("tab", "N", "o", "ctrl+s")  # this is the role of the first turn
        await tui.until(pilot, lambda: "There is no role 'no'" in tui.screen_text(pilot.app))
        await pilot.press("escape")
        await tui.until(pilot, lambda: "Throw the changes away?" in tui.screen_text(pilot.app))
        await pilot.press("y")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Nothing was changed.")


async def test_a_search_that_finds_nothing_says_so_and_a_range_that_is_begun_is_told(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, "/nowhere to be found\n")
        await tui.until(pilot, lambda: "No row matches. esc lists all rows again." in tui.screen_text(pilot.app))
        await pilot.press("escape")
        await tui.until(pilot, lambda: "rows · 60 rows " in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: pilot.app.screen.query_one(RowList).current is not None)
        assert "No row matches" not in tui.screen_text(pilot.app)
        await pilot.press("v", "j")
        await tui.until(pilot, lambda: "range begun: v at its other end marks it" in tui.screen_text(pilot.app))
        await pilot.press("v")
        await tui.until(pilot, lambda: "2 marked" in tui.screen_text(pilot.app))
        assert "range begun" not in tui.screen_text(pilot.app)
        await pilot.press("ctrl+c")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "ctrl+q leaves the workbench.")
        assert "Do you want to quit?" not in tui.screen_text(pilot.app), "what is said stands in the status bar"


async def test_hostile_turns_are_edited_as_glyphs_and_come_back_as_they_were(tui, workspace):
    before = workspace.detail("rows", listed(workspace)[3].id).messages
    async with tui.running(workspace) as pilot:
        await pilot.press("j", "j", "j", "e")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, EditDialog) and pilot.app.focused is not None)
        shown = "".join(area.text for area in pilot.app.screen.query(TextArea))
        assert not set("\x1b\x07\x00\u202e\u2066\u2028") & set(shown)
        await pilot.press("!", "ctrl+s")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Edited"))
    after = workspace.detail("rows", listed(workspace)[3].id).messages
    assert after == [before[0], {**before[1], "content": "!" + before[1]["content"]}]


def test_glyphs_are_given_back_even_where_the_text_has_them_itself():
    text = "\x1b ␛ \u202e \ue000 \r\n\t\x85 \ud800"
    glyphs = Glyphs(text)
    assert glyphs.read(glyphs.show(text)) == text
    assert not set("\x1b\u202e\r\x85\ud800") & set(glyphs.show(text))


async def test_a_question_is_about_the_rows_that_were_seen_when_it_was_asked(tui, workspace):
    async with tui.running(workspace) as pilot:
        rows, pane = the(pilot), the(pilot, RowsPane)
        await pilot.press("x")
        await tui.until(pilot, lambda: "Drop 1 row" in tui.screen_text(pilot.app))
        rows.action_mark_all()  # as `a` pressed before `x`, whose ids come late
        await tui.until(pilot, lambda: len(rows.marks) == 60)
        await pilot.press(*"off", "enter")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Dropped 1 row. u undoes.")
        assert [row.pos for row in listed(workspace) if row.state == "dropped"] == [0]
        await pilot.press("escape", "g", "l")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        pane.filter(search="question 2")  # the hits of a search come under the question
        await tui.until(pilot, lambda: rows.rows == 11 and rows.current is not None)
        await pilot.press("enter")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Labelled good: 1 row. u undoes.")
        assert [row.pos for row in listed(workspace) if row.label] == [0]
        assert rows.cursor == 0, "the row there was not the one in question"


async def test_curating_under_a_filter_goes_from_row_to_row(tui, workspace):
    async with tui.running(workspace) as pilot:
        rows = the(pilot)
        pilot.app.screen._filter(which="kept")
        await tui.until(pilot, lambda: not the(pilot, RowsPane).is_looking and rows.current is not None)
        for left in (59, 58, 57):
            tui.type_text(pilot.app, ":drop dull\n")
            await tui.until(pilot, lambda left=left: rows.rows == left and rows.current is not None)
            assert rows.cursor == 0
        assert [row.pos for row in listed(workspace) if row.state == "dropped"] == [0, 1, 2]
        await pilot.press("G")
        tui.type_text(pilot.app, ":drop dull\n")
        await tui.until(pilot, lambda: rows.rows == 56 and rows.current is not None)
        assert rows.current.prompt.startswith("Question 58:"), "there is none behind the last"


async def test_what_is_still_looked_for_is_not_forgotten_by_the_next_wish(tui, workspace, monkeypatch):
    monkeypatch.setattr("workbench.store.search._PIECES", (5, 5))
    go_on = threading.Event()
    between_pieces = SimpleNamespace(sleep=lambda _: go_on.wait(20))
    monkeypatch.setattr("workbench.store.windows.time", between_pieces)
    async with tui.running(workspace) as pilot:
        pane, screen = the(pilot, RowsPane), pilot.app.screen
        tui.type_text(pilot.app, "/question 5\n")
        await tui.until(pilot, lambda: pane.is_looking)
        pane.stop_looking()
        pane.open(ViewQuery("rows", search="river", which="dropped"))  # it finds none: nothing is shown before its end
        screen._describe()
        assert "so far" not in tui.screen_text(pilot.app)
        screen.action_hit(1)
        assert "Nothing was searched for" not in tui.said(pilot.app)
        tui.type_text(pilot.app, ":sort turns\n")
        await tui.until(pilot, lambda: pane.query_asked.sort == "turns")
        screen.action_reverse()
        assert pane.query_asked == ViewQuery("rows", search="river", which="dropped", sort="turns", descending=False)
        await tui.until(pilot, lambda: not pane.is_looking)  # there is no dropped row to look at
        await pilot.press("escape")
        assert pane.query_asked == ViewQuery("rows", sort="turns", descending=False)
        go_on.set()


async def test_marks_asked_for_before_esc_or_another_source_do_not_come_after(tui, workspace, monkeypatch):
    monkeypatch.setattr("workbench.tui.held_keys._AT_MOST", 0.01)  # esc does not wait for them
    held, ids = threading.Event(), View.ids
    monkeypatch.setattr(View, "ids", lambda *args: ids(*args) if held.wait(20) else [])
    async with tui.running(workspace) as pilot:
        rows = the(pilot)
        await pilot.press("space", "a", "escape")
        await tui.until(pilot, lambda: not rows.marks)
        held.set()
        await pilot.pause(0.2)
        assert rows.marks == set()
        held.clear()
        await pilot.press("space", "a")
        pilot.app.action_open_base("curated")
        await tui.until(pilot, lambda: "\n curated · " in tui.screen_text(pilot.app))
        held.set()
        await pilot.pause(0.2)
        assert rows.marks == set()


async def test_a_key_behind_mark_all_waits_for_the_marks(tui, workspace, monkeypatch):
    monkeypatch.setattr("workbench.tui.held_keys._AT_MOST", 60)
    held, ids = threading.Event(), View.ids
    monkeypatch.setattr(View, "ids", lambda *args: ids(*args) if held.wait(20) else [])
    async with tui.running(workspace) as pilot:
        await pilot.press("a", "plus")
        held.set()
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Labelled good"))
        assert "60 rows" in tui.said(pilot.app)


async def test_search_lists_hits_and_esc_comes_back_to_the_same_row(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, "/QUESTION 4\n")
        await tui.until(pilot, lambda: the(pilot).rows == 11)
        await pilot.press("n", "n", "N")
        await tui.until(
            pilot,
            lambda: (
                the(pilot).current is not None and the(pilot).current.prompt.endswith("40: where does the river go?")
            ),
        )
        assert "“QUESTION 4”" in tui.screen_text(pilot.app)
        await pilot.press("escape")
        await tui.until(pilot, lambda: the(pilot).rows == 60)
        assert the(pilot).cursor == 40
        await pilot.press("n")
        await tui.until(pilot, lambda: "Nothing was searched for" in tui.said(pilot.app))


async def test_first_hits_are_listed_while_more_are_looked_for_and_esc_keeps_them(tui, workspace, monkeypatch):
    monkeypatch.setattr("workbench.store.search._PIECES", (5, 5))
    go_on = threading.Semaphore(1)  # one piece more than this is looked at
    between_pieces = SimpleNamespace(sleep=lambda _: go_on.acquire(timeout=20))
    monkeypatch.setattr("workbench.store.windows.time", between_pieces)
    async with tui.running(workspace, size=(120, 30)) as pilot:
        tui.type_text(pilot.app, "/question\n")
        await tui.until(pilot, lambda: "10 rows so far" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: "10 found, 17% looked at …  esc stops" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: the(pilot).current is not None)
        await pilot.press("G")
        assert the(pilot).current.prompt.startswith("Question 9")
        go_on.release()
        await tui.until(pilot, lambda: the(pilot).rows == 15)
        await pilot.press("G")
        await tui.until(pilot, lambda: the(pilot).current is not None)
        assert the(pilot).current.prompt.startswith("Question 14")
        await pilot.press("escape")
        go_on.release()
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Stopped: 15 found in the 25% that were looked at.")
        assert "15 rows in the 25% looked at" in tui.screen_text(pilot.app)
        assert (the(pilot).rows, the(pilot).cursor) == (15, 14)
        await pilot.press("plus")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Labelled good"))
        assert the(pilot).rows == 15, "a change does not begin a search again that was called off"
        tui.type_text(pilot.app, f":export {workspace.root / 'some.csv'}\n")
        await tui.until(pilot, lambda: "15 rows, found in the 25% that were looked at, to" in tui.said(pilot.app))
        go_on.release(100)
        await pilot.press("escape")
        await tui.until(pilot, lambda: the(pilot).rows == 60)


async def test_a_search_that_ends_after_a_newer_one_is_not_shown(tui, workspace, monkeypatch):
    monkeypatch.setattr("workbench.store.search._PIECES", (5, 5))
    held, waits = threading.Event(), [True]
    between_pieces = SimpleNamespace(sleep=lambda _: held.wait(20) if waits and waits.pop() else None)
    monkeypatch.setattr("workbench.store.windows.time", between_pieces)
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, "/question 1\n")
        await tui.until(pilot, lambda: not waits)
        tui.type_text(pilot.app, "/question 2\n")
        await tui.until(pilot, lambda: the(pilot).rows == 11 and not the(pilot, RowsPane).is_looking)
        held.set()
        await pilot.pause(0.3)
        await pilot.press("G")
        assert (the(pilot).rows, the(pilot, RowsPane).query_shown.search) == (11, "question 2")
        assert the(pilot).current.prompt.startswith("Question 29")


async def test_a_condition_lists_rows_and_a_wrong_one_is_told_in_duckdbs_words(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, ":length(response) < 5\n")
        await tui.until(pilot, lambda: the(pilot).rows == 6)
        for wrong in ("where nonsense < 5", "where true); DROP TABLE examples; --"):
            tui.type_text(pilot.app, f":{wrong}\n")
            await tui.until(pilot, lambda: "condition" in tui.said(pilot.app))
            assert the(pilot).rows == 6, "what was listed stays"
            pilot.app.screen.say("")
        assert len(listed(workspace)) == 60


async def test_rows_are_ordered_by_length_and_by_any_score(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("s")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        await tui.until(pilot, lambda: "length-words" in tui.screen_text(pilot.app))
        await pilot.press("escape", "colon", *"sort response_chars", "enter")
        await tui.until(pilot, lambda: "by response length ↓" in tui.screen_text(pilot.app))
        await pilot.press("S")
        await tui.until(pilot, lambda: "by response length ↑" in tui.screen_text(pilot.app))
        await pilot.press("g")
        await tui.until(pilot, lambda: the(pilot).row(0) is not None and the(pilot).row(0).response == "no")
        tui.type_text(pilot.app, ":sort beauty\n")
        await tui.until(pilot, lambda: "there is no order 'beauty'" in tui.said(pilot.app))


async def test_facets_filter_by_state_step_and_histogram(tui, workspace):
    async with tui.running(workspace, base="curated", size=(160, 48)) as pilot:
        facets = the(pilot, FacetList)
        await tui.until(pilot, lambda: any(choice and choice.field == "step" for choice in facets._choices))

        def at(field, value):
            return next(i for i, c in enumerate(facets._choices) if c and (c.field, c.value) == (field, value))

        def filtered(field, value, rows):
            """Whether the list is made of what was chosen, and the facets show it; `value` None: no longer."""
            now = getattr(facets._shown, field)
            return the(pilot).rows == rows and (now == value if value else now in (None, "all"))

        async def choose(field, value):
            facets.focus()
            facets.highlighted = at(field, value)
            await pilot.press("enter")

        await pilot.press("F", "j", "space")
        await tui.until(pilot, lambda: "curated · 6 rows · dropped" in tui.screen_text(pilot.app))
        await pilot.press("space")
        await tui.until(pilot, lambda: the(pilot).rows == 54)
        await choose("step", "length")
        await tui.until(pilot, lambda: the(pilot).rows == 6)
        await tui.until(pilot, lambda: the(pilot).current is not None)
        assert the(pilot).current.step == "length"
        await choose("step", "length")
        await tui.until(pilot, lambda: the(pilot).rows == 54)
        await choose("scorer", "language-mismatch")
        await tui.until(pilot, lambda: any(c and c.field == "score" for c in facets._choices))
        bars = [c for c in facets._choices if c and c.field == "score"]
        assert [bar.count for bar in bars if bar.count] == [53, 1], "row 3 mixes scripts"
        for bar, rows in ((bars[0], 53), (bars[-1], 1), (bars[-1], 54)):
            facets.focus()
            facets.highlighted = facets._choices.index(bar)
            await pilot.press("enter")
            await tui.until(pilot, lambda rows=rows: the(pilot).rows == rows)
        for field, value, rows in (
            ("source", "rows", 54), ("language", "en", 54), ("which", "edited", 0), ("which", "dropped", 6),
        ):  # fmt: skip
            assert facets._choices[at(field, value)].count == rows
            await choose(field, value)
            await tui.until(pilot, partial(filtered, field, value, rows))
            await choose(field, value)
            await tui.until(pilot, partial(filtered, field, None, 54))


async def test_dropped_rows_of_a_recipe_can_be_taken_back(tui, workspace):
    async with tui.running(workspace, base="curated") as pilot:
        pilot.app.screen._filter(which="dropped")
        await tui.until(pilot, lambda: the(pilot).rows == 6 and the(pilot).current is not None)
        await pilot.press("a")
        await tui.until(pilot, lambda: len(the(pilot).marks) == 6)
        await pilot.press("r")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Restored 6 rows. u undoes.")
    assert workspace.draft("curated").summary().restored == 6


async def test_freeze_says_what_it_holds_and_makes_it(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_text(pilot.app, ":drop dull\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Dropped 1 row"))
        await pilot.press("f")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        assert "It will hold 59 rows of rows (60 rows). By hand: 1 dropped." in tui.screen_text(pilot.app)
        await pilot.press(*"mine", "enter")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Froze mine: 59 rows."))
        await pilot.press("f")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        await pilot.press(*"not/a name", "enter")
        await tui.until(pilot, lambda: "cannot be a name" in tui.said(pilot.app))
    assert [version.name for version in workspace.versions()] == ["curated", "mine"]


async def test_the_preview_shows_messages_scores_history_and_tokens(tui, workspace):
    if not TOKENIZER.is_dir():
        pytest.skip(f"no tokenizer in {TOKENIZER}")
    (workspace.root / "workbench.toml").write_text(f'model = "{TOKENIZER}"\n')
    root = workspace.root
    workspace.close()
    reopened = Workspace.open(root)
    try:
        async with tui.running(reopened, base="curated") as pilot:
            await tui.until(pilot, lambda: "rows row 1" in tui.screen_text(pilot.app))
            assert "assistant  42 characters" in tui.screen_text(pilot.app)
            await pilot.press("left_square_bracket")
            await tui.until(pilot, lambda: "came as row 1 of source rows" in tui.screen_text(pilot.app))
            await pilot.press("left_square_bracket")
            await tui.until(pilot, lambda: "length-words" in tui.screen_text(pilot.app))
            await pilot.press("left_square_bracket")
            await tui.until(pilot, lambda: "tokens are trained" in tui.screen_text(pilot.app), 60)
            assert "a• │ Answer 1: it goes down to the sea, slowly.<|im_end|>" in tui.screen_text(pilot.app)
            await pilot.press("enter", "G", "j", "k", "escape")
            assert the(pilot).has_focus
    finally:
        reopened.close()


async def test_rows_are_copied_whole_and_written_as_listed(tui, workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "here there")
    async with tui.running(workspace) as pilot:
        await pilot.press("j", "space", "space", "y")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Copied 2 rows to the terminal's clipboard.")
        copied = [json.loads(line) for line in pilot.app.clipboard.splitlines()]
        assert [row["messages"][1]["content"][:8] for row in copied] == ["Answer 1", "Answer 2"]
        out = tmp_path / "list.csv"
        tui.type_text(pilot.app, f":export {out}\n")
        await tui.until(pilot, lambda: tui.said(pilot.app) == f"Wrote 60 rows to {out}.")
        with out.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 60
        tui.type_text(pilot.app, f":export {out}\n")
        await tui.until(pilot, lambda: "is there already" in tui.said(pilot.app))
        whole = tmp_path / "rows.jsonl"
        tui.type_text(pilot.app, ":length(response) < 5\n")
        await tui.until(pilot, lambda: the(pilot).rows == 6)
        tui.type_text(pilot.app, f":export-rows {whole}\n")
        await tui.until(pilot, lambda: tui.said(pilot.app) == f"Wrote 6 rows to {whole}.")
        assert [json.loads(line)["messages"][1]["content"] for line in whole.read_text().splitlines()] == ["no"] * 6
        tui.type_text(pilot.app, f":save-screen {tmp_path}/screen.svg\n")
        await tui.until(pilot, lambda: "The screen is in" in tui.said(pilot.app))
        (tmp_path / "screen.svg").write_text("mine")
        tui.type_text(pilot.app, f":save-screen {tmp_path}/screen.svg\n")
        await tui.until(pilot, lambda: "is there already" in tui.said(pilot.app))
        assert (tmp_path / "screen.svg").read_text() == "mine"


async def test_a_failing_worker_is_told_and_logged_and_the_app_lives_on(tui, workspace, monkeypatch):
    async with tui.running(workspace) as pilot:
        monkeypatch.setattr(Workspace, "detail", lambda *_: 1 / 0)
        await pilot.press("j")
        await tui.until(pilot, lambda: "ZeroDivisionError: division by zero" in tui.said(pilot.app))
        assert "app.log" in tui.said(pilot.app)
        assert "Traceback" in (workspace.cache_dir / "app.log").read_text()
        monkeypatch.undo()
        await pilot.press("j")
        await tui.until(pilot, lambda: "rows row 2" in tui.screen_text(pilot.app))
        pilot.app.post_message(Failure(Problem("the disk is full", do="Free some space.")))
        await tui.until(pilot, lambda: tui.said(pilot.app) == "the disk is full. Free some space.")


async def test_keys_work_while_a_search_and_an_import_run(tui, workspace, tmp_path):
    data = tmp_path / "more.jsonl"
    line = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    data.write_text(f"{line}\n" * 30_000)
    importing = threading.Thread(target=workspace.import_file, args=(data,), kwargs={"name": "more"})
    async with tui.running(workspace) as pilot:
        importing.start()
        tui.type_text(pilot.app, "/river\njjjj")
        await tui.until(pilot, lambda: the(pilot).rows == 59)
        for key in "jkjkGgjj":
            await pilot.press(key)
        assert the(pilot).cursor == 2
        importing.join()
        await pilot.press("plus")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Labelled good"))


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48)])
async def test_every_size_shows_the_row_and_its_text(tui, workspace, size):
    async with tui.running(workspace, size=size) as pilot:
        await tui.until(pilot, lambda: "assistant  2 characters" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert ("dropped" in text) == (size[0] >= 140), "the counts stand beside the rows where there is room"
        assert "Question 0: where" in text


async def test_a_resize_wraps_again_and_too_small_a_terminal_says_what_is_needed(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("G")
        await pilot.resize_terminal(50, 15)
        await tui.until(pilot, lambda: "The workbench needs 60x20." in tui.screen_text(pilot.app))
        assert "This terminal is 50x15." in tui.screen_text(pilot.app)
        await pilot.resize_terminal(61, 20)
        await tui.until(pilot, lambda: "Question 59" in tui.screen_text(pilot.app))


async def test_without_colour_the_cursor_and_marks_are_still_seen(tui, workspace, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with tui.running(workspace) as pilot:
        assert pilot.app.no_color
        await pilot.press("space", "x", "escape", "question_mark", "escape", "e", "escape")
        await tui.until(pilot, lambda: "▌" in tui.screen_text(pilot.app))
        assert "●" in tui.screen_text(pilot.app)
        await pilot.press("ctrl+t", "F", "escape", "right_square_bracket")
        assert the(pilot, Preview).query("Tabs")


async def test_another_base_is_chosen_by_name_or_from_a_list(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("o")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, Dialog))
        await tui.until(pilot, lambda: "version" in tui.screen_text(pilot.app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: pilot.app.base == "curated" and the(pilot).rows == 54)
        assert tui.screen_text(pilot.app).splitlines()[0].rstrip().endswith("curated · ws"), "the bar says so too"
        tui.type_text(pilot.app, ":open nothing\n")
        await tui.until(pilot, lambda: "no source or version 'nothing'" in tui.said(pilot.app))
        assert not pilot.app.screen.query_one("CommandLine Input", Input).has_focus


async def test_of_a_row_only_what_the_open_tab_shows_is_read(tui, workspace, monkeypatch):
    read = []
    for name in ("scores", "history"):
        ask = getattr(Workspace, name)
        monkeypatch.setattr(Workspace, name, lambda *args, ask=ask, name=name: (read.append(name), ask(*args))[1])
    async with tui.running(workspace) as pilot:
        await tui.until(pilot, lambda: "where does the river go?" in tui.screen_text(pilot.app).split("messages")[-1])
        await pilot.press("j", "j", "G")
        await tui.until(pilot, lambda: "Answer 59" in tui.screen_text(pilot.app).split("messages")[-1])
        assert read == [], "copies are looked for among all rows, which takes long"
        await pilot.press("left_square_bracket")
        await tui.until(pilot, lambda: "came as row 59 of source rows" in tui.screen_text(pilot.app))
        assert read == ["history"]
