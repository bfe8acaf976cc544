"""The rows of sources and versions, in order, each once: what a run reads, a version freezes, a screen lists."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import pyarrow as pa

from workbench.errors import NotFound
from workbench.store.database import Connection, Store, arrow, fetch

WINDOW = 4096  # rows read at a time

# Columns that rows can be read with: `e` is the example, `s` its source, `m` the member.
_COLUMNS = {
    "pos": "m.pos",
    "id": "e.id",
    "content_hash": "e.content_hash",
    "messages": "e.messages",
    "tools": "e.tools",
    "meta": "e.meta",
    "source": "s.name",
    "category": "coalesce(json_extract_string(e.meta, '$.category'), json_extract_string(e.meta, '$.task'))",
}
CURATION_COLUMNS = ("id", "content_hash", "messages", "tools", "source", "category")
EXPORT_COLUMNS = ("id", "messages", "tools", "meta")


@dataclass(frozen=True)
class Base:
    """What a name in the workspace stands for."""

    kind: Literal["source", "version"]
    id: int
    name: str


@dataclass(frozen=True)
class Named(Base):
    """What a name in the workspace stands for, and how many rows it has: of a source they are counted."""

    rows: int


def find_base(store: Store, name: str) -> Base | None:
    """The source or version of that name, at once."""
    row = store.row(
        """SELECT 'source', id, name FROM sources WHERE name = ?
           UNION ALL SELECT 'version', id, name FROM versions WHERE name = ?""",
        [name, name],
    )
    return Base(*row) if row else None


def find(store: Store, name: str) -> Named | None:
    """The source or version of that name; the two share one space of names."""
    row = store.row(
        """SELECT 'source', id, name,
                  (SELECT count(*) FROM examples e WHERE e.source_id = s.id AND e.parent_id IS NULL)
           FROM sources s WHERE name = ?
           UNION ALL SELECT 'version', id, name, rows FROM versions WHERE name = ?""",
        [name, name],
    )
    return Named(*row) if row else None


def resolve(store: Store, name: str) -> Named:
    """The source or version of that name. Raises NotFound with the names that come near."""
    return find(store, name) or _missing(store, name)


def resolve_base(store: Store, name: str) -> Base:
    """As `resolve`, at once."""
    return find_base(store, name) or _missing(store, name)


def _missing(store: Store, name: str) -> NoReturn:
    known = [n for (n,) in store.rows("SELECT name FROM sources UNION ALL SELECT name FROM versions ORDER BY 1")]
    raise not_found("source or version", name, known, "`workbench import FILE` brings in a source.")


def not_found(kind: str, name: str, known: Sequence[str], first: str) -> NotFound:
    """The error for a name that is not there; `first` says how to make the first of its kind."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        do = f"Did you mean {' or '.join(near)}?"
    elif known:
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        do = f"There is: {', '.join(known[:8])}{more}."
    else:
        do = f"There is none yet: {first}"
    return NotFound(f"no {kind} named {name!r}", do=do)


def rows_sql(name: Base) -> str:
    """SQL for the rows of a source or version as it came: `pos` and `example_id`."""
    if name.kind == "version":
        return f"SELECT pos, example_id FROM version_examples WHERE version_id = {name.id}"
    # An edit makes a new example with a parent; the rows of a source are those that came from its file. A
    # corrected reject came last and stands at its row.
    return f"SELECT row AS pos, id AS example_id FROM examples WHERE source_id = {name.id} AND parent_id IS NULL"


