"""What lies between two versions: which rows came, which went, and the reason that is written for each that went."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

from trainer.conversation import Message
from workbench.store.database import Connection, Store, fetch, interruptible
from workbench.store.drafts import MANUAL
from workbench.store.members import Named, choose
from workbench.store.previews import RowPreview, preview
from workbench.store.versions import lineage_runs

NOT_AN_INPUT = "not among the rows it was made from"
EDITED = f"{MANUAL}: edited"


@dataclass(frozen=True)
class GoneRow:
    """A row of A that is not in B. `similarity` is how like the survivor it is, where it is a duplicate."""

    id: int
    source: str
    row: int
    reason: str
    detail: str | None
    survivor: tuple[str, int] | None  # source and row of the example it duplicates
    similarity: float | None
    messages: str


@dataclass(frozen=True)
class Diff:
    """B against A by content. Copies count: two rows of one content against one is one row gone."""

    added: int
    removed: int
    common: int
    by_reason: dict[str, int]
    gone: list[GoneRow]


@dataclass(frozen=True)
class DiffRow:
    """One row of a diff to look at: of A with why it went, or of B, which is new there and has no `reason`.

    `instead` is the row that it duplicates, as much as `similarity` says, or was edited into (of B: from), if there is
    one: (source, row, messages).
    """

    id: int
    source: str
    row: int
    messages: list[Message]
    reason: str | None = None
    detail: str | None = None
    similarity: float | None = None
    instead: tuple[str, int, list[Message]] | None = None
    is_edit: bool = False
    """Whether a person edited it, or a step rewrote it, on the way to B."""


class OpenDiff:
    """B against A, whose rows are read by windows, from any thread, one at a time; `close` it when the screen is done.

    `by_reason` counts the rows of A that are not in B by the reason for it, the most frequent first.
    """

    def __init__(self, store: Store, a: Named, b: Named, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Raises Stopped once `cancelled()`."""
        self.a = a
        self.b = b
        self._lock = threading.Lock()
        self._closed = False
        self._cursor = store.cursor()
        try:
            interruptible(self._cursor, lambda: self._compare(store), cancelled)
        except BaseException:
            self._cursor.close()
            raise

    def _compare(self, store: Store) -> None:
        cursor, a, b = self._cursor, self.a, self.b
        for named, table in ((a, "rows_a"), (b, "rows_b")):
            choose(cursor, [named])
            cursor.execute(f"CREATE TEMP TABLE {table} AS FROM chosen")
        _number_copies(cursor, "a", "rows_a", "rows_b")
        _number_copies(cursor, "b", "rows_b", "rows_a")
        _find_reasons(cursor, store, b)
        cursor.execute(
            """CREATE TEMP TABLE came AS SELECT row_number() OVER (ORDER BY pos) - 1 AS n, example_id
               FROM b ANTI JOIN a USING (content_hash, copy) ORDER BY 1"""
        )
        [(rows_a, self.removed, self.added)] = fetch(
            cursor, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM gone), (SELECT count(*) FROM came)"
        )
        self.common: int = rows_a - self.removed
        self.by_reason: dict[str, int] = dict(
            fetch(cursor, "SELECT reason, count(*) FROM gone GROUP BY 1 ORDER BY 2 DESC, 1")
        )

    def gone(self, limit: int) -> list[GoneRow]:
        """Up to `limit` rows of A that are not in B, some for each reason."""
        found = fetch(
            self._cursor,
            """SELECT e.id, s.name, e.row, g.reason, g.detail, ks.name, k.row, g.similarity, e.messages
               FROM (FROM gone ORDER BY n, pos LIMIT ?) g
               JOIN examples e ON e.id = g.example_id JOIN sources s ON s.id = e.source_id
               LEFT JOIN examples k ON k.id = g.duplicate_of LEFT JOIN sources ks ON ks.id = k.source_id
               ORDER BY g.reason, g.pos""",
            [limit],
        )
        return [
            GoneRow(id, source, row, reason, detail, (kept_source, kept_row) if kept_source else None, alike, messages)
            for id, source, row, reason, detail, kept_source, kept_row, alike, messages in found
        ]

    def window(self, reason: str | None, start: int, count: int) -> list[RowPreview]:
        """Some of the rows of A that went for `reason`, or of those that B has more; none once it is closed."""
        listed, params = ("gone WHERE reason = ? AND", [reason]) if reason else ("came WHERE", [])
        with self._lock:
            if self._closed:
                return []
            found = fetch(
                self._cursor,
                f"""SELECT m.n, e.id, e.messages FROM (SELECT n, example_id FROM {listed} n >= ? AND n < ?) m
                    JOIN examples e ON e.id = m.example_id ORDER BY m.n""",
                [*params, start, start + count],
            )
        return [preview(*row) for row in found]

    def row(self, id: int) -> DiffRow | None:
        """The row with that id whole, and what stands in its place; None once it is closed."""
        with self._lock:
            if self._closed:
                return None
            [(source, row, messages, reason, detail, similarity, instead, is_edit)] = fetch(
                self._cursor,
                """SELECT s.name, e.row, e.messages, g.reason, g.detail, g.similarity,
                          if(g.example_id IS NULL, e.parent_id, coalesce(g.duplicate_of, g.edited)),
                          g.edited IS NOT NULL
                   FROM examples e JOIN sources s ON s.id = e.source_id LEFT JOIN gone g ON g.example_id = e.id
                   WHERE e.id = ?""",
                [id],
            )
            other = fetch(
                self._cursor,
                "SELECT s.name, e.row, e.messages FROM examples e JOIN sources s ON s.id = e.source_id WHERE e.id = ?",
                [instead],
            )
        kept = (str(other[0][0]), int(other[0][1]), json.loads(other[0][2])) if other else None
        return DiffRow(id, source, row, json.loads(messages), reason, detail, similarity, kept, is_edit)

    def close(self) -> None:
        """Let go of the rows; a window being read is waited for."""
        with self._lock:
            self._closed = True
            self._cursor.close()


