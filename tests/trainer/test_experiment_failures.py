"""Runs that fail alone: a sentence each, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer import experiment as experiments  # noqa: E402
from trainer import runs  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.failures import comparable, failures  # noqa: E402
from trainer.memory import memory_problem  # noqa: E402
from trainer.plan import Budget, Evaluation, ExperimentPlan, ModelSetting, Run, TrainingSetting  # noqa: E402
from trainer.protocol import DONE, Events, read_events, run_as_job  # noqa: E402

TRAINING = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=40, micro_tokens=128, max_length=100)


def chat(question: str, answer: str) -> str:
    return canonical_json([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


@pytest.fixture
def folder(tmp_path, tiny_setting):
    """A run folder with as many seeds of the arms as asked for; every row of `long` is longer than rows may be."""

    def make(*arms: str, seeds: int = 1) -> Path:
        answers = {"a": "yes", "b": "no", "long": "much too long " * 20}
        for arm in arms:
            texts = [chat(f"{i}?", f"{answers[arm]} {i}") for i in range(20)]
            rows = {"content_hash": [content_hash(t) for t in texts], "messages": texts, "tools": [None] * 20}
            pq.write_table(pa.table({k: pa.array(v, pa.string()) for k, v in rows.items()}), tmp_path / arm)
        items = [{"item": i, "messages": chat(f"{i}!", "yes"), "tools": None, "cluster": str(i)} for i in range(2)]
        pq.write_table(pa.Table.from_pylist(items), tmp_path / "eval.parquet")
        job = plan(tiny_setting, *arms, seeds=seeds)
        (tmp_path / "plan.json").write_text(job.model_dump_json())
        return tmp_path

    return make


def plan(model: ModelSetting, *arms: str, seeds: int) -> ExperimentPlan:
    return ExperimentPlan(
        model=model,
        training=TRAINING,
        budget=Budget(trained_tokens=80),
        arms={arm: arm for arm in arms},
        runs=[Run(id=f"{arm}-{seed}", arm=arm, seed=seed) for seed in range(seeds) for arm in arms],
        evaluation=Evaluation(max_new_tokens=2),
    )


def of_kind(events: list[dict], kind: str) -> list[str]:
    return [str(event["run"]) for event in events if event["event"] == kind]


@pytest.mark.parametrize("fault", ["memory", "no number"])
def test_a_run_that_fails_is_told_and_the_others_go_on_and_started_again_only_it_is_made(folder, monkeypatch, fault):
    job = folder("a", "b", seeds=2)
    train = runs.finetune

    def faulty(base, rows, setting, *, out, **options):
        if out.name == "a-1" and fault == "memory":
            torch.empty(1 << 60, dtype=torch.uint8)
        if out.name == "a-1":
            setting = setting.model_copy(update={"learning_rate": 1e30})
        return train(base, rows, setting, out=out, **options)

    monkeypatch.setattr(runs, "finetune", faulty)
    assert run_as_job(job, experiments.run_experiment) == 0
    events, position = read_events(job)
    assert of_kind(events, "run-failed") == ["a-1"]
    assert of_kind(events, "run-done") == ["base", "a-0", "b-0", "b-1"]
    assert not (job / "results" / "a-1" / "summary.json").exists()
    told = str(failures(job / "results", written_plan(job))["a-1"])
    if fault == "memory":
        assert "there is not enough memory: 1,152,921,504.6 GB more were asked for. Close other programs" in told
        assert "--max-length" in told
    else:
        assert "the loss of step 2 is nan. The learning rate is too high" in told
    (job / DONE).unlink()
    monkeypatch.setattr(runs, "finetune", train)
    assert run_as_job(job, experiments.run_experiment) == 0
    assert of_kind(read_events(job, position)[0], "run-done") == ["a-1"]
    assert failures(job / "results", written_plan(job)) == {}


def written_plan(job: Path) -> ExperimentPlan:
    return ExperimentPlan.model_validate_json((job / "plan.json").read_bytes())


def test_where_the_failures_leave_nothing_to_compare_the_job_ends_with_the_first(folder):
    job = folder("a", "b")
    changed = json.loads((job / "plan.json").read_text())
    changed["training"]["learning_rate"] = 1e30
    (job / "plan.json").write_text(json.dumps(changed))
    assert run_as_job(job, experiments.run_experiment) == 1
    events, _ = read_events(job)
    assert of_kind(events, "run-failed") == ["a-0", "b-0"], "the second run was not tried"
    assert events[-1]["event"] == "error"
    assert "the loss of step 2 is nan" in str(events[-1]["what"])
    assert not (job / DONE).exists(), "it could not be started again"


def test_an_arm_without_a_trainable_row_fails_before_anything_is_measured(folder):
    job = folder("a", "long")
    with pytest.raises(BadInput) as caught:
        experiments.run_experiment(job, Events(job))
    assert str(caught.value).startswith("arm long: no row with trained tokens is left to train on. `workbench tokens")
    assert not (job / "results" / "base").exists()


def test_of_three_arms_the_two_with_rows_go_on(folder):
    job = folder("a", "long", "b")
    experiments.run_experiment(job, Events(job))
    events, _ = read_events(job)
    assert of_kind(events, "run-failed") == ["long-0"]
    assert of_kind(events, "run-done") == ["base", "a-0", "b-0"]


def test_a_model_that_does_not_fit_into_memory_is_told_as_that(tmp_path):
    def load(*_: object) -> None:
        raise MemoryError

    assert run_as_job(tmp_path, load) == 1
    events, _ = read_events(tmp_path)
    assert events[-1]["what"] == "there is not enough memory"
    assert memory_problem(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")) is not None
    assert memory_problem(RuntimeError("shape mismatch")) is None


def test_what_is_compared_are_the_seeds_that_every_arm_finished(tiny_setting):
    job = plan(tiny_setting, "a", "b", "c", seeds=3)

    def left(*failed: str) -> dict[str, list[str]]:
        return {arm: [run.id for run in runs] for arm, runs in comparable(job, failed).items()}

    everything = {arm: [f"{arm}-{seed}" for seed in range(3)] for arm in "abc"}
    assert left() == everything
    assert left("b-1") == {arm: [f"{arm}-0", f"{arm}-2"] for arm in "abc"}
    assert left("b-0", "b-1", "b-2") == {arm: everything[arm] for arm in "ac"}
    assert left("a-0", "a-1", "a-2") == {}, "there is nothing to compare with"
    assert left("a-0", "b-1", "c-2") == {}
    with_noise = job.model_copy(update={"runs": [*job.runs, Run(id="a-noise", arm="a", seed=9)]})
    assert comparable(with_noise, ["a-noise"]) == comparable(job, [])


def test_a_problem_of_the_job_is_no_failure_of_a_run(folder, monkeypatch):
    job = folder("a", "b")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "finetune", full)
    assert run_as_job(job, experiments.run_experiment) == 1
    events, _ = read_events(job)
    assert of_kind(events, "run-failed") == []
    assert "the disk is full" in str(events[-1]["what"])
