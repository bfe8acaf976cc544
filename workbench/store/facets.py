"""What a source or version is made of: counts by source, state, dropping step and language, and how scores lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from workbench.store import drafts
from workbench.store.database import Connection, Store, fetch, interruptible
from workbench.store.lineage import LANGUAGES
from workbench.store.members import Named, rows_sql
from workbench.store.scores import scoring, scorings
from workbench.store.versions import lineage_runs

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Facets:
    """Counts of rows by value, the most frequent first: as many as the list has that filters by the value.

    `steps` counts rows dropped on the way, by hand too, unless a person took them back.
    `languages` holds what the language step has seen of these rows; `scorers` counts the rows that have a number by
    each scorer, by name, two settings of one apart (`workbench.store.scores.Scoring`).
    """

    rows: int
    states: list[tuple[str, int]]
    sources: list[tuple[str, int]]
    steps: list[tuple[str, int]]
    languages: list[tuple[str, int]]
    scorers: list[tuple[str, int]]


def facets(store: Store, base: Named, cancelled: Cancelled = lambda: False) -> Facets:
    """Count the rows of `base`. Reads narrow columns only: no text. Raises Stopped once `cancelled()`."""
    counts = drafts.counts(store, base)
    runs = lineage_runs(store, base.name) if base.kind == "version" else []
    with store.reading() as cursor:
        return interruptible(cursor, lambda: _facets(cursor, base, counts, runs), cancelled)


def _facets(cursor: Connection, base: Named, counts: drafts.DraftCounts, runs: list[int]) -> Facets:
    cursor.execute(
        f"""CREATE TEMP TABLE here AS SELECT e.source_id, e.content_hash FROM ({_shown_sql(base)}) m
            JOIN examples e ON e.id = m.example_id"""
    )
    sources = fetch(
        cursor,
        """SELECT s.name, count(*) FROM here h JOIN sources s ON s.id = h.source_id GROUP BY 1
           ORDER BY 2 DESC, 1""",
    )
    steps = fetch(
        cursor,
        f"""WITH gone AS (
                SELECT d.example_id, s.name FROM decisions d JOIN steps s ON s.id = d.step_id
                WHERE list_contains(?, s.recipe_run_id)
                QUALIFY row_number() OVER (PARTITION BY d.example_id
                    ORDER BY s.recipe_run_id DESC, s.position DESC) = 1)
            SELECT name, count(*) FROM gone
            ANTI JOIN ({_draft_sql(base)} AND field = 'restored') USING (example_id) GROUP BY 1""",
        [runs],
    )
    languages = fetch(
        cursor,
        f"""SELECT label, count(*) FROM here JOIN ({LANGUAGES}) USING (content_hash) GROUP BY 1
            ORDER BY 2 DESC, 1""",
    )
    scored = fetch(
        cursor,
        """SELECT scorer, fingerprint, count(*) FROM here JOIN scores USING (content_hash)
           WHERE state = 'ok' AND value IS NOT NULL GROUP BY ALL""",
    )
    numbers = {(scorer, fingerprint): int(rows) for scorer, fingerprint, rows in scored}
    by_step = {str(name): int(rows) for name, rows in steps}
    if counts.dropped:
        by_step[drafts.MANUAL] = by_step.get(drafts.MANUAL, 0) + counts.dropped
    states = {
        "kept": base.rows + counts.restored - counts.dropped,
        "dropped": sum(by_step.values()),
        "edited": counts.edited,
    }
    return Facets(
        rows=base.rows,
        states=list(states.items()),
        sources=[(str(name), int(rows)) for name, rows in sources],
        steps=sorted(by_step.items(), key=lambda pair: (-pair[1], pair[0])),
        languages=[(str(name), int(rows)) for name, rows in languages],
        scorers=[
            (one.name, numbers[one.scorer, one.fingerprint])
            for one in (scorings(cursor) if numbers else ())
            if (one.scorer, one.fingerprint) in numbers
        ],
    )


Bins = list[tuple[float, float, int]]
"""A histogram: (from, below, rows)."""


def histogram(store: Store, base: Named, scorer: str, bins: int = 20, cancelled: Cancelled = lambda: False) -> Bins:
    """How a score lies over the rows, in equally wide bins; empty where no row has it. Stopped once `cancelled()`.

    `scorer` is the name of a `Scoring`. The last bin ends just above the highest value, so that each row is in the one
    bin that it is found by.
    """
    with store.reading() as cursor:
        return interruptible(cursor, lambda: _histogram(cursor, base, scorer, bins), cancelled)


def _histogram(cursor: Connection, base: Named, scorer: str, bins: int) -> Bins:
    one = scoring(cursor, scorer)
    if one is None:
        return []
    cursor.execute(
        f"""CREATE TEMP TABLE scored AS SELECT x.value FROM ({_shown_sql(base)}) m
            JOIN examples e ON e.id = m.example_id JOIN scores x ON x.content_hash = e.content_hash
            WHERE x.scorer = ? AND x.fingerprint = ? AND x.state = 'ok' AND x.value IS NOT NULL""",
        [one.scorer, one.fingerprint],
    )
    [(low, high)] = fetch(cursor, "SELECT min(value), max(value) FROM scored")
    if low is None:
        return []
    width = (high - low) / bins or 1.0
    edges = [low + i * width for i in range(bins)] + [max(math.nextafter(high, math.inf), low + bins * width)]
    counted = ", ".join("count(*) FILTER (value >= ? AND value < ?)" for _ in range(bins))
    ends = [edge for pair in pairwise(edges) for edge in pair]
    [counts] = fetch(cursor, f"SELECT {counted} FROM scored", ends)
    return [(low, below, int(count)) for (low, below), count in zip(pairwise(edges), counts, strict=True)]


def _draft_sql(base: Named) -> str:
    return f"SELECT * FROM draft_rows WHERE base_kind = '{base.kind}' AND base_id = {base.id}"


def _shown_sql(base: Named) -> str:
    """SQL for the examples that stand for the rows of `base` now: an edited row's text is another example."""
    return f"""SELECT coalesce(CAST(r.value AS BIGINT), m.example_id) AS example_id FROM ({rows_sql(base)}) m
        LEFT JOIN ({_draft_sql(base)} AND field = 'replaced') r ON r.example_id = m.example_id"""
