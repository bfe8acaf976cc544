"""Rejects: the rows of a source that could not be used, why, and the way of a corrected one into the source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from workbench.store.database import Connection, Store, fetch, now
from workbench.store.sources import Source


@dataclass(frozen=True)
class RejectRow:
    """One row of a file that could not be imported. `raw` is its text, at most 100,000 characters."""

    row: int
    reason: str
    raw: str


def rejects(store: Store, source: Source, limit: int, offset: int) -> tuple[int, list[RejectRow]]:
    """How many rows of a source were rejected, and some of them with their reasons, in file order."""
    total = int(store.rows("SELECT count(*) FROM rejects WHERE source_id = ?", [source.id])[0][0])
    rows = store.rows(
        "SELECT row, reason, raw FROM rejects WHERE source_id = ? ORDER BY row LIMIT ? OFFSET ?",
        [source.id, limit, offset],
    )
    return total, [RejectRow(*row) for row in rows]


def every_reject(store: Store, source: Source) -> Generator[RejectRow]:
    """All rejects of a source in file order, streamed. Close it: it holds the database."""
    with store.reading() as cursor:
        reader = cursor.sql(
            "SELECT row, reason, raw FROM rejects WHERE source_id = ? ORDER BY row", params=[source.id]
        ).to_arrow_reader(1024)
        for batch in reader:
            for row, reason, raw in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield RejectRow(row, reason, raw)


def reject_reasons(cursor: Connection, source_id: int, limit: int | None = None) -> list[tuple[str, int, int]]:
    """The reasons for rejects, the most frequent first: (reason, how many, the first row that has it)."""
    found = fetch(
        cursor,
        """SELECT reason, count(*), min(row) FROM rejects WHERE source_id = ?
           GROUP BY reason ORDER BY count(*) DESC, min(row) LIMIT ?""",
        [source_id, limit],
    )
    return [(str(reason), int(count), int(first)) for reason, count, first in found]


def rejected_rows(store: Store, source: Source) -> dict[int, int | None]:
    """The rejected rows of a source, each with the example id that was kept free for it, if it still is."""
    table = store.table(
        """SELECT r.row, r.example_id FROM rejects r WHERE r.source_id = ?
           AND (r.example_id IS NULL OR r.example_id NOT IN (SELECT id FROM examples))
           UNION ALL SELECT r.row, NULL FROM rejects r JOIN examples e ON e.id = r.example_id WHERE r.source_id = ?""",
        [source.id, source.id],
    )
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def fixed_rows(store: Store, source: Source) -> set[int]:
    """The numbers of the rows that were rejects of this source and were corrected."""
    table = store.table("SELECT row FROM fixed_rejects WHERE source_id = ?", [source.id])
    return set(table.column(0).to_pylist())


def mark_fixed(cursor: Connection, source_id: int, rows: Sequence[int]) -> None:
    """Take rows off the rejects, on a transaction's cursor; their reason and text as they were stay on record."""
    cursor.register("fixed_now", pa.table({"row": pa.array(rows, pa.int64())}))
    try:
        cursor.execute(
            """INSERT INTO fixed_rejects SELECT source_id, row, reason, raw, ? FROM rejects
               WHERE source_id = ? AND row IN (SELECT row FROM fixed_now)""",
            [now(), source_id],
        )
        cursor.execute(
            "DELETE FROM rejects WHERE source_id = ? AND row IN (SELECT row FROM fixed_now)",
            [source_id],
        )
    finally:
        cursor.unregister("fixed_now")


def replace_rejects(cursor: Connection, source_id: int, rows: Sequence[tuple[int, str, str]]) -> None:
    """Give rejects another (row, reason, raw), on a transaction's cursor."""
    for row, reason, raw in rows:
        cursor.execute(
            "UPDATE rejects SET reason = ?, raw = ? WHERE source_id = ? AND row = ?", [reason, raw, source_id, row]
        )
