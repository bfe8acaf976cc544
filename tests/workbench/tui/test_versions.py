"""Versions: the list and its ledgers, what lies between two, export, delete, and the way to a comparison."""

from __future__ import annotations

import json
import threading
from contextlib import asynccontextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import exporting
from workbench.store.experiments import save_experiment
from workbench.store.windows import ViewQuery
from workbench.text_diff import differing
from workbench.tui.cells import wrap
from workbench.tui.screens.diff import DiffScreen
from workbench.tui.tasks import Task
from workbench.tui.widgets.dialogs import Dialog
from workbench.tui.widgets.export_dialog import ExportDialog
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.preview import difference_lines
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.status import StatusBar
from workbench.tui.widgets.table import Table
from workbench.workspace import Workspace


def ids(workspace, name="rows", **query):
    view = workspace.view(ViewQuery(name, **query))
    try:
        return view.ids(0, view.rows)
    finally:
        view.close()


@pytest.fixture
def edited(workspace):
    """`workspace` with version `mended` of `curated`: row 1 edited, rows 2 and 3 dropped by hand."""
    every, draft = ids(workspace, "curated"), workspace.draft("curated")
    draft.edit(every[0], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended \x1b[31m"}])
    draft.drop(every[1:3], "dull")
    workspace.freeze("curated", "mended")
    return workspace


@asynccontextmanager
async def versions(tui, workspace, **options):
    """The screen, and its pilot."""
    base = options.pop("base", workspace.versions()[-1].name if workspace.versions() else "rows")
    async with tui.running(workspace, base=base, **options) as pilot:
        await pilot.press("V")
        await tui.until(pilot, lambda: pilot.app.current_mode == "versions" and bool(pilot.app.screen.query(Table)))
        await tui.until(pilot, lambda: the(pilot, Table).current == base)
        yield pilot


def the(pilot, kind, selector=""):
    return pilot.app.screen.query_one(selector or kind, kind)


async def to_row(tui, pilot, name):
    the(pilot, Table).go_to(name)
    await tui.until(pilot, lambda: f"{name}  " in tui.screen_text(pilot.app) and the(pilot, Table).current == name)


@given(st.text(max_size=60), st.text(max_size=60), st.integers(4, 20))
def test_what_differs_is_marked_and_nothing_else_changes(text, other, width):
    lines = difference_lines(text, other, width)
    assert ["".join(piece for piece, _ in line) for line in lines] == wrap(text, width)
    if text == other:
        assert not [piece for line in lines for piece, style in line if style == "hit"]


def test_whole_words_are_marked():
    [line] = difference_lines("the cat sat down", "the dog sat there", 40)
    assert [piece for piece, style in line if style == "hit"] == ["cat", "down"]
    assert differing("word " * 4000, "x")[0][1] is False, "texts that are too long to compare are not marked"


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48)])
async def test_the_list_draws_lineage_and_the_ledger_tells_every_step(tui, edited, size):
    with edited.store.transaction() as cursor:
        cursor.execute("UPDATE sources SET license = ?", [tui.hostile[:-1]])
    async with versions(tui, edited, size=size) as pilot:
        await tui.until(pilot, lambda: "54 in, 2 dropped, 52 left" in scrolled(tui, pilot))
        await tui.until(pilot, lambda: "   └─ mended" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert "2 versions, 1 source" in text
        assert "└─ curated" in text
        assert "   └─ mended" in text
        assert "length, language" in text
        assert edited.versions()[-1].manifest_hash[:40] in text
        assert not set("\x1b\x00\x07\u202e\u2066\u200d") & set(text)
        ledger = scrolled(tui, pilot)
        assert "60 in, 6 dropped, 54 left" in ledger
        assert "6 too short" in ledger
        assert "2 manual" in ledger
        assert "54 of rows" not in ledger
        assert "52 of rows" in ledger
        await pilot.press("right", "G", "g", "escape")
        assert the(pilot, Table).has_focus
        await to_row(tui, pilot, "rows")
        await tui.until(pilot, lambda: "led to" in scrolled(tui, pilot))
        await to_row(tui, pilot, "curated")
        await tui.until(pilot, lambda: "  - language: {}" in scrolled(tui, pilot))


def scrolled(tui, pilot):
    """All lines of the ledger."""
    return "\n".join("".join(text for text, _ in line) for line in the(pilot, LineView)._lines)


async def test_the_base_of_a_workspace_without_versions_is_told_how_to_make_one(tui, workspace):
    workspace.remove_version("curated")
    async with versions(tui, workspace) as pilot:
        await tui.until(pilot, lambda: "No version yet." in tui.screen_text(pilot.app))
        assert "f in Browse (B) freezes the rows that are kept" in tui.screen_text(pilot.app)
        await pilot.press("d")
        assert "Mark the two to look between" in tui.said(pilot.app)
        await pilot.press("x")
        await tui.until(pilot, lambda: "Delete source rows (60 rows)?" in tui.screen_text(pilot.app))
        await pilot.press("y")
        await tui.until(pilot, lambda: pilot.app.current_mode == "start")


async def test_a_version_that_lands_is_listed(tui, workspace):
    async with versions(tui, workspace) as pilot:
        running = Task("running a recipe")
        pilot.app.tasks.running.append(running)
        await tui.until(pilot, lambda: pilot.app.screen._tasks_running == 1)
        workspace.freeze("curated", "fresh")
        pilot.app.tasks.running.remove(running)
        await tui.until(pilot, lambda: "└─ fresh" in tui.screen_text(pilot.app))
        assert the(pilot, Table).current == "curated"


async def test_a_diff_lists_rows_by_reason_with_both_texts_and_opens_them_in_browse(tui, edited):
    async with versions(tui, edited) as pilot:
        await to_row(tui, pilot, "rows")
        await pilot.press("space", "G", "space")
        await tui.until(pilot, lambda: "marked: rows, then mended" in tui.screen_text(pilot.app))
        await pilot.press("d")
        await tui.until(pilot, lambda: "rows → mended: 51 rows in both, 9 only in rows, 1 only in mended." in
                        tui.screen_text(pilot.app))  # fmt: skip
        text = tui.screen_text(pilot.app)
        for line in ("6 length: too short", "2 manual ", "1 manual: edited", "1 only in mended"):
            assert line in " ".join(text.split())
        reasons = the(pilot, Table)
        reasons.go_to(" manual: edited")

        def at(prompt):
            row = the(pilot, RowList).current
            return row is not None and row.prompt.startswith(prompt)

        await tui.until(pilot, lambda: "edited into" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert "Answer 1: it goes down" in text
        assert "mended ␛[31m" in text
        await pilot.press("enter")
        assert the(pilot, RowList).has_focus
        await pilot.press("tab", "tab", "shift+tab", "shift+tab", "enter")
        await tui.until(pilot, lambda: pilot.app.current_mode == "browse" and at("Question 1:"))
        assert (pilot.app.base, the(pilot, RowList).cursor) == ("rows", 1)
        await pilot.press("V")
        await tui.until(pilot, lambda: pilot.app.current_mode == "versions")
        await pilot.press("escape", "d")
        await tui.until(pilot, lambda: "curated → mended: 51 rows in both" in tui.screen_text(pilot.app))
        the(pilot, Table).go_to("+")
        await tui.until(pilot, lambda: "edited from" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: the(pilot, RowList).current is not None)
        await pilot.press("enter", "enter")
        await tui.until(pilot, lambda: pilot.app.base == "mended" and pilot.app.current_mode == "browse")


async def test_equal_sets_are_told_so_and_esc_leaves_the_diff(tui, workspace):
    workspace.freeze("curated", "same")
    async with versions(tui, workspace) as pilot:
        await pilot.press("d")
        await tui.until(pilot, lambda: "Both hold the same rows." in tui.screen_text(pilot.app))
        assert isinstance(pilot.app.screen, DiffScreen)
        await pilot.press("enter", "escape")
        await tui.until(pilot, lambda: not isinstance(pilot.app.screen, DiffScreen))


async def test_export_asks_for_form_and_place_and_tells_what_was_lost(tui, workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "calls.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    with_call = [turns[0], {"role": "assistant", "content": "", "tool_calls": [call]}]
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in (turns, with_call)))
    workspace.import_file(data, name="calls")
    async with versions(tui, workspace, base="calls") as pilot:
        await pilot.press("w")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, ExportDialog))
        assert "loses nothing" in tui.screen_text(pilot.app)
        await pilot.press("down", "down", "down", "enter", "enter")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, ReportDialog))
        text = tui.screen_text(pilot.app)
        assert "Wrote 1 row of calls as alpaca to calls.json." in text
        assert "Examples not written, as Alpaca knows only user and assistant turns" in text
        assert json.loads((tmp_path / "calls.json").read_text())[0]["output"] == "a"
        assert (tmp_path / "calls.json.card.md").exists()
        await pilot.press("escape")
        for answer, written in (("n", False), ("y", True)):
            out = tmp_path / "out.parquet"
            out.write_text("mine")
            tui.type_text(pilot.app, f":export {out}\n")
            await tui.until(pilot, lambda: f"Replace {tmp_path}"[:20] in tui.screen_text(pilot.app))
            await pilot.press(answer)
            await tui.until(pilot, lambda: not isinstance(pilot.app.screen, Dialog))
            if written:
                await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Wrote 2 rows of calls as parquet"))
            assert (out.read_bytes() != b"mine") == written
        tui.type_text(pilot.app, ":export /nowhere/at/all.jsonl\n")
        await tui.until(pilot, lambda: "Choose a folder that exists" in tui.said(pilot.app))


