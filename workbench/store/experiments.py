"""Experiments, their runs, and what was measured of every eval item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.errors import NotFound
from workbench.store.database import Store, insert, now

State = Literal["planned", "running", "stopped", "failed", "done"]
"""`planned`: written down, and its job was not started yet."""


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment as the table `experiments` has it; `plan` and `result` are JSON text."""

    id: str
    name: str
    plan: str
    state: State
    result: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class RunRow:
    """A run as the table `runs` has it. The base model's run belongs to no version and no experiment alone."""

    id: str
    experiment_id: str | None
    arm: str
    version_id: int | None
    seed: int
    settings_hash: str
    state: State
    summary: str


def experiments(store: Store) -> list[ExperimentRow]:
    """All experiments, oldest first."""
    return [
        ExperimentRow(*row)
        for row in store.rows(
            "SELECT id, name, plan, state, result, created_at, finished_at FROM experiments ORDER BY created_at"
        )
    ]


def states(store: Store) -> list[tuple[str, State]]:
    """Id and noted state of every experiment, oldest first."""
    return [(id, state) for id, state in store.rows("SELECT id, state FROM experiments ORDER BY created_at, id")]


def users(store: Store) -> dict[str, list[str]]:
    """The ids of the experiments that trained on a version, or were planned to, by its name."""
    found: dict[str, list[str]] = {}
    for experiment in experiments(store):
        for name in dict.fromkeys(json.loads(experiment.plan).get("arms", {}).values()):
            found.setdefault(name, []).append(experiment.id)
    return found


def find_experiment(store: Store, name: str) -> ExperimentRow:
    """The experiment of that id, the newest of that name, or one whose id starts so. Raises NotFound."""
    known = experiments(store)
    found = [row for row in known if name in (row.id, row.name)]
    found = found or [row for row in known if row.id.startswith(name)]
    if found:
        return found[-1]
    do = "`workbench experiments ls` lists them." if known else "`workbench compare A B` makes one."
    raise NotFound(f"no experiment {name!r}", do=do)


def get_experiment(store: Store, id: str) -> ExperimentRow | None:
    """The experiment of exactly that id, or None."""
    return next((row for row in experiments(store) if row.id == id), None)


def save_experiment(store: Store, id: str, name: str, plan: str) -> None:
    """Note a new experiment, whose job is to be started."""
    with store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO experiments (id, name, plan, state, created_at) VALUES (?, ?, ?, 'planned', ?)",
            [id, name, plan, now()],
        )


def set_state(store: Store, id: str, state: State) -> None:
    """Note how an experiment's job ended, without a result."""
    with store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET state = ? WHERE id = ?", [state, id])


def save_result(store: Store, id: str, result: str) -> None:
    """Note an experiment's result (JSON) and that it is done."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE experiments SET state = 'done', result = ?, finished_at = ? WHERE id = ?", [result, now(), id]
        )


def delete_experiment(store: Store, id: str) -> None:
    """Delete an experiment with its runs and all that was measured in them.

    The base model's run belongs to every experiment that is measured beside it: it goes with the last of them.
    """
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM experiments WHERE id = ?", [id])
        cursor.execute(
            """CREATE OR REPLACE TEMP TABLE gone AS
               SELECT id FROM runs WHERE experiment_id = ? OR (experiment_id IS NULL
               AND settings_hash NOT IN (SELECT plan->>'$.base' FROM experiments))""",
            [id],
        )
        for table, key in (("item_metrics", "run_id"), ("generations", "run_id"), ("runs", "id")):
            cursor.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT id FROM gone)")


def save_run(store: Store, run: RunRow, metrics: pa.Table, generations: pa.Table) -> None:
    """Store a finished run with its numbers, replacing what an earlier reading of the same run left.

    `metrics`: item, metric, value, weight. `generations`: item, text, finish.
    """
    owner = pa.array([run.id] * len(metrics))
    metric_rows = metrics.rename_columns({"item": "eval_item"}).append_column("run_id", owner)
    answers = generations.select(["item", "text", "finish"]).rename_columns({"item": "eval_item"})
    answers = answers.append_column("run_id", pa.array([run.id] * len(answers)))
    with store.transaction() as cursor:
        for table in ("item_metrics", "generations"):
            cursor.execute(f"DELETE FROM {table} WHERE run_id = ?", [run.id])
        cursor.execute("DELETE FROM runs WHERE id = ?", [run.id])
        cursor.execute(
            """INSERT INTO runs (id, experiment_id, arm, version_id, seed, settings_hash, state, summary)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            [run.id, run.experiment_id, run.arm, run.version_id, run.seed, run.settings_hash, run.state, run.summary],
        )
        insert(cursor, "item_metrics", metric_rows)
        insert(cursor, "generations", answers)


