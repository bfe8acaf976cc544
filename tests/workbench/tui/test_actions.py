"""One registry: what keys do, what help and palette and docs say of it, and that none of it is a lie."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
from textual.widgets import Input

from workbench.store.windows import ViewQuery
from workbench.tui.actions import SCREENS_IN_ORDER, Action, actions_of, declare, declared_scopes
from workbench.tui.app import SCREENS, WorkbenchApp
from workbench.tui.keys_doc import keys_doc
from workbench.tui.screens.help import HelpScreen
from workbench.tui.widgets.by_hand import ByHand
from workbench.tui.widgets.facets import FacetList
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.table import Table

ROOT = Path(__file__).parents[3]
OWNERS = {
    "app": WorkbenchApp,
    "rows": RowList,
    "text": LineView,
    "by hand": ByHand,
    "facets": FacetList,
    "table": Table,
    **SCREENS,
}


def test_the_page_of_keys_is_what_the_registry_says():
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == keys_doc(), (
        "run `python -m workbench.tui.keys_doc > docs/keys.md`"
    )


@pytest.mark.parametrize("scope", sorted(set(OWNERS) & set(declared_scopes())))
def test_every_action_is_there_and_takes_what_it_says(scope):
    for action in actions_of(scope):
        name = action.name.split("(")[0]
        method = getattr(OWNERS[scope], f"action_{name}")
        if action.takes:
            inspect.signature(method).bind(None, "text")
        if "(" not in action.name:
            inspect.signature(method).bind(None)


def test_two_actions_on_one_key_are_refused():
    with pytest.raises(ValueError, match="the key x"):
        declare(Action("a", ("x",), "a", "", "nowhere"), Action("b", ("x",), "b", "", "nowhere"))


def test_screens_leave_the_keys_of_the_app_alone():
    taken = {key for action in actions_of("app") for key in action.keys} - {"escape", "q"}
    meant = {("recipe", "p"), ("versions", "R")}  # the same, of the recipe that is open, of the version pointed at
    own = {(scope, key) for scope in SCREENS for action in actions_of(scope) for key in action.keys}
    assert {(scope, key) for scope, key in own if key in taken} == meant


async def test_help_lists_what_works_where_it_is_asked_for(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("question_mark")
        await tui.until(pilot, lambda: "Drop the row, or all marked rows" in tui.screen_text(pilot.app))
        assert isinstance(pilot.app.screen, HelpScreen)
        text = tui.screen_text(pilot.app)
        assert "Mark all rows listed" in text
        assert "docs/" not in text, "an installed app has no such files"
        await pilot.press("escape", "enter", "question_mark")
        await tui.until(pilot, lambda: "Scroll a line down." in tui.screen_text(pilot.app))
        assert "Mark all rows listed" not in tui.screen_text(pilot.app), "the list has not the focus"
        await pilot.press("q")


async def test_the_palette_offers_and_runs_the_same_actions(tui, workspace):
    async with tui.running(workspace) as pilot:
        app = pilot.app
        titles = {command.title for command in app.get_system_commands(app.screen)}
        offered = [action for _, action in app.offered()]
        assert len(offered) > 30
        assert titles == {f"{a.title}  ({a.shown_keys})" if a.keys else a.title for a in offered}
        await pilot.press("ctrl+p", *"last", "enter")
        await tui.until(
            pilot, lambda: app.screen.query_one(RowList).cursor == 59 if app.screen.query(RowList) else False
        )


def test_only_screens_that_there_are_have_keys():
    assert set(SCREENS_IN_ORDER) == {*SCREENS, "duplicates"}, "which lies over the screen that asks"
    gone_to = {action.name for action in actions_of("app") if action.name.startswith("go(")}
    assert gone_to == {f"go('{name}')" for name in SCREENS if name != "tokens"}
    assert "## Duplicates" in keys_doc()


async def test_the_command_line_runs_actions_by_name_with_what_follows(tui, workspace):
    async with tui.running(workspace) as pilot:
        rows = pilot.app.screen.query_one(RowList)
        await pilot.press("colon", *"row", "space", *"42", "enter")
        await tui.until(pilot, lambda: rows.cursor == 41)
        await pilot.press("colon", *"frobnicate", "enter")
        await tui.until(pilot, lambda: "'frobnicate' is no command here" in tui.said(pilot.app))
        await pilot.press("colon", "up")
        assert pilot.app.screen.query_one("CommandLine Input", Input).value == "frobnicate"
        await pilot.press("escape")
        await tui.until(pilot, lambda: rows.has_focus)


async def test_what_is_typed_ahead_goes_to_the_question_and_not_to_the_rows(tui, workspace):
    async with tui.running(workspace) as pilot:
        tui.type_ahead(pilot.app, "j", "j", "x", *"dull", "space", *"rule", "enter")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Dropped 1 row"))
        view = workspace.view(ViewQuery("rows"))
        assert [(row.pos, row.reason) for row in view.window(0, 60) if row.state == "dropped"] == [(2, "dull rule")]
        view.close()
        tui.type_ahead(pilot.app, "slash", *"answer", "space", *"11", "enter")
        await tui.until(pilot, lambda: pilot.app.screen.query_one(RowList).rows == 1)


async def test_ctrl_q_leaves_from_anywhere(tui, workspace):
    async with tui.running(workspace) as pilot:
        await pilot.press("x")
        await tui.until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        await pilot.press("ctrl+q")
        await tui.until(pilot, lambda: not pilot.app.is_running or pilot.app._exit)


def test_the_modules_of_the_app_are_small():
    for name in ("app", "screen", "actions"):
        module = importlib.import_module(f"workbench.tui.{name}")
        assert len(inspect.getsource(module).splitlines()) < 400