async def test_an_export_or_a_push_that_is_stopped_is_told_as_what_it_is(tui, workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.exporting.check_hub", lambda repo, force: None)
    going, write, looked_in = threading.Event(), exporting.write_examples, []

    def slowly(batches, *args, **options):
        going.wait(20)
        return write(batches, *args, **options)

    def is_taken(out):
        looked_in.append(threading.current_thread())
        return False

    monkeypatch.setattr("workbench.exporting.write_examples", slowly)
    monkeypatch.setattr("workbench.tui.export_flow._is_taken", is_taken)
    async with versions(tui, workspace, base="rows") as pilot:
        app = pilot.app
        for target, asked, told in (
            ("out.jsonl", "what stood there stays", "Stopped: nothing of it is left."),
            ("hf:a/b", "unless the upload has begun", "Stopped: nothing was pushed."),
        ):
            going.clear()
            tui.type_text(app, f":export {target}\n")
            await tui.until(pilot, lambda: bool(app.tasks.running))
            tui.type_text(app, ":stop-work\n")
            await tui.until(pilot, lambda asked=asked: asked in tui.screen_text(app))
            await pilot.press("y")
            await tui.until(pilot, lambda: app.tasks.running[0].stopped.is_set())
            going.set()
            await tui.until(pilot, lambda told=told: tui.said(app) == told)
            assert not app.screen.query_one(StatusBar).has_class("-failed")
    assert list(tmp_path.glob("out*")) == []
    assert looked_in, "a disk that is slow holds nobody up"
    assert threading.main_thread() not in looked_in


async def test_a_push_to_the_hub_asks_before_it_replaces_files_that_are_there(tui, workspace, hub):
    url = f"http://127.0.0.1:{hub.server_port}/datasets/{hub.repo}"
    async with versions(tui, workspace) as pilot:
        app = pilot.app
        await pilot.press("w")
        await tui.until(pilot, lambda: isinstance(app.screen, ExportDialog))
        await pilot.press("down", "enter")
        assert "The hub gets" not in tui.screen_text(app)
        await pilot.press("shift+tab", "down", "down", "enter", "ctrl+u")
        tui.type_text(app, f"hf:{hub.repo}")
        await tui.until(pilot, lambda: "The hub gets Parquet" in tui.screen_text(app))
        assert "It is not written as alpaca." in tui.screen_text(app)
        await pilot.press("enter")
        told = f"Wrote 54 rows of curated as parquet to {url} (private)."
        await tui.until(pilot, lambda: told in " ".join(tui.screen_text(app).split()), 60)
        assert hub.visibility == "private"
        assert len(hub.commits) == 1
        data = next(path for path in hub.files if path.endswith(".parquet"))
        assert pq.read_table(pa.BufferReader(hub.files[data])).num_rows == 54
        assert b"CC0-1.0" in hub.files["README.md"].upper()
        for answer, commits in (("n", 1), ("y", 2)):
            hub.files["old.parquet"] = b"old"
            tui.type_text(app, f":export hf:{hub.repo}\n")
            await tui.until(pilot, lambda: f"Replace the files of hf:{hub.repo}?" in tui.screen_text(app))
            await pilot.press(answer)
            await tui.until(pilot, lambda: not app.tasks.running and not isinstance(app.screen, Dialog))
            await tui.until(pilot, lambda commits=commits: len(hub.commits) == commits)
        await tui.until(pilot, lambda: not app.tasks.running)
        assert sorted(hub.files) == ["README.md", data]
        hub.refuses = 403
        tui.type_text(app, f":export hf:{hub.repo}\n")
        await tui.until(pilot, lambda: "does not let this token write here" in tui.said(app))


async def test_delete_is_refused_while_something_needs_it_and_asks_first(tui, edited):
    plan = json.dumps({"arms": {"baseline": "curated", "candidate": "mended"}})
    save_experiment(edited.store, "3f2a", "curated vs mended", plan)
    async with versions(tui, edited) as pilot:
        await tui.until(pilot, lambda: "used by   1 experiment: 3f2a" in tui.screen_text(pilot.app))
        await pilot.press("x")
        await tui.until(pilot, lambda: "was trained on, and its results would lose" in tui.said(pilot.app))
        with edited.store.transaction() as cursor:
            cursor.execute("DELETE FROM experiments")
        tui.type_text(pilot.app, ":delete curated\n")
        await tui.until(pilot, lambda: "is where mended came from" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":delete rows\n")
        await tui.until(pilot, lambda: "would lose rows and reasons" in tui.said(pilot.app))
        for answer in ("escape", "y"):
            await pilot.press("x")
            await tui.until(pilot, lambda: "Delete version mended (52 rows)?" in tui.screen_text(pilot.app))
            assert [version.name for version in edited.versions()] == ["curated", "mended"]
            await pilot.press(answer)
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Deleted version mended.")
        await tui.until(pilot, lambda: "1 version, 1 source" in tui.screen_text(pilot.app))
        await pilot.press("B")
        await tui.until(pilot, lambda: "\n curated · 54 rows" in tui.screen_text(pilot.app))


async def test_marked_versions_go_to_the_comparison_the_first_as_baseline(tui, edited, monkeypatch):
    async with versions(tui, edited) as pilot:
        went = []
        monkeypatch.setattr(pilot.app, "go", lambda name, **args: went.append((name, args)))
        await pilot.press("c")
        assert "Mark versions with space" in tui.said(pilot.app)
        await pilot.press("space", "g", "c")
        assert tui.said(pilot.app).startswith("rows is a source")
        await pilot.press("j", "space", "c")
        await tui.until(pilot, lambda: bool(went))
        assert went == [("experiments", {"compare": ["mended", "curated"]})]
        await pilot.press("g", "space")
        await tui.until(pilot, lambda: "then curated, rows: c trains all 3" in tui.screen_text(pilot.app))
        await pilot.press("escape")
        assert the(pilot, Table).marked == []


async def test_enter_looks_at_it_in_browse(tui, workspace):
    async with versions(tui, workspace) as pilot:
        await pilot.press("g", "enter")
        await tui.until(pilot, lambda: pilot.app.current_mode == "browse" and pilot.app.base == "rows")


def test_the_tree_holds_versions_of_several_inputs_once(workspace, tmp_path):
    (tmp_path / "r.yaml").write_text("steps:\n  - exact: {}\n")
    workspace.freeze("rows", "all")
    workspace.run_recipe(tmp_path / "r.yaml", ["curated", "all"], "both")
    workspace.freeze("all", "again")
    assert [(branch, entry.name, entry.inputs) for branch, entry in workspace.catalogue()] == [
        ("", "rows", ()),
        ("├─ ", "curated", ("rows",)),
        ("│  └─ ", "both", ("curated", "all")),
        ("└─ ", "all", ("rows",)),
        ("   └─ ", "again", ("all",)),
    ]
    assert workspace.catalogue()[1][1].steps == ("length", "language")


def test_a_diff_tells_edits_from_drops_however_many_versions_lie_between(edited):
    draft, [first, *_] = edited.draft("mended"), ids(edited, "mended")
    draft.edit(first, [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended twice"}])
    edited.freeze("mended", "twice")
    diff = edited.open_diff("rows", "twice")
    assert diff.by_reason["manual: edited"] == 1
    [row] = diff.window("manual: edited", 0, 9)
    shown = diff.row(row.id)
    assert shown.is_edit
    assert shown.instead[2][-1]["content"] == "mended twice"
    assert [r.pos for r in diff.window("length: too short", 2, 2)] == [2, 3]
    assert diff.row(diff.window(None, 0, 1)[0].id).reason is None
    diff.close()
    assert diff.window(None, 0, 9) == []
    assert diff.row(row.id) is None
    draft = edited.draft("twice")
    draft.drop(ids(edited, "twice")[:1], "no")
    edited.freeze("twice", "without")
    assert edited.diff("rows", "without").by_reason.get("manual: edited") is None
    assert not [reason for reason in edited.diff("rows", "without").by_reason if "not among" in reason], (
        "the drop of an edited row is the reason why the row is not there"
    )


def test_a_source_goes_when_nothing_was_made_of_it(workspace: Workspace):
    workspace.remove("curated")
    workspace.remove("rows")
    assert workspace.sources() == []
