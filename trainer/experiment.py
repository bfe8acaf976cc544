"""The experiment job: base once, then every run trained and measured, results written as they come.

    plan.json, <arm>.parquet, eval.parquet   in; general.txt where forgetting is measured
    model.json, budget.json                  what the first minute decided; kept on resume
    results/<run>/metrics.parquet            item, metric, value, weight
    results/<run>/generations.parquet        item, text, finish, tokens
    results/<run>/summary.json               losses, sanity checks, speed; written last: the run is complete
    results/<run>/adapter/                   the adapter in PEFT form, or the model where all weights were trained
    results/<run>/trained.json               what a run that FSDP split had to tell, until it is measured
    results/<run>/failed.json                in place of all that: what went wrong with this run alone

A killed job resumes: complete runs are kept, the one under way goes on from its checkpoint. So a run of an earlier
experiment need not be made again where its results are put here, with the model.json and budget.json it was made by.

Several workers may make the runs of one folder side by side (`trainer.devices`): who holds the lock in the results of
a run makes it. Base and budget are settled by the first of them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from trainer import processes
from trainer.arms import read_arm, read_items, validation_rows, without
from trainer.base import Base, load_base, load_chosen, pick_device, with_policy
from trainer.chat import TokenCache, window
from trainer.devices import read_devices, side_by_side
from trainer.errors import Problem, Stopped
from trainer.evaluate import prepare
from trainer.failures import FAILED, check_comparable, forget_failures
from trainer.forgetting import read_windows
from trainer.plan import BASE, SHORT, ExperimentPlan, ModelChoice, ResolvedBudget
from trainer.protocol import Events, holding, read_plan, write_atomic
from trainer.runs import BUDGET, SUMMARY, TRAINED, Runs

MODEL = "model.json"
GENERAL = "general.txt"

_LOOK = 1.0  # seconds between looks whether a run of another worker has ended


def run_experiment(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises Problem kinds; see the module's text for the files."""
    plan = read_plan(folder, ExperimentPlan)
    results = folder / "results"
    if processes.is_first():
        forget_failures(results)
    devices = read_devices(folder) if processes.count() == 1 else []
    if devices:
        side_by_side(folder, devices, _work, events.began)
    else:
        processes.join(pick_device(plan.model.device))
        if processes.sharded():
            _train_all(folder, plan, events)
        _make_runs(folder, plan, events)
    if left := [run.id for run in plan.runs if not _has_ended(results / run.id)]:
        raise Problem(
            "a worker process ended without a word (killed, or out of memory)",
            where=f"run {left[0]}",
            do="The same command resumes where it was.",
        )
    check_comparable(results, plan)


def _work(folder: Path, workers: int, began: float) -> None:
    """What each of several workers does; `began` is when the first process of the job did."""
    events = Events(folder)
    events.began = began
    _make_runs(folder, read_plan(folder, ExperimentPlan), events, workers)


def _make_runs(folder: Path, plan: ExperimentPlan, events: Events, workers: int = 1) -> None:
    """Make the runs that are left, as far as no other worker makes them."""
    with _held(folder / "results", wait=True):
        runs = None if _is_prepared(folder, plan) else _load(folder, plan, events, workers)
        if runs and plan.base and not runs.is_complete(BASE):
            runs.measure_base()
        if runs:
            runs.agreed_budget()
    runs = runs or _load(folder, plan, events, workers)  # beside the other workers
    budget = runs.agreed_budget()
    lengths = {name: runs.length(name, budget)[0] for name, arm in runs.arms.items() if arm.trained_tokens}
    told = json.loads(budget.model_dump_json()) | {"trained_tokens": budget.trained_tokens, "steps_of": lengths}
    told["rates"] = sorted({own.training.learning_rate for own in runs.plan.settings.values()})
    events.emit("budget", **told)
    _make_all(runs, budget)


def _make_all(runs: Runs, budget: ResolvedBudget) -> None:
    """Make run after run until every one has ended, here or elsewhere; a dead worker's run is taken up."""
    plan = runs.plan
    ordered = sorted(plan.runs, key=lambda run: _quantize(plan, run.arm) != plan.model.quantize)
    while left := [run for run in ordered if not runs.has_ended(run)]:
        made = 0
        for run in left:
            if all(runs.has_ended(part) for part in plan.parts(run)):
                with _held(runs.results(run.id)) as ours:
                    if ours and not runs.has_ended(run):
                        runs.hold(_quantize(plan, run.arm))
                        runs.attempt(run, budget)
                        made += 1
        if not made:
            time.sleep(_LOOK)


