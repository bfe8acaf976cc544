from __future__ import annotations

import duckdb
import pytest

from workbench.store.compact import _contents


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE new.t SET text = 'B' WHERE i = 1",
        "UPDATE new.t SET text = NULL WHERE i = 1",
        "DELETE FROM new.t WHERE i = 1",
        "INSERT INTO new.t VALUES (1, 'b')",
        "ALTER TABLE new.t ADD COLUMN more TEXT",
        "DROP VIEW new.v",
        "CREATE INDEX by_i ON new.t (i)",
        "CREATE TABLE new.other (i INTEGER)",
    ],
)
def test_a_copy_that_differs_in_anything_is_told_from_its_original(change):
    connection = duckdb.connect(":memory:")
    for name in ("old", "new"):
        connection.execute(
            f"""ATTACH ':memory:' AS {name}; CREATE TABLE {name}.t AS SELECT i, 'b' AS text FROM range(3) r(i);
                CREATE VIEW {name}.v AS SELECT 1"""
        )
    assert _contents(connection, "old") == _contents(connection, "new")
    connection.execute(change)
    assert _contents(connection, "old") != _contents(connection, "new")
    connection.close()
