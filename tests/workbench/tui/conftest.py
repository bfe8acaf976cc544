"""A workspace of a few rows with real decisions and scores in it, and the app over it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual import events

from workbench.tui.app import WorkbenchApp
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.status import StatusBar
from workbench.workspace import Workspace

HOSTILE = (
    "[/INST] [bold]x[/] \x1b]52;c;Zm9v\x07\x1b[2J\x00\u202egnp.\u2066 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 漢字 e\u0301 ❤\ufe0f \u2028 \ud800"
)
RECIPE = "steps:\n  - length: {on: response, min_words: 3, max_drop: 1.0}\n  - language: {}\n"


def row(number: int) -> dict:
    """Row 3 is hostile (but for the surrogate, which no import takes), every tenth row has a short answer."""
    prompt = f"Question {number}: {HOSTILE[:-1] if number == 3 else 'where does the river go?'}"
    answer = "no" if number % 10 == 0 else f"Answer {number}: it goes down to the sea, slowly."
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A workspace folder with source `rows` (60 rows) and version `curated`, made once."""
    folder = tmp_path_factory.mktemp("app") / "ws"
    data = folder.with_name("rows.jsonl")
    data.write_text("".join(json.dumps(row(number)) + "\n" for number in range(60)))
    recipe = folder.with_name("recipe.yaml")
    recipe.write_text(RECIPE)
    workspace = Workspace.init(folder)
    workspace.import_file(data, name="rows", license="CC0-1.0")
    workspace.run_recipe(recipe, ["rows"], "curated")
    workspace.close()
    return folder


@pytest.fixture
def workspace(made, tmp_path):
    """A copy of it, open."""
    shutil.copytree(made, tmp_path / "ws")
    opened = Workspace.open(tmp_path / "ws")
    yield opened
    opened.close()


@asynccontextmanager
async def running(workspace: Workspace | None, *, base: str = "rows", size=(120, 40), **options):
    """The app with `base` in view, and its pilot."""
    app = WorkbenchApp(workspace, **options)
    async with app.run_test(size=size) as pilot:
        if workspace is None:
            await until(pilot, lambda: app.current_mode == "start")
        else:
            await until(pilot, lambda: bool(app.base))
            await until(pilot, lambda: app.current_mode == "browse" and bool(app.screen.query(RowList)))
            if app.base != base:
                app.action_open_base(base)
            await until(pilot, lambda: f"\n {base} · " in screen_text(app))
            await until(pilot, lambda: app.screen.query_one(RowList).current is not None)
        yield pilot
    app._threads.shutdown(cancel_futures=True)


async def until(pilot, holds: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait until `holds()`; fail with what is on the screen otherwise. `make test` knows that failure by its words."""
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        await pilot.pause(0.05)
    raise AssertionError(f"never came true; on the screen:\n{screen_text(pilot.app)}")


def screen_text(app) -> str:
    """What is on the screen, as lines of text."""
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def said(app) -> str:
    """The sentence in the status bar."""
    return next(screen for screen in reversed(app.screen_stack) if screen.query(StatusBar)).query_one(StatusBar).said


def type_ahead(app, *keys: str) -> None:
    """Press keys without waiting for what they do, as a terminal delivers what was typed before the app looked."""
    for key in keys:
        app.post_message(events.Key(key, _CHARACTERS.get(key, key)))


_CHARACTERS = {"enter": "\r", "space": " ", "slash": "/", "colon": ":", "plus": "+", "minus": "-"}


def type_text(app, text: str) -> None:
    """Type a text; a line end is enter."""
    type_ahead(app, *({"\n": "enter", " ": "space", "/": "slash", ":": "colon"}.get(char, char) for char in text))


@pytest.fixture(scope="session")
def tui():
    """The helpers above: `tui.running(workspace)`, `tui.until(pilot, holds)`, and so on."""
    return SimpleNamespace(
        running=running,
        until=until,
        screen_text=screen_text,
        said=said,
        type_ahead=type_ahead,
        type_text=type_text,
        hostile=HOSTILE,
    )
