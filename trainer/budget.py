"""How much each run trains: the plan's budget as optimizer steps, a budget in minutes measured in the first steps."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.finetune import finetune
from trainer.plan import MIN_STEPS, SHORT, STANDARD, STANDARD_FROM, ExperimentPlan, ResolvedBudget, TrainingSetting

if TYPE_CHECKING:
    from peft import PeftModel

    from trainer.arms import Arm
    from trainer.base import Base

PROBE_STEPS = 3
"""Optimizer steps that measure the speed; the first warms up and is not counted."""
MAX_EPOCHS = 3
"""A budget in minutes never buys more passes over the smallest arm than practice uses."""
SAFETY = 0.93
"""Share of the time left that is planned for: machines slow down, answers get longer."""
CPU_MICRO_TOKENS = 1024
"""Tokens of one forward pass on a CPU: more are no faster there (docs/benchmarks.md) and fill the memory."""


def budget_in_tokens(plan: ExperimentPlan, base: Base, evaluation: float) -> ResolvedBudget | None:
    """The steps of a budget in trained tokens; None where it is in minutes. `evaluation` is in seconds."""
    if not plan.budget.trained_tokens:
        return None
    training = plan.training or (STANDARD if plan.budget.trained_tokens >= STANDARD_FROM else SHORT)
    return ResolvedBudget(
        training=_for_device(training, base),
        steps=max(1, round(plan.budget.trained_tokens / training.tokens_per_step)),
        dtype=base.dtype,
        trained_tokens_per_second=None,
        seconds_per_run=None,
        seconds_per_evaluation=evaluation,
    )


def budget_in_minutes(
    plan: ExperimentPlan,
    base: Base,
    arms: Sequence[Arm],
    evaluation: float,
    sample: Callable[[Any], object],
    spent: float,
    scratch: Path,
) -> ResolvedBudget:
    """The steps that the minutes of the plan buy at the speed of this machine, which a few real steps measure.

    `evaluation` is the seconds that evaluating the base takes, and `sample(model)` does a small part of that, to see
    how much slower the model is with an adapter. `spent` are the seconds already gone; `scratch` is a folder for
    the steps that measure, removed afterwards.
    """
    started = time.monotonic()
    training = plan.training or SHORT
    speed, overhead, slower = _measure_speed(
        base, arms[0], _for_device(training, base), plan.runs[0].seed, sample, scratch
    )
    evaluation *= slower
    left = (plan.budget.minutes or 0) * 60 - spent - (time.monotonic() - started)
    seconds = left * SAFETY / len(plan.runs) - evaluation - overhead
    tokens = min(seconds * speed, MAX_EPOCHS * min(arm.trained_tokens for arm in arms))
    if plan.training is None and tokens >= STANDARD_FROM:
        training = STANDARD
    bought = round_down(tokens / training.tokens_per_step)
    steps = max(MIN_STEPS, bought)
    return ResolvedBudget(
        training=_for_device(training, base),
        steps=steps,
        dtype=base.dtype,
        trained_tokens_per_second=round(speed, 1),
        seconds_per_run=round(steps * training.tokens_per_step / speed + overhead + evaluation, 1),
        seconds_per_evaluation=round(evaluation, 1),
        stretched=bought < MIN_STEPS,
    )


def round_down(steps: float) -> int:
    """`steps` on the next lower mark of a coarse grid (1, 1.2, 1.5, 2 ... times ten to the n): like machines agree."""
    if steps < 1:
        return 0
    unit: float = 10 ** math.floor(math.log10(steps))
    return int(max(grid * unit for grid in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if grid * unit <= steps))


def _for_device(training: TrainingSetting, base: Base) -> TrainingSetting:
    """The setting with forward passes that fit the device. The loss does not depend on how a step is cut."""
    if base.device.type == "cuda":
        return training
    return training.model_copy(update={"micro_tokens": min(training.micro_tokens, CPU_MICRO_TOKENS)})


def _measure_speed(
    base: Base, arm: Arm, training: TrainingSetting, seed: int, sample: Callable[[Any], object], scratch: Path
) -> tuple[float, float, float]:
    """Trained tokens a second of real steps, the seconds a run costs besides, and how many times as long an
    evaluation takes with an adapter: its small matrices cost little arithmetic but many calls.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    moments: list[tuple[float, int]] = []
    sampled: list[float] = []

    def time_samples(model: PeftModel) -> None:
        for used in (True, False):
            with contextlib.nullcontext() if used else model.disable_adapter():
                begun = time.monotonic()
                sample(model)
                sampled.append(time.monotonic() - begun)

    started = time.monotonic()
    finetune(
        base,
        arm.rows,
        training,
        seed=seed,
        steps=PROBE_STEPS,
        out=scratch,
        on_step=lambda _step, _steps, _loss, tokens: moments.append((time.monotonic(), tokens)),
        then=time_samples,
    )
    total = time.monotonic() - started - sum(sampled)
    shutil.rmtree(scratch)
    (first, tokens_first), (last, tokens_last) = moments[0], moments[-1]
    speed = (tokens_last - tokens_first) / max(last - first, 1e-6)
    with_adapter, without = sampled
    return speed, max(0.0, total - tokens_last / speed), max(1.0, with_adapter / max(without, 1e-6))
