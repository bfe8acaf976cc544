"""`workbench vacuum`: space comes back, and whatever happens meanwhile the database is the old one or the new one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import duckdb
import pytest

from workbench.workspace import DATABASE

from .conftest import assert_intact


@pytest.fixture
def loose(bench, root, write_pairs) -> Path:
    """A workspace whose database has the room of many rows that are gone."""
    assert bench("import", write_pairs(*((f"question {n}", f"answer {n}") for n in range(200)))).code == 0
    assert bench("versions", "freeze", "pairs", "--name", "v").code == 0
    with duckdb.connect(str(root / DATABASE)) as connection:
        connection.execute(
            """CREATE TABLE mine AS SELECT i, md5(i::TEXT) || md5((i + 1)::TEXT) AS text FROM range(100_000) r(i);
               CREATE VIEW seen AS SELECT count(*) AS n FROM mine; CREATE INDEX by_text ON mine (text)"""
        )
        connection.execute("CHECKPOINT; DELETE FROM mine WHERE i >= 100")
    return root


def content(root: Path) -> list[object]:
    """All rows of the tables that count here, and what a person made beside them."""
    with duckdb.connect(str(root / DATABASE)) as connection:
        tables = ("examples", "sources", "versions", "version_examples", "migrations", "mine", "seen")
        return [connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in tables]


def test_the_room_of_deleted_rows_comes_back_and_nothing_else_changes(bench, loose):
    path = loose / DATABASE
    path.chmod(0o640)
    before, size = content(loose), path.stat().st_size
    called = bench("vacuum", "--json")
    data = called.json
    assert called.code == 0
    assert (data["database"]["before"], data["database"]["after"]) == (size, path.stat().st_size)
    assert data["freed"] == size - path.stat().st_size > 5_000_000
    assert (data["cache"], data["models"]) == (None, None)
    assert content(loose) == before
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT index_name FROM duckdb_indexes()").fetchall() == [("by_text",)]
        with pytest.raises(duckdb.ConstraintException):  # keys and uniqueness came along
            connection.execute("INSERT INTO versions (id, name, manifest_hash, rows) VALUES (9, 'v', 'x', 0)")
    assert path.stat().st_mode & 0o777 == 0o640
    assert_intact(loose)
    assert sorted(os.listdir(loose)) == ["cache", "runs", DATABASE, "workbench.toml"]
    again = bench("vacuum")
    assert "nothing to gain" in again.out


def test_a_log_of_last_changes_is_part_of_what_is_kept(bench, loose):
    connection = duckdb.connect(str(loose / DATABASE))
    connection.execute("PRAGMA disable_checkpoint_on_shutdown; INSERT INTO mine VALUES (-1, 'only in the log')")
    connection.close()
    assert (loose / f"{DATABASE}.wal").exists()
    assert bench("vacuum").code == 0
    assert not (loose / f"{DATABASE}.wal").exists()
    assert content(loose)[5][0] == (-1, "only in the log")


def test_on_a_full_disk_the_old_database_stays(apart, loose):
    before = content(loose)
    called = apart("-w", loose, "vacuum", quota=1_000_000)
    assert (called.code, called.out) == (4, "")
    assert "the disk is full" in called.err
    assert len(called.err.splitlines()) == 1
    assert content(loose) == before
    assert list(loose.glob(".*")) == []


def test_a_kill_at_any_moment_leaves_a_whole_database(apart, bench, loose):
    before = content(loose)
    twin = loose.with_name("twin")
    shutil.copytree(loose, twin)
    assert apart("-w", twin, "vacuum").code == 0
    seconds, codes = apart.seconds, []
    for share in (0.3, 0.5, 0.7, 0.85):
        codes.append(apart("-w", loose, "vacuum", after=seconds * share).code)
        assert content(loose) == before
    assert -signal.SIGKILL in codes
    assert_intact(loose)
    assert bench("vacuum").code == 0
    assert list(loose.glob(".*")) == []


def test_caches_are_emptied_only_where_that_was_asked_for(bench, root, tmp_path, monkeypatch):
    shared = tmp_path / "shared-cache"
    monkeypatch.setenv("SFT_WORKBENCH_CACHE", str(shared))
    mine, models, other = root / "cache" / "embeddings" / "x", shared / "models" / "m" / "w", shared / "other"
    for path in (mine, models, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    assert bench("vacuum", "--json").json["freed"] == 0
    assert [path.exists() for path in (mine, models, other)] == [True, True, True]
    assert bench("vacuum", "--cache", "--json").json["cache"] == 1000
    assert [path.exists() for path in (mine, models, other)] == [False, True, True]
    called = bench("vacuum", "--cache", "--models", "--json").json
    assert (called["cache"], called["models"], called["freed"]) == (0, 1000, 1000)
    assert [path.exists() for path in (root / "cache", shared / "models", models, other)] == [True, True, False, True]
