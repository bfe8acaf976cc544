"""Everything that has rows in a workspace: sources, and the versions made out of them, with what made and uses each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workbench.store.database import Store
from workbench.store.experiments import users
from workbench.store.sources import sources


@dataclass(frozen=True)
class Entry:
    """A source or version. `inputs` are what a version was made from, `steps` what was done to them, in order.

    `experiments` are the ids of those that trained on it, or were planned to; `license` is a source's alone.
    """

    kind: Literal["source", "version"]
    name: str
    rows: int
    created_at: datetime
    inputs: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    manifest_hash: str | None = None
    license: str | None = None
    experiments: tuple[str, ...] = ()


def catalogue(store: Store) -> list[tuple[str, Entry]]:
    """Sources and versions as a tree, each behind the branches that lead to it (`│  └─ `): (branches, entry).

    A version stands below the first of what it was made from; both in the order in which they were made.
    """
    entries = [Entry("source", s.name, s.imported, s.created_at, license=s.license) for s in sources(store)]
    used = users(store)
    entries += [
        Entry(
            "version", name, rows, made, tuple(json.loads(inputs)), tuple(steps or ()), manifest,
            experiments=tuple(used.get(name, ())),
        )
        for name, rows, made, inputs, steps, manifest in store.rows(
            """SELECT v.name, v.rows, v.created_at, r.inputs,
                      (SELECT list(s.name ORDER BY s.position) FROM steps s WHERE s.recipe_run_id = r.id),
                      v.manifest_hash
               FROM versions v JOIN recipe_runs r ON r.id = v.recipe_run_id ORDER BY v.id"""
        )
    ]  # fmt: skip
    known = {entry.name for entry in entries}
    roots = [entry for entry in entries if not entry.inputs or entry.inputs[0] not in known]
    return [line for root in roots for line in _lines(root, entries, "", "")]


def _lines(entry: Entry, entries: Sequence[Entry], branch: str, below: str) -> list[tuple[str, Entry]]:
    found = [(branch, entry)]
    children = [child for child in entries if child.inputs[:1] == (entry.name,)]
    for child in children:
        last = child is children[-1]
        found += _lines(child, entries, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
    return found
