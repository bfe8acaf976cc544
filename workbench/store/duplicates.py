"""What deduplicators found on the way to a version: their steps, the rows that fell, and the pairs that were alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from workbench.store.database import Store
from workbench.store.versions import lineage_runs


@dataclass(frozen=True)
class DedupStep:
    """One step of a recipe run that looked for duplicates."""

    id: int
    name: str
    params: dict[str, Any]
    rows_in: int


@dataclass(frozen=True)
class Member:
    """A row of a cluster, with as much of it as is read for looking."""

    id: int
    source: str
    row: int
    messages: list[dict[str, Any]]


def dedup_steps(store: Store, version: str, names: Collection[str]) -> list[DedupStep]:
    """The steps of these names on the way to `version`, the first run first; none for a source."""
    found = []
    for run_id in reversed(lineage_runs(store, version)):
        found += [
            DedupStep(step_id, name, json.loads(params), rows_in)
            for step_id, name, params, rows_in in store.rows(
                "SELECT id, name, params, rows_in FROM steps WHERE recipe_run_id = ? AND finished ORDER BY position",
                [run_id],
            )
            if name in names
        ]
    return found


def falls(store: Store, step_id: int) -> list[tuple[int, int, float]]:
    """(id, survivor, similarity) of the rows that a step dropped for another one."""
    rows = store.rows(
        """SELECT example_id, duplicate_of, coalesce(score, 1) FROM decisions
           WHERE step_id = ? AND duplicate_of IS NOT NULL ORDER BY example_id""",
        [step_id],
    )
    return [(int(id), int(survivor), float(score)) for id, survivor, score in rows]


def pairs(store: Store, step_id: int) -> pa.Table:
    """All pairs that a step found alike: `example_id`, `duplicate_of` (the preferred one), `similarity`."""
    return store.table("SELECT example_id, duplicate_of, similarity FROM duplicate_pairs WHERE step_id = ?", [step_id])


def members(store: Store, ids: Sequence[int]) -> dict[int, Member]:
    """The rows of `ids`, by id."""
    rows = store.rows(
        """SELECT e.id, s.name, e.row, e.messages FROM examples e JOIN sources s ON s.id = e.source_id
           WHERE e.id IN (SELECT unnest(?))""",
        [list(ids)],
    )
    return {id: Member(id, source, row, json.loads(messages)) for id, source, row, messages in rows}
