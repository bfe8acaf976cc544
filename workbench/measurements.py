"""What was measured, as tables of runs and items, and how far two runs on the same data lie apart in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.shifts import SHIFTS
from trainer.slices import Mask
from trainer.statistics import NoiseFloor, estimate_noise_floor, pool_noise_floors
from trainer.variance import Floats
from trainer.verdict import DEFAULT_METRICS, JUDGED, MetricSpec
from workbench.store import experiments as rows
from workbench.store.evalsets import EvalSet
from workbench.workspace import Workspace


def metric_tables(ws: Workspace, run_ids: Sequence[str], n_items: int) -> tuple[dict[str, Floats], Floats]:
    """For each metric a float table (runs x items), NaN where missing, and the items' reference tokens.

    Metrics of general text have a column for each window of it (`trainer.forgetting`).
    """
    position = {run_id: i for i, run_id in enumerate(run_ids)}
    found = rows.item_metrics(ws.store, run_ids).to_pylist()
    windows = max((-row["eval_item"] for row in found), default=0)
    tables: dict[str, Floats] = {}
    weights = np.ones(n_items)
    for row in found:
        item, width = row["eval_item"], n_items
        if item < 0:
            item, width = -1 - item, windows
        table = tables.setdefault(row["metric"], np.full((len(run_ids), width), np.nan))
        table[position[row["run_id"]], item] = row["value"]
        if row["metric"] == "response_nll":
            weights[item] = row["weight"]
    return tables, weights


def clusters_of(ws: Workspace, evalset: str) -> list[str]:
    """The cluster of each item of an eval set, in order; an item without one is its own."""
    items = ws.eval_rows(evalset).to_pylist()
    return [str(item["cluster"] or item["item"]) for item in items]


class Noise:
    """All runs on the same data with different seeds that a setting has seen so far: what training alone moves."""

    def __init__(self, ws: Workspace, setting: str, evalset: EvalSet, like: dict[str, Any] | None = None) -> None:
        """Only runs of equal length and arithmetic are put together: a budget in minutes may come out otherwise.

        With `like`, a run's summary, only runs like that one count.
        """
        # The same seed on the same version is the same run, whichever experiment made it: twice, it would hide noise.
        alike: dict[tuple[Any, ...], dict[int, str]] = {}
        for stored in rows.runs_with(ws.store, setting):
            summary = json.loads(stored.summary)
            kind = _kind(summary)
            if stored.version_id is not None and (like is None or kind == _kind(like)):
                alike.setdefault((stored.version_id, *kind), {}).setdefault(stored.seed, stored.id)
        repeated = [list(group.values()) for group in alike.values() if len(group) > 1]
        self._tables = [metric_tables(ws, group, evalset.rows)[0] for group in repeated]
        self._clusters = clusters_of(ws, evalset.name) if repeated else []

    def floor(
        self, name: str, *, yes_no: bool = False, general: bool = False, of: Mask | None = None
    ) -> NoiseFloor | None:
        """The noise floor of a metric, among the items of a mask if one is given; None where there is none."""
        found = []
        for tables in self._tables:
            table = tables.get(name)
            if table is None:
                continue
            clusters = None if general else self._clusters
            if of is not None:
                table = table[:, of]
                clusters = clusters and [c for c, keep in zip(clusters, of, strict=True) if keep]
            table = table[~np.isnan(table).all(1)]  # runs of an earlier release may lack a metric of this one
            if len(table) > 1 and not np.isnan(table).any(0).all():
                found.append(estimate_noise_floor(table, clusters=clusters, yes_no=yes_no))
        return pool_noise_floors(found) if found else None

    def within(self, spec: MetricSpec, mask: Mask) -> NoiseFloor | None:
        """The noise floor of a metric among the items of a mask."""
        return self.floor(spec.name, yes_no=spec.yes_no, of=mask)

    def floors(self) -> dict[str, NoiseFloor]:
        """The noise floor of every metric and shift that has one."""
        specs = [spec for spec in DEFAULT_METRICS if spec.name not in JUDGED]
        found = {spec.name: self.floor(spec.name, yes_no=spec.yes_no, general=spec.general) for spec in specs}
        found |= {shift.name: self.floor(shift.name, yes_no=shift.yes_no) for shift in SHIFTS}
        return {name: floor for name, floor in found.items() if floor is not None}


def noise_floors(
    ws: Workspace, setting: str, evalset: EvalSet, like: dict[str, Any] | None = None
) -> dict[str, NoiseFloor]:
    """For each metric, how far two runs on the same data lie apart under this setting; see `Noise`.

    Empty where no version was run with two seeds yet.
    """
    return Noise(ws, setting, evalset, like).floors()


def _kind(summary: dict[str, Any]) -> tuple[Any, ...]:
    """What two runs of one setting must share to be runs of the same kind."""
    return summary.get("steps"), summary.get("dtype"), summary.get("held")
