"""Rejects: the rows of a source that could not be used, why, and the way of a corrected one into the source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from workbench.store.database import Connection, Store, fetch, now
from workbench.store.sources import Source

_WINDOW, _WINDOW_CHARS = 1024, 1 << 24  # rejects read at a time, unless they are long


@dataclass(frozen=True)
class RejectRow:
    """One row of a source that could not be imported. `raw` is its text; `altered` (formats.rows.Altered) says how it
    is not as the file has it, None where it is.

    `file` and `file_row` are where it stands; None where the source is one file, whose rows are those of the source.
    """

    row: int
    reason: str
    raw: str
    altered: str | None
    file: str | None
    file_row: int | None


_WHOLE = (1 << 31) - 1  # characters: more than any text has


def rejects(
    store: Store, source: Source, limit: int, offset: int, chars: int | None = None
) -> tuple[int, list[RejectRow]]:
    """How many rows of a source were rejected, and some of them with their reasons, in file order.

    Of their texts, which may be of many megabytes each, the first `chars` characters; None for all.
    """
    total = int(store.rows("SELECT count(*) FROM rejects WHERE source_id = ?", [source.id])[0][0])
    with store.reading() as cursor:
        numbers = fetch(
            cursor,
            "SELECT row FROM rejects WHERE source_id = ? ORDER BY row LIMIT ? OFFSET ?",
            [source.id, limit, offset],
        )
        return total, _between(cursor, source, numbers[0][0], numbers[-1][0], chars) if numbers else []


def every_reject(store: Store, source: Source) -> Generator[RejectRow]:
    """All rejects of a source in file order, read some at a time. Close it: it holds the database."""
    with store.reading() as cursor:
        sizes = fetch(
            cursor, "SELECT row, coalesce(length(raw), 0) FROM rejects WHERE source_id = ? ORDER BY row", [source.id]
        )
        first, count, chars = None, 0, 0
        for at, (row, length) in enumerate(sizes):
            first = row if first is None else first
            count, chars = count + 1, chars + length
            if count == _WINDOW or chars >= _WINDOW_CHARS or at + 1 == len(sizes):
                yield from _between(cursor, source, first, row)
                first, count, chars = None, 0, 0


def _between(cursor: Connection, source: Source, first: int, last: int, chars: int | None = None) -> list[RejectRow]:
    """The rejects from row `first` to row `last`, with where they stand."""
    found = fetch(
        cursor,
        """SELECT r.row, r.reason, left(r.raw, ?), r.altered, f.path, f.file_row + r.row - f.first_row
           FROM (FROM rejects WHERE source_id = ? AND row BETWEEN ? AND ?) r
           ASOF LEFT JOIN (FROM source_files WHERE source_id = ?) f ON r.row >= f.first_row ORDER BY r.row""",
        [_WHOLE if chars is None else chars, source.id, first, last, source.id],
    )
    return [RejectRow(*row, *((None, None) if file == source.path else (file, at))) for *row, file, at in found]


def reject_reasons(cursor: Connection, source_id: int, limit: int | None = None) -> list[tuple[str, int, int]]:
    """The reasons for rejects, the most frequent first: (reason, how many, the first row that has it).

    Reasons that differ by numbers alone (`at character 92`) are one, with `…` in their place.
    """
    found = fetch(
        cursor,
        r"""WITH told AS (SELECT reason, row, regexp_replace(reason, '([ [])[0-9]+', '\1…', 'g') AS alike
                         FROM rejects WHERE source_id = ?)
           SELECT if(count(DISTINCT reason) = 1, any_value(reason), alike), count(*), min(row) FROM told
           GROUP BY alike ORDER BY count(*) DESC, min(row) LIMIT ?""",
        [source_id, limit],
    )
    return [(str(reason), int(count), int(first)) for reason, count, first in found]


def mostly_rejected(cursor: Connection, source_id: int) -> list[tuple[str, int, int]]:
    """The files of a source of which more than half was rejected: (path, rows, rejected), in the order of its rows."""
    found = fetch(
        cursor,
        """WITH files AS (FROM source_files WHERE source_id = ?),
           bad AS (SELECT f.path, count(*) AS rejected FROM (FROM rejects WHERE source_id = ?) r
                   ASOF JOIN files f ON r.row >= f.first_row GROUP BY f.path)
           SELECT path, sum(rows), any_value(rejected) FROM files JOIN bad USING (path)
           GROUP BY path HAVING any_value(rejected) > sum(rows) / 2 ORDER BY min(first_row)""",
        [source_id, source_id],
    )
    return [(str(path), int(rows), int(rejected)) for path, rows, rejected in found]


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
            """INSERT INTO fixed_rejects SELECT source_id, row, reason, raw, ?, altered FROM rejects
               WHERE source_id = ? AND row IN (SELECT row FROM fixed_now)""",
            [now(), source_id],
        )
        cursor.execute(
            "DELETE FROM rejects WHERE source_id = ? AND row IN (SELECT row FROM fixed_now)",
            [source_id],
        )
    finally:
        cursor.unregister("fixed_now")


def replace_rejects(cursor: Connection, source_id: int, rows: Sequence[tuple[int, str, str, str | None]]) -> None:
    """Give rejects another (row, reason, raw, altered), on a transaction's cursor."""
    for row, reason, raw, altered in rows:
        cursor.execute(
            "UPDATE rejects SET reason = ?, raw = ?, altered = ? WHERE source_id = ? AND row = ?",
            [reason, raw, altered, source_id, row],
        )
