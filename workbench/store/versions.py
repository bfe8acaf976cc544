"""Versions: frozen, named, hashed, ordered sets of examples, and where each came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from workbench.errors import BadInput, UsageProblem
from workbench.store.database import Connection, Store, VersionRow, fetch, next_id, now
from workbench.store.members import Named, choose, find, not_found
from workbench.store.recipe_runs import discard_run, finish_run, recipe_run


@dataclass(frozen=True)
class Version:
    """A version with its lineage. `parent` is set where it was made out of exactly one other version."""

    id: int
    name: str
    rows: int
    manifest_hash: str
    parent: str | None
    recipe: str | None
    recipe_run_id: int | None
    created_at: datetime


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
    known = [version.name for version in versions(store)]
    raise not_found("version", name, known, "`workbench run` or `workbench versions freeze` makes one.")


def freeze(
    store: Store, name: str, inputs: Sequence[Named], *, run_id: int | None = None, recipe: str | None = None
) -> tuple[VersionRow, bool]:
    """Freeze the rows of `inputs` that run `run_id` did not drop as version `name`, in one transaction.

    Returns the version and whether it is new: the same name with the same content is the version that is there.
    Raises UsageProblem where the name stands for other content, BadInput where no row is left.
    """
    with store.transaction() as cursor:
        choose(cursor, inputs)
        cursor.execute(
            """CREATE OR REPLACE TEMP TABLE kept AS
               SELECT row_number() OVER (ORDER BY pos) - 1 AS pos, example_id FROM chosen WHERE example_id NOT IN
               (SELECT d.example_id FROM decisions d JOIN steps s ON s.id = d.step_id WHERE s.recipe_run_id = ?)
               ORDER BY 1""",
            [run_id],
        )
        rows = int(fetch(cursor, "SELECT count(*) FROM kept")[0][0])
        if rows == 0:
            raise BadInput("no row is left, so there is nothing to freeze", where=name, do="Loosen the steps.")
        manifest = manifest_hash(_kept_hashes(cursor))
        there = _claim_name(store, name, manifest)
        if there:
            if run_id is not None and recipe_run_of(store, there.id) != run_id:
                discard_run(cursor, run_id)
            return there, False
        version_id = next_id(cursor, "versions")
        parent_id = inputs[0].id if len(inputs) == 1 and inputs[0].kind == "version" else None
        cursor.execute(
            """INSERT INTO versions (id, name, parent_id, recipe, manifest_hash, rows, recipe_run_id, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            [version_id, name, parent_id, recipe, manifest, rows, run_id, now()],
        )
        cursor.execute("INSERT INTO version_examples SELECT ?, pos, example_id FROM kept ORDER BY pos", [version_id])
        if run_id is not None:
            finish_run(cursor, run_id, name, rows)
        return VersionRow(version_id, name, manifest, rows), True


def _kept_hashes(cursor: Connection) -> Iterator[str]:
    reader = cursor.sql(
        "SELECT e.content_hash FROM kept k JOIN examples e ON e.id = k.example_id ORDER BY k.pos"
    ).to_arrow_reader(65536)
    for batch in reader:
        yield from batch.column(0).to_pylist()


def _claim_name(store: Store, name: str, manifest: str) -> VersionRow | None:
    """The version that is this name and content already, or None if the name is free."""
    taken = find(store, name)
    if taken is None:
        return None
    if taken.kind == "source":
        raise UsageProblem(f"{name!r} is the name of a source", do="Give the version another --name.")
    there = store.version(name)
    if there and there.manifest_hash == manifest:
        return there
    raise UsageProblem(
        f"there is a version {name!r} with other content ({taken.rows:,} rows)",
        do=f"Choose another --name, or remove that one with `workbench versions rm {name}`.",
    )


def recipe_run_of(store: Store, version_id: int) -> int | None:
    """The recipe run that a version was frozen from, if any."""
    row = store.row("SELECT recipe_run_id FROM versions WHERE id = ?", [version_id])
    return None if row is None else row[0]


def lineage_runs(store: Store, name: str) -> list[int]:
    """Ids of the recipe runs that led to a version, the last one first; empty for a source."""
    runs: list[int] = []
    queue, seen = [name], {name}
    while queue:
        row = store.row("SELECT recipe_run_id, parent_id FROM versions WHERE name = ?", [queue.pop(0)])
        if row is None:
            continue
        run_id, parent_id = row
        before: list[str] = []
        if run_id is not None:
            runs.append(run_id)
            before = list(recipe_run(store, run_id).inputs)
        elif parent_id is not None:
            before = [n for (n,) in store.rows("SELECT name FROM versions WHERE id = ?", [parent_id])]
        queue += [n for n in before if n not in seen]
        seen.update(before)
    return runs


def remove_version(store: Store, name: str) -> None:
    """Delete a version and the run it came from; examples, scores and sources stay.

    Raises UsageProblem where an experiment has run on it or another version was made out of it.
    """
    version = get_version(store, name)
    experiments = store.rows(
        "SELECT DISTINCT coalesce(experiment_id, id) FROM runs WHERE version_id = ? ORDER BY 1", [version.id]
    )
    if experiments:
        listed = ", ".join(str(experiment) for (experiment,) in experiments)
        raise UsageProblem(
            f"version {name!r} was trained on, and its results would lose their data",
            where=f"experiment {listed}",
            do="Keep it; versions share their rows, so it takes little space.",
        )
    children = [v.name for v in versions(store) if v.id != version.id and name in _made_from(store, v)]
    if children:
        raise UsageProblem(
            f"version {name!r} is where {', '.join(children)} came from, with the reasons for dropped rows",
            do=f"Remove {children[0]} first.",
        )
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM version_examples WHERE version_id = ?", [version.id])
        cursor.execute("DELETE FROM versions WHERE id = ?", [version.id])
        if version.recipe_run_id is not None:
            discard_run(cursor, version.recipe_run_id)


def _made_from(store: Store, version: Version) -> tuple[str, ...]:
    if version.recipe_run_id is not None:
        return recipe_run(store, version.recipe_run_id).inputs
    return (version.parent,) if version.parent else ()
