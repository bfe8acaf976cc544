"""Rows under titles as files: every form whole, new, and as another program reads it."""

from __future__ import annotations

import csv
import json

import pytest

from workbench.errors import BadInput, UsageProblem
from workbench.tables import write_table

TITLES = ("name", "rows", "said")
ROWS = [("a", 3, 'x, "y"\nz'), ("b", None, "1 | 2\x1b[2J 漢"), ("c", 0.5, "\ud800")]


def test_every_form_reads_back(tmp_path):
    for ending in (".csv", ".json", ".jsonl", ".md"):
        assert write_table(tmp_path / f"t{ending}", TITLES, iter(ROWS)) == 3
    with (tmp_path / "t.csv").open(newline="") as file:
        read = list(csv.reader(file))
    assert read[:3] == [list(TITLES), ["a", "3", 'x, "y"\nz'], ["b", "", "1 | 2\x1b[2J 漢"]]
    records = [dict(zip(TITLES, row, strict=True)) for row in ROWS]
    assert json.loads((tmp_path / "t.json").read_text()) == records
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == records
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert lines[1:4] == ["| --- | --- | --- |", '| a | 3 | x, "y"⏎z |', "| b |  | 1 \\| 2␛[2J 漢 |"]


def test_no_rows_are_a_table_too(tmp_path):
    assert [write_table(tmp_path / name, TITLES, []) for name in ("t.csv", "t.json")] == [0, 0]
    assert (tmp_path / "t.csv").read_text() == "name,rows,said\n"
    assert json.loads((tmp_path / "t.json").read_text()) == []


def test_nothing_is_overwritten_and_nothing_left_half_written(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("mine")
    with pytest.raises(BadInput, match="there already"):
        write_table(path, TITLES, ROWS)
    assert path.read_text() == "mine"

    def breaking():
        yield ROWS[0]
        raise BadInput("no more")

    with pytest.raises(BadInput, match="no more"):
        write_table(tmp_path / "half.jsonl", TITLES, breaking())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["t.xls", "table"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match=r"as \.csv, \.json, \.jsonl or \.md"):
        write_table(tmp_path / name, TITLES, ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path):
    with pytest.raises(UsageProblem, match="cannot write here"):
        write_table(tmp_path / "nowhere" / "t.csv", TITLES, ROWS)
