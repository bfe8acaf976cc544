"""Runs that fail while the others go on: what is noted of them, and which runs can be compared without them.

A run that does not fit into memory, or whose loss is no number any more, says nothing of the other runs. It leaves
`failed.json` in the folder of its results in place of a summary; the job makes it again when it is started again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped
from trainer.memory import memory_problem
from trainer.plan import ExperimentPlan, Run
from trainer.protocol import write_atomic

FAILED = "failed.json"


def run_problem(error: BaseException) -> Problem | None:
    """What is wrong with a run, in a sentence, where it is the run's own; None for what must end the whole job."""
    if isinstance(error, Problem) and not isinstance(error, Stopped | ModelUnavailable):
        return error
    return memory_problem(error)


def note_failure(results: Path, problem: Problem) -> None:
    """Note in the folder of a run's results why there are none."""
    results.mkdir(parents=True, exist_ok=True)
    # A checkpoint could hold the very weights that went wrong.
    shutil.rmtree(results / "checkpoints", ignore_errors=True)
    told = {"what": problem.what, "where": problem.where, "do": problem.do, "exit_code": problem.exit_code}
    write_atomic(results / FAILED, json.dumps(told))


def forget_failures(results: Path) -> None:
    """Remove what was noted of failed runs, so that they count as not made yet."""
    for path in results.glob(f"*/{FAILED}"):
        path.unlink()


def failures(results: Path, plan: ExperimentPlan) -> dict[str, Problem]:
    """The runs of a job that failed, by id, in the order of the plan. `results` is the folder of all of them."""
    found = {}
    for run in plan.runs:
        path = results / run.id / FAILED
        if path.exists():
            told = json.loads(path.read_bytes())
            kind = BadInput if told.pop("exit_code") == BadInput.exit_code else Problem
            found[run.id] = kind(**told)
    return found


def check_comparable(results: Path, plan: ExperimentPlan) -> None:
    """Raise the first failure of a run where the failures leave nothing to compare."""
    failed = failures(results, plan)
    if failed and not comparable(plan, failed):
        raise next(iter(failed.values()))


def comparable(plan: ExperimentPlan, failed: Collection[str]) -> dict[str, list[Run]]:
    """The runs of each arm that stand beside one of every other arm, in order; nothing where none do.

    The first arm is the one that the others are compared with. An arm without any run is left out, and the first arm
    may have a run more than the others, which measures the noise.
    """
    by_arm = {arm: [run for run in plan.runs if run.arm == arm] for arm in plan.all_arms}
    seeds = range(min(len(runs) for runs in by_arm.values()))
    whole = {arm: {i for i in seeds if runs[i].id not in failed} for arm, runs in by_arm.items()}
    whole = {arm: places for arm, places in whole.items() if places}
    first = next(iter(plan.arms))
    both = set(seeds).intersection(*whole.values())
    if first not in whole or len(whole) < min(2, len(by_arm)) or not both:
        return {}
    return {arm: [by_arm[arm][i] for i in sorted(both)] for arm in whole}
