"""Versions: frozen, named, hashed, ordered sets of examples, and where each came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from workbench.errors import BadInput, NotFound, UsageProblem
from workbench.store.database import Connection, Store, VersionRow, fetch, next_id, now
from workbench.store.drafts import forget
from workbench.store.members import Members, Named, find, not_found
from workbench.store.recipe_runs import StepRow, discard_run, finish_run, ledger, recipe_run
from workbench.store.rewrites import Standing, makes_rows


@dataclass(frozen=True)
class Version:
    """A version with its lineage. `parent` is set where it was made out of exactly one other version."""

    id: int
    name: str
    rows: int
    manifest_hash: str
    parent: str | None
    recipe: str | None
    recipe_run_id: int
    created_at: datetime


@dataclass(frozen=True)
class Stage:
    """One run on the way to a version: what went in, what each step dropped, what came out."""

    version: str
    inputs: tuple[str, ...]
    rows_in: int
    rows_out: int
    steps: list[StepRow]


def manifest_hash(content_hashes: Iterable[str]) -> str:
    """SHA-256 (hex) over the content hashes in order, a newline after each."""
    digest = hashlib.sha256()
    for content_hash in content_hashes:
        digest.update(content_hash.encode() + b"\n")
    return digest.hexdigest()


_VERSION = """SELECT v.id, v.name, v.rows, v.manifest_hash, p.name, v.recipe, v.recipe_run_id, v.created_at
              FROM versions v LEFT JOIN versions p ON p.id = v.parent_id"""


def versions(store: Store) -> list[Version]:
    """All versions, oldest first."""
    return [Version(*row) for row in store.rows(f"{_VERSION} ORDER BY v.id")]


def get_version(store: Store, name: str) -> Version:
    """The version of that name. Raises NotFound with the names that come near."""
    row = store.row(f"{_VERSION} WHERE v.name = ?", [name])
    if row:
        return Version(*row)
    if (other := find(store, name)) and other.kind == "source":
        raise NotFound(f"{name!r} is a source, not a version", do=f"See `workbench sources show {name}`.")
    known = [version.name for version in versions(store)]
    raise not_found("version", name, known, "`workbench run` or `workbench versions freeze` makes one.")


def freeze(
    cursor: Connection,
    store: Store,
    name: str,
    members: Members,
    *,
    run_id: int,
    recipe: str | None = None,
) -> tuple[VersionRow, bool]:
    """Freeze those of `members` that run `run_id` did not drop, as it rewrote them, as version `name`.

    On the cursor of a transaction, which may write rows if the run rewrote any.

    `members` are the rows that the steps of the run saw, whatever became of the draft since. Returns the version and
    whether it is new: the same name with the same content is the version that is there, and the run is then
    forgotten. Raises UsageProblem where the name stands for other content, BadInput where no row is left.
    """
    cursor.register("seen", members.chosen())
    cursor.register("rewritten", Standing.of(cursor, run_id).table())
    try:
        cursor.execute(
            """CREATE OR REPLACE TEMP TABLE kept AS
               WITH standing AS (SELECT pos, coalesce(w.new_id, s.example_id) AS example_id
                                 FROM seen s LEFT JOIN rewritten w ON w.example_id = s.example_id)
               SELECT row_number() OVER (ORDER BY pos) - 1 AS pos, example_id FROM standing WHERE example_id NOT IN
               (SELECT d.example_id FROM decisions d JOIN steps s ON s.id = d.step_id WHERE s.recipe_run_id = ?)
               ORDER BY 1""",
            [run_id],
        )
    finally:
        cursor.unregister("rewritten")
        cursor.unregister("seen")
    rows = int(fetch(cursor, "SELECT count(*) FROM kept")[0][0])
    if rows == 0:
        raise BadInput("no row is left, so there is nothing to freeze", where=name)
    manifest = manifest_hash(_kept_hashes(cursor))
    there = _claim_name(store, name, manifest)
    if there:
        if recipe_run_of(store, there.id) != run_id:
            discard_run(cursor, run_id)
        return there, False
    version_id = next_id(cursor, "versions")
    inputs = members.names
    parent_id = inputs[0].id if len(inputs) == 1 and inputs[0].kind == "version" else None
    cursor.execute(
        """INSERT INTO versions (id, name, parent_id, recipe, manifest_hash, rows, recipe_run_id, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        [version_id, name, parent_id, recipe, manifest, rows, run_id, now()],
    )
    cursor.execute("INSERT INTO version_examples SELECT ?, pos, example_id FROM kept ORDER BY pos", [version_id])
    finish_run(cursor, run_id, name, rows)
    return VersionRow(version_id, name, manifest, rows), True


