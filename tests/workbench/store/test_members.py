from __future__ import annotations

import json

import pytest

from trainer.conversation import canonical_json, content_hash
from workbench.errors import NotFound
from workbench.store import members
from workbench.store.database import Store
from workbench.store.integrity import check
from workbench.store.members import Members, resolve
from workbench.store.sources import SourceWriter
from workbench.store.versions import manifest_hash


def _add(store: Store, name: str, texts: list[str], **meta: str) -> None:
    with store.transaction() as cursor:
        writer = SourceWriter(cursor)
        rows = []
        for number, text in enumerate(texts):
            messages = canonical_json([{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}])
            packed = canonical_json(meta) if meta else None
            rows.append((writer.take_id(), number, content_hash(messages), messages, None, packed))
        writer.add_examples(rows)
        writer.create(name, "somewhere", "messages", name, None, {})


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "workbench.duckdb")
    _add(opened, "a", [f"a{n}" for n in range(25)], category="x")
    _add(opened, "b", [f"b{n}" for n in range(5)], task="y")
    yield opened
    opened.close()


def _version(store: Store, ids: list[int]) -> None:
    with store.transaction() as cursor:
        cursor.execute("INSERT INTO versions (id, name, manifest_hash, rows) VALUES (1, 'v', '', ?)", [len(ids)])
        cursor.executemany("INSERT INTO version_examples VALUES (1, ?, ?)", [list(pair) for pair in enumerate(ids)])


def _read(store: Store, names: list[str], column: str = "id") -> list[object]:
    chosen = Members(store, [resolve(store, name) for name in names])
    try:
        values = [value for batch in chosen.batches((column,)) for value in batch.column(0).to_pylist()]
        assert values == [value for batch in chosen.batches((column,)) for value in batch.column(0).to_pylist()]
        assert len(values) == chosen.rows
        return values
    finally:
        chosen.close()


@pytest.mark.parametrize("window", [1, 4, 25, 4096])
def test_rows_come_in_order_whatever_the_window(store, monkeypatch, window):
    monkeypatch.setattr(members, "WINDOW", window)
    shuffled = [7, 30, 3, 22, 26, 1]
    _version(store, shuffled)
    assert _read(store, ["v"]) == shuffled
    assert _read(store, ["a"]) == list(range(1, 26))
    assert _read(store, ["v", "b", "a"]) == shuffled + [27, 28, 29] + [n for n in range(1, 26) if n not in shuffled]


def test_source_and_category_go_with_each_row(store):
    assert _read(store, ["a", "b"], "source") == ["a"] * 25 + ["b"] * 5
    assert _read(store, ["a", "b"], "category") == ["x"] * 25 + ["y"] * 5


def test_an_edited_example_is_no_row_of_its_source(store):
    with store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO examples SELECT 99, source_id, row, 'h', messages, tools, meta, id FROM examples WHERE id = 3"
        )
    assert _read(store, ["a"]) == list(range(1, 26))


def test_rows_can_be_read_while_others_are_written(store, monkeypatch):
    monkeypatch.setattr(members, "WINDOW", 10)
    chosen = Members(store, [resolve(store, "a")])
    batches = chosen.batches(("messages",))
    first = next(batches)
    _add(store, "c", ["c0"])
    rest = [text for batch in batches for text in batch.column(0).to_pylist()]
    chosen.close()
    texts = [json.loads(text)[0]["content"] for text in [*first.column(0).to_pylist(), *rest]]
    assert texts == [f"a{n}" for n in range(25)]


def test_a_wrong_name_brings_near_ones_or_all_or_the_way_to_the_first(store, tmp_path):
    _add(store, "alpaca", ["x"])
    with pytest.raises(NotFound, match=r"Did you mean alpaca\?"):
        resolve(store, "alpacca")
    with pytest.raises(NotFound, match="There is: a, alpaca, b"):
        resolve(store, "zzz")
    empty = Store.open(tmp_path / "empty.duckdb")
    with pytest.raises(NotFound, match="workbench import"):
        resolve(empty, "zzz")
    empty.close()


def test_the_manifest_hash_depends_on_order_and_on_where_hashes_end():
    assert manifest_hash(["a", "b"]) != manifest_hash(["b", "a"])
    assert manifest_hash(["ab"]) != manifest_hash(["a", "b"])
    # SHA-256 of "a\nb\n": what `printf 'a\nb\n' | sha256sum` says.
    assert manifest_hash(["a", "b"]) == "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"


def _problems(store: Store) -> set[str]:
    return {found.what for found in check(store) if found.problem}


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM examples WHERE row = 3", "source a: rows are imported or rejected"),
        ("INSERT INTO examples SELECT * FROM examples WHERE id = 1", "example ids are unique"),
        ("INSERT INTO decisions VALUES (5, 1, 'r', NULL, NULL, NULL)", "decisions have a step"),
        ("INSERT INTO version_examples VALUES (9, 0, 1)", "version rows have a version"),
        ("INSERT INTO scores VALUES ('h', 's', 'f', NULL, NULL, 'ok', NULL)", "a score is a number exactly where"),
        ("INSERT INTO versions (id, name, manifest_hash, rows) VALUES (1, 'v', 'x', 1)", "version v has its hash"),
    ],
)
def test_integrity_sees_what_no_longer_adds_up(store, damage, found):
    assert _problems(store) == set()
    with store.transaction() as cursor:
        cursor.execute(damage)
    assert any(what.startswith(found) for what in _problems(store))