def _train_all(folder: Path, plan: ExperimentPlan, events: Events) -> None:
    """Train the runs that are left, on a model that FSDP splits over the processes. Always raises Stopped.

    What is split cannot be measured, nor be trained on again: each run loads the model anew, and all are measured by
    the same job when it is started in the plain way.
    """
    for run in plan.runs:
        results = folder / "results" / run.id
        if run.arm in plan.arms and not _has_ended(results) and not (results / TRAINED).exists():
            runs = _load(folder, plan, events, 1)
            runs.hold(_quantize(plan, run.arm))
            if not runs.has_ended(run):
                runs.attempt(run, runs.agreed_budget())
    raise Stopped("Every run is trained, and none is measured", do=f"On one GPU: python -m trainer {folder}")


@contextlib.contextmanager
def _held(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold `folder` against other workers. Processes that make every run together do not stand in each other's way."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(True) if processes.count() > 1 else holding(folder, wait=wait) as ours:
        yield ours


def _has_ended(results: Path) -> bool:
    return (results / SUMMARY).exists() or (results / FAILED).exists()


def _is_prepared(folder: Path, plan: ExperimentPlan) -> bool:
    """Whether there is nothing to be done once for all runs."""
    return (folder / BUDGET).exists() and (not plan.base or (folder / "results" / BASE / SUMMARY).exists())


def _load(folder: Path, plan: ExperimentPlan, events: Events, workers: int) -> Runs:
    """The model, and the rows and items as it takes them."""
    events.emit("stage", what="loading the model")
    base, policy = with_policy(_load_alike(folder, plan), plan.policy)
    events.emit("stage", what="tokenising")
    training = plan.training or SHORT
    most = window(base.tokenizer, base.source.path) or training.max_length
    limit = min(training.max_length, most)
    cache = TokenCache(folder / plan.token_cache) if plan.token_cache else None
    arms = {
        name: read_arm(base, folder / file, policy, limit, training.truncate, cache) for name, file in plan.arms.items()
    }
    validation = {name: validation_rows(arm) for name, arm in arms.items()}
    arms = {name: without(arm, validation[name]) for name, arm in arms.items()}
    for name, arm in arms.items():
        events.emit("arm", arm=name, rows=len(arm.rows), trained_tokens=arm.trained_tokens, left_out=arm.left_out)
    items = prepare(base, read_items(folder / plan.evaluation.items), policy)
    windows = read_windows(base, folder / GENERAL) if plan.evaluation.general else []
    runs = Runs(folder, plan, base, arms, validation, items, windows, events, workers)
    del base  # the runs may come to hold another one
    runs.hold(plan.model.quantize)  # what was taken over may have been held otherwise
    runs.fail_empty_arms()
    runs.check_configs()
    return runs


def _load_alike(folder: Path, plan: ExperimentPlan) -> Base:
    """The base model in each process; the first one decides how it is held."""
    if processes.is_first():
        base = _load_as_before(folder, plan)
        processes.wait()
        return base
    processes.wait()
    return _load_as_before(folder, plan)


def _load_as_before(folder: Path, plan: ExperimentPlan) -> Base:
    """The base model; a resumed job holds it as the first one did, whatever `auto` would choose today."""
    path = folder / MODEL
    if not path.exists():
        base = load_base(plan.model)
        choice = ModelChoice(revision=base.source.revision, dtype=base.dtype, held=base.held)
        write_atomic(path, choice.model_dump_json())
        return base
    return load_chosen(plan.model, ModelChoice.model_validate_json(path.read_bytes()))


def _quantize(plan: ExperimentPlan, arm: str) -> str:
    """How the base is held for an arm; for a merged one as for what it is made of."""
    arm = next(iter(plan.merged[arm].of)) if arm in plan.merged else arm
    own = plan.settings.get(arm)
    return own.quantize if own else plan.model.quantize
