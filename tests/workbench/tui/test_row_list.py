"""The row list: windows fetched behind its back, marks that outlast them, and text that keeps its columns."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App

from workbench.store.previews import RowPreview
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.messages import Failure
from workbench.tui.theme import DARK
from workbench.tui.widgets import row_list
from workbench.tui.widgets.row_cells import Columns, short_count
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.row_windows import WINDOW

ROWS = 1_000_000


def preview(pos: int, prompt: str | None = None) -> RowPreview:
    return RowPreview(pos, pos + 7, prompt or f"prompt {pos}", f"answer {pos}", 2, 1234, "kept", None, None, None)


class Fetcher:
    """Hands out rows and remembers what was asked for; `gate` holds it up."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def __call__(self, start: int, count: int) -> list[RowPreview]:
        self.asked.append(start // WINDOW)
        self.gate.wait(60)
        if self.broken:
            raise ValueError("no such window")
        return [preview(pos) for pos in range(start, min(start + count, ROWS))]


class ListApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.failures: list[str] = []
        self.seen: list[int] = []

    def compose(self):
        yield RowList()

    def hold_keys(self) -> int:
        """The app of the workbench keeps keys back while rows are looked up; see test_browse.py."""
        return 0

    def release_keys(self, hold: int) -> None:
        """And lets them go."""

    def on_failure(self, message: Failure) -> None:
        self.failures.append(message.text)

    def on_row_list_highlighted(self, message: RowList.Highlighted) -> None:
        self.seen.append(message.pos)


@pytest.fixture
async def listed(tui):
    """(pilot, list, fetcher) of a million rows."""
    app = ListApp()
    async with app.run_test(size=(100, 30)) as pilot:
        rows, fetcher = app.query_one(RowList), Fetcher()
        rows.set_source(ROWS, fetcher)
        rows.focus()
        await tui.until(pilot, lambda: rows.current is not None)
        yield pilot, rows, fetcher


async def test_only_the_windows_in_sight_and_those_beside_them_are_fetched(tui, listed):
    pilot, rows, fetcher = listed
    await tui.until(pilot, lambda: 1 in fetcher.asked)
    await pilot.press("G")
    last = (ROWS - 1) // WINDOW
    await tui.until(pilot, lambda: last - 1 in fetcher.asked)
    await pilot.pause(0.1)
    assert rows.cursor == ROWS - 1
    assert set(fetcher.asked) == {0, 1, last, last - 1}
    assert "1,000,000" in tui.screen_text(pilot.app)
    rows.move_to(WINDOW)  # it is known by now, and what comes behind it will be
    await tui.until(pilot, lambda: 2 in fetcher.asked)


async def test_keys_move_while_rows_are_still_awaited(tui, listed):
    pilot, rows, fetcher = listed
    fetcher.gate.clear()
    await pilot.press("G", "k", "k", "pageup")
    assert rows.cursor == ROWS - 3 - 29
    assert rows.current is None
    assert f"{rows.cursor + 1:,}" in tui.screen_text(pilot.app), "a row that is not there yet is told by its number"
    fetcher.gate.set()
    await tui.until(pilot, lambda: rows.current is not None)
    assert pilot.app.seen[-1] == rows.cursor


async def test_a_jump_is_painted_once_with_its_rows_or_without_them_where_they_take_long(tui, listed, monkeypatch):
    pilot, rows, fetcher = listed
    painted = []
    paint = rows.render_line

    def render_line(y):
        painted.append((rows.scroll_offset.y + y, rows.row(rows.scroll_offset.y + y) is not None))
        return paint(y)

    monkeypatch.setattr(rows, "render_line", render_line)
    monkeypatch.setattr(row_list, "_PATIENCE", 5.0)
    rows.move_to(500_000)
    await tui.until(pilot, lambda: painted[-1:] == [(500_000, True)])
    assert all(known for _, known in painted)
    assert [pos for pos, _ in painted].count(500_000) == 1
    fetcher.gate.clear()
    monkeypatch.setattr(row_list, "_PATIENCE", 0.01)
    await pilot.press("g", "G")
    await tui.until(pilot, lambda: (ROWS - 1, False) in painted)
    fetcher.gate.set()
    await tui.until(pilot, lambda: (ROWS - 1, True) in painted)


async def test_windows_that_were_passed_by_are_not_waited_for(tui, listed):
    pilot, rows, fetcher = listed
    fetcher.gate.clear()
    for pos in range(0, ROWS, ROWS // 50):
        rows.move_to(pos)
        await asyncio.sleep(0)
    fetcher.gate.set()
    await tui.until(pilot, lambda: rows.current is not None)
    assert len(fetcher.asked) < 12


async def test_rows_of_an_older_source_never_show_up_in_a_newer_one(tui, listed):
    pilot, rows, fetcher = listed
    await tui.until(pilot, lambda: rows.row(WINDOW) is not None)  # else this one is waited for behind the gate
    fetcher.gate.clear()
    rows.move_to(500_000)
    await tui.until(pilot, lambda: 500_000 // WINDOW in fetcher.asked)
    rows.set_source(3, lambda start, count: [preview(pos, "newer") for pos in range(3)])
    fetcher.gate.set()
    await tui.until(pilot, lambda: rows.current is not None)
    await pilot.pause(0.1)
    assert [rows.row(pos).prompt for pos in range(3)] == ["newer"] * 3
    assert rows.row(500_000) is None


async def test_a_window_that_could_not_be_had_is_asked_for_again(tui, listed):
    pilot, rows, fetcher = listed
    fetcher.broken = True
    await pilot.press("G")
    await tui.until(pilot, lambda: bool(pilot.app.failures))
    assert pilot.app.failures[0] == "ValueError: no such window"
    fetcher.broken = False
    await pilot.press("k")
    await tui.until(pilot, lambda: rows.current is not None)


async def test_few_windows_are_held(tui, listed):
    pilot, rows, _ = listed
    for number in range(40):
        rows.move_to(number * WINDOW)
        await tui.until(pilot, lambda: rows.current is not None)
    assert len(rows._windows._held) <= 24


async def test_marks_are_ids_of_rows_ranges_and_everything(tui, listed):
    pilot, rows, _ = listed
    await pilot.press("space", "j", "space")
    assert rows.marks == {7, 9}
    assert rows.cursor == 3
    await pilot.press("v", "j", "j", "v")
    await tui.until(pilot, lambda: len(rows.marks) == 5)
    assert rows.marks == {7, 9, 10, 11, 12}
    await pilot.press("escape")
    rows.clear_marks()
    assert rows.chosen_ids() == [rows.current.id], "without marks it is the row under the cursor"
    rows.set_source(50, Fetcher(), lambda start, stop: list(range(start + 7, stop + 7)))
    await pilot.press("a")
    await tui.until(pilot, lambda: len(rows.marks) == 50)
    await pilot.press("a")
    await tui.until(pilot, lambda: rows.marks == set())
    rows.marks = set(range(1000, 1060))  # of rows that are not listed now
    await pilot.press("a")
    await tui.until(pilot, lambda: len(rows.marks) == 110)
    await pilot.press("a")
    await tui.until(pilot, lambda: rows.marks == set(range(1000, 1060)))


async def test_an_empty_list_takes_every_key(tui, listed):
    pilot, rows, _ = listed
    rows.set_source(0, lambda start, count: [])
    await pilot.press("j", "G", "g", "space", "v", "v", "a", "pagedown", "pageup")
    assert (rows.cursor, rows.marks) == (0, set())


async def test_clicks_move_and_open(tui, listed):
    pilot, rows, _ = listed
    await pilot.click(RowList, offset=(20, 4))
    assert rows.cursor == 4


async def test_hostile_text_keeps_columns_and_reaches_the_terminal_as_glyphs(tui, listed):
    pilot, rows, _ = listed
    rows.set_source(2, lambda start, count: [preview(0, tui.hostile), preview(1, "漢" * 300)])
    await tui.until(pilot, lambda: rows.current is not None)
    await pilot.pause()
    lines = tui.screen_text(pilot.app).splitlines()
    assert all(cell_len(line) == 100 for line in lines[:3])
    answers = [line[: line.index("answer")] for line in lines[:2]]
    assert len({cell_len(before) for before in answers}) == 1, "the second column begins where it begins"
    assert "[/INST] [bold]x[/]" in lines[0]
    assert not set("\x1b\x00\x07\u202e\u2066\u200d") & set("".join(lines))


@given(st.text(max_size=60), st.integers(1, 40))
def test_any_text_fits_its_cells(text, width):
    line = fit(flat(text), width)
    assert cell_len(line) == width
    assert not any(ord(char) < 32 or char == "\x7f" for char in line)


@given(st.text(max_size=80), st.integers(2, 20))
def test_wrapped_text_loses_nothing_but_spaces_at_line_ends(text, width):
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(flat(part) for part in text.split("\n")).replace(" ", "")


def test_a_megabyte_on_one_line_is_wrapped_at_once():
    started = time.process_time()
    assert len(wrap("漢字 " * 350_000, 80)) > 10_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (123_456, "123k"), (1_500_000, "1.5M"), (10**12, "1000G")],
)
def test_counts_take_five_cells(count, text):
    assert short_count(count) == text


@pytest.mark.parametrize("width", [58, 79, 120, 200])
def test_columns_fill_the_width(width):
    heading = Columns.of(width, ROWS).heading()
    assert cell_len(heading) == width, heading
