"""Arms that are trained on all of their own rows, instead of on as many tokens as the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from trainer.conversation import canonical_json, content_hash
from trainer.experiment import run_experiment
from trainer.plan import Budget, Evaluation, ExperimentPlan, Run, TrainingSetting
from trainer.protocol import Events, read_events

TRAINING = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=40, micro_tokens=128, max_length=200)
ARMS = {"few": 15, "many": 60}


def job(folder: Path, model: Any, budget: Budget, whole: list[str]) -> dict[str, dict[str, Any]]:
    """Run an experiment of two arms with one seed; what it told of each arm and of its run."""
    for name, rows in [*ARMS.items(), ("eval", 2)]:
        texts = [
            canonical_json([{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": f"yes {i}"}])
            for i in range(rows)
        ]
        columns: dict[str, list[Any]] = {
            "content_hash": [content_hash(text) for text in texts], "messages": texts, "tools": [None] * rows,
            "item": list(range(rows)), "cluster": [str(i) for i in range(rows)],
        }  # fmt: skip
        table = pa.table(columns)
        pq.write_table(table.set_column(2, "tools", table["tools"].cast(pa.string())), folder / f"{name}.parquet")
    plan = ExperimentPlan(
        model=model,
        training=TRAINING,
        budget=budget,
        arms={arm: f"{arm}.parquet" for arm in ARMS},
        whole=whole,
        runs=[Run(id=f"{arm}-0", arm=arm, seed=0) for arm in ARMS],
        evaluation=Evaluation(max_new_tokens=2),
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    run_experiment(folder, Events(folder))
    events = read_events(folder)[0]
    told = {str(e["arm"]): {"rows": e["trained_tokens"]} for e in events if e["event"] == "arm"}
    [budgeted] = [e for e in events if e["event"] == "budget"]
    for arm in ARMS:
        told[arm] |= json.loads((folder / "results" / f"{arm}-0" / "summary.json").read_text())
        told[arm]["planned"] = budgeted["steps_of"][arm]  # type: ignore[index,call-overload]
    return told


def test_with_epochs_every_arm_is_trained_on_each_of_its_own_rows_as_often(tmp_path, tiny_setting):
    told = job(tmp_path, tiny_setting, Budget(epochs=2), whole=[])
    for arm in ARMS:
        assert told[arm]["trained_tokens"] == 2 * told[arm]["rows"]
        assert told[arm]["steps"] == told[arm]["planned"] == round(2 * told[arm]["rows"] / 40)
    assert told["many"]["steps"] > 3 * told["few"]["steps"]


def test_an_arm_that_is_to_see_all_rows_goes_on_beyond_the_budget_of_the_others(tmp_path, tiny_setting):
    told = job(tmp_path, tiny_setting, Budget(trained_tokens=120), whole=["few", "many"])
    assert told["few"]["rows"] < 120 < told["many"]["rows"], "one has seen all of its rows by then"
    assert told["few"]["steps"] == 3
    assert told["many"]["trained_tokens"] == told["many"]["rows"]
