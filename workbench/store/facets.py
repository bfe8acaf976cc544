"""What a source or version is made of: counts by source, state, dropping step and language, and how scores lie."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.store import drafts
from workbench.store.database import Store, fetch
from workbench.store.members import Named, rows_sql
from workbench.store.versions import lineage_runs


@dataclass(frozen=True)
class Facets:
    """Counts of rows by value, the most frequent first. `steps` counts rows dropped on the way, by hand too.

    `languages` holds what the language step has seen of these rows; `scorers` those that scored any of them.
    """

    rows: int
    states: list[tuple[str, int]]
    sources: list[tuple[str, int]]
    steps: list[tuple[str, int]]
    languages: list[tuple[str, int]]
    scorers: list[str]


def facets(store: Store, base: Named) -> Facets:
    """Count the rows of `base`. Reads narrow columns only: no text."""
    counts = drafts.counts(store, base)
    came = rows_sql(base)
    with store.reading() as cursor:
        cursor.execute(f"CREATE TEMP TABLE here AS SELECT e.* EXCLUDE (messages, tools, meta) FROM ({came}) m "
                       "JOIN examples e ON e.id = m.example_id")  # fmt: skip
        sources = fetch(
            cursor,
            """SELECT s.name, count(*) FROM here h JOIN sources s ON s.id = h.source_id GROUP BY 1
               ORDER BY 2 DESC, 1""",
        )
        steps = fetch(
            cursor,
            """SELECT s.name, count(*) FROM decisions d JOIN steps s ON s.id = d.step_id
               WHERE list_contains(?, s.recipe_run_id) GROUP BY 1 ORDER BY 2 DESC, 1""",
            [lineage_runs(store, base.name) if base.kind == "version" else []],
        )
        scored = "scores x SEMI JOIN here h ON h.content_hash = x.content_hash"
        languages = fetch(
            cursor,
            f"""SELECT label, count(*) FROM here SEMI JOIN (SELECT content_hash FROM scores) k USING (content_hash)
                JOIN (SELECT DISTINCT content_hash, label FROM {scored}
                      WHERE x.scorer = 'language' AND label IS NOT NULL) l USING (content_hash)
                GROUP BY 1 ORDER BY 2 DESC, 1""",
        )
        scorers = fetch(cursor, f"SELECT DISTINCT scorer FROM {scored} WHERE state = 'ok' ORDER BY 1")
    if counts.dropped:
        steps = sorted([*steps, ("manual", counts.dropped)], key=lambda pair: -pair[1])
    states = {
        "kept": base.rows + counts.restored - counts.dropped,
        "dropped": counts.dropped + sum(int(rows) for name, rows in steps if name != "manual"),
        "edited": counts.edited,
    }
    return Facets(
        rows=base.rows,
        states=list(states.items()),
        sources=[(str(name), int(rows)) for name, rows in sources],
        steps=[(str(name), int(rows)) for name, rows in steps],
        languages=[(str(name), int(rows)) for name, rows in languages],
        scorers=[str(name) for (name,) in scorers],
    )


def histogram(store: Store, base: Named, scorer: str, bins: int = 20) -> list[tuple[float, float, int]]:
    """How a score lies over the rows: (from, below, rows) of equally wide bins; empty where no row has it.

    The last bin holds its upper end too.
    """
    with store.reading() as cursor:
        values = fetch(
            cursor,
            f"""SELECT min(x.value), max(x.value), count(*) FROM ({rows_sql(base)}) m
                JOIN examples e ON e.id = m.example_id
                JOIN (SELECT content_hash, max(value) AS value FROM scores WHERE scorer = ? AND state = 'ok'
                      GROUP BY 1) x ON x.content_hash = e.content_hash""",
            [scorer],
        )
        low, high, count = values[0]
        if not count:
            return []
        width = (high - low) / bins or 1.0
        found = dict(
            fetch(
                cursor,
                f"""SELECT least(CAST(floor((x.value - ?) / ?) AS INTEGER), ?), count(*) FROM ({rows_sql(base)}) m
                    JOIN examples e ON e.id = m.example_id
                    JOIN (SELECT content_hash, max(value) AS value FROM scores WHERE scorer = ? AND state = 'ok'
                          GROUP BY 1) x ON x.content_hash = e.content_hash GROUP BY 1""",
                [low, width, bins - 1, scorer],
            )
        )
    return [(low + i * width, low + (i + 1) * width, int(found.get(i, 0))) for i in range(bins)]
