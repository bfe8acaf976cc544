"""The first run, and where the app cannot run at all."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys

import pytest

from workbench.cli import main
from workbench.tui.app import WorkbenchApp
from workbench.tui.crash import Crash
from workbench.tui.widgets.row_list import RowList
from workbench.workspace import Workspace


async def test_without_a_workspace_one_is_made_here_and_the_starter_set_opened(tui, tmp_path):
    async with tui.running(None, folder=tmp_path / "new", size=(80, 24)) as pilot:
        app = pilot.app
        await tui.until(pilot, lambda: "Make one here" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "Open the starter set" in tui.screen_text(app))
        assert (tmp_path / "new" / "workbench.duckdb").is_file()
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.base == "raw" and app.screen.query(RowList), 60)
        await tui.until(pilot, lambda: app.screen.query_one(RowList).current is not None)
        assert "Imported 375 rows" in tui.said(app)
    app.close_workspace()


async def test_a_workspace_is_made_in_another_folder_and_a_file_imported(tui, tmp_path):
    data = tmp_path / "mine.jsonl"
    data.write_text('{"prompt": "p", "completion": "c"}\n{"prompt": 3}\n')
    async with tui.running(None, folder=tmp_path) as pilot:
        app = pilot.app
        await tui.until(pilot, lambda: "Make one here" in tui.screen_text(app))
        await pilot.press("down", "enter", *"home", "shift+home")
        tui.type_text(app, f"{tmp_path / 'there'}\n")
        await tui.until(pilot, lambda: app.has_workspace)
        await tui.until(pilot, lambda: "Import a file" in tui.screen_text(app))
        await pilot.press("down", "enter")
        tui.type_text(app, f"{data}\n")
        await tui.until(pilot, lambda: "enter imports this" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.base == "mine")
        await tui.until(pilot, lambda: "1 row as mine (prompt-completion); 1 rejected" in tui.said(app))
    app.close_workspace()


async def test_the_keys_can_be_read_before_there_is_anything(tui, tmp_path):
    async with tui.running(None, folder=tmp_path) as pilot:
        await tui.until(pilot, lambda: "Read the keys" in tui.screen_text(pilot.app))
        await pilot.press("up", "enter")
        await tui.until(pilot, lambda: "Leave the app." in tui.screen_text(pilot.app))
        assert "Go to browse." not in tui.screen_text(pilot.app), "there is nothing to browse"
        await pilot.press("escape", "q")
        await tui.until(pilot, lambda: "ctrl+q leaves" in tui.said(pilot.app))


async def test_a_crash_tells_where_the_log_is_and_shows_no_traceback(tui, workspace, capsys):
    app = WorkbenchApp(workspace)

    async def crash() -> None:
        async with app.run_test() as pilot:
            await tui.until(pilot, lambda: bool(app.base))
            app.call_later(lambda: 1 / 0)
            await pilot.pause(0.5)

    with pytest.raises(Crash) as raised:
        await crash()
    assert f"written in {workspace.cache_dir / 'app.log'}" in raised.value.sentence
    assert "Traceback" not in str(raised.value.__rich__())
    assert app.return_code == 1
    assert "ZeroDivisionError" in (workspace.cache_dir / "app.log").read_text()


def run_cli(monkeypatch, capsys, *argv: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["workbench", *argv])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def test_without_a_terminal_the_app_says_so(monkeypatch, capsys):
    code, err = run_cli(monkeypatch, capsys)
    assert code == 2
    assert "the app needs a terminal" in err
    assert "--help" in err


def test_a_dumb_terminal_is_refused_with_a_sentence(made):
    parent, child = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workbench", "-w", str(made)],
            stdin=child, stdout=child, stderr=subprocess.PIPE, env={**os.environ, "TERM": "dumb"},
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(parent)
        os.close(child)
    assert done.returncode == 2
    assert "TERM is dumb" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_workspace_in_use_is_told_before_the_app_opens(made):
    held = Workspace.open(made)
    parent, child = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workbench", "-w", str(made)],
            stdin=child, stdout=child, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm-256color"},
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        held.close()
        os.close(parent)
        os.close(child)
    assert done.returncode == 4
    assert "in use by process" in done.stderr


async def test_a_log_that_a_library_opens_meanwhile_does_not_hold_the_app(tui):
    before = sys.stderr
    async with tui.running(None):
        stream = logging.StreamHandler().stream
        assert stream.write("loaded") == len("loaded")
        assert getattr(stream, "app", None) is None, "which would keep the database to the very end"
    assert sys.stderr is before