def _kept_hashes(cursor: Connection) -> Iterator[str]:
    reader = cursor.sql(
        "SELECT e.content_hash FROM kept k JOIN examples e ON e.id = k.example_id ORDER BY k.pos"
    ).to_arrow_reader(65536)
    for batch in reader:
        yield from batch.column(0).to_pylist()


def refuse_source_name(store: Store, name: str) -> None:
    """Raise UsageProblem if `name` is a source's: sources and versions share one space of names."""
    taken = find(store, name)
    if taken and taken.kind == "source":
        raise UsageProblem(f"{name!r} is the name of a source", do="Give the version another --name.")


def _claim_name(store: Store, name: str, manifest: str) -> VersionRow | None:
    """The version that is this name and content already, or None if the name is free."""
    refuse_source_name(store, name)
    there = store.version(name)
    if there is None or there.manifest_hash == manifest:
        return there
    raise UsageProblem(
        f"there is a version {name!r} with other content ({there.rows:,} rows)",
        do=f"Choose another --name, or remove that one with `workbench versions rm {name}`.",
    )


def recipe_run_of(store: Store, version_id: int) -> int:
    """The run that a version was frozen from."""
    return int(store.rows("SELECT recipe_run_id FROM versions WHERE id = ?", [version_id])[0][0])


def lineage_runs(store: Store, name: str) -> list[int]:
    """Ids of the runs that led to a version, the last one first; empty for a source."""
    runs: list[int] = []
    queue, seen = [name], {name}
    while queue:
        version = store.version(queue.pop(0))
        if version is None:
            continue
        runs.append(recipe_run_of(store, version.id))
        before = recipe_run(store, runs[-1]).inputs
        queue += [n for n in before if n not in seen]
        seen.update(before)
    return runs


def history(store: Store, name: str) -> list[Stage]:
    """How a version came to be, the first stage first."""
    stages = []
    for run_id in reversed(lineage_runs(store, name)):
        run, steps = recipe_run(store, run_id), ledger(store, run_id)
        dropped = sum(step.dropped for step in steps)
        stages.append(Stage(run.version_name or "", run.inputs, run.rows_in, run.rows_in - dropped, steps))
    return stages


def check_removable(store: Store, name: str) -> None:
    """Raise UsageProblem where a version is worked on, trained on, or where another was made out of or against it."""
    version = get_version(store, name)
    store.check_unused(name)
    experiments = store.rows(
        """SELECT coalesce(experiment_id, id) FROM runs WHERE version_id = ?
           UNION SELECT id FROM experiments
           WHERE list_contains(plan->>'$.arms.*', ?)
           ORDER BY 1""",
        [version.id, version.name],
    )
    if experiments:
        listed = ", ".join(str(experiment) for (experiment,) in experiments)
        raise UsageProblem(
            f"version {name!r} was trained on, and its results would lose their data",
            where=f"experiment {listed}",
            do="Keep it (versions share their rows, so it takes little space), or delete the experiment first: "
            f"`workbench experiments rm {experiments[0][0]}`.",
        )
    children = [v.name for v in versions(store) if name in recipe_run(store, v.recipe_run_id).inputs]
    if children:
        raise UsageProblem(
            f"version {name!r} is where {', '.join(children)} came from, with the reasons for dropped rows",
            do=f"Remove {children[0]} first.",
        )
    if compared := _compared_with(store, name):
        raise UsageProblem(
            f"version {name!r} is what {', '.join(compared)} was compared with: what it had already was left out there",
            do=f"Remove {compared[0]} first.",
        )


def _compared_with(store: Store, name: str) -> list[str]:
    """The versions whose deduplicators name `name` in `against`, oldest first."""
    from filters.registry import STEPS

    dedup = [step.name for step in STEPS.values() if step.kind == "dedup"]
    found = store.rows(
        """SELECT DISTINCT v.id, v.name FROM versions v JOIN steps s ON s.recipe_run_id = v.recipe_run_id
           WHERE s.name IN (SELECT unnest(?)) AND json_contains(s.params->'$.against', to_json(?)) ORDER BY v.id""",
        [dedup, name],
    )
    return [version for _, version in found]


def remove_version(store: Store, name: str) -> None:
    """Delete a version and the run it came from, with the rows that it rewrote; scores and sources stay.

    Raises UsageProblem where something needs it (`check_removable`).
    """
    made_rows = makes_rows(store, get_version(store, name).recipe_run_id)
    with store.removing(rows=made_rows) as cursor:
        version = get_version(store, name)
        check_removable(store, name)
        cursor.execute("DELETE FROM version_examples WHERE version_id = ?", [version.id])
        cursor.execute("DELETE FROM versions WHERE id = ?", [version.id])
        discard_run(cursor, version.recipe_run_id)
        forget(cursor, Named("version", version.id, name, version.rows))
