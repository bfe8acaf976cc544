"""What lies between two versions: which rows came, which went, and the reason that is written for each that went."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.store.database import Connection, Store, fetch
from workbench.store.members import Named, choose
from workbench.store.versions import lineage_runs


@dataclass(frozen=True)
class GoneRow:
    """A row of A that is not in B."""

    id: int
    source: str
    row: int
    reason: str
    detail: str | None
    survivor: tuple[str, int] | None  # source and row of the example it duplicates
    messages: str


@dataclass(frozen=True)
class Diff:
    """B against A by content. Copies count: two rows of one content against one is one row gone."""

    added: int
    removed: int
    common: int
    by_reason: dict[str, int]
    gone: list[GoneRow]


NOT_AN_INPUT = "not among the rows it was made from"


def diff(store: Store, a: Named, b: Named, limit: int) -> Diff:
    """Compare two sources or versions; `gone` holds up to `limit` rows of `a` not in `b`, some for each reason."""
    with store.reading() as cursor:
        for named, table in ((a, "rows_a"), (b, "rows_b")):
            choose(cursor, [named])
            cursor.execute(f"CREATE TEMP TABLE {table} AS FROM chosen")
        _number_copies(cursor, "a", "rows_a", "rows_b")
        _number_copies(cursor, "b", "rows_b", "rows_a")
        [(rows_a, rows_b, common)] = fetch(
            cursor,
            """SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b),
               (SELECT count(*) FROM a JOIN b USING (content_hash, copy))""",
        )
        _find_reasons(cursor, store, b)
        by_reason = dict(fetch(cursor, "SELECT reason, count(*) FROM gone GROUP BY 1 ORDER BY 2 DESC, 1"))
        gone = [
            GoneRow(id, source, row, reason, detail, (kept_source, kept_row) if kept_source else None, messages)
            for id, source, row, reason, detail, kept_source, kept_row, messages in fetch(
                cursor,
                """SELECT e.id, s.name, e.row, g.reason, g.detail, ks.name, k.row, e.messages
                   FROM (FROM gone ORDER BY row_number() OVER (PARTITION BY reason ORDER BY pos), pos LIMIT ?) g
                   JOIN examples e ON e.id = g.example_id JOIN sources s ON s.id = e.source_id
                   LEFT JOIN examples k ON k.id = g.duplicate_of LEFT JOIN sources ks ON ks.id = k.source_id
                   ORDER BY g.reason, g.pos""",
                [limit],
            )
        ]
        return Diff(rows_b - common, rows_a - common, common, by_reason, gone)


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
    """Fill the table `gone`: each row of A that is not in B, with the decision about it or about the same content."""
    runs = lineage_runs(store, b.name) if b.kind == "version" else []
    cursor.execute(
        """CREATE TEMP TABLE decided AS
           SELECT d.step_id, d.example_id, e.content_hash,
                  if(starts_with(d.reason, s.name || ':'), d.reason, s.name || ': ' || d.reason) AS reason, d.detail,
                  d.duplicate_of
           FROM decisions d JOIN steps s ON s.id = d.step_id JOIN examples e ON e.id = d.example_id
           WHERE list_contains(?, s.recipe_run_id)""",
        [runs],
    )
    cursor.execute(
        """CREATE TEMP TABLE gone AS
           WITH went AS (FROM a ANTI JOIN b USING (content_hash, copy)),
           by_row AS (FROM decided QUALIFY row_number() OVER (PARTITION BY example_id ORDER BY step_id) = 1),
           by_content AS (FROM decided QUALIFY row_number() OVER (PARTITION BY content_hash ORDER BY step_id) = 1)
           SELECT w.pos, w.example_id, coalesce(r.reason, c.reason, ?) AS reason,
                  coalesce(r.detail, c.detail) AS detail, coalesce(r.duplicate_of, c.duplicate_of) AS duplicate_of
           FROM went w LEFT JOIN by_row r ON r.example_id = w.example_id
                LEFT JOIN by_content c ON c.content_hash = w.content_hash""",
        [NOT_AN_INPUT],
    )
