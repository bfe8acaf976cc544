"""Sources: what was imported from where under which licence, and which of its rows others have too."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from workbench.errors import NotFound, UsageProblem
from workbench.store.database import Connection, Store, fetch, insert, next_id, now
from workbench.store.drafts import forget
from workbench.store.members import Named, find, not_found
from workbench.store.recipe_runs import discard_run

_WINDOW = 4096  # rows read at a time
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
_REJECTS = pa.schema(
    [
        ("source_id", pa.int64()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("raw", pa.string()),
        ("altered", pa.string()),
        ("example_id", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Source:
    """One import, as the table `sources` has it. `path` is its origin: a path, or `hf:` and the data set's name."""

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


@dataclass(frozen=True)
class SourceFile:
    """Rows of a source from one file: from `first_row` of the source, `file_row` of the file on, `rows` of them."""

    path: str
    file_hash: str
    file_row: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Origin:
    """A source of the rows of a version (or of itself): licence, where it was read from, rows contributed."""

    source: str
    license: str | None
    path: str
    file_hash: str
    rows: int


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
    if find(store, name):
        raise NotFound(f"{name!r} is a version, not a source", do=f"See `workbench versions show {name}`.")
    raise not_found("source", name, list(known), "`workbench import FILE` brings one in.")


def same_import(store: Store, file_hash: str, format: str, mapping: dict[str, str]) -> Source | None:
    """The source that came from the same bytes read in the same way, if there is one."""
    return next(
        (s for s in sources(store) if s.file_hash == file_hash and s.format == format and s.mapping == mapping), None
    )


def set_license(store: Store, source_id: int, license: str) -> None:
    """Record under which licence a source may be used."""
    with store.transaction(rows=True) as cursor:
        cursor.execute("UPDATE sources SET license = ? WHERE id = ?", [license, source_id])


class Counts(NamedTuple):
    """Rows imported and rejected, and the examples that the imported ones became."""

    imported: int
    rejected: int
    examples: int


class SourceWriter:
    """Writes rows of one source, new or growing, on the cursor of an open transaction, and then its totals."""

    def __init__(self, cursor: Connection, source: Source | None = None) -> None:
        self._cursor = cursor
        self.source_id = source.id if source else next_id(cursor, "sources")
        [(first,)] = fetch(
            cursor,
            """SELECT coalesce(max(id), 0) + 1
               FROM (SELECT id FROM examples UNION ALL SELECT example_id FROM rejects)""",
        )
        self.first_example = self._next_example = int(first)

    def take_id(self) -> int:
        """An id for an example, or to keep free for a reject: ids follow the order of the rows."""
        self._next_example += 1
        return self._next_example - 1

    def add_examples(self, rows: Iterable[tuple[int, int, str, str, str | None, str | None]]) -> None:
        """Append (id, row, content_hash, messages, tools, meta) tuples."""
        columns = list(zip(*rows, strict=True))
        if columns:
            ids, *rest = columns
            insert(self._cursor, "examples", pa.table([ids, [self.source_id] * len(ids), *rest], schema=_EXAMPLES))

    def add_rejects(self, rows: Iterable[tuple[int, str, str, str | None, int]]) -> None:
        """Append (row, reason, raw, altered, id kept free) tuples."""
        columns = list(zip(*rows, strict=True))
        if columns:
            insert(self._cursor, "rejects", pa.table([[self.source_id] * len(columns[0]), *columns], schema=_REJECTS))

    def add_files(self, files: Iterable[SourceFile]) -> None:
        """Write down which rows came from which file."""
        for file in files:
            self._cursor.execute(
                "INSERT INTO source_files VALUES (?, ?, ?, ?, ?, ?, ?)",
                [self.source_id, file.path, file.file_hash, file.file_row, file.first_row, file.rows, now()],
            )

    def counts(self) -> Counts:
        """How the source stands now."""
        [(imported, examples, rejected)] = fetch(
            self._cursor,
            """SELECT count(DISTINCT row), count(*), (SELECT count(*) FROM rejects WHERE source_id = ?)
               FROM examples WHERE source_id = ? AND parent_id IS NULL""",
            [self.source_id, self.source_id],
        )
        return Counts(int(imported), int(rejected), int(examples))

    def create(
        self, name: str, path: str, format: str, file_hash: str, license: str | None, mapping: dict[str, str]
    ) -> None:
        """Write a new source itself, with its totals."""
        imported, rejected, _ = self.counts()
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
                imported + rejected,
                imported,
                rejected,
                now(),
            ],
        )

    def update(
        self,
        *,
        path: str | None = None,
        format: str | None = None,
        file_hash: str | None = None,
        license: str | None = None,
    ) -> None:
        """Write the totals of a source that was there, and what else is new of it."""
        imported, rejected, _ = self.counts()
        self._cursor.execute(
            """UPDATE sources SET rows = ?, imported = ?, rejected = ?, path = coalesce(?, path),
               format = coalesce(?, format), file_hash = coalesce(?, file_hash), license = coalesce(?, license)
               WHERE id = ?""",
            [imported + rejected, imported, rejected, path, format, file_hash, license, self.source_id],
        )

    def known_elsewhere(self) -> int:
        """How many of the examples written here have content that another source had before."""
        [(count,)] = fetch(
            self._cursor,
            """SELECT count(*) FROM examples WHERE source_id = ? AND id >= ? AND content_hash IN
               (SELECT content_hash FROM examples WHERE source_id <> ?)""",
            [self.source_id, self.first_example, self.source_id],
        )
        return int(count)