def save_failed_run(store: Store, run: RunRow) -> None:
    """Note a run that has no numbers; its summary says why."""
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM runs WHERE id = ?", [run.id])
        cursor.execute(
            """INSERT INTO runs (id, experiment_id, arm, version_id, seed, settings_hash, state, summary)
               VALUES (?, ?, ?, ?, ?, ?, 'failed', ?)""",
            [run.id, run.experiment_id, run.arm, run.version_id, run.seed, run.settings_hash, run.summary],
        )


def failed_runs(store: Store, experiment_id: str) -> dict[str, str]:
    """The runs of an experiment that failed: id, and why."""
    found = store.rows(
        "SELECT id, summary->>'$.failed' FROM runs WHERE experiment_id = ? AND state = 'failed' ORDER BY id",
        [experiment_id],
    )
    return dict(found)


def save_metric(store: Store, metric: str, values: Mapping[str, NDArray[np.float64]]) -> None:
    """Note one metric of each item for some runs, by their ids, in place of what was there; NaN is not noted."""
    columns: dict[str, list[Any]] = {"run_id": [], "eval_item": [], "metric": [], "value": [], "weight": []}
    for run, by_item in values.items():
        for item in np.flatnonzero(~np.isnan(by_item)):
            for column, value in zip(
                columns.values(), (run, int(item), metric, float(by_item[item]), 1.0), strict=True
            ):
                column.append(value)
    with store.transaction() as cursor:
        cursor.execute(
            "DELETE FROM item_metrics WHERE metric = ? AND run_id IN (SELECT unnest(?))", [metric, list(values)]
        )
        insert(cursor, "item_metrics", pa.table(columns))


def runs_with(store: Store, settings_hash: str) -> list[RunRow]:
    """All finished runs under one setting."""
    return [
        RunRow(*row)
        for row in store.rows(
            """SELECT id, experiment_id, arm, version_id, seed, settings_hash, state, summary FROM runs
               WHERE settings_hash = ? AND state = 'done' ORDER BY id""",
            [settings_hash],
        )
    ]


def finished_runs(store: Store) -> list[tuple[str, str]]:
    """Every finished run of an experiment with that experiment's plan, the newest first: (plan, summary), JSON."""
    return [
        (plan, summary)
        for plan, summary in store.rows(
            """SELECT e.plan, r.summary FROM runs r JOIN experiments e ON e.id = r.experiment_id
               WHERE r.state = 'done' ORDER BY e.created_at DESC, r.id"""
        )
    ]


def item_metrics(store: Store, run_ids: Sequence[str]) -> pa.Table:
    """What was measured in these runs: run_id, eval_item, metric, value, weight."""
    return store.table(
        """SELECT run_id, eval_item, metric, value, weight FROM item_metrics
           WHERE run_id IN (SELECT unnest(?)) ORDER BY run_id, metric, eval_item""",
        [list(run_ids)],
    )


def answers(store: Store, run_ids: Sequence[str]) -> pa.Table:
    """The answers of these runs: run_id, eval_item, text, finish."""
    return store.table(
        """SELECT run_id, eval_item, text, finish FROM generations
           WHERE run_id IN (SELECT unnest(?)) ORDER BY eval_item, run_id""",
        [list(run_ids)],
    )


def item_means(store: Store, arms: Mapping[str, Sequence[str]]) -> pa.Table:
    """What was measured of each item in the runs of each arm, as means over its runs: eval_item, metric, arm, value."""
    pairs = [(run, arm) for arm, runs in arms.items() for run in runs]
    return store.table(
        """WITH asked AS (SELECT unnest(?) AS run_id, unnest(?) AS arm)
           SELECT m.eval_item, m.metric, a.arm, avg(m.value) AS value
           FROM item_metrics m JOIN asked a USING (run_id)
           WHERE NOT isnan(m.value) GROUP BY ALL ORDER BY m.eval_item""",
        [[run for run, _ in pairs], [arm for _, arm in pairs]],
    )


def answers_to(store: Store, run_ids: Sequence[str], item: int, most: int) -> dict[str, tuple[str, int, str]]:
    """The answers of these runs to one item: its first `most` characters, its length in characters, its finish."""
    found = store.rows(
        """SELECT run_id, left(text, ?), length(text), finish FROM generations
           WHERE eval_item = ? AND run_id IN (SELECT unnest(?))""",
        [most, item, list(run_ids)],
    )
    return {run: (text, length, finish) for run, text, length, finish in found}
