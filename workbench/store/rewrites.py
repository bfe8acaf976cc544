"""Rows that steps of a recipe rewrote: each is a new example with the old one as its parent, and a reason.

A run names a row by the id it came with. The database names it by the example that stands for it at that moment:
`Standing` translates. So a decision about a rewritten row is about the text that the step saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from filters.step import Rewrite
from workbench.store.database import Connection, Store, fetch, insert

_NEW = pa.schema(
    [
        ("n", pa.int64()),
        ("example_id", pa.int64()),
        ("messages", pa.string()),
        ("content_hash", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
_ROWS = pa.schema([("example_id", pa.int64()), ("new_id", pa.int64())])


class Standing:
    """Which example stands for which row of a run, as far as steps have rewritten rows."""

    def __init__(self, links: Iterable[tuple[int, int]]) -> None:
        """`links` are (old, new) example ids in the order of the steps."""
        self._came: dict[int, int] = {}
        self._now: dict[int, int] = {}
        for old, new in links:
            self._came[new] = self.came(old)
            self._now[self._came[new]] = new

    @classmethod
    def of(cls, cursor: Connection, run_id: int) -> Standing:
        """As a run left it."""
        return cls(fetch(cursor, f"SELECT w.example_id, w.new_id {_OF_RUN}", [run_id]))

    def now(self, id: int) -> int:
        """The example that stands for the row that came with `id`."""
        return self._now.get(id, id)

    def came(self, id: int) -> int:
        """The id with which the row came that example `id` stands for."""
        return self._came.get(id, id)

    def table(self) -> pa.Table:
        """The rewritten rows: `example_id` that they came with, `new_id` that stands for them."""
        return pa.table([list(self._now), list(self._now.values())], schema=_ROWS)


_OF_RUN = "FROM rewrites w JOIN steps s ON s.id = w.step_id WHERE s.recipe_run_id = ? ORDER BY s.position, w.new_id"


def save_rewrites(cursor: Connection, step_id: int, rewrites: Sequence[Rewrite], standing: Standing) -> None:
    """Write what a step rewrote, on a transaction that may write rows: the new examples, and why."""
    columns = zip(
        *(
            (n, standing.now(r.id), r.messages_json, r.content_hash, r.reason, r.detail)
            for n, r in enumerate(rewrites, start=1)
        ),
        strict=True,
    )
    cursor.execute(
        """CREATE OR REPLACE TEMP TABLE rewriting (n BIGINT, example_id BIGINT, messages TEXT, content_hash TEXT,
           reason TEXT, detail TEXT)"""
    )
    insert(cursor, "rewriting", pa.table([list(column) for column in columns], schema=_NEW))
    # Ids of rejects are kept free for the rows that they may become.
    [(last,)] = fetch(
        cursor, "SELECT max(id) FROM (SELECT id FROM examples UNION ALL SELECT example_id AS id FROM rejects)"
    )
    cursor.execute(
        """INSERT INTO examples (id, source_id, row, content_hash, messages, tools, meta, parent_id)
           SELECT ? + w.n, e.source_id, e.row, w.content_hash, w.messages, e.tools, e.meta, e.id
           FROM rewriting w JOIN examples e ON e.id = w.example_id ORDER BY w.n""",
        [last],
    )
    cursor.execute(
        """INSERT INTO rewrites (step_id, example_id, new_id, reason, detail)
           SELECT ?, example_id, ? + n, reason, detail FROM rewriting ORDER BY n""",
        [step_id, last],
    )
    cursor.execute("DROP TABLE rewriting")


def run_rewrites(store: Store, run_id: int) -> list[Rewrite]:
    """What the finished steps of a run rewrote, in their order, each by the id that the row came with."""
    with store.reading() as cursor:
        standing = Standing.of(cursor, run_id)
        found = fetch(
            cursor,
            f"""SELECT w.new_id, e.messages, e.content_hash, w.reason, w.detail
                FROM (SELECT s.position, w.* {_OF_RUN}) w JOIN examples e ON e.id = w.new_id
                ORDER BY w.position, w.new_id""",
            [run_id],
        )
    return [Rewrite(standing.came(new), *rest) for new, *rest in found]


def makes_rows(store: Store, run_id: int) -> bool:
    """Whether a run has rewritten rows: what deletes it then needs a transaction that may write rows."""
    return bool(store.rows(f"SELECT 1 {_OF_RUN} LIMIT 1", [run_id]))


def remove_rewrites(cursor: Connection, run_id: int) -> None:
    """Delete what a run rewrote, with the examples that it made where no version holds them."""
    if made := [new for _, new in fetch(cursor, f"SELECT w.example_id, w.new_id {_OF_RUN}", [run_id])]:
        cursor.execute(
            """DELETE FROM examples WHERE id IN (SELECT unnest(?))
               AND id NOT IN (SELECT example_id FROM version_examples)""",
            [made],
        )
        cursor.execute("DELETE FROM rewrites WHERE new_id IN (SELECT unnest(?))", [made])
