"""Results planted in a run folder, as its job would have left them."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.environment import libraries
from trainer.plan import BASE, SHORT, ModelChoice, ResolvedBudget
from workbench.experiments import Experiment

MODEL, BUDGET, SUMMARY = "model.json", "budget.json", "summary.json"  # see trainer.experiment
SANITY = {
    "gradient_reach": 1.0,
    "validation_before": None,
    "validation_after": None,
    "step0_difference": 0.0,
    "trainable_share": 0.01,
}


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
