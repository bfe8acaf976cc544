"""Sources: what was imported from where, its examples, and the rows that could not be used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from workbench.store.database import Connection, Store, insert, next_id, now
from workbench.store.members import not_found

_EXAMPLES = pa.schema(
    [
        ("id", pa.int64()),
        ("source_id", pa.int64()),
        ("row", pa.int64()),
        ("content_hash", pa.string()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("meta", pa.string()),
    ]
)
_REJECTS = pa.schema([("source_id", pa.int64()), ("row", pa.int64()), ("reason", pa.string()), ("raw", pa.string())])


@dataclass(frozen=True)
class Source:
    """One import, as the table `sources` has it."""

    id: int
    name: str
    path: str
    format: str
    file_hash: str
    license: str | None
    mapping: dict[str, str]
    rows: int
    imported: int
    rejected: int
    created_at: datetime


_COLUMNS = "id, name, path, format, file_hash, license, mapping, rows, imported, rejected, created_at"


def _source(row: tuple[object, ...]) -> Source:
    values = list(row)
    values[6] = json.loads(str(values[6]))
    return Source(*values)  # type: ignore[arg-type]


def sources(store: Store) -> list[Source]:
    """All sources, oldest first."""
    return [_source(row) for row in store.rows(f"SELECT {_COLUMNS} FROM sources ORDER BY id")]


def get_source(store: Store, name: str) -> Source:
    """The source of that name. Raises NotFound with the names that come near."""
    known = {source.name: source for source in sources(store)}
    if name in known:
        return known[name]
    raise not_found("source", name, list(known), "`workbench import FILE` brings one in.")


def same_import(store: Store, file_hash: str, format: str, mapping: dict[str, str]) -> Source | None:
    """The source that came from the same bytes read in the same way, if there is one."""
    return next(
        (s for s in sources(store) if s.file_hash == file_hash and s.format == format and s.mapping == mapping), None
    )


def set_license(store: Store, source_id: int, license: str) -> None:
    """Record under which licence a source may be used."""
    with store.transaction() as cursor:
        cursor.execute("UPDATE sources SET license = ? WHERE id = ?", [license, source_id])


class SourceWriter:
    """Writes one source on the cursor of an open transaction: batches of examples and rejects, then the totals."""

    def __init__(self, cursor: Connection) -> None:
        self._cursor = cursor
        self.source_id = next_id(cursor, "sources")
        self._next_example = next_id(cursor, "examples")
        self.imported = 0
        self.rejected = 0

    def add_examples(self, rows: Iterable[tuple[int, str, str, str | None, str | None]]) -> None:
        """Append (row, content_hash, messages, tools, meta) tuples; ids are dense and follow the order of the file."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        count = len(columns[0])
        ids = range(self._next_example, self._next_example + count)
        insert(self._cursor, "examples", pa.table([ids, [self.source_id] * count, *columns], schema=_EXAMPLES))
        self._next_example += count
        self.imported += count

    def add_rejects(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Append (row, reason, raw) tuples."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        count = len(columns[0])
        insert(self._cursor, "rejects", pa.table([[self.source_id] * count, *columns], schema=_REJECTS))
        self.rejected += count

    def finish(
        self, name: str, path: str, format: str, file_hash: str, license: str | None, mapping: dict[str, str]
    ) -> None:
        """Write the source itself, with its totals."""
        self._cursor.execute(
            f"INSERT INTO sources ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                self.source_id,
                name,
                path,
                format,
                file_hash,
                license,
                json.dumps(mapping, sort_keys=True, ensure_ascii=False),
                self.imported + self.rejected,
                self.imported,
                self.rejected,
                now(),
            ],
        )


def duplicates_of_known(store: Store, source_id: int) -> int:
    """How many rows of a source have content that an earlier source already had."""
    row = store.row(
        """SELECT count(*) FROM examples WHERE source_id = ? AND content_hash IN
           (SELECT content_hash FROM examples WHERE source_id < ?)""",
        [source_id, source_id],
    )
    return int(row[0]) if row else 0


def reject_reasons(store: Store, source_id: int, limit: int) -> list[tuple[str, int, int]]:
    """The most frequent reasons for rejects: (reason, how many, the first row that has it)."""
    found = store.rows(
        """SELECT reason, count(*), min(row) FROM rejects WHERE source_id = ?
           GROUP BY reason ORDER BY count(*) DESC, min(row) LIMIT ?""",
        [source_id, limit],
    )
    return [(str(reason), int(count), int(first)) for reason, count, first in found]
