"""Counts, histograms and comparisons that nobody waits for any more end at once, amid a query."""

from __future__ import annotations

import json
import time

import pytest

from workbench.errors import Stopped
from workbench.store import detail, diff, facets
from workbench.workspace import Workspace

LONG = "SELECT range AS example_id FROM range(4000000000)"  # seconds of work, without memory
SECONDS = 0.2


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"p {n}", "completion": "c"}) + "\n" for n in range(3))
    )
    workspace = Workspace.init(tmp_path / "ws")
    workspace.import_file(tmp_path / "rows.jsonl")
    with workspace.store.transaction() as cursor:
        cursor.execute(
            """INSERT INTO scores (content_hash, scorer, fingerprint, value, state)
               SELECT content_hash, 'length', 'x', id, 'ok' FROM examples"""
        )
    yield workspace
    workspace.close()


@pytest.mark.parametrize("what", ["facets", "histogram", "diff", "history"])
def test_a_long_query_ends_when_it_is_called_off(ws, monkeypatch, what):
    def choose_long(cursor, names):
        cursor.execute(f"CREATE TEMP TABLE chosen AS {LONG} WHERE example_id < 0")

    def copies_long(cursor, hashes):
        return cursor.execute(f"{LONG} WHERE range < 0").fetchall()

    monkeypatch.setattr(facets, "_shown_sql", lambda base: LONG)
    monkeypatch.setattr(diff, "choose", choose_long)
    monkeypatch.setattr(detail, "also_in", copies_long)
    row = ws.detail("rows", 1)
    began = time.monotonic()

    def cancelled():
        return time.monotonic() > began + SECONDS

    ask = {
        "facets": lambda: ws.facets("rows", cancelled),
        "histogram": lambda: ws.histogram("rows", "length", 5, cancelled),
        "diff": lambda: ws.open_diff("rows", "rows", cancelled),
        "history": lambda: ws.history("rows", row, cancelled),
    }[what]
    with pytest.raises(Stopped):
        ask()
