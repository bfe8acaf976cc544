from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pytest

from workbench.errors import WorkspaceUnusable
from workbench.store import database
from workbench.store.database import Store, fetch, insert, interruptible, next_id
from workbench.store.migrations import MIGRATIONS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "workbench.duckdb"


def _columns(store: Store, table: str) -> list[str]:
    return [
        name
        for (name,) in store.rows(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
        )
    ]


def test_the_public_tables_have_their_columns_in_order(path):
    public = {
        "sources": "id name path format file_hash license mapping rows imported rejected created_at",
        "rejects": "source_id row reason raw",
        "examples": "id source_id row content_hash messages tools meta parent_id",
        "scores": "content_hash scorer fingerprint value label state detail",
        "recipe_runs": "id recipe recipe_hash input_hash version_name state rows_in rows_out created_at finished_at",
        "steps": "id recipe_run_id position name params rows_in dropped seconds finished",
        "decisions": "step_id example_id reason score duplicate_of",
        "duplicate_pairs": "step_id example_id duplicate_of similarity",
        "versions": "id name parent_id recipe manifest_hash rows recipe_run_id created_at",
        "version_examples": "version_id pos example_id",
        "eval_sets": "id name manifest_hash rows created_at",
        "eval_items": "eval_set_id item messages tools cluster slice instructions",
        "experiments": "id name plan state result created_at finished_at",
        "runs": "id experiment_id arm version_id seed settings_hash state summary",
        "item_metrics": "run_id eval_item metric value weight",
        "generations": "run_id eval_item text finish",
    }
    store = Store.open(path)
    for table, columns in public.items():
        wanted = columns.split()
        assert _columns(store, table)[: len(wanted)] == wanted, table
    store.close()


def test_an_older_database_is_brought_up_to_date_once(path, monkeypatch):
    Store.open(path).close()
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "ALTER TABLE sources ADD COLUMN note TEXT"))
    monkeypatch.setattr(database, "SCHEMA_VERSION", len(MIGRATIONS) + 1)
    for _ in range(2):
        store = Store.open(path)
        assert _columns(store, "sources")[-1] == "note"
        assert store.schema_version() == len(MIGRATIONS) + 1
        store.close()


def test_a_change_that_fails_leaves_the_database_as_it_was(path, monkeypatch):
    Store.open(path).close()
    broken = "ALTER TABLE sources ADD COLUMN note TEXT; ALTER TABLE no_such_table ADD COLUMN x TEXT"
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", (*MIGRATIONS, broken))
        patched.setattr(database, "SCHEMA_VERSION", len(MIGRATIONS) + 1)
        with pytest.raises(duckdb.CatalogException):
            Store.open(path)
    store = Store.open(path)
    assert "note" not in _columns(store, "sources")
    store.close()


def test_a_newer_database_is_refused_with_both_numbers(path):
    store = Store.open(path)
    with store.transaction() as cursor:
        cursor.execute("INSERT INTO migrations VALUES (99, NULL)")
    store.close()
    with pytest.raises(WorkspaceUnusable, match=rf"schema 99; this release knows {len(MIGRATIONS)}"):
        Store.open(path)


def test_an_error_takes_back_the_whole_transaction(path):
    store = Store.open(path)
    rows = pa.table({"source_id": [1], "row": [0], "reason": ["r"], "raw": ["x"]})

    def stopped():
        with store.transaction() as cursor:
            insert(cursor, "rejects", rows)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert store.rows("SELECT count(*) FROM rejects") == [(0,)]
    with store.transaction() as cursor:
        insert(cursor, "rejects", rows)
    assert store.rows("SELECT count(*) FROM rejects") == [(1,)]
    store.close()


