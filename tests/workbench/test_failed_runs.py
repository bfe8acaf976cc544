"""Experiments some of whose runs failed: what is compared without them, what is said of it, and how they are made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.errors import Problem
from trainer.failures import note_failure
from trainer.plan import BASE, SHORT, ResolvedBudget
from trainer.protocol import DONE
from trainer.verdict import NO_DIFFERENCE, WORSE
from workbench import experiments, outcomes, results
from workbench.comparing import listing
from workbench.experiments import Experiment, Question
from workbench.following import PlannedRun, Progress
from workbench.report.live import _Lines
from workbench.store import experiments as table
from workbench.workspace import Workspace

ITEMS = 12
NAN = Problem("the loss of step 3 is nan", do="Try a lower learning rate.")
BUDGET = ResolvedBudget(
    training=SHORT, steps=8, dtype="float32", trained_tokens_per_second=None, seconds_per_run=None,
    seconds_per_evaluation=None,
)  # fmt: skip


@pytest.fixture
def ws(tmp_path, tiny_model):
    """A workspace with the versions `a`, `b`, `c` and an eval set."""
    workspace = Workspace.init(tmp_path / "ws")
    for name in ("a", "b", "c"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": f"{name} {i}"}) + "\n" for i in range(9)))
        workspace.import_file(path, name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Item {i}", "completion": "x"}) + "\n" for i in range(ITEMS)))
    workspace.import_evalset(path, "items")
    yield workspace
    workspace.close()


@pytest.fixture
def planned(ws, tiny_model) -> Experiment:
    """`b` and `c` against `a`, three seeds each, planned and not run."""
    return experiments.plan(ws, Question("a", "b", more=("c",), model=str(tiny_model), trained_tokens=300, seeds=3))


def finish(planned: Experiment, *failed: str) -> None:
    """What the job leaves behind: runs of `b` are half a nat worse than those of `a` and `c`."""
    (planned.folder / "budget.json").write_text(BUDGET.model_dump_json())
    for number, run in enumerate([BASE, *(run.id for run in planned.plan.runs)]):
        if run in failed:
            note_failure(planned.folder / "results" / run, NAN)
        else:
            write_run(planned.folder / "results" / run, 2.5 if run.startswith("candidate-") else 2.0, number)
    (planned.folder / DONE).write_text("{}")


def write_run(folder: Path, nll: float, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(nll, 0.02, ITEMS)
    rows = {"item": range(ITEMS), "metric": ["response_nll"] * ITEMS, "value": values, "weight": [1.0] * ITEMS}
    pq.write_table(pa.table({k: list(v) for k, v in rows.items()}), folder / "metrics.parquet")
    answers = {"item": range(ITEMS), "text": ["yes"] * ITEMS, "finish": ["stop"] * ITEMS, "tokens": [1] * ITEMS}
    pq.write_table(pa.table({k: list(v) for k, v in answers.items()}), folder / "generations.parquet")
    told = {"steps": 8, "trained_tokens": 300, "left_out": {}, "revision": "", "held": "dense", "dtype": "float32"}
    (folder / "summary.json").write_text(json.dumps(told | {"evaluation_seconds": 1.0, "sanity": {}}))


def test_a_verdict_is_made_of_the_seeds_that_every_arm_finished_and_its_scope_says_so(ws, planned):
    finish(planned, "candidate-1")
    told = outcomes.conclude(ws, planned.id).as_json()
    assert told["failed"] == {"candidate-1": str(NAN)}
    assert [one["verdict"] for one in told["comparisons"]] == [WORSE, NO_DIFFERENCE]
    assert told["scope"] == "any seed of this setting (2 of the 3 seeds asked for)"
    for one in told["comparisons"]:
        assert "The run candidate-1 failed: the loss of step 3 is nan. Try a lower learning rate." in one["sentences"]
        assert any(sentence.startswith("Only the 2 seeds that every arm finished") for sentence in one["sentences"])
    assert set(told["adapters"]) == {run.id for run in planned.plan.runs} - {"candidate-1"}
    assert ws.store.rows("SELECT id, state FROM runs WHERE state <> 'done'") == [
        (f"{planned.id}/candidate-1", "failed")
    ]
    [listed] = listing(ws)
    assert (listed.state, listed.verdict) == ("done", WORSE)
    assert [list(seeds) for seeds in results.open_result(ws, planned.id).runs.values()] == [[0], [0, 2], [0, 2]]


def test_one_seed_that_is_left_speaks_of_two_runs_and_takes_its_noise_from_those_that_were_made(ws, planned):
    finish(planned, "candidate-1", "candidate2-2")
    told = outcomes.conclude(ws, planned.id).as_json()
    assert told["scope"] == "these two runs (1 of the 3 seeds asked for)"
    assert told["metrics"][0]["mde"] is not None, "the three runs of the baseline give a noise floor"


def test_an_arm_without_any_run_is_left_out(ws, planned):
    finish(planned, "candidate2-0", "candidate2-1", "candidate2-2")
    told = outcomes.conclude(ws, planned.id).as_json()
    assert [one["arm"] for one in told["comparisons"]] == ["candidate"]
    assert told["scope"] == "any seed of this setting"
    assert f"The runs candidate2-0, candidate2-1, candidate2-2 failed: {NAN}" in told["sentences"]


def test_where_nothing_is_left_to_compare_the_experiment_failed_and_says_of_what(ws, planned):
    finish(planned, "baseline-0", "candidate-1", "candidate2-2", "candidate-2")
    (planned.folder / DONE).unlink()
    told = {"event": "error", "what": NAN.what, "where": "", "do": NAN.do, "exit_code": 1, "t": 0}
    (planned.folder / "events.jsonl").write_text(json.dumps(told) + "\n")
    table.set_state(ws.store, planned.id, "running")
    [listed] = listing(ws)
    assert (listed.state, listed.why) == ("failed", str(NAN))


def test_opened_again_runs_that_failed_are_made_and_the_verdict_is_of_all_seeds(ws, planned):
    finish(planned, "candidate-1")
    outcomes.conclude(ws, planned.id)
    again = experiments.open_again(ws, experiments.find(ws, planned.id))
    assert not again.done
    assert not (planned.folder / DONE).exists(), "the job would not start"
    assert not outcomes.is_measured(ws, planned.id)
    write_run(planned.folder / "results" / "candidate-1", 2.5, 99)
    told = outcomes.conclude(ws, planned.id).as_json()
    assert (told["failed"], told["scope"]) == ({}, "any seed of this setting")
    done = experiments.find(ws, planned.id)
    assert experiments.open_again(ws, done) == done, "nothing failed"


def test_without_its_folder_an_experiment_stays_as_it_is(ws, planned):
    finish(planned, "candidate-1")
    outcomes.conclude(ws, planned.id)
    shutil.rmtree(planned.folder)
    done = experiments.find(ws, planned.id)
    assert experiments.open_again(ws, done).done


def test_progress_counts_runs_that_failed_as_ended_and_tells_of_them(capsys):
    runs = [PlannedRun(id, "a", seed) for seed, id in enumerate(("a-0", "a-1"))]
    progress, lines = Progress(runs), _Lines(2)
    failed = {"t": 1.0, "event": "run-failed", "run": "a-0", "arm": "a", "what": NAN.what, "where": "", "do": NAN.do}
    for event in ({"t": 0.0, "event": "started"}, failed):
        progress.take(event)
        lines.tell(event)
    assert progress.share() == 0.5
    assert progress.snapshot().failed == {"a-0": NAN.what}
    told = capsys.readouterr().err
    assert "a-0 failed: the loss of step 3 is nan. Try a lower learning rate. (1 of 2)" in told
    progress.take({"t": 2.0, "event": "started"})
    assert progress.failed == {}
