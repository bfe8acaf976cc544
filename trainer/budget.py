"""How much each run trains: the plan's budget as optimizer steps, a budget in minutes measured in the first steps."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import processes
from trainer.errors import UsageProblem
from trainer.finetune import finetune
from trainer.methods import untrained
from trainer.plan import (
    CPU_MICRO_TOKENS,
    MAX_EPOCHS,
    MIN_STEPS,
    SHORT,
    STANDARD,
    STANDARD_FROM,
    ExperimentPlan,
    ResolvedBudget,
    TrainingSetting,
)

if TYPE_CHECKING:
    from trainer.arms import Arm
    from trainer.base import Base
    from trainer.schedule import TrainRow

PROBE_STEPS = 5
"""Optimizer steps that measure the speed; the first warms up and is not counted."""
SAFETY = 0.9
"""Share of the time left that is planned for: machines slow down, answers get longer."""
OVERRUN = 1.1
"""How many times the minutes asked for the fewest steps may take: a few steps tell no better what a run takes."""


def budget_in_tokens(plan: ExperimentPlan, base: Base, evaluation: float) -> ResolvedBudget | None:
    """The steps of a budget in trained tokens; None where it is in another unit. `evaluation` is in seconds."""
    if not plan.budget.trained_tokens:
        return None
    training = plan.training or (STANDARD if plan.budget.trained_tokens >= STANDARD_FROM else SHORT)
    return ResolvedBudget(
        training=for_device(training, base),
        steps=max(1, round(plan.budget.trained_tokens / training.tokens_per_step)),
        dtype=base.dtype,
        trained_tokens_per_second=None,
        seconds_per_run=None,
        seconds_per_evaluation=evaluation,
    )


def budget_in_epochs(plan: ExperimentPlan, base: Base, arms: Sequence[Arm], evaluation: float) -> ResolvedBudget | None:
    """What a budget in epochs settles before the first step; None where it is in another unit.

    `evaluation` is in seconds. Each arm makes steps of its own number: see `trainer.schedule.epoch_steps`.
    """
    if not plan.budget.epochs:
        return None
    fewest = plan.budget.epochs * min(arm.trained_tokens for arm in arms)
    training = plan.training or (STANDARD if fewest >= STANDARD_FROM else SHORT)
    return ResolvedBudget(
        training=for_device(training, base),
        steps=None,
        dtype=base.dtype,
        trained_tokens_per_second=None,
        seconds_per_run=None,
        seconds_per_evaluation=evaluation,
    )


def budget_in_minutes(
    plan: ExperimentPlan,
    base: Base,
    arms: Sequence[Arm],
    validation: Sequence[TrainRow],
    evaluation: float,
    sample: Callable[[Any], object],
    spent: float,
    scratch: Path,
    turns: int,
) -> ResolvedBudget:
    """The steps that the minutes of the plan buy at the speed of this machine, which a few real steps measure.

    They are made on the first of `arms`, whose training `validation` watches. `evaluation` is the seconds that
    evaluating the base takes, and `sample(model)` does a small part of that, to see how much slower the model is with
    an adapter. `spent` are the seconds already gone; `scratch` is a folder for the steps that measure, removed
    afterwards; `turns` are the runs that one device makes, one after another, of which
    merged ones are only evaluated. Raises UsageProblem where even `MIN_STEPS` take longer than was asked, unless the
    plan has them made nevertheless.
    """
    started = time.monotonic()
    asked = (plan.budget.minutes or 0) * 60
    if not plan.stretch and spent + turns * evaluation > asked * OVERRUN:
        raise _no_time_to_measure(plan, turns, evaluation, spent)
    training = plan.training or SHORT
    speed, overhead, slower = _measure_speed(
        base, arms[0], validation, for_device(training, base), plan.runs[0].seed, sample, scratch
    )
    evaluation *= slower
    spent += time.monotonic() - started
    trained = turns * sum(run.arm in plan.arms for run in plan.runs) / len(plan.runs)
    seconds = ((asked - spent) * SAFETY - turns * evaluation) / trained - overhead
    most = MAX_EPOCHS * min(arm.trained_tokens for arm in arms)
    tokens = min(seconds * speed, most)
    if plan.training is None and tokens >= STANDARD_FROM:
        training = STANDARD
    steps = max(MIN_STEPS, round_down(tokens / training.tokens_per_step))
    learning = steps * training.tokens_per_step / speed + overhead
    whole = spent + trained * learning + turns * evaluation
    if whole > asked * OVERRUN and not plan.stretch:
        raise _too_few_minutes(plan, training, learning, evaluation, spent, whole)
    return ResolvedBudget(
        training=for_device(training, base),
        steps=steps,
        dtype=base.dtype,
        trained_tokens_per_second=round(speed, 1),
        seconds_per_run=round(learning + evaluation, 1),
        seconds_per_evaluation=round(evaluation, 1),
        stretched=whole > asked,
        capped=seconds * speed > most,
    )


def _no_time_to_measure(plan: ExperimentPlan, turns: int, evaluation: float, spent: float) -> UsageProblem:
    """Why the minutes of a plan do not do, where that is plain before any step is made."""
    runs = f"{len(plan.runs)} runs" if len(plan.runs) > 1 else "1 run"
    alone = math.ceil((spent + turns * evaluation) / 30) / 2
    return UsageProblem(
        f"{plan.budget.minutes:g} minutes are too few for {runs} here: measuring them takes {alone:g} without training",
        do=f"Preparing took {spent:.0f} s, and measuring what comes of a run takes about {evaluation:.0f} s. Allow "
        f"{2 * alone:g} minutes or more, or take fewer seeds, a smaller eval set or shorter answers.",
    )


def _too_few_minutes(
    plan: ExperimentPlan, training: TrainingSetting, learning: float, evaluation: float, spent: float, whole: float
) -> UsageProblem:
    """Why the minutes of a plan do not do, and which would. `learning` and `evaluation` are the least of a run, `whole`
    of the job.
    """
    runs = f"{len(plan.runs)} runs" if len(plan.runs) > 1 else "1 run"
    enough = math.ceil((spent + (whole - spent) / SAFETY) / 30) / 2
    return UsageProblem(
        f"{plan.budget.minutes:g} minutes are too few for {runs} here: the least is about {enough:g}",
        do=f"A run has {MIN_STEPS} steps of {training.tokens_per_step:,} trained tokens or more, since fewer teach "
        f"nothing worth comparing: about {learning:.0f} s, and {evaluation:.0f} s to measure what came of it. Allow "
        f"{enough:g} minutes, or take fewer seeds, a smaller eval set or shorter answers.",
    )


def round_down(steps: float) -> int:
    """`steps` on the next lower mark of a coarse grid (1, 1.2, 1.5, 2 ... times ten to the n): like machines agree."""
    if steps < 1:
        return 0
    unit: float = 10 ** math.floor(math.log10(steps))
    return int(max(grid * unit for grid in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if grid * unit <= steps))


def for_device(training: TrainingSetting, base: Base) -> TrainingSetting:
    """The setting with forward passes that fit the device. The loss does not depend on how a step is cut."""
    if base.device.type == "cuda":
        return training
    return training.model_copy(update={"micro_tokens": min(training.micro_tokens, CPU_MICRO_TOKENS)})


def _measure_speed(
    base: Base,
    arm: Arm,
    validation: Sequence[TrainRow],
    training: TrainingSetting,
    seed: int,
    sample: Callable[[Any], object],
    scratch: Path,
) -> tuple[float, float, float]:
    """Trained tokens a second of real steps, the seconds a run costs besides, and how many times as long an
    evaluation takes with an adapter: its small matrices cost little arithmetic but many calls.
    """
    if processes.is_first():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    processes.wait()
    moments: list[tuple[float, int]] = []
    sampled: list[float] = []

    def time_samples(model: Any) -> None:
        for used in (True, False):
            with contextlib.nullcontext(model) if used else untrained(base, model) as one:
                begun = time.monotonic()
                sample(one if used else base.model)  # which is compared with nothing, as when the base was measured
                sampled.append(time.monotonic() - begun)

    started = time.monotonic()
    finetune(
        base,
        arm.rows,
        training,
        seed=seed,
        steps=PROBE_STEPS,
        out=scratch,
        validation=validation,
        on_step=lambda _step, _steps, _loss, tokens: moments.append((time.monotonic(), tokens)),
        then=time_samples,
    )
    total = time.monotonic() - started - sum(sampled)
    processes.wait()
    if processes.is_first():
        shutil.rmtree(scratch)
    (first, tokens_first), (last, tokens_last) = moments[0], moments[-1]
    speed = (tokens_last - tokens_first) / max(last - first, 1e-6)
    with_adapter, without = sampled
    return speed, max(0.0, total - tokens_last / speed), max(1.0, with_adapter / max(without, 1e-6))