def drafted_sql(name: Base) -> str:
    """SQL for the rows as people left them in the draft (workbench/store/drafts.py): `pos` and `example_id`.

    Edited rows stand in the place of the old ones, restored ones behind all others, in the order of their ids.
    """
    draft = f"SELECT * FROM draft_rows WHERE base_kind = '{name.kind}' AND base_id = {name.id}"
    return f"""WITH draft AS ({draft}), came AS ({rows_sql(name)}),
        every AS (FROM came UNION ALL
            SELECT (SELECT coalesce(max(pos), -1) FROM came) + row_number() OVER (ORDER BY example_id), example_id
            FROM draft WHERE field = 'restored')
        SELECT e.pos, coalesce(CAST(r.value AS BIGINT), e.example_id) AS example_id FROM every e
        LEFT JOIN draft r ON r.field = 'replaced' AND r.example_id = e.example_id
        ANTI JOIN (FROM draft WHERE field = 'dropped') d ON d.example_id = e.example_id"""


def choose(cursor: Connection, names: Sequence[Named], *, drafted: bool = False) -> int:
    """Put the rows of `names`, in that order and each once, into the temporary table `chosen` of this cursor.

    Its columns are `pos`, dense from 0, and `example_id`. With `drafted` the rows are as people left them. Returns
    how many rows there are.
    """
    rows = drafted_sql if drafted else rows_sql
    parts = [f"SELECT {number} AS part, * FROM ({rows(name)})" for number, name in enumerate(names)]
    fetch(
        cursor,
        f"""CREATE OR REPLACE TEMP TABLE chosen AS
            WITH parts AS ({" UNION ALL ".join(parts)}),
            first AS (FROM parts QUALIFY row_number() OVER (PARTITION BY example_id ORDER BY part, pos) = 1)
            SELECT row_number() OVER (ORDER BY part, pos, example_id) - 1 AS pos, example_id FROM first ORDER BY 1""",
    )
    return int(fetch(cursor, "SELECT count(*) FROM chosen")[0][0])


class Members:
    """The chosen rows, read by position in windows, any number of times, with constant memory.

    Until it is closed, nobody deletes the sources and versions that they were chosen from.
    """

    def __init__(self, store: Store, names: Sequence[Named], *, drafted: bool = False) -> None:
        self.names = tuple(names)
        self._store = store
        self._used = [named.name for named in names]
        store.use(self._used)
        self._cursor = store.cursor()
        try:
            self.rows = choose(self._cursor, names, drafted=drafted)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the list of rows."""
        self._cursor.close()
        used, self._used = self._used, []
        self._store.done_with(used)

    def chosen(self) -> pa.Table:
        """The list itself: `pos` int64, dense from 0, and `example_id` int64."""
        return arrow(self._cursor, "SELECT pos, example_id FROM chosen ORDER BY pos")

    def absent(self, ids: Sequence[int]) -> set[int]:
        """Those of `ids` that are not among the rows."""
        self._cursor.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT unnest(?) AS example_id", [list(ids)])
        return {
            int(id) for (id,) in fetch(self._cursor, "SELECT example_id FROM asked ANTI JOIN chosen USING (example_id)")
        }

    def batches(self, columns: Sequence[str] = CURATION_COLUMNS) -> Iterator[pa.RecordBatch]:
        """The rows in order, in batches of at most `WINDOW`, with the `columns` asked for.

        `id` int64; `content_hash`, `messages`, `tools`, `meta` (JSON texts), `source`, `category` strings; `pos` int64.
        """
        wanted = ", ".join(f"{_COLUMNS[column]} AS {column}" for column in columns)
        for start in range(0, self.rows, WINDOW):
            window = arrow(
                self._cursor,
                f"""WITH m AS (SELECT pos, example_id FROM chosen WHERE pos >= {start} AND pos < {start + WINDOW}),
                    ids AS (SELECT min(example_id) AS low, max(example_id) AS high FROM m)
                    SELECT {wanted} FROM m JOIN examples e ON e.id = m.example_id JOIN sources s ON s.id = e.source_id
                    WHERE e.id >= (SELECT low FROM ids) AND e.id <= (SELECT high FROM ids)
                    ORDER BY m.pos""",
            )
            yield from window.combine_chunks().to_batches()

    def content_hashes(self) -> Iterator[str]:
        """The content hash of every row, in order."""
        for batch in self.batches(("content_hash",)):
            yield from batch.column(0).to_pylist()