def test_rows_are_matched_to_columns_by_name_and_nulls_stay(path):
    store = Store.open(path)
    with store.transaction() as cursor:
        insert(
            cursor,
            "rejects",
            pa.table({"raw": pa.array([None], pa.string()), "reason": ["r"], "row": [7], "source_id": [1]}),
        )
        assert next_id(cursor, "sources") == 1
    assert store.rows("SELECT source_id, row, reason, raw FROM rejects") == [(1, 7, "r", None)]
    store.close()


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM read_text('/etc/hostname')", "COPY rejects TO 'out.csv'", "ATTACH 'x.db'"]
)
def test_no_query_touches_another_file(path, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    store = Store.open(path)
    with pytest.raises(duckdb.PermissionException):
        store.rows(sql)
    store.close()


def test_no_query_reads_python_variables(path):
    store = Store.open(path)
    secret = pa.table({"x": [1]})
    with pytest.raises(duckdb.CatalogException):
        store.cursor().execute("SELECT * FROM secret")
    assert secret.num_rows == 1
    store.close()


@pytest.fixture
def ctrl_c():
    """ctrl_c(): ctrl-c in a moment, as the terminal sends it."""
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    yield timer.start
    timer.join()


def test_ctrl_c_during_a_query_comes_out_as_ctrl_c(path, ctrl_c):
    store = Store.open(path)
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        store.rows("SELECT count(*) FROM range(300_000_000) r(i) WHERE i % 7 = 3")
    assert store.rows("SELECT 1") == [(1,)]
    store.close()


def test_ctrl_c_ends_a_long_query_at_once(path, ctrl_c):
    store = Store.open(path)
    endless = "SELECT count(*) FROM range(300_000_000_000) r(i) WHERE i % 7 = 3"
    cursor = store.cursor()
    started = time.monotonic()
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        interruptible(cursor, lambda: cursor.execute(endless).fetchall())
    assert time.monotonic() - started < 10
    assert store.rows("SELECT 1") == [(1,)]
    store.close()


def test_threads_read_at_once_without_mixing_their_answers(path):
    store = Store.open(path)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: store.rows("SELECT ? + count(*) FROM range(1000)", [n]), range(40)))
    assert answers == [[(n + 1000,)] for n in range(40)]
    store.close()


def test_memory_stays_bounded_while_many_rows_are_written(path):
    schema = pa.schema([("source_id", pa.int64()), ("row", pa.int64()), ("reason", pa.string()), ("raw", pa.string())])
    store = Store.open(path)
    before = pa.total_allocated_bytes()
    free = store.row("SELECT current_setting('memory_limit')")
    with store.bulk("64MB") as cursor:
        for batch in range(100):
            rows = [[1] * 1500, range(batch * 1500, batch * 1500 + 1500), ["r"] * 1500, [f"{batch} " * 300] * 1500]
            insert(cursor, "rejects", pa.table(rows, schema=schema))
        assert pa.total_allocated_bytes() - before < 10_000_000, "DuckDB keeps no Arrow table that was inserted"
        [(used,)] = fetch(cursor, "SELECT sum(memory_usage_bytes) FROM duckdb_memory()")
        assert used < 70_000_000
    assert store.row("SELECT count(*), max(row) FROM rejects") == (150_000, 149_999)
    assert store.row("SELECT current_setting('memory_limit')") == free
    store.close()


def test_while_rows_come_in_others_read_and_write_and_only_writers_of_rows_wait(path):
    store = Store.open(path)
    edited = threading.Event()

    def edit() -> None:
        with store.transaction(rows=True) as cursor:
            cursor.execute("INSERT INTO examples (id, source_id, row, content_hash, messages) VALUES (1, 1, 0, '', '')")
        edited.set()

    with ThreadPoolExecutor(2) as pool, store.bulk() as rows:
        rows.execute("INSERT INTO sources (id, name) VALUES (1, 'rows')")
        pool.submit(edit)

        def beside() -> tuple[object, ...]:
            with store.transaction() as cursor:
                cursor.execute("INSERT INTO eval_sets VALUES (1, 'e', 'h', 0, now()::TIMESTAMP)")
            return store.row("SELECT count(*), (SELECT count(*) FROM sources) FROM eval_sets")

        assert pool.submit(beside).result(20) == (1, 0)
        assert not edited.wait(0.2)
    assert edited.is_set()
    store.close()
