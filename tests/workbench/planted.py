"""Versions to be compared, and the results of runs planted in their folders, as jobs would have left them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.environment import libraries
from trainer.plan import BASE, SHORT, ModelChoice, ResolvedBudget
from workbench import experiments, outcomes
from workbench.experiments import Experiment, Question
from workbench.store.experiments import find_experiment
from workbench.workspace import Workspace

MODEL, BUDGET, SUMMARY = "model.json", "budget.json", "summary.json"  # see trainer.experiment
SANITY = {
    "gradient_reach": 1.0,
    "validation_before": None,
    "validation_after": None,
    "step0_difference": 0.0,
    "trainable_share": 0.01,
}


def made_of(folder: Path, versions: Mapping[str, Iterable[tuple[str, str]]]) -> Path:
    """A workspace `ws` in `folder`: each version of its pairs, imported as NAME-rows, and an eval set `items`."""

    def file(name: str, pairs: Iterable[tuple[str, str]]) -> Path:
        path = folder / f"{name}.jsonl"
        rows = ({"prompt": prompt, "completion": answer} for prompt, answer in pairs)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    ws = Workspace.init(folder / "ws")
    for name, pairs in versions.items():
        ws.import_file(file(name, pairs), name=f"{name}-rows")
        ws.freeze(f"{name}-rows", name)
    ws.import_evalset(file("items", [(f"Item {i}?", f"yes {i}") for i in range(6)]), "items")
    ws.close()
    return folder / "ws"


def ended(ws: Workspace, question: Question, mean: Callable[[str], float]) -> tuple[Experiment, list[str], Any]:
    """An experiment with its results planted, the runs that had to be made for it, and its JSON."""
    experiment = experiments.plan(ws, question)
    runs = plant(experiment, mean)
    outcomes.conclude(ws, experiment.id)
    return experiment, runs, json.loads(str(find_experiment(ws.store, experiment.id).result))


def plant(experiment: Experiment, mean: Callable[[str], float], *, steps: int = 10, items: int = 6) -> list[str]:
    """Plant every run of an experiment that is not there yet, the base too; returns which those are.

    The NLL of an item is `mean` of the version (or of `base`), with a little luck of the run and of the item in it.
    """
    folder = experiment.folder
    if not (folder / MODEL).exists():
        choice = ModelChoice(revision="r", dtype="float32", held="dense")
        (folder / MODEL).write_text(choice.model_dump_json())
    if not (folder / BUDGET).exists():
        budget = ResolvedBudget(
            training=SHORT, steps=steps, dtype="float32", trained_tokens_per_second=None, seconds_per_run=None,
            seconds_per_evaluation=None,
        )  # fmt: skip
        (folder / BUDGET).write_text(budget.model_dump_json())
    made = []
    wanted = [(run.id, run.arm, run.seed) for run in experiment.plan.runs]
    wanted += [(BASE, BASE, 0)] if experiment.plan.base else []
    for run, arm, seed in wanted:
        results = folder / "results" / run
        if (results / SUMMARY).exists():
            continue
        made.append(run)
        (results / "adapter").mkdir(parents=True)
        (results / "adapter" / "adapter_model.safetensors").write_bytes(run.encode())
        version = experiment.arms.get(arm, BASE)
        luck = np.random.default_rng([seed, *version.encode()])
        nll = mean(version) + luck.normal(0, 0.003) + luck.normal(0, 0.01, items) + np.arange(items) / 10
        metrics = {
            "item": list(range(items)),
            "metric": ["response_nll"] * items,
            "value": nll,
            "weight": [5.0] * items,
        }
        pq.write_table(pa.table(metrics), results / "metrics.parquet")
        answers = {"item": list(range(items)), "text": [run] * items, "finish": ["stop"] * items, "tokens": [1] * items}
        pq.write_table(pa.table(answers), results / "generations.parquet")
        summary = {
            "arm": arm, "seed": seed, "steps": steps, "trained_tokens": 2560, "seconds": 5.0, "wall_seconds": 6.0,
            "evaluation_seconds": 1.0, "losses": [2.0], "left_out": {}, "sanity": SANITY, "revision": "r",
            "held": "dense", "dtype": "float32", "environment": libraries(),
        }  # fmt: skip
        if arm in experiment.plan.merged:
            summary |= {"steps": 0, "trained_tokens": 0, "seconds": 0.0, "losses": [], "made_of": [], "kept": 0.9}
            del summary["sanity"]
        (results / SUMMARY).write_text(json.dumps(summary))
    return made
