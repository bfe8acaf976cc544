"""Runs that an earlier experiment made: which count as the same, and what stays when that experiment is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.plan import SHORT
from workbench import experiments, jobs, outcomes
from workbench.comparing import Jobs, promises
from workbench.diagnosis import tree_size
from workbench.experiment_removal import foresee_removal, remove_experiment
from workbench.experiment_report import write_report
from workbench.experiments import Experiment, Question
from workbench.verdict_history import history
from workbench.workspace import Workspace

from .planted import ended, made_of

MEANS = {"base": 3.0, "a": 2.0, "b": 2.1, "c": 2.2}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with versions `a`, `b` and `c`, and an eval set of six items."""
    versions = {name: [(f"Question {i}?", f"{name} {i}") for i in range(20)] for name in "abc"}
    return made_of(tmp_path_factory.mktemp("earlier"), versions)


@pytest.fixture
def ws(made_once: Path, open_copy: Callable[[Path], Workspace]) -> Workspace:
    return open_copy(made_once)


def ask(a: str, b: str, **options: Any) -> Question:
    return Question(a, b, **({"model": "./tiny", "trained_tokens": 2560, "seeds": 2} | options))


def made(ws: Workspace, a: str, b: str, **options: Any) -> tuple[Experiment, list[str]]:
    """A comparison to its end, and the runs that had to be made for it."""
    return ended(ws, ask(a, b, **options), MEANS.__getitem__)[:2]


