"""Whether the database still says what it should: blocks that can be read, counts that agree, hashes that hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filters.step import Progress
from trainer.conversation import content_hash
from workbench.errors import WorkspaceUnusable
from workbench.store.database import Store, fetch
from workbench.store.evalsets import EvalSet, eval_rows, eval_sets
from workbench.store.members import Members, resolve
from workbench.store.sources import Source, sources
from workbench.store.versions import Version, manifest_hash, versions


@dataclass(frozen=True)
class Check:
    """One thing looked at. `problem` is None where it is as it should be."""

    what: str
    problem: str | None


@dataclass(frozen=True)
class _Orphans:
    """Rows of `table` that belong to nothing: those (`t`) for which `lost`, an SQL condition, holds."""

    what: str
    table: str
    lost: str

    @property
    def sql(self) -> str:
        """The rest of a query, from FROM on, whose rows they are."""
        return f"FROM {self.table} t WHERE {self.lost}"


def _owned(what: str, table: str, key: str, owner: str) -> _Orphans:
    return _Orphans(what, table, f"NOT EXISTS (SELECT 1 FROM {owner} o WHERE o.id = t.{key})")


_NO_SOURCE = "NOT EXISTS (SELECT 1 FROM sources o WHERE o.id = t.source_id)"
_NO_ROWS = "NOT EXISTS (SELECT 1 FROM examples e WHERE e.source_id = t.source_id)"
_NAMED = """(t.id IN (SELECT example_id FROM version_examples) OR t.id IN (SELECT example_id FROM decisions)
             OR t.id IN (SELECT duplicate_of FROM decisions WHERE duplicate_of IS NOT NULL)
             OR t.id IN (SELECT parent_id FROM examples WHERE parent_id IS NOT NULL)
             OR t.id IN (SELECT new_id FROM rewrites)
             OR t.id IN (SELECT example_id FROM operation_rows)
             OR t.id IN (SELECT TRY_CAST(value AS BIGINT) FROM draft_rows WHERE field = 'replaced'))"""
# Nothing can ever show these rows, so a repair may remove them; owners first, since what they own goes with them.
_ORPHANS = (
    _Orphans("examples that nothing names have a source", "examples", f"{_NO_SOURCE} AND NOT {_NAMED}"),
    _Orphans("rejects have a source", "rejects", f"{_NO_SOURCE} AND {_NO_ROWS}"),
    _Orphans("corrected rejects have a source", "fixed_rejects", f"{_NO_SOURCE} AND {_NO_ROWS}"),
    _Orphans("files have a source", "source_files", f"{_NO_SOURCE} AND {_NO_ROWS}"),
    _owned("steps have a recipe run", "steps", "recipe_run_id", "recipe_runs"),
    _owned("decisions have a step", "decisions", "step_id", "steps"),
    _owned("duplicate pairs have a step", "duplicate_pairs", "step_id", "steps"),
    _owned("rewrites have a step", "rewrites", "step_id", "steps"),
    _owned("changes by hand have an operation", "operation_rows", "operation_id", "operations"),
    _owned("version rows have a version", "version_examples", "version_id", "versions"),
    _owned("eval items have an eval set", "eval_items", "eval_set_id", "eval_sets"),
    _owned("metrics have a run", "item_metrics", "run_id", "runs"),
    _owned("answers have a run", "generations", "run_id", "runs"),
)

# What else should hold, and a query that counts where it does not. No repair: something that a person made is gone.
_RULES = (
    ("examples that something names have a source", f"SELECT count(*) FROM examples t WHERE {_NO_SOURCE} AND {_NAMED}"),
    ("example ids are unique", "SELECT count(*) - count(DISTINCT id) FROM examples"),
    (
        "examples have their content hash",
        "SELECT count(*) FROM examples WHERE content_hash <> sha256(messages || coalesce(chr(10) || tools, ''))",
    ),
    ("decisions have an example", "SELECT count(*) FROM decisions d ANTI JOIN examples e ON e.id = d.example_id"),
    ("rows changed by hand exist", "SELECT count(*) FROM draft_rows d ANTI JOIN examples e ON e.id = d.example_id"),
    (
        "edits by hand exist",
        """SELECT count(*) FROM draft_rows d ANTI JOIN examples e ON e.id = TRY_CAST(d.value AS BIGINT)
           WHERE d.field = 'replaced'""",
    ),
    (
        "the survivors of duplicates exist",
        """SELECT count(*) FROM decisions d ANTI JOIN examples e ON e.id = d.duplicate_of
           WHERE d.duplicate_of IS NOT NULL""",
    ),
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
        "rewritten rows are examples that name the old ones",
        """SELECT count(*) FROM rewrites w LEFT JOIN examples n ON n.id = w.new_id
           LEFT JOIN examples o ON o.id = w.example_id
           WHERE o.id IS NULL OR n.parent_id IS DISTINCT FROM w.example_id""",
    ),
    (
        "no version holds what the run that made it rewrote",
        """SELECT count(*) FROM rewrites w JOIN steps s ON s.id = w.step_id
           JOIN versions v ON v.recipe_run_id = s.recipe_run_id
           JOIN version_examples x ON x.version_id = v.id AND x.example_id = w.example_id""",
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
        "positions in versions are dense from 0",
        """SELECT count(*) FROM (SELECT 1 FROM version_examples GROUP BY version_id
           HAVING min(pos) <> 0 OR max(pos) + 1 <> count(*) OR count(DISTINCT pos) <> count(*))""",
    ),
    (
        "versions have their recipe run",
        "SELECT count(*) FROM versions v ANTI JOIN recipe_runs r ON r.id = v.recipe_run_id",
    ),
    (
        "runs of experiments have their experiment",
        """SELECT count(*) FROM runs r ANTI JOIN experiments e ON e.id = r.experiment_id
           WHERE r.experiment_id IS NOT NULL""",
    ),
    (
        "a score is a number exactly where its state is ok",
        "SELECT count(*) FROM scores WHERE (value IS NULL) = (state = 'ok')",
    ),
)


def check(store: Store, progress: Progress | None = None) -> list[Check]:
    """Read every row, look at everything that keys and totals promise, and compute every hash again."""
    found = [_readable(store)]
    if found[0].problem:
        return found  # other answers would mean nothing
    for orphan in _ORPHANS:
        wrong = _count(store, orphan.sql)
        do = "`workbench doctor --repair` removes rows that belong to nothing"
        found.append(Check(orphan.what, f"{wrong:,} times not; {do}" if wrong else None))
    for what, sql in _RULES:
        wrong = int(store.rows(sql)[0][0])
        found.append(Check(what, f"{wrong:,} times not" if wrong else None))
    looks: list[Callable[[], Check]] = [
        *(partial(_check_source, store, source) for source in sources(store)),
        *(partial(_check_version, store, version) for version in versions(store)),
        *(partial(_check_eval_set, store, eval_set) for eval_set in eval_sets(store)),
    ]
    for number, look in enumerate(looks):
        if progress:
            progress(number, len(looks), "looking at sources, versions and eval sets")
        found.append(look())
    return found


def orphans(store: Store) -> int:
    """How many rows belong to nothing and could be removed."""
    return sum(_count(store, orphan.sql) for orphan in _ORPHANS)


def remove_orphans(store: Store, keep: Path) -> int:
    """Remove the rows that belong to nothing, all or none, and write them to the file `keep` first (JSON Lines).

    Each line has the `table` and the `row`. Returns how many rows went.
    """
    removed = 0
    with store.transaction(rows=True) as cursor, keep.open("x", encoding="utf-8") as file:
        for orphan in _ORPHANS:
            for (row,) in fetch(cursor, f"SELECT to_json(t)::VARCHAR {orphan.sql}"):
                file.write(f'{{"table":"{orphan.table}","row":{row}}}\n')
                removed += 1
            cursor.execute(f"DELETE {orphan.sql}")
        file.flush()
        os.fsync(file.fileno())
    return removed


def _count(store: Store, sql: str) -> int:
    return int(store.rows(f"SELECT count(*) {sql}")[0][0])


def _readable(store: Store) -> Check:
    """A hash over whole rows has to read all of them; the blocks' checksums tell what the disk has changed."""
    problems = []
    tables = store.rows("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY 1")
    for (table,) in tables:
        try:
            store.rows(f'SELECT sum(hash(t)) FROM "{table}" t')
        except WorkspaceUnusable as problem:
            problems.append(f"{table} {problem.what}. {problem.do}")
    return Check(f"all rows of {len(tables)} tables can be read", " ".join(problems) or None)


