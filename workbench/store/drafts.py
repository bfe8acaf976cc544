"""What people did by hand to a source or version: a log that only grows, and where each row stands by it.

`operations` and `operation_rows` are the log: every value a row had before and after. Undo appends the inverse.
`draft_rows` holds what the log adds up to: for a row (`example_id`) its `dropped` reason, the row that it is a
`duplicate_of` where that is why (JSON: `of`, `similarity`, the `step` it was decided in), the example it was
`replaced` by in an edit, that it was `restored` (a recipe had dropped it), its `label`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from filters.step import Drop
from trainer.conversation import content_hash
from workbench.errors import BadInput
from workbench.store.database import Connection, Store, fetch, next_id, now
from workbench.store.members import Named, rows_sql

Field = Literal["dropped", "duplicate_of", "replaced", "restored", "label"]
MANUAL = "manual"
"""The name of the step that stands for a draft in a version's ledger."""

Change = tuple[int, Field, str | None]
"""A row (example id), what of it gets a new value, and the value (None: none)."""

_CHANGES = pa.schema([("example_id", pa.int64()), ("field", pa.string()), ("after", pa.string())])


@dataclass(frozen=True)
class Operation:
    """One thing a person did. `what` is a sentence without its end: `dropped 3 rows (off topic)`."""

    id: int
    kind: str
    what: str


@dataclass(frozen=True)
class DraftCounts:
    """How many rows of the base stand otherwise than they came."""

    dropped: int = 0
    edited: int = 0
    restored: int = 0
    labelled: int = 0

    @property
    def changes_rows(self) -> bool:
        """Whether a freeze would hold other rows than the base."""
        return bool(self.dropped or self.edited or self.restored)


def record(cursor: Connection, base: Named, kind: str, what: Callable[[int], str], changes: Sequence[Change]) -> int:
    """Log that rows got new values, as one operation, and let it count; returns how many rows it changed.

    `what(rows)` says it in words. On the cursor of an open transaction. Values that a row has already are left out;
    where all are, nothing is logged.
    """
    columns = zip(*changes, strict=True) if changes else ((), (), ())
    cursor.register("wished", pa.table([list(column) for column in columns], schema=_CHANGES))
    try:
        cursor.execute(
            """CREATE OR REPLACE TEMP TABLE changed AS
               SELECT w.example_id, w.field, d.value AS before, w.after FROM wished w
               LEFT JOIN draft_rows d ON d.base_kind = ? AND d.base_id = ? AND d.field = w.field
                AND d.example_id = w.example_id
               WHERE d.value IS DISTINCT FROM w.after""",
            [base.kind, base.id],
        )
    finally:
        cursor.unregister("wished")
    count = int(fetch(cursor, "SELECT count(DISTINCT example_id) FROM changed")[0][0])
    if count:
        operation = _log(cursor, base, kind, what(count), None)
        cursor.execute(
            "INSERT INTO operation_rows SELECT ?, example_id, field, before, after FROM changed", [operation]
        )
        _apply(cursor, base, operation)
    return count


def undo(cursor: Connection, base: Named) -> Operation | None:
    """Append the inverse of the last operation that stands; returns that operation, None where there is none."""
    done, _ = _stacks(cursor, base)
    return _invert(cursor, base, done[-1], "undo") if done else None


def redo(cursor: Connection, base: Named) -> Operation | None:
    """Do again what was undone last; None where nothing was, or something else was done since."""
    _, undone = _stacks(cursor, base)
    if not undone:
        return None
    original, inverse = undone[-1]
    _invert(cursor, base, inverse, "redo")
    return original


def counts(store: Store, base: Named) -> DraftCounts:
    """What the draft of `base` adds up to. Edits count of rows that a freeze would hold, not of dropped ones."""
    found: dict[str, int] = {
        str(field): int(rows)
        for field, rows in store.rows(
            f"""WITH draft AS (SELECT example_id, field FROM draft_rows WHERE base_kind = ? AND base_id = ?),
                there AS (SELECT example_id FROM ({rows_sql(base)})
                          UNION ALL SELECT example_id FROM draft WHERE field = 'restored'),
                edited AS (FROM draft WHERE field = 'replaced'),
                held AS (FROM edited SEMI JOIN there USING (example_id)
                         ANTI JOIN (FROM draft WHERE field = 'dropped') USING (example_id))
                SELECT field, count(*) FROM (FROM draft WHERE field <> 'replaced' UNION ALL FROM held) GROUP BY 1""",
            [base.kind, base.id],
        )
    }
    return DraftCounts(
        found.get("dropped", 0), found.get("replaced", 0), found.get("restored", 0), found.get("label", 0)
    )


def log(store: Store, base: Named, limit: int = 20) -> list[Operation]:
    """The last operations on `base`, the newest first."""
    rows = store.rows(
        "SELECT id, kind, what FROM operations WHERE base_kind = ? AND base_id = ? ORDER BY id DESC LIMIT ?",
        [base.kind, base.id, limit],
    )
    return [Operation(*row) for row in rows]