StoredRow = tuple[int, str | None, str | None, str | None]
"""What a row became: (row, content_hash, meta, None) for each of its examples, (row, None, None, SHA-256 of its text in
hex) for a reject."""


def stored_rows(store: Store, source: Source) -> Generator[StoredRow]:
    """What the rows of a source became, in their order, streamed. Close it: it holds the database."""
    with store.reading() as cursor:
        reader = cursor.sql(
            """SELECT row, content_hash, meta, NULL, id FROM examples WHERE source_id = ? AND parent_id IS NULL
               UNION ALL SELECT row, NULL, NULL, sha256(raw), 0 FROM rejects WHERE source_id = ? ORDER BY row, id""",
            params=[source.id, source.id],
        ).to_arrow_reader(_WINDOW)
        for batch in reader:
            yield from zip(*(column.to_pylist() for column in batch.columns[:4]), strict=True)


def files(store: Store, source: Source) -> list[SourceFile]:
    """The files of a source, in the order of its rows."""
    rows = store.rows(
        """SELECT path, file_hash, file_row, first_row, rows FROM source_files
           WHERE source_id = ? ORDER BY first_row""",
        [source.id],
    )
    return [SourceFile(*row) for row in rows]


def origins(store: Store, named: Named) -> list[Origin]:
    """The sources of the rows of a source or version, with licence, origin and rows contributed."""
    members = (
        f"SELECT id FROM examples WHERE source_id = {named.id} AND parent_id IS NULL"
        if named.kind == "source"
        else f"SELECT example_id AS id FROM version_examples WHERE version_id = {named.id}"
    )
    rows = store.rows(
        f"""SELECT s.name, s.license, s.path, s.file_hash, count(*) FROM ({members}) m JOIN examples e ON e.id = m.id
            JOIN sources s ON s.id = e.source_id GROUP BY s.id, s.name, s.license, s.path, s.file_hash ORDER BY s.id"""
    )
    return [Origin(*row) for row in rows]


def overlaps(store: Store, source: Source) -> list[tuple[str, int]]:
    """The other sources that have content of this one: (name, how many rows of this one), oldest source first."""
    rows = store.rows(
        """WITH mine AS (SELECT content_hash FROM examples WHERE source_id = ? AND parent_id IS NULL),
           others AS (SELECT DISTINCT source_id, content_hash FROM examples
                      WHERE source_id <> ? AND parent_id IS NULL AND content_hash IN (FROM mine))
           SELECT s.name, count(*) FROM mine JOIN others o USING (content_hash) JOIN sources s ON s.id = o.source_id
           GROUP BY s.id, s.name ORDER BY s.id""",
        [source.id, source.id],
    )
    return [(str(name), int(count)) for name, count in rows]


def made_from(store: Store, source: Source) -> list[str]:
    """The versions that were made out of a source directly, or whose reasons name rows of it, oldest first."""
    rows = store.rows(
        f"SELECT name FROM versions WHERE recipe_run_id IN ({_RUNS_ON}) ORDER BY id", [source.name, source.id]
    )
    return [str(name) for (name,) in rows]


# A row may be like one of a source that the run did not read from: a step can compare with others.
_RUNS_ON = """SELECT id FROM recipe_runs WHERE json_contains(inputs, to_json(?)) UNION
    SELECT s.recipe_run_id FROM (SELECT step_id, duplicate_of FROM decisions
                                 UNION SELECT step_id, duplicate_of FROM duplicate_pairs) d
    JOIN steps s ON s.id = d.step_id JOIN examples e ON e.id = d.duplicate_of WHERE e.source_id = ?"""


def also_in(cursor: Connection, hashes: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Where each of these contents came from: content hash -> (source, row) of every row that has it."""
    found: dict[str, list[tuple[str, int]]] = {}
    for content_hash, source, row in fetch(
        cursor,
        """SELECT e.content_hash, s.name, e.row FROM examples e JOIN sources s ON s.id = e.source_id
           WHERE e.content_hash IN (SELECT unnest(?)) AND e.parent_id IS NULL ORDER BY s.id, e.row""",
        [list(dict.fromkeys(hashes))],
    ):
        found.setdefault(content_hash, []).append((source, row))
    return found


def check_removable(store: Store, name: str) -> None:
    """Raise UsageProblem where a source is worked on or a version was made out of it."""
    store.check_unused(name)
    if made := made_from(store, get_source(store, name)):
        raise UsageProblem(
            f"{', '.join(made)} came from source {name!r} and would lose rows and reasons",
            do=f"Remove first what was made out of it: workbench versions rm {made[-1]}.",
        )


def remove_source(store: Store, name: str) -> None:
    """Delete a source with its rows and rejects. Raises UsageProblem where something needs it (`check_removable`)."""
    with store.removing(rows=True) as cursor:
        source = get_source(store, name)
        check_removable(store, name)
        runs = store.rows(_RUNS_ON, [name, source.id])
        for (run_id,) in runs:  # begun and never finished: nothing to go on from without these rows
            discard_run(cursor, run_id)
        forget(cursor, Named("source", source.id, name, source.rows))
        for table in ("examples", "rejects", "fixed_rejects", "source_files"):
            cursor.execute(f"DELETE FROM {table} WHERE source_id = ?", [source.id])
        cursor.execute("DELETE FROM sources WHERE id = ?", [source.id])