def summary(experiment: Experiment, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((experiment.folder / "results" / run / "summary.json").read_text())
    return found


def test_only_the_arm_that_is_new_is_run_and_the_verdict_is_as_if_all_were(ws):
    first, runs = made(ws, "a", "b")
    assert sorted(runs) == ["base", "baseline-0", "baseline-1", "candidate-0", "candidate-1"]
    second, runs = made(ws, "a", "c")
    assert runs == ["candidate-0", "candidate-1"]
    assert second.taken == {"baseline-0": first.id, "baseline-1": first.id}
    assert promises(second)[1] == f"2 runs taken over from {first.id}: not made again"
    assert summary(second, "baseline-1")["taken_over_from"] == f"{first.id}/baseline-1"
    result = json.loads(str(outcomes.finished(ws, second.id).result))
    primary = next(metric for metric in result["metrics"] if metric["name"] == result["primary"])
    assert primary["delta"] == pytest.approx(0.2, abs=0.02)


def test_a_run_is_the_same_whichever_side_it_was_on(ws):
    first, _ = made(ws, "a", "b")
    second, runs = made(ws, "b", "c")
    assert runs == ["candidate-0", "candidate-1"]
    assert summary(second, "baseline-0")["taken_over_from"] == f"{first.id}/candidate-0"
    assert summary(second, "baseline-0")["arm"] == "baseline"
    answers = (second.folder / "results" / "baseline-0" / "generations.parquet").read_bytes()
    assert answers == (first.folder / "results" / "candidate-0" / "generations.parquet").read_bytes()
    third, _ = made(ws, "b", "a", seeds=3)
    assert summary(third, "baseline-0")["taken_over_from"] == f"{first.id}/candidate-0", "where it was made"


def test_other_seeds_are_made_beside_those_that_are_there_and_another_setting_anew(ws):
    first, _ = made(ws, "a", "b")
    more = experiments.foresee(ws, ask("a", "b", seeds=3))
    assert sorted(more.taken) == ["baseline-0", "baseline-1", "candidate-0", "candidate-1"]
    others: list[dict[str, Any]] = [
        {"trained_tokens": 5120},
        {"trained_tokens": None, "minutes": 5.0},
        {"quantize": "nf4"},
        {"training": SHORT},
        {"max_new_tokens": 5},
    ]
    for other in others:
        assert experiments.foresee(ws, ask("a", "c", **other)).taken == {}, other
    # By other libraries it would be another run, too; and one that is not whole is none.
    path = first.folder / "results" / "baseline-0" / "summary.json"
    told = summary(first, "baseline-0")
    path.write_text(json.dumps(told | {"environment": told["environment"] | {"torch": "0.0"}}))
    assert sorted(experiments.foresee(ws, ask("a", "c")).taken) == ["baseline-1"]
    for name in ("summary.json", "metrics.parquet", "generations.parquet"):
        path.write_text(json.dumps(told))
        assert len(experiments.foresee(ws, ask("a", "c")).taken) == 2
        lost = path.with_name(name)
        kept = lost.read_bytes()
        lost.unlink()
        assert sorted(experiments.foresee(ws, ask("a", "c")).taken) == ["baseline-1"], name
        lost.write_bytes(kept)


def test_what_minutes_bought_is_bought_again_only_by_as_many_seeds(ws):
    minutes: dict[str, Any] = {"trained_tokens": None, "minutes": 5.0}
    first, _ = made(ws, "a", "b", **minutes)
    again = experiments.plan(ws, ask("a", "c", **minutes))
    assert sorted(again.taken) == ["baseline-0", "baseline-1"]
    assert (again.folder / "budget.json").read_bytes() == (first.folder / "budget.json").read_bytes()
    assert experiments.plan(ws, ask("a", "c", seeds=3, **minutes)).taken == {}


def test_runs_that_were_held_otherwise_are_not_put_together(ws):
    first, _ = made(ws, "a", "b")
    made(ws, "c", "b")
    choice = json.loads((first.folder / "model.json").read_text())
    (first.folder / "model.json").write_text(json.dumps(choice | {"dtype": "bfloat16"}))
    # The newer has `c` and, taken over, `b`; the older has `a` and `b`, in another arithmetic.
    assert set(experiments.plan(ws, ask("a", "c")).taken.values()) != {first.id}
    assert len(experiments.plan(ws, ask("a", "c")).taken) == 2


def test_either_experiment_can_be_deleted_without_the_other(ws):
    first, _ = made(ws, "a", "b")
    second, _ = made(ws, "a", "c")
    before = outcomes.finished(ws, second.id).result
    shared = sum(len(f"baseline-{seed}") for seed in (0, 1))
    assert foresee_removal(ws, first.id).size == tree_size(first.folder) - shared, "the other one keeps them"
    remove_experiment(ws, first.id)
    adapter = second.folder / "results" / "baseline-0" / "adapter" / "adapter_model.safetensors"
    assert adapter.read_bytes() == b"baseline-0"
    assert outcomes.conclude(ws, second.id).as_json() == json.loads(str(before))
    third = experiments.plan(ws, ask("a", "b"))
    assert sorted(third.taken) == ["baseline-0", "baseline-1"], "back from the one that took them over"


def sentences(ws: Workspace, experiment: Experiment) -> list[str]:
    found: list[str] = json.loads(str(outcomes.finished(ws, experiment.id).result))["sentences"]
    return found


def test_whoever_reads_a_verdict_is_told_that_its_runs_were_compared_before(ws):
    first, _ = made(ws, "a", "b")
    second, _ = made(ws, "a", "c")
    shared = "their luck is the same in both comparisons, so that one verdict does not confirm the other."
    assert f"Runs of a were made for {first.id}: {shared}" in sentences(ws, second)
    assert not any(shared in told for told in sentences(ws, first))
    third, _ = made(ws, "b", "c")
    assert f"Runs of b and c were made for {first.id} and {second.id}: {shared}" in sentences(ws, third)
    made(ws, "a", "b", trained_tokens=5120)
    looked = history(ws, "items")
    assert (len(looked.compared), looked.sharing) == (4, 3)
    assert any(told.startswith("3 of them have runs in common, and so their luck") for told in looked.sentences())
    report = ws.root.parent / "report.md"
    write_report(ws, second.id, report)
    assert f"Runs of a were made for {first.id}" in report.read_text()


def test_where_all_runs_were_made_before_no_job_is_started(ws, monkeypatch):
    made(ws, "a", "b")
    made(ws, "a", "c")
    monkeypatch.setattr(jobs, "start", None)
    asked = experiments.foresee(ws, ask("b", "c"))
    assert promises(asked)[2:] == ["nothing is left to be trained"]
    experiments.run(experiments.plan(ws, ask("b", "c")), lambda _: None)
    followed = Jobs(ws)
    followed.begin(ask("b", "c"))
    [ended] = followed.look().ended
    assert ended.startswith("c against b: ")