def dropped(store: Store, base: Named) -> list[Drop]:
    """The rows that the draft drops, as they would stand in a freeze, in the order of ids; the detail says why."""
    return [
        Drop(id, MANUAL, similarity, survivor, reason)
        for id, reason, survivor, similarity in store.rows(
            """WITH d AS (FROM draft_rows WHERE base_kind = ? AND base_id = ?),
               edited AS (SELECT example_id, CAST(value AS BIGINT) AS id FROM d WHERE field = 'replaced'),
               falls AS (SELECT example_id, CAST(value ->> '$.of' AS BIGINT) AS of,
                         CAST(value ->> '$.similarity' AS DOUBLE) AS similarity FROM d WHERE field = 'duplicate_of')
               SELECT coalesce(e.id, d.example_id), d.value, coalesce(k.id, f.of), f.similarity FROM d
               LEFT JOIN edited e ON e.example_id = d.example_id LEFT JOIN falls f ON f.example_id = d.example_id
               LEFT JOIN edited k ON k.example_id = f.of WHERE d.field = 'dropped' ORDER BY 1""",
            [base.kind, base.id],
        )
    ]


def dropped_of(store: Store, base: Named, ids: Sequence[int]) -> set[int]:
    """Those of rows `ids`, named by the id that they came with, that the draft drops."""
    found = store.rows(
        "SELECT example_id FROM draft_rows WHERE base_kind = ? AND base_id = ? AND field = 'dropped' "
        "AND example_id IN (SELECT unnest(?))",
        [base.kind, base.id, list(ids)],
    )
    return {int(id) for (id,) in found}


def inside(cursor: Connection, base: Named, ids: Sequence[int], *, or_restored: bool = False) -> set[int]:
    """Those of `ids` that `base` came with: the others were dropped on the way to it, if not `or_restored` by hand."""
    rows = f"SELECT example_id FROM ({rows_sql(base)})"
    if or_restored:
        rows += f""" UNION ALL SELECT example_id FROM draft_rows
            WHERE base_kind = '{base.kind}' AND base_id = {base.id} AND field = 'restored'"""
    cursor.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT unnest(?) AS example_id", [list(ids)])
    return {int(id) for (id,) in fetch(cursor, f"SELECT example_id FROM asked SEMI JOIN ({rows}) USING (example_id)")}


def write_edit(cursor: Connection, id: int, messages: str) -> tuple[int, int]:
    """Write an example that is example `id` with other messages (canonical JSON); returns its id and its row.

    Raises BadInput where there is no such example.
    """
    known = fetch(cursor, "SELECT source_id, row, tools, meta FROM examples WHERE id = ?", [id])
    if not known:
        raise BadInput(f"there is no example {id}")
    [(source_id, row, tools, meta)] = known
    new = next_id(cursor, "examples")
    cursor.execute(
        """INSERT INTO examples (id, source_id, row, content_hash, messages, tools, meta, parent_id)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        [new, source_id, row, content_hash(messages, tools), messages, tools, meta, id],
    )
    return new, int(row)


def forget(cursor: Connection, base: Named) -> None:
    """Delete the draft of a base that is being deleted."""
    which = [base.kind, base.id]
    cursor.execute(
        """DELETE FROM operation_rows WHERE operation_id IN
           (SELECT id FROM operations WHERE base_kind = ? AND base_id = ?)""",
        which,
    )
    for table in ("operations", "draft_rows"):
        cursor.execute(f"DELETE FROM {table} WHERE base_kind = ? AND base_id = ?", which)


def _log(cursor: Connection, base: Named, kind: str, what: str, inverse_of: int | None) -> int:
    id = next_id(cursor, "operations")
    cursor.execute(
        """INSERT INTO operations (id, base_kind, base_id, kind, what, inverse_of, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?)""",
        [id, base.kind, base.id, kind, what, inverse_of, now()],
    )
    return id


def _apply(cursor: Connection, base: Named, operation: int) -> None:
    """Let the values of an operation stand."""
    which = [base.kind, base.id, operation]
    cursor.execute(
        """DELETE FROM draft_rows WHERE base_kind = ? AND base_id = ? AND (example_id, field) IN
           (SELECT (example_id, field) FROM operation_rows WHERE operation_id = ?)""",
        which,
    )
    cursor.execute(
        """INSERT INTO draft_rows (base_kind, base_id, example_id, field, value)
           SELECT ?, ?, example_id, field, after FROM operation_rows WHERE operation_id = ? AND after IS NOT NULL""",
        which,
    )


def _invert(cursor: Connection, base: Named, operation: Operation, kind: Literal["undo", "redo"]) -> Operation:
    inverse = _log(cursor, base, kind, operation.what, operation.id)
    cursor.execute(
        """INSERT INTO operation_rows SELECT ?, example_id, field, after, before FROM operation_rows
           WHERE operation_id = ?""",
        [inverse, operation.id],
    )
    _apply(cursor, base, inverse)
    return operation


def _stacks(cursor: Connection, base: Named) -> tuple[list[Operation], list[tuple[Operation, Operation]]]:
    """What stands and can be undone, and what was undone and can be done again (with its inverse), newest last."""
    done: list[Operation] = []
    undone: list[tuple[Operation, Operation]] = []
    for id, kind, what in fetch(
        cursor,
        "SELECT id, kind, what FROM operations WHERE base_kind = ? AND base_id = ? ORDER BY id",
        [base.kind, base.id],
    ):
        if kind == "undo":
            undone.append((done.pop(), Operation(id, kind, what)))
        elif kind == "redo":
            done.append(undone.pop()[0])
        else:
            done.append(Operation(id, kind, what))
            undone.clear()
    return done, undone