def diff(store: Store, a: Named, b: Named, limit: int) -> Diff:
    """Compare two sources or versions; `gone` holds up to `limit` rows of `a` not in `b`, some for each reason."""
    found = OpenDiff(store, a, b)
    try:
        return Diff(found.added, found.removed, found.common, found.by_reason, found.gone(limit))
    finally:
        found.close()


def _number_copies(cursor: Connection, numbered: str, rows: str, others: str) -> None:
    """Number rows of one content 1, 2, ..; those that both sides hold come first, what went last."""
    cursor.execute(
        f"""CREATE TEMP TABLE {numbered} AS
            SELECT r.pos, r.example_id, e.content_hash, row_number() OVER (
                PARTITION BY e.content_hash ORDER BY r.example_id NOT IN (SELECT example_id FROM {others}), r.pos
            ) AS copy
            FROM {rows} r JOIN examples e ON e.id = r.example_id"""
    )


def _find_reasons(cursor: Connection, store: Store, b: Named) -> None:
    """Fill the table `gone`: each row of A that is not in B, with the decision about it or about the same content.

    An edit, by hand or by a step, goes before a decision; a decision about what a row was edited into is one about
    the row. `n` numbers the rows of one reason from 0.
    """
    cursor.execute(
        """CREATE TEMP TABLE edits AS
           WITH RECURSIVE line AS (
               SELECT id AS edited, parent_id AS example_id FROM examples WHERE parent_id IS NOT NULL
               UNION ALL SELECT l.edited, e.parent_id FROM line l JOIN examples e ON e.id = l.example_id
               WHERE e.parent_id IS NOT NULL)
           FROM line"""
    )
    runs = lineage_runs(store, b.name) if b.kind == "version" else []
    cursor.execute(
        """CREATE TEMP TABLE decided AS
           WITH made AS (
               SELECT d.step_id, d.example_id,
                      if(d.reason = s.name OR starts_with(d.reason, s.name || ':'), d.reason,
                         s.name || ': ' || d.reason) AS reason,
                      d.detail, d.duplicate_of, if(d.duplicate_of IS NULL, NULL, d.score) AS similarity
               FROM decisions d JOIN steps s ON s.id = d.step_id WHERE list_contains(?, s.recipe_run_id))
           SELECT m.*, e.content_hash FROM (
               FROM made UNION ALL
               SELECT m.step_id, x.example_id, m.reason, m.detail, m.duplicate_of, m.similarity
               FROM made m JOIN edits x ON x.edited = m.example_id) m
           JOIN examples e ON e.id = m.example_id""",
        [runs],
    )
    cursor.execute(
        """CREATE TEMP TABLE gone AS
           WITH went AS (FROM a ANTI JOIN b USING (content_hash, copy)),
           into_b AS (SELECT x.example_id, max(x.edited) AS edited FROM edits x
                      SEMI JOIN b ON b.example_id = x.edited GROUP BY 1),
           by_row AS (FROM decided QUALIFY row_number() OVER (PARTITION BY example_id ORDER BY step_id) = 1),
           by_content AS (FROM decided QUALIFY row_number() OVER (PARTITION BY content_hash ORDER BY step_id) = 1),
           rewritten AS (SELECT w.new_id AS edited, s.name || ': ' || w.reason AS reason, w.detail
                         FROM rewrites w JOIN steps s ON s.id = w.step_id),
           told AS (
               SELECT w.pos, w.example_id, i.edited,
                      if(i.edited IS NOT NULL, coalesce(x.reason, ?), coalesce(r.reason, c.reason, ?)) AS reason,
                      if(i.edited IS NOT NULL, x.detail, coalesce(r.detail, c.detail)) AS detail,
                      if(i.edited IS NULL, coalesce(r.duplicate_of, c.duplicate_of), NULL) AS duplicate_of,
                      if(i.edited IS NULL, coalesce(r.similarity, c.similarity), NULL) AS similarity
               FROM went w LEFT JOIN by_row r ON r.example_id = w.example_id
                    LEFT JOIN by_content c ON c.content_hash = w.content_hash
                    LEFT JOIN into_b i ON i.example_id = w.example_id
                    LEFT JOIN rewritten x ON x.edited = i.edited)
           SELECT *, row_number() OVER (PARTITION BY reason ORDER BY pos) - 1 AS n FROM told""",
        [EDITED, NOT_AN_INPUT],
    )
