"""What stands where: whole screens as text, compared with the files in `layouts`.

After a change that is meant, `WRITE_LAYOUTS=1 python -m pytest tests/workbench/tui/test_layouts.py` writes them again;
read what `git diff` says of it. Colours are not in them, so that they can be read.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LAYOUTS = Path(__file__).with_name("layouts")
DAY = "TIMESTAMP '2026-01-05 09:00:00'"


@pytest.fixture
def undated(workspace):
    """The workspace without what differs from run to run: times and the folder that it was imported from."""
    with workspace.store.transaction(rows=True) as cursor:
        for table in ("sources", "versions", "recipe_runs"):
            cursor.execute(f"UPDATE {table} SET created_at = {DAY}")
        cursor.execute("UPDATE sources SET path = parse_filename(path)")
    return workspace


async def compare(tui, pilot, name: str) -> None:
    """The screen becomes what the file says, and stays so."""
    path = LAYOUTS / f"{name}.txt"
    if os.environ.get("WRITE_LAYOUTS"):
        await pilot.pause(2.0)
        path.write_text(shown(tui, pilot), encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    for _ in range(100):
        if shown(tui, pilot) == expected:
            break
        await pilot.pause(0.05)
    assert shown(tui, pilot) == expected


def shown(tui, pilot) -> str:
    """The screen without the blanks at the ends of its lines."""
    return "".join(f"{line.rstrip()}\n" for line in tui.screen_text(pilot.app).splitlines())


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48)])
async def test_browse(tui, undated, size):
    async with tui.running(undated, size=size) as pilot:
        await compare(tui, pilot, f"browse-{size[0]}x{size[1]}")


async def test_versions(tui, undated):
    async with tui.running(undated, size=(100, 30)) as pilot:
        await pilot.press("V")
        await compare(tui, pilot, "versions-100x30")


async def test_start(tui):
    async with tui.running(None, folder=Path("~") / "my-data", size=(80, 24)) as pilot:
        await compare(tui, pilot, "start-80x24")
