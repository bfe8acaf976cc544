"""Workspaces of older releases: what is in them is in them afterwards, also when the upgrade is killed half way."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from trainer.conversation import canonical_json, content_hash
from workbench.store.database import Store
from workbench.store.integrity import check
from workbench.store.members import Members, resolve
from workbench.store.migrations import MIGRATIONS
from workbench.store.versions import manifest_hash

# SHA-256 of the changes that a release has shipped. A shipped change is never edited: workspaces made by it exist.
SHIPPED = ("e258d3b8f434df3850785e2200e859c199941054fff515d32e40cb813af81517",)

MESSAGES = [
    canonical_json(
        [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"réponse {n}\n\u2028"}]
    )
    for n in range(3)
]
TOOLS = canonical_json([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
HASHES = [content_hash(MESSAGES[0]), content_hash(MESSAGES[1], TOOLS), content_hash(MESSAGES[2])]
WHEN = "2026-01-02 03:04:05"


def old_workspace(path: Path, number: int) -> None:
    """A database as the first release with `number` changes left it, with something in every table of the first."""
    connection = duckdb.connect(str(path))
    connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)")
    for done, sql in enumerate(MIGRATIONS[:number], start=1):
        connection.execute(sql)
        connection.execute("INSERT INTO migrations VALUES (?, ?)", [done, WHEN])
        if done == 1:
            _fill(connection)
    connection.close()


def _fill(connection: duckdb.DuckDBPyConnection) -> None:
    """Rows as the release with the first change alone wrote them."""

    def add(table: str, **values: object) -> None:
        names = ", ".join(values)
        connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values())
        )

    add(
        "sources", id=1, name="s", path="/data/s.jsonl", format="messages", file_hash="ab", license="MIT", mapping="{}",
        rows=4, imported=3, rejected=1, created_at=WHEN,
    )  # fmt: skip
    add("rejects", source_id=1, row=1, reason="the row is a number, not an object", raw="7")
    for id, row in ((1, 0), (2, 2), (3, 3)):
        tools = TOOLS if id == 2 else None
        add(
            "examples", id=id, source_id=1, row=row, content_hash=HASHES[id - 1], messages=MESSAGES[id - 1],
            tools=tools, meta='{"category":"x"}',
        )  # fmt: skip
    add("scores", content_hash=HASHES[0], scorer="length", fingerprint="f", value=2.0, state="ok")
    add(
        "recipe_runs", id=1, recipe="steps: []", recipe_hash="r", input_hash="i", version_name="v", state="finished",
        rows_in=3, rows_out=2, created_at=WHEN, finished_at=WHEN, inputs='["s"]',
    )  # fmt: skip
    add("steps", id=1, recipe_run_id=1, position=0, name="length", params="{}", rows_in=3, dropped=1, finished=True)
    add("decisions", step_id=1, example_id=3, reason="short", score=2.0, duplicate_of=1, detail="2 words")
    add("duplicate_pairs", step_id=1, example_id=3, duplicate_of=1, similarity=0.9)
    add(
        "versions", id=1, name="v", recipe="steps: []", manifest_hash=manifest_hash(HASHES[:2]), rows=2,
        recipe_run_id=1, created_at=WHEN,
    )  # fmt: skip
    for pos in (0, 1):
        add("version_examples", version_id=1, pos=pos, example_id=pos + 1)
    add("eval_sets", id=1, name="e", manifest_hash=manifest_hash(HASHES[2:]), rows=1, created_at=WHEN)
    add("eval_items", eval_set_id=1, item=0, messages=MESSAGES[2], cluster="item-0")
    add("experiments", id="x1", name="v", plan='{"arms":{"baseline":"v"}}', state="done", result="{}", created_at=WHEN)
    add(
        "runs", id="x1/baseline-0", experiment_id="x1", arm="baseline", version_id=1, seed=0, state="done", summary="{}"
    )
    add("item_metrics", run_id="x1/baseline-0", eval_item=0, metric="response_nll", value=1.5, weight=3.0)
    add("generations", run_id="x1/baseline-0", eval_item=0, text="réponse", finish="stop")


def content(connection: duckdb.DuckDBPyConnection, like: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    """The rows of these tables, in the columns given."""
    return {
        table: connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY ALL").fetchall()
        for table, names in like.items()
    }


def columns(connection: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, name in connection.execute(
        """SELECT table_name, column_name FROM duckdb_columns()
           WHERE table_name <> 'migrations' AND NOT internal ORDER BY ALL"""
    ).fetchall():
        found.setdefault(table, []).append(name)
    return found


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS) + 1))
def test_a_workspace_of_every_older_release_is_upgraded_with_all_that_is_in_it(tmp_path, number):
    path = tmp_path / "workbench.duckdb"
    old_workspace(path, number)
    with duckdb.connect(str(path)) as connection:
        like = columns(connection)
        before = content(connection, like)
    filled = {table for table, rows in before.items() if rows}
    assert len(filled) >= 15
    store = Store.open(path)
    assert store.schema_version() == len(MIGRATIONS)
    assert content(store.cursor(), like) == before
    assert [found for found in check(store) if found.problem] == []
    members = Members(store, [resolve(store, "v")])
    assert list(members.content_hashes()) == HASHES[:2]
    members.close()
    store.close()


def test_what_releases_have_shipped_is_not_edited():
    shipped = [hashlib.sha256(sql.encode()).hexdigest() for sql in MIGRATIONS[: len(SHIPPED)]]
    assert shipped == list(SHIPPED)


KILLED = """
import os, signal, sys
from pathlib import Path
from workbench.store import database

def die():  # called when a change has been made and not yet been committed
    os.kill(os.getpid(), signal.SIGKILL)

database.now = die
database.MIGRATIONS = (*database.MIGRATIONS, "ALTER TABLE sources ADD COLUMN note TEXT; UPDATE examples SET meta = 'x'")
database.SCHEMA_VERSION = len(database.MIGRATIONS)
database.Store.open(Path(sys.argv[1]))
"""


def test_a_kill_in_the_middle_of_an_upgrade_leaves_the_older_workspace(tmp_path, monkeypatch):
    path = tmp_path / "workbench.duckdb"
    old_workspace(path, len(MIGRATIONS))
    with duckdb.connect(str(path)) as connection:
        like = columns(connection)
        before = content(connection, like)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with duckdb.connect(str(path)) as connection:
        assert columns(connection) == like
        assert content(connection, like) == before
        assert connection.execute("SELECT max(number) FROM migrations").fetchone() == (len(MIGRATIONS),)
    Store.open(path).close()


def test_texts_that_older_releases_cut_or_escaped_are_marked(tmp_path):
    path = tmp_path / "workbench.duckdb"
    old_workspace(path, 4)
    rows = [
        ("{broken", "not JSON: ...", None),
        ("x" * 100_000, "not JSON: ...", "cut"),
        ('{"a": "\\xff"}', "byte 8 of the line is not UTF-8", "escaped"),
        ("\\xff" * 25_000, "character 1 of the row is not UTF-8", "cut, escaped"),
    ]
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM rejects")
        for number, (raw, reason, _) in enumerate(rows):
            connection.execute("INSERT INTO rejects VALUES (1, ?, ?, ?, NULL)", [number, reason, raw])
    store = Store.open(path)
    assert store.rows("SELECT altered FROM rejects ORDER BY row") == [(altered,) for *_, altered in rows]
    store.close()
