"""Giving space back: DuckDB keeps the room of deleted rows, so the database is written anew and takes the old place.

The old file stays what it is until the new one is whole, compared and on disk; then one rename puts it in place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb

from workbench.errors import WorkspaceUnusable
from workbench.store.database import Connection, fetch, interruptible
from workbench.store.faults import told

_CATALOG = """SELECT sql FROM duckdb_tables() WHERE database_name = $name
              UNION ALL SELECT sql FROM duckdb_views() WHERE database_name = $name AND NOT internal
              UNION ALL SELECT sql FROM duckdb_indexes() WHERE database_name = $name
              UNION ALL SELECT sql FROM duckdb_sequences() WHERE database_name = $name ORDER BY 1"""


def compact(path: Path) -> tuple[int, int]:
    """Write the database at `path` anew and return its size before and after, in bytes.

    Where nothing is gained the old file stays. Raises WorkspaceUnusable where the database is in use, damaged or
    from a newer DuckDB, or where the disk has no room for the copy.
    """
    path = path.resolve()
    before = path.stat().st_size
    with _part(path) as part, told(path), contextlib.closing(duckdb.connect(":memory:")) as connection:
        connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        connection.execute(f"ATTACH {_quoted(path)} AS old")
        connection.execute(f"ATTACH {_quoted(part)} AS new")
        interruptible(connection, lambda: connection.execute("COPY FROM DATABASE old TO new"))
        connection.execute("CHECKPOINT new")
        if not interruptible(connection, lambda: _contents(connection, "old") == _contents(connection, "new")):
            raise WorkspaceUnusable(
                "the new copy of the database differs from it, so the old one was kept",
                where=str(path),
                do="`workbench doctor` says whether it is whole.",
            )
        after = part.stat().st_size
        if after >= before:
            return before, before
        connection.execute("CHECKPOINT old")
        if _log(path).exists():  # it would be taken for the new file's
            raise WorkspaceUnusable("its log of last changes cannot be written into it", where=str(path))
        _like(path, part)
        # Both stay attached, and so locked, until the rename is done: nobody opens either in between.
        part.replace(path)
        _sync(path.parent)
    return before, after


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A path beside `path` for the new file; what is left there, before or after, goes."""
    part = path.with_name(f".{path.name}.part")
    try:
        for half in (part, _log(part)):
            half.unlink(missing_ok=True)
        yield part
    finally:
        for half in (part, _log(part)):
            half.unlink(missing_ok=True)


def _contents(connection: Connection, name: str) -> tuple[list[str], list[tuple[int, int | None]]]:
    """Everything that is defined in an attached database, and of each table the rows and a hash over all of them."""
    defined = [sql for (sql,) in connection.execute(_CATALOG, {"name": name}).fetchall()]
    tables = fetch(
        connection,
        """SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY ALL""",
        [name],
    )
    rows = [
        fetch(connection, f'SELECT count(*), sum(hash(t)) FROM {name}."{schema}"."{table}" t')[0]
        for schema, table in tables
    ]
    return defined, rows


def _like(path: Path, part: Path) -> None:
    """Give the new file the owner and the permissions of the old one."""
    shutil.copymode(path, part)
    status = path.stat()
    with contextlib.suppress(PermissionError):  # only root can give a file away
        os.chown(part, status.st_uid, status.st_gid)


def _sync(folder: Path) -> None:
    """Make sure that a rename in `folder` has reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
