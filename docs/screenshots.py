"""Pictures of the terminal app for the README and these pages, made by the app itself: `make screenshots`.

    python docs/screenshots.py [--workspace DIR] [--only NAME ...]

The rows are those of the starter set, in a workspace that is thrown away. A comparison takes too long to be made for a
picture: give a workspace that holds a finished one (`workbench demo` makes it); it is copied, never written to. Paths
of this machine and days do not come into the pictures, so that one made again is the same where the app is.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from workbench import demo
from workbench.tui.app import WorkbenchApp
from workbench.tui.widgets.row_list import RowList
from workbench.workspace import Workspace

SCREENS_DIR = Path(__file__).parent / "screens"
SIZE = (140, 40)
NAME = "my-data"
DAY = "2026-01-05 09:00:00"
DATED = {
    "sources": ("created_at",),
    "versions": ("created_at",),
    "recipe_runs": ("created_at", "finished_at"),
    "experiments": ("created_at", "finished_at"),
}
"""Columns that would show when a picture was made."""


@dataclass
class Stage:
    """An app that runs, and what is needed to get somewhere in it."""

    pilot: Pilot[None]

    @property
    def app(self) -> WorkbenchApp:
        """The app."""
        assert isinstance(self.pilot.app, WorkbenchApp)
        return self.pilot.app

    @property
    def text(self) -> str:
        """What is on the screen."""
        lines = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join("".join(segment.text for segment in line) for line in lines)

    async def until(self, *texts: str, seconds: float = 120.0) -> None:
        """Wait until all texts are on the screen."""
        deadline = time.monotonic() + seconds
        while not all(text in self.text for text in texts):
            if time.monotonic() > deadline:
                raise SystemExit(f"{texts} never came; on the screen:\n{self.text}")
            await self.pilot.pause(0.1)

    async def type(self, text: str) -> None:
        """Type a text; a line end is enter."""
        names = {"\n": "enter", " ": "space", ":": "colon", "/": "slash", ".": "full_stop", "-": "minus"}
        await self.pilot.press(*(names.get(char, char) for char in text))

    async def save(self, name: str) -> None:
        """Write the picture, once what is on the screen stands still."""
        before = ""
        while before != self.text:
            before = self.text
            await self.pilot.pause(0.8)
        svg = self.app.export_screenshot(title="workbench")
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from elsewhere
        if re.search(r"/tmp|/home|/Users|20\d\d-(?!01-05)\d\d-\d\d", svg):
            raise SystemExit(f"{name} shows a path of this machine, or a day:\n{self.text}")
        SCREENS_DIR.mkdir(exist_ok=True)
        (SCREENS_DIR / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"docs/screens/{name}.svg")


@asynccontextmanager
async def stage(workspace: Workspace | None, base: str = "", **options: Any) -> AsyncIterator[Stage]:
    """The app over a workspace, with `base` in view."""
    app = WorkbenchApp(workspace, **{"light": False, **options})
    async with app.run_test(size=SIZE) as pilot:
        on = Stage(pilot)
        if base:
            await on.until(" rows")
            app.action_open_base(base)
            await on.until(f" {base} · ")
            while app.screen.query_one(RowList).current is None:
                await pilot.pause(0.1)
        yield on
    app._threads.shutdown(cancel_futures=True)


async def start(_: Workspace) -> None:
    """Nothing is there yet."""
    async with stage(None, folder=Path("~") / NAME) as on:
        await on.until("Make one here")
        await on.save("start")


async def browse(workspace: Workspace) -> None:
    """A search in the raw rows, with something dropped by hand, dark and light."""
    async with stage(workspace, "starter") as on:
        await on.pilot.press("down", "down", "x")
        await on.until("Drop 1 row")
        await on.type("off topic\n")
        await on.until("Dropped 1 row")
        await on.pilot.press("space", "space")
        await on.save("browse")
        on.app.action_toggle_theme()
        await on.save("browse-light")
        await on.pilot.press("escape", "u")
        await on.until("Undid")


async def tokens(workspace: Workspace) -> None:
    """A row as tokens."""
    async with stage(workspace, demo.CURATED) as on:
        await on.pilot.press("t")
        await on.until("trained", demo.CURATED)
        await on.save("tokens")


async def duplicates(workspace: Workspace) -> None:
    """Clusters of rows that say the same, and the two texts beside each other."""
    async with stage(workspace, demo.CURATED) as on:
        await on.pilot.press("D")
        await on.until("clusters", "kept", "fell")
        await on.pilot.press("down", "down", "down")
        await on.save("duplicates")


async def importing(_: Workspace) -> None:
    """A file is looked at."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.init(Path(folder) / NAME)
        async with stage(workspace) as on:
            await on.until("Import a file")
            await on.pilot.press("i")
            await on.type("datasets/starter/raw.jsonl")
            await on.until("enter imports this")
            await on.save("import")
        workspace.close()


async def recipe(workspace: Workspace) -> None:
    """What each step of a recipe would drop."""
    async with stage(workspace, "starter") as on:
        await on.type(":run safe-default\n")
        await on.until("name of the version")
        await on.type("\n")
        await on.until("rows would be left")
        await on.save("recipe")


async def versions(workspace: Workspace) -> None:
    """The versions and their ledger."""
    async with stage(workspace, demo.CURATED) as on:
        on.app.go("versions")
        await on.until(demo.RAW, demo.CURATED)
        await on.save("versions")


async def experiments(workspace: Workspace) -> None:
    """A finished comparison."""
    async with stage(workspace) as on:
        await on.until(" rows")
        on.app.go("experiments")
        await on.until("done", " vs ", "smallest found")
        await on.save("experiments")


PICTURES: dict[str, Callable[[Workspace], Coroutine[Any, Any, None]]] = {
    "start": start,
    "import": importing,
    "browse": browse,
    "tokens": tokens,
    "duplicates": duplicates,
    "recipe": recipe,
    "versions": versions,
    "experiments": experiments,
}


def made(folder: Path, given: Path | None = None) -> Workspace:
    """A workspace of the starter set, or a copy of the given one; everything in it happened on one day."""
    if given:
        shutil.copytree(given, folder, ignore=shutil.ignore_patterns("app.log"))
        workspace = Workspace.open(folder)
    else:
        workspace = Workspace.init(folder)
        demo.bring_in(workspace)
        demo.curate(workspace)
    with workspace.store.transaction(rows=True) as cursor:
        for table, columns in DATED.items():
            for column in columns:
                cursor.execute(f"UPDATE {table} SET {column} = TIMESTAMP '{DAY}'")
        cursor.execute("UPDATE steps SET seconds = 0.1")
        cursor.execute("UPDATE sources SET path = parse_filename(path)")
    return workspace


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="a workspace with a finished comparison")
    parser.add_argument("--only", nargs="+", choices=PICTURES, help="the pictures to make")
    options = parser.parse_args()
    wanted = options.only or list(PICTURES)
    with tempfile.TemporaryDirectory() as folder:
        workspace = made(Path(folder) / NAME)
        for name in wanted:
            if name != "experiments":
                asyncio.run(PICTURES[name](workspace))
        workspace.close()
    if "experiments" in wanted and not options.workspace:
        print("experiments: left as it is; --workspace DIR with a finished comparison makes it")
    elif "experiments" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            workspace = made(Path(folder) / NAME, options.workspace)
            asyncio.run(experiments(workspace))
            workspace.close()


if __name__ == "__main__":
    main()
