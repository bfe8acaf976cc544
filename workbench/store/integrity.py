"""Whether the database still says what it should: counts that agree, rows that exist, hashes that hold."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.conversation import content_hash
from workbench.store.database import Store
from workbench.store.evalsets import eval_rows, eval_sets
from workbench.store.members import Members, resolve
from workbench.store.sources import sources
from workbench.store.versions import manifest_hash, versions


@dataclass(frozen=True)
class Check:
    """One thing looked at. `problem` is None where it is as it should be."""

    what: str
    problem: str | None


# What should hold, and a query that counts where it does not.
_ORPHANS = (
    ("examples have a source", "SELECT count(*) FROM examples e ANTI JOIN sources s ON s.id = e.source_id"),
    ("example ids are unique", "SELECT count(*) - count(DISTINCT id) FROM examples"),
    ("rejects have a source", "SELECT count(*) FROM rejects r ANTI JOIN sources s ON s.id = r.source_id"),
    ("steps have a recipe run", "SELECT count(*) FROM steps s ANTI JOIN recipe_runs r ON r.id = s.recipe_run_id"),
    ("decisions have a step", "SELECT count(*) FROM decisions d ANTI JOIN steps s ON s.id = d.step_id"),
    ("decisions have an example", "SELECT count(*) FROM decisions d ANTI JOIN examples e ON e.id = d.example_id"),
    (
        "no row is dropped twice in one run",
        """SELECT count(*) FROM (SELECT 1 FROM decisions d JOIN steps s ON s.id = d.step_id
           GROUP BY s.recipe_run_id, d.example_id HAVING count(*) > 1)""",
    ),
    (
        "steps dropped what they say",
        """SELECT count(*) FROM steps s WHERE dropped <> (SELECT count(*) FROM decisions d WHERE d.step_id = s.id)""",
    ),
    (
        "every row of a run is in its version or has a reason",
        """SELECT count(*) FROM recipe_runs r WHERE state = 'finished' AND rows_in <> rows_out +
           (SELECT count(*) FROM decisions d JOIN steps s ON s.id = d.step_id WHERE s.recipe_run_id = r.id)""",
    ),
    (
        "version rows have an example",
        "SELECT count(*) FROM version_examples v ANTI JOIN examples e ON e.id = v.example_id",
    ),
    (
        "version rows have a version",
        "SELECT count(*) FROM version_examples x ANTI JOIN versions v ON v.id = x.version_id",
    ),
    ("eval items have an eval set", "SELECT count(*) FROM eval_items i ANTI JOIN eval_sets s ON s.id = i.eval_set_id"),
    (
        "a score is a number exactly where its state is ok",
        "SELECT count(*) FROM scores WHERE (value IS NULL) = (state = 'ok')",
    ),
)


def check(store: Store) -> list[Check]:
    """Look at everything that keys and totals promise, and compute every manifest hash again."""
    found = []
    for what, sql in _ORPHANS:
        wrong = int(store.rows(sql)[0][0])
        found.append(Check(what, f"{wrong:,} times not" if wrong else None))
    found += [_check_source(store, source.name) for source in sources(store)]
    for version in versions(store):
        members = Members(store, [resolve(store, version.name)])
        holds = members.rows == version.rows and manifest_hash(members.content_hashes()) == version.manifest_hash
        members.close()
        found.append(Check(f"version {version.name} has its hash", None if holds else "its rows are not those frozen"))
    for eval_set in eval_sets(store):
        items = eval_rows(store, eval_set)
        pairs = zip(items["messages"].to_pylist(), items["tools"].to_pylist(), strict=True)
        holds = manifest_hash(content_hash(*pair) for pair in pairs) == eval_set.manifest_hash
        found.append(
            Check(f"eval set {eval_set.name} has its hash", None if holds else "its items are not those frozen")
        )
    return found


def _check_source(store: Store, name: str) -> Check:
    [(rows, imported, rejected, here, out)] = store.rows(
        """SELECT rows, imported, rejected,
                  (SELECT count(*) FROM examples e WHERE e.source_id = s.id AND e.parent_id IS NULL),
                  (SELECT count(*) FROM rejects r WHERE r.source_id = s.id) FROM sources s WHERE name = ?""",
        [name],
    )
    holds = rows == imported + rejected and imported == here and rejected == out
    problem = f"{rows} rows read, {imported} imported and {rejected} rejected; {here} and {out} are there"
    return Check(f"source {name}: rows are imported or rejected", None if holds else problem)
