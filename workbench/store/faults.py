"""What the disk, the lock and damage do to the database, told as one sentence with what to do about it.

DuckDB tells these apart by their text alone; the patterns are those of DuckDB 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from workbench.errors import WorkspaceUnusable

_RESTORE = "Restore a copy, or move it away and import your files again."
_FROM_DISK = (
    (
        r"No space left on device|Disk quota exceeded|File too large",
        "the disk is full, or a quota is reached: what was under way was taken back",
        "Free some space, then run the command again.",
    ),
    (
        r"Read-only file system|Permission denied|Operation not permitted",
        "cannot be written to",
        "Copy the workspace to a folder that is yours, or have its permissions changed.",
    ),
    (
        r"WAL checkpoint iteration does not match|WAL was created for",
        "its log of last changes (.wal) belongs to another state of the database: it was copied while it was open",
        "Copy it again while no command runs. Or move the .wal file away: the database then is as it was when the "
        "copy began, and `workbench doctor` says whether it is whole.",
    ),
    (
        r"replaying WAL|Corrupt WAL",
        "its log of last changes (.wal) is damaged",
        "Restore a copy. Or move the .wal file away: the database then is as it was before those changes, and "
        "`workbench doctor` says whether it is whole.",
    ),
    (r"not a valid DuckDB database", "is not a workbench database, or is damaged", _RESTORE),
    (r"[Cc]orrupt|checksum|Could not read enough bytes|Input/output error", "is damaged", _RESTORE),
    (
        r"different DuckDB version|version number",
        f"was written by another release of DuckDB than this one ({duckdb.__version__})",
        "Upgrade with `pip install --upgrade duckdb sft-workbench`.",
    ),
)
# What the text of a statement or of a row can bring about is no fault of the disk, whatever words it holds.
_OF_THE_QUERY = (duckdb.ProgrammingError, duckdb.DataError)


def fault(error: duckdb.Error, path: Path | None = None) -> WorkspaceUnusable | None:
    """The sentence for an error that the disk, the lock or damage caused; None for any other.

    `path` is the database, where it is known; else the file that DuckDB names.
    """
    if isinstance(error, _OF_THE_QUERY):
        return None
    text = str(error)
    named = re.search(r'file "(.+?)"', text)
    place = path or (Path(named[1]) if named else None)
    said = text.replace(named[1], "") if named else text  # a path may hold any of the words looked for
    if "Could not set lock" in said:
        holder = re.search(r"PID (\d+)", said)
        return WorkspaceUnusable(
            f"the workspace is in use by {f'process {holder[1]}' if holder else 'another process'}",
            where=str(place.parent) if place else "",
            do="Close it there (or wait until it ends), or work in another workspace with -w DIR.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return WorkspaceUnusable("memory ran out in a query", do="Close other programs, then run the command again.")
    for pattern, what, do in _FROM_DISK:
        if re.search(pattern, said):
            return WorkspaceUnusable(what, where=str(place) if place else "", do=do)
    return None


@contextmanager
def told(path: Path | None = None) -> Iterator[None]:
    """Raise what comes from outside a query as what it is: WorkspaceUnusable for a fault, ctrl-c as ctrl-c.

    DuckDB raises a RuntimeError for ctrl-c, at the latest at the end of the query.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        if problem := fault(error, path):
            raise problem from error
        raise
