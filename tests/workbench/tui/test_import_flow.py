"""Importing from the app: the path, the look, the import, and what came of it."""

from __future__ import annotations

from textual.widgets import Input

from workbench.tui.widgets.import_dialog import ImportDialog
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.status import StatusBar


def pairs(path, rows: int, broken: int = 0) -> None:
    with path.open("w") as file:
        file.writelines(f'{{"prompt": "Question {n}?", "completion": "Answer {n}."}}\n' for n in range(rows))
        file.write('{"prompt": 3}\n' * broken)


async def opened(tui, pilot, path="") -> ImportDialog:
    await pilot.press("i")
    await tui.until(pilot, lambda: isinstance(pilot.app.screen, ImportDialog))
    if path:
        tui.type_text(pilot.app, str(path))
    return pilot.app.screen


async def test_a_file_is_completed_looked_at_and_only_then_imported_and_opened(tui, workspace, tmp_path):
    pairs(tmp_path / "questions.jsonl", 30, broken=2)
    async with tui.running(workspace) as pilot:
        app = pilot.app
        await opened(tui, pilot, tmp_path / "que")
        await tui.until(pilot, lambda: "questions.jsonl" in tui.screen_text(app))
        await pilot.press("tab")
        await tui.until(pilot, lambda: "enter imports this" in tui.screen_text(app))
        shown = tui.screen_text(app)
        assert "all 32: 30 can be imported, 2 rejected" in shown
        assert "Question 0?" in shown
        assert "prompt-completion rows" in shown
        assert [source.name for source in workspace.sources()] == ["rows"], "nothing is written before enter"
        app.screen.query_one("#license", Input).focus()
        tui.type_text(app, "CC0-1.0\n")
        await tui.until(pilot, lambda: app.base == "questions")
        await tui.until(pilot, lambda: "Imported 30 rows as questions (prompt-completion); 2 rejected" in tui.said(app))
        assert workspace.sources()[-1].license == "CC0-1.0"
        await tui.until(pilot, lambda: app.screen.query_one(RowList).current is not None)
        await pilot.press("colon", *"rejects", "enter")
        await tui.until(pilot, lambda: isinstance(app.screen, ReportDialog) and "row 31" in tui.screen_text(app))
        assert "2 rejected rows of questions" in tui.screen_text(app)
        await pilot.press("escape")


async def test_what_cannot_be_used_is_told_in_the_dialog_and_does_not_close_it(tui, workspace, tmp_path):
    (tmp_path / "odd.csv").write_text("q,a\nwhat?,that\nwhere?,there\n")
    async with tui.running(workspace) as pilot:
        app = pilot.app
        await opened(tui, pilot, f"{tmp_path}/*.csv")
        await tui.until(pilot, lambda: "looks at the files that this matches" in tui.screen_text(app))
        app.screen.query_one("#target", Input).value = ""
        tui.type_text(app, f"{tmp_path}/none.jsonl\n")
        await tui.until(pilot, lambda: "there is no such" in tui.screen_text(app))  # the path may fill the line
        app.screen.query_one("#target", Input).value = str(tmp_path / "odd.csv")
        await tui.until(pilot, lambda: "More than half of the rows is rejected" in tui.screen_text(app))
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert isinstance(app.screen, ImportDialog)
        app.screen.query_one("#mapping", Input).value = "prompt=q,response=a"
        await tui.until(pilot, lambda: "all 2: 2 can be imported" in tui.screen_text(app))
        app.screen.query_one("#name", Input).value = "rows"
        await pilot.press("enter")
        await tui.until(pilot, lambda: "there is a source 'rows' already" in tui.said(app))
        dialog = await opened(tui, pilot)
        assert (dialog.wish.mapping, dialog.wish.name) == ("prompt=q,response=a", "rows"), "nobody types it again"
        await pilot.press("escape")


async def test_an_import_is_stopped_by_esc_and_keeps_nothing_and_rows_can_be_dropped_meanwhile(
    tui, workspace, tmp_path
):
    pairs(tmp_path / "many.jsonl", 2_000_000)  # half a minute's work; it is stopped long before
    async with tui.running(workspace) as pilot:
        app = pilot.app
        await opened(tui, pilot, tmp_path / "many.jsonl")
        await tui.until(pilot, lambda: "enter imports this" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "/s · " in app.screen.query_one(StatusBar).task_line)
        assert app.screen.query_one(StatusBar).task_line.startswith("importing many · reading, ")
        tui.type_text(app, "xdull\n")
        await tui.until(pilot, lambda: tui.said(app).startswith("Dropped 1 row"))
        assert app.tasks.running, "the import still runs"
        await pilot.press("ctrl+q")
        await tui.until(pilot, lambda: "Leave and stop importing many?" in tui.screen_text(app))
        await pilot.press("n")
        await tui.until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.press("escape")
        await tui.until(pilot, lambda: "Stop importing many?" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: "nothing of it was kept" in tui.said(app))
        assert not app.screen.query_one(StatusBar).task_line
        assert [source.name for source in workspace.sources()] == ["rows"]


async def test_what_lands_takes_nobody_from_what_they_do(tui, workspace, tmp_path):
    async with tui.running(workspace) as pilot:
        app = pilot.app
        await pilot.press("space")
        app.tasks.land("curated", "Made.")
        await tui.until(pilot, lambda: tui.said(app) == "Made. :open curated looks at it.")
        assert app.base == "rows", "a row is marked"
        await pilot.press("escape", "x")
        await tui.until(pilot, lambda: len(app.screen_stack) == 2)
        app.tasks.land("curated", "Made.")
        await pilot.pause(0.1)
        assert len(app.screen_stack) == 2, "something is being typed"
        await pilot.press("escape")
        app.tasks.land("curated", "Made.")
        await tui.until(pilot, lambda: app.base == "curated")
