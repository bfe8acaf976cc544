"""The table of small lists: sorted by value, marked by key, and harmless whatever the text in it."""

from __future__ import annotations

import csv
import json

import pytest
from rich.cells import cell_len
from textual import on
from textual.app import App

from workbench.tui.messages import Failure
from workbench.tui.theme import DARK
from workbench.tui.widgets.table import Cell, Column, Table

COLUMNS = (Column("name"), Column("rows", right=True), Column("delta", right=True))
ROWS = [
    ("a", ("bench", 1200, Cell(-0.5, "-0.50"))),
    ("b", ("Apple", 30, Cell(0.25, "+0.25"))),
    ("c", ("cedar", None, Cell(None, "—"))),
]


class TableApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.seen: list[str] = []
        self.chosen: list[str] = []
        self.failures: list[str] = []

    def hold_keys(self) -> int:
        """Nothing is typed ahead here."""
        return 0

    def release_keys(self, hold: int | None = None) -> None:
        """See `hold_keys`."""

    def on_failure(self, message: Failure) -> None:
        self.failures.append(message.text)

    def compose(self):
        yield Table(marks=True)

    @on(Table.Highlighted)  # this way handlers get subclasses of a message too
    def _seen(self, message: Table.Highlighted) -> None:
        self.seen.append(message.key)

    def on_table_chosen(self, message: Table.Chosen) -> None:
        self.chosen.append(message.key)


@pytest.fixture
async def shown():
    app = TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(Table)
        table.show(COLUMNS, ROWS)
        table.focus()
        await pilot.pause()
        yield pilot, table


def order(table: Table) -> list[str]:
    return table.keys


async def test_the_cursor_is_told_by_key_and_enter_chooses(shown):
    pilot, table = shown
    await pilot.press("j", "enter", "G")
    assert table.current == "c"
    assert pilot.app.chosen == ["b"]
    assert pilot.app.seen == ["a", "b", "c"]


async def test_columns_sort_by_value_and_nothing_comes_last(shown):
    pilot, table = shown
    await pilot.press("s")
    assert order(table) == ["b", "a", "c"], "names, whatever their case"
    await pilot.press("s")
    assert order(table) == ["a", "b", "c"], "1,200 rows before 30"
    await pilot.press("S")
    assert order(table) == ["b", "a", "c"], "turned round, but what is not known stays last"
    await pilot.press("s")
    assert order(table) == ["b", "a", "c"], "by delta, not by how it reads"
    await pilot.press("s")
    assert order(table) == ["a", "b", "c"], "as it came"


async def test_marks_keep_their_order_and_outlast_new_rows_and_sorting(shown):
    pilot, table = shown
    await pilot.press("G", "space", "g", "space", "s")
    assert table.marked == ["c", "a"]
    table.show(COLUMNS, [*ROWS[1:], ("d", ("dune", 1, None))])
    await pilot.pause()
    assert table.marked == ["c"]
    assert table.unmark()
    assert table.marked == []
    assert not table.unmark()


async def test_the_cursor_stays_on_its_row_when_rows_come_in_before_it(shown):
    pilot, table = shown
    await pilot.press("j")
    table.show(COLUMNS, [("z", ("zinc", 5, None)), *ROWS])
    await pilot.pause()
    assert table.current == "b"


async def test_hostile_text_is_glyphs_and_keeps_the_columns(shown, tui):
    pilot, table = shown
    table.show(COLUMNS, [("h", (tui.hostile, 1, tui.hostile)), *ROWS])
    await pilot.pause()
    lines = pilot.app.screen._compositor.render_strips(pilot.app.size)
    text = "".join(segment.text for line in lines for segment in line)
    assert "[/INST]" in text
    assert not set(text) & {"\x1b", "\x07", "\x00", "\u202e", "\u2066", "\u2028"}
    assert {cell_len("".join(segment.text for segment in line)) for line in lines} == {60}


async def test_it_is_written_to_a_file_in_the_order_shown(shown, tmp_path, tui):
    pilot, table = shown
    await pilot.press("s")
    for name in ("t.csv", "t.json", "t.md"):
        table.action_export_table(str(tmp_path / name))
        await tui.until(pilot, lambda name=name: (tmp_path / name).exists() and (tmp_path / name).stat().st_size > 0)
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["name", "rows", "delta"], ["Apple", "30", "0.25"], ["bench", "1200", "-0.5"], ["cedar", "", ""],
        ]  # fmt: skip
    assert json.loads((tmp_path / "t.json").read_text())[0] == {"name": "Apple", "rows": 30, "delta": 0.25}
    assert (tmp_path / "t.md").read_text().splitlines()[2] == "| Apple | 30 | 0.25 |"


async def test_an_unknown_kind_of_file_is_refused_with_a_sentence(shown, tmp_path, tui):
    pilot, table = shown
    table.action_export_table(str(tmp_path / "t.xls"))
    await tui.until(pilot, lambda: bool(pilot.app.failures))
    assert "a table is written as .csv" in pilot.app.failures[0]
    assert not (tmp_path / "t.xls").exists()


async def test_a_file_that_is_there_is_not_overwritten(shown, tmp_path, tui):
    pilot, table = shown
    (tmp_path / "t.csv").write_text("mine")
    table.action_export_table(str(tmp_path / "t.csv"))
    await tui.until(pilot, lambda: "is there already" in " ".join(pilot.app.failures))
    assert (tmp_path / "t.csv").read_text() == "mine"
