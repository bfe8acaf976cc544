"""The workspace's DuckDB file: opening it, upgrading it, transactions, and rows that stream in and out as Arrow."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from workbench.errors import WorkspaceUnusable
from workbench.store.migrations import MIGRATIONS, SCHEMA_VERSION

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
        self._writing = threading.RLock()
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the database at `path`, create it if there is none, and bring an older one up to date.

        Raises WorkspaceUnusable where another process holds it, where it is newer than this release, damaged, or
        not writable.
        """
        _check_writable(path)
        try:
            connection = duckdb.connect(str(path), config=_SETTINGS)
        except duckdb.Error as error:
            raise _unusable(error, path) from error
        try:
            store = cls(connection, path)
            store._migrate()
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
            with stoppable():
                yield cursor
        finally:
            cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A cursor inside a transaction: committed when the block ends, rolled back when it raises."""
        with self._writing, self.reading() as cursor:
            cursor.begin()
            try:
                yield cursor
            except BaseException:
                cursor.rollback()
                raise
            cursor.commit()

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


@contextmanager
def stoppable() -> Iterator[None]:
    """Let ctrl-c during a query be a KeyboardInterrupt: DuckDB raises a RuntimeError, at the latest at its end."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def interruptible(cursor: Connection, work: Callable[[], T]) -> T:
    """Run `work`, a query on `cursor` that may be long, so that ctrl-c ends it at once.

    While the main thread waits inside DuckDB no signal reaches Python, so a second thread does the waiting.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            cursor.interrupt()
            raise


def fetch(cursor: Connection, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query on `cursor`."""
    with stoppable():
        rows: list[tuple[Any, ...]] = cursor.execute(sql, list(params)).fetchall()
    return rows


def arrow(cursor: Connection, sql: str, params: Sequence[object] = ()) -> pa.Table:
    """The whole answer of a SELECT on `cursor` as an Arrow table. For short queries: ctrl-c waits for its end."""
    with stoppable():
        return cursor.sql(sql, params=list(params)).to_arrow_table()


def insert(cursor: Connection, table: str, rows: pa.Table) -> None:
    """Append an Arrow table to the database table `table`, columns by name."""
    cursor.register("incoming_rows", rows)
    try:
        cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming_rows")
    finally:
        cursor.unregister("incoming_rows")


def next_id(cursor: Connection, table: str) -> int:
    """The id after the highest in `table`: safe, since one process writes, one transaction at a time."""
    return int(fetch(cursor, f"SELECT coalesce(max(id), 0) + 1 FROM {table}")[0][0])


def now() -> datetime:
    """This moment in UTC, as the TIMESTAMP columns hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _check_writable(path: Path) -> None:
    for target in (path.parent, path):
        if target.exists() and not os.access(target, os.W_OK):
            raise WorkspaceUnusable(
                "cannot be written to",
                where=str(target),
                do="Copy the workspace to a folder that is yours, or have its permissions changed.",
            )


def _unusable(error: duckdb.Error, path: Path) -> WorkspaceUnusable:
    text = str(error)
    if "lock" in text.lower():
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder.group(1)}" if holder else "another process"
        return WorkspaceUnusable(
            f"the workspace is in use by {who}",
            where=str(path.parent),
            do="Close it there (or wait until it ends), or work in another workspace with -w DIR.",
        )
    if "not a valid DuckDB database" in text:
        return WorkspaceUnusable(
            "is not a workbench database, or is damaged",
            where=str(path),
            do="Move it away and import your files again, or restore a copy.",
        )
    if "version" in text and "read" in text:
        return WorkspaceUnusable(
            f"was written by another release of DuckDB than this one ({duckdb.__version__})",
            where=str(path),
            do="Upgrade with `pip install --upgrade duckdb sft-workbench`.",
        )
    return WorkspaceUnusable(text.splitlines()[0], where=str(path), do="`workbench doctor` looks into it.")