def _check_source(store: Store, source: Source) -> Check:
    [(imported, rejected, both)] = store.rows(
        """WITH mine AS (SELECT DISTINCT row FROM examples WHERE source_id = ? AND parent_id IS NULL),
                out AS (SELECT row FROM rejects WHERE source_id = ?)
           SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM out),
                  (SELECT count(*) FROM mine JOIN out USING (row))""",
        [source.id, source.id],
    )
    holds = source.rows == imported + rejected and (source.imported, source.rejected, both) == (imported, rejected, 0)
    problem = (
        f"{source.rows:,} rows read, {source.imported:,} imported and {source.rejected:,} rejected; "
        f"there are {imported:,} and {rejected:,}, {both:,} of them both"
    )
    return Check(f"source {source.name}: rows are imported or rejected", None if holds else problem)


def _check_version(store: Store, version: Version) -> Check:
    members = Members(store, [resolve(store, version.name)])
    try:
        holds = members.rows == version.rows and manifest_hash(members.content_hashes()) == version.manifest_hash
    finally:
        members.close()
    return Check(f"version {version.name} has its hash", None if holds else "its rows are not those frozen")


def _check_eval_set(store: Store, eval_set: EvalSet) -> Check:
    items = eval_rows(store, eval_set)
    pairs = zip(items["messages"].to_pylist(), items["tools"].to_pylist(), strict=True)
    holds = manifest_hash(content_hash(*pair) for pair in pairs) == eval_set.manifest_hash
    return Check(f"eval set {eval_set.name} has its hash", None if holds else "its items are not those frozen")
