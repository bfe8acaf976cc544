"""The workspace's DuckDB file: opening it, upgrading it, transactions, and rows that stream in and out as Arrow."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from workbench.errors import Stopped, UsageProblem, WorkspaceUnusable
from workbench.store.faults import fault, told
from workbench.store.migrations import MIGRATIONS, SCHEMA_VERSION

_BULK = "512MB"
"""What DuckDB holds in memory while a whole source is written: enough for all but rows of tens of megabytes."""

_ASK = 0.05  # seconds between two looks at whether a query is still wanted

Connection = duckdb.DuckDBPyConnection
T = TypeVar("T")

# No query, ours or a person's, reads or writes any file but the database, and no extension is fetched.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@dataclass(frozen=True)
class VersionRow:
    """A frozen version as the table `versions` has it."""

    id: int
    name: str
    manifest_hash: str
    rows: int


class Store:
    """An open database. One process at a time holds it; within the process each thread takes its own cursor."""

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._writing_rows = threading.RLock()  # taken before the other
        self._writing = threading.RLock()
        self._using = threading.Lock()
        self._used: Counter[str] = Counter()  # how often each source or version is being read
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the database at `path`, create it if there is none, and bring an older one up to date.

        Raises WorkspaceUnusable where another process holds it, where it is newer than this release, damaged, or
        not writable.
        """
        _check_writable(path)
        if not path.exists():
            _create(path)
        connection = _connect(path)
        try:
            store = cls(connection, path)
            store._migrate()  # in one transaction: a kill or an error leaves the older database as it was
        except BaseException:
            connection.close()
            raise
        return store

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        self._connection.close()

    def cursor(self) -> Connection:
        """A connection of its own to the same database: one a thread, one a transaction."""
        return self._connection.cursor()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A cursor for one piece of work, temporary tables and all; closed when the block ends."""
        cursor = self.cursor()
        try:
            with told():
                yield cursor
        finally:
            cursor.close()

    @contextmanager
    def transaction(self, *, rows: bool = False) -> Iterator[Connection]:
        """A cursor inside a transaction: committed when the block ends, rolled back when it raises. One at a time.

        Give `rows` where it writes to the tables of `bulk` too: it then waits for an import that runs.
        """
        with self._writing_rows if rows else contextlib.nullcontext(), self._writing, self._begun() as cursor:
            yield cursor

    @contextmanager
    def bulk(self, memory: str = _BULK) -> Iterator[Connection]:
        """A transaction that writes the rows of a source, for minutes if need be, while others write other tables.

        It may write `sources`, `source_files`, `examples`, `rejects` and `fixed_rejects`. `memory` bounds what DuckDB
        holds meanwhile, so that rows go to disk as they come.
        """
        with self._writing_rows, self._begun(memory) as cursor:
            yield cursor

    def use(self, names: Sequence[str]) -> None:
        """Keep sources and versions from being deleted while their rows are read; `done_with` ends it."""
        with self._using:
            self._used.update(names)

    def done_with(self, names: Sequence[str]) -> None:
        """Let sources and versions go that `use` kept."""
        with self._using:
            self._used.subtract(names)

    def check_unused(self, name: str) -> None:
        """Raise UsageProblem where the rows of a source or version are being read."""
        if self._used[name] > 0:
            raise UsageProblem(
                f"{name!r} is being worked on: its rows are read by a recipe, a freeze or an export",
                do="Wait until that is done, or stop it first.",
            )

    @contextmanager
    def removing(self, *, rows: bool = False) -> Iterator[Connection]:
        """A `transaction` that deletes a source or version: nobody begins to read its rows meanwhile (`use` waits)."""
        writing_rows = self._writing_rows if rows else contextlib.nullcontext()
        with writing_rows, self._writing, self._using, self._begun() as cursor:
            yield cursor

    @contextmanager
    def _begun(self, memory: str | None = None) -> Iterator[Connection]:
        with self.reading() as cursor:
            cursor.begin()
            try:
                with self._bounded(memory) if memory else contextlib.nullcontext():
                    yield cursor
            except BaseException:
                with contextlib.suppress(duckdb.Error):  # after some errors DuckDB has rolled back itself
                    cursor.rollback()
                raise
            cursor.commit()  # not bounded: it needs the last 120,000 rows at once, however long they are

    @contextmanager
    def _bounded(self, memory: str) -> Iterator[None]:
        with self.reading() as cursor:  # of its own: the other's transaction may have come to grief
            cursor.execute(f"SET memory_limit = '{memory}'")
            try:
                yield
            finally:
                cursor.execute("RESET memory_limit")

    def rows(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query whose answer is short."""
        with self.reading() as cursor:
            return fetch(cursor, sql, params)

    def row(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        rows = self.rows(sql, params)
        return rows[0] if rows else None

    def table(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        """The whole answer of a query as an Arrow table."""
        with self.reading() as cursor:
            return arrow(cursor, sql, params)

    def version(self, name: str) -> VersionRow | None:
        """The version of that name, or None."""
        row = self.row("SELECT id, name, manifest_hash, rows FROM versions WHERE name = ?", [name])
        return VersionRow(*row) if row else None

    def schema_version(self) -> int:
        """Number of the last migration this database has seen; 0 for an empty file."""
        row = self.row("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'migrations'")
        if not row or row[0] == 0:
            return 0
        row = self.row("SELECT coalesce(max(number), 0) FROM migrations")
        return int(row[0]) if row else 0

    def _migrate(self) -> None:
        seen = self.schema_version()
        if seen > SCHEMA_VERSION:
            raise WorkspaceUnusable(
                f"this workspace was written by a newer release (schema {seen}; this release knows {SCHEMA_VERSION})",
                where=str(self.path.parent),
                do="Upgrade with `pip install --upgrade sft-workbench`.",
            )
        if seen == SCHEMA_VERSION:
            return
        with self.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)")
            for number, sql in enumerate(MIGRATIONS[seen:], start=seen + 1):
                cursor.execute(sql)
                cursor.execute("INSERT INTO migrations VALUES (?, ?)", [number, now()])


def interruptible(cursor: Connection, work: Callable[[], T], cancelled: Callable[[], bool] = lambda: False) -> T:
    """Run `work`, queries on `cursor` that may be long, so that ctrl-c ends it at once.

    While the main thread waits inside DuckDB no signal reaches Python, so a second thread does the waiting. Raises
    Stopped where `cancelled()`, asked meanwhile, ended it.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], _ASK).done:
                if cancelled():
                    cursor.interrupt()
            return future.result()
        except duckdb.InterruptException as error:
            raise Stopped("The query was stopped") from error
        except BaseException:  # ctrl-c, or what a signal raises in a job: leaving the pool waits for the query
            cursor.interrupt()
            raise


def fetch(cursor: Connection, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query on `cursor`."""
    with told():
        rows: list[tuple[Any, ...]] = cursor.execute(sql, list(params)).fetchall()
    return rows


def arrow(cursor: Connection, sql: str, params: Sequence[object] = ()) -> pa.Table:
    """The whole answer of a SELECT on `cursor` as an Arrow table. For short queries: ctrl-c waits for its end."""
    with told():
        return cursor.sql(sql, params=list(params)).to_arrow_table()


def insert(cursor: Connection, table: str, rows: pa.Table) -> None:
    """Append an Arrow table to the database table `table`, columns by name; those it has not are NULL.

    It is not registered under a name, as DuckDB keeps every table that was until the transaction ends.
    """
    columns = [name if name in rows.column_names else f"NULL AS {name}" for name in cursor.table(table).columns]
    cursor.from_arrow(rows).project(", ".join(columns)).insert_into(table)


def next_id(cursor: Connection, table: str) -> int:
    """The id after the highest in `table`: safe, since one process writes, one transaction at a time."""
    return int(fetch(cursor, f"SELECT coalesce(max(id), 0) + 1 FROM {table}")[0][0])


def now() -> datetime:
    """This moment in UTC, as the TIMESTAMP columns hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _connect(path: Path) -> Connection:
    try:
        return duckdb.connect(str(path), config=_SETTINGS)
    except duckdb.Error as error:
        raise fault(error, path) or _unknown(error, path) from error


def _create(path: Path) -> None:
    """Make an empty database that is there whole or not at all, whatever the disk or a kill does meanwhile."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    connection = _connect(part)
    try:
        if not path.exists():  # another process may have been quicker; now it cannot, since it would lock the part too
            part.replace(path)
    finally:
        connection.close()
        part.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    for target in (path.parent, path):
        if target.exists() and not os.access(target, os.W_OK):
            raise WorkspaceUnusable(
                "cannot be written to",
                where=str(target),
                do="Copy the workspace to a folder that is yours, or have its permissions changed.",
            )


def _unknown(error: duckdb.Error, path: Path) -> WorkspaceUnusable:
    return WorkspaceUnusable(
        f"cannot be opened: {str(error).splitlines()[0]}",
        where=str(path),
        do="Restore a copy, or move it away and import your files again.",
    )
