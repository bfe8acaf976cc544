"""The runs of merged arms in a job: made of the runs before them, measured as those are, and made again where lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from trainer.conversation import canonical_json, content_hash
from trainer.errors import Stopped
from trainer.experiment import run_experiment
from trainer.failures import comparable, failures
from trainer.plan import Budget, Evaluation, ExperimentPlan, MergedArm, Run, TrainingSetting
from trainer.protocol import Events, read_events

ARMS = ("a", "b", "empty")
MERGED = {
    "sum": MergedArm(how="linear", of={"a": 0.5, "b": 0.5}),
    "alone": MergedArm(how="linear", of={"a": 1.0, "b": 0.0}),
    "drawn": MergedArm(how="dare-ties", of={"a": 1.0, "b": -0.5}),
    "lacking": MergedArm(how="ties", of={"a": 1.0, "empty": 1.0}),
}


class StoppedAt(Events):
    """Events of a job that is stopped when it tells that it measures the run `run`."""

    def __init__(self, folder: Path, run: str) -> None:
        super().__init__(folder)
        self._run = run

    def emit(self, event: str, **fields: object) -> None:
        super().emit(event, **fields)
        if event == "evaluate" and fields["run"] == self._run:
            raise Stopped("Stopped")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_setting: Any) -> Path:
    """A job with arms that are trained, one without rows, and merged ones; stopped in the first of these, resumed."""
    folder = tmp_path_factory.mktemp("job")
    for arm, count in zip(ARMS, (30, 30, 0), strict=True):
        rows = []
        for i in range(count):
            text = canonical_json(
                [{"role": "user", "content": f"{arm} {i}?"}, {"role": "assistant", "content": f"{arm} says {i}"}]
            )
            rows.append({"content_hash": content_hash(text), "messages": text, "tools": None})
        schema = pa.schema([(name, pa.string()) for name in ("content_hash", "messages", "tools")])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{arm}.parquet")
    items = [
        {
            "item": i,
            "messages": canonical_json([{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "a"}]),
            "tools": None,
            "cluster": str(i),
        }
        for i in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(items), folder / "eval.parquet")
    plan = ExperimentPlan(
        model=tiny_setting,
        training=TrainingSetting(preset="test", learning_rate=3e-2, tokens_per_step=40, micro_tokens=128, lora_r=4),
        budget=Budget(trained_tokens=160),
        arms={arm: f"{arm}.parquet" for arm in ARMS},
        merged=MERGED,
        runs=[Run(id=f"{arm}-0", arm=arm, seed=0) for arm in (*ARMS, *MERGED)],
        evaluation=Evaluation(max_new_tokens=4),
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    with pytest.raises(Stopped):
        run_experiment(folder, StoppedAt(folder, "sum-0"))
    assert not (folder / "results/sum-0/summary.json").exists()
    run_experiment(folder, Events(folder))
    return folder


def summary(job: Path, run: str) -> dict[str, Any]:
    return json.loads((job / "results" / run / "summary.json").read_text())


def values(job: Path, run: str) -> dict[tuple[str, int], float]:
    table = pq.read_table(job / "results" / run / "metrics.parquet").to_pylist()
    return {(row["metric"], row["item"]): row["value"] for row in table}


def test_a_merged_run_is_measured_as_its_parts_are_and_says_that_nothing_was_trained(job):
    told = summary(job, "sum-0")
    assert (told["trained_tokens"], told["steps"], told["seconds"], told["losses"]) == (0, 0, 0.0, [])
    assert (told["made_of"], told["kept"]) == (["a-0", "b-0"], 1.0)
    assert 0 < summary(job, "drawn-0")["kept"] <= 1
    assert "sanity" not in told
    for run in ("sum-0", "drawn-0"):
        assert values(job, run).keys() == values(job, "a-0").keys()
        assert (job / "results" / run / "adapter/adapter_config.json").exists()
        assert len(pq.read_table(job / "results" / run / "generations.parquet")) == 3
    assert values(job, "sum-0") != values(job, "a-0")


def test_a_part_of_weight_one_beside_one_of_weight_nought_measures_like_that_part(job):
    alone, part = values(job, "alone-0"), values(job, "a-0")
    likely = [key for key in part if key[0] in ("response_nll", "prompt_gain")]
    assert [alone[key] for key in likely] == pytest.approx([part[key] for key in likely], abs=1e-4)
    assert likely


def test_stopped_while_a_merged_run_is_measured_the_job_makes_that_one_and_none_before_it_again(job):
    events, _ = read_events(job)
    assert [event["run"] for event in events if event["event"] == "run-done"] == [
        "base", "a-0", "b-0", "sum-0", "alone-0", "drawn-0",
    ]  # fmt: skip


def test_a_merged_run_whose_part_failed_is_left_out_with_a_sentence(job):
    plan = ExperimentPlan.model_validate_json((job / "plan.json").read_text())
    failed = failures(job / "results", plan)
    assert failed.keys() == {"empty-0", "lacking-0"}
    assert str(failed["lacking-0"]) == "run lacking-0: it is made of empty-0, which failed."
    assert comparable(plan, failed).keys() == {"a", "b", "sum", "alone", "drawn"}


def test_made_again_a_merged_run_has_the_same_numbers(job):
    before = values(job, "drawn-0")
    shutil.rmtree(job / "results/drawn-0")
    run_experiment(job, Events(job))
    assert values(job, "drawn-0") == before
