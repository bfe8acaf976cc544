"""The experiment job: base once, then every run trained and measured, results written as they come.

    plan.json, <arm>.parquet, eval.parquet   in
    model.json, budget.json                  what the first minute decided; kept on resume
    results/<run>/metrics.parquet            item, metric, value, weight
    results/<run>/generations.parquet        item, text, finish, tokens
    results/<run>/summary.json               losses, sanity checks, speed; written last: the run is complete
    results/<run>/adapter/                   the adapter in PEFT form

A killed job resumes: complete runs are kept, the one under way goes on from its checkpoint.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.base import Base, load_base
from trainer.chat import MaskPolicy, configured_stops, tokenise
from trainer.errors import BadInput, Stopped
from trainer.evaluate import (
    EvalItem,
    Generation,
    Metric,
    PreparedItem,
    answer_metrics,
    generate,
    prepare,
    reference_losses,
)
from trainer.finetune import RunResult, finetune
from trainer.plan import (
    BASE,
    SHORT,
    STANDARD,
    STANDARD_FROM,
    ExperimentPlan,
    ModelChoice,
    ResolvedBudget,
    Run,
    TrainingSetting,
)
from trainer.protocol import Events, deferred_stop, read_plan, write_atomic
from trainer.schedule import TrainRow

BUDGET = "budget.json"
MODEL = "model.json"
SUMMARY = "summary.json"
PROBE_STEPS = 3
"""Optimizer steps that measure the speed; the first warms up and is not counted."""
MAX_EPOCHS = 3
"""A budget in minutes never buys more passes over the smallest arm than practice uses."""
MIN_STEPS = 8
"""Fewer optimizer steps than this teach nothing worth comparing."""
SAFETY = 0.85
"""Share of the time left that is planned for: machines slow down, answers get longer."""
VALIDATION_ROWS = 24


@dataclass(frozen=True)
class Arm:
    """The tokenised rows of one version, and what was left out of them: counts by reason."""

    rows: list[TrainRow]
    left_out: dict[str, int]

    @property
    def trained_tokens(self) -> int:
        """Trained tokens of one pass over the arm."""
        return sum(row.trained for row in self.rows)


def run_experiment(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises Problem kinds; see the module's text for the files."""
    plan = read_plan(folder, ExperimentPlan)
    started = time.monotonic()
    budget = _known_budget(folder)
    events.emit("stage", what="loading the model")
    base = _load_as_before(folder, plan)
    policy = replace(plan.policy.mask_policy(), stop_ids=configured_stops(base.source.path))
    events.emit("stage", what="tokenising")
    max_length = (plan.training or SHORT).max_length
    arms = {name: read_arm(base, folder / file, policy, max_length) for name, file in plan.arms.items()}
    validation = shared_validation(list(arms.values()))
    arms = {name: _without(arm, validation) for name, arm in arms.items()}
    for name, arm in arms.items():
        if not arm.trained_tokens:
            raise BadInput("no row with trained tokens is left to train on", where=f"arm {name}")
    items = prepare(base, read_items(folder / plan.evaluation.items), policy)
    for name, arm in arms.items():
        events.emit("arm", arm=name, rows=len(arm.rows), trained_tokens=arm.trained_tokens, left_out=arm.left_out)

    if plan.base and not _complete(folder, BASE):
        evaluation_started = time.monotonic()
        _measure(folder, BASE, base, base.model, items, plan, events)
        seconds = round(time.monotonic() - evaluation_started, 1)
        _finish(folder, BASE, _facts(base) | {"evaluation_seconds": seconds})
        events.emit("run-done", run=BASE)
    if budget is None:
        evaluation = plan.evaluation_seconds
        if plan.base:
            evaluation = json.loads((folder / "results" / BASE / SUMMARY).read_text())["evaluation_seconds"]
        budget = _decide_budget(folder, plan, base, arms, evaluation or 0.0, time.monotonic() - started, events)
        write_atomic(folder / BUDGET, budget.model_dump_json(indent=1))
    events.emit("budget", **json.loads(budget.model_dump_json()), trained_tokens=budget.trained_tokens)
    for run in plan.runs:
        if not _complete(folder, run.id):
            _train_and_measure(folder, run, base, arms[run.arm], validation, items, plan, budget, events)


def read_arm(base: Base, path: Path, policy: MaskPolicy, max_length: int) -> Arm:
    """Tokenise the conversations of a Parquet file (`content_hash`, `messages`, `tools`).

    Rows with nothing to train and rows longer than `max_length` tokens are left out and counted, never cut.
    """
    rows: list[TrainRow] = []
    left_out: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for record in _records(path):
        copy = seen[record["content_hash"]]
        seen[record["content_hash"]] += 1
        tools = json.loads(record["tools"]) if record["tools"] else None
        tokenised = tokenise(base.tokenizer, json.loads(record["messages"]), tools, policy)
        if not tokenised.examples:
            left_out["template-error"] += 1
        for number, example in enumerate(tokenised.examples):
            row = TrainRow(f"{record['content_hash']}/{copy}/{number}", example.input_ids, example.labels)
            if not row.trained:
                left_out["zero-trained"] += 1
            elif len(row.input_ids) > max_length:
                left_out["longer than max_length"] += 1
            else:
                rows.append(row)
    return Arm(rows, dict(left_out))


def read_items(path: Path) -> list[EvalItem]:
    """The eval items of a Parquet file (`item`, `messages`, `tools`, `cluster`)."""
    return [
        EvalItem(
            item=int(record["item"]),
            messages=json.loads(record["messages"]),
            tools=json.loads(record["tools"]) if record["tools"] else None,
            cluster=str(record["cluster"]),
        )
        for record in _records(path)
    ]


def shared_validation(arms: Sequence[Arm]) -> list[TrainRow]:
    """Rows that every arm has, to watch training by: up to 24 and a twentieth of the smallest arm, by key.

    They are taken out of training in every arm, and are never the set that the verdict is about.
    """
    shared = set.intersection(*({row.key for row in arm.rows} for arm in arms)) if arms else set()
    size = min(VALIDATION_ROWS, min((len(arm.rows) for arm in arms), default=0) // 20)
    chosen = set(sorted(shared)[:size])
    return [row for row in arms[0].rows if row.key in chosen] if arms else []


def _without(arm: Arm, validation: Sequence[TrainRow]) -> Arm:
    keys = {row.key for row in validation}
    # A copy of a validation row (same content, another place) would leak it.
    contents = {key.split("/")[0] for key in keys}
    rows = [row for row in arm.rows if row.key.split("/")[0] not in contents]
    held_out = len(arm.rows) - len(rows)
    return Arm(rows, arm.left_out | ({"held out to watch training": held_out} if held_out else {}))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput("not a readable Parquet file", where=str(path)) from error
    for batch in file.iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def _load_as_before(folder: Path, plan: ExperimentPlan) -> Base:
    """The base model; a resumed job holds it as the first one did, whatever `auto` would choose today."""
    path = folder / MODEL
    if not path.exists():
        base = load_base(plan.model)
        choice = ModelChoice(revision=base.source.revision, dtype=base.dtype, held=base.held)
        write_atomic(path, choice.model_dump_json())
        return base
    choice = ModelChoice.model_validate_json(path.read_bytes())
    base = load_base(plan.model, choice)
    if base.source.revision != choice.revision:
        raise BadInput(
            f"the model is not the one that this experiment began with ({base.source.revision}, not {choice.revision})",
            where=f"model {plan.model.name}",
            do="Bring the old one back, or compare again: the changed model makes another experiment.",
        )
    return base


def _known_budget(folder: Path) -> ResolvedBudget | None:
    path = folder / BUDGET
    return ResolvedBudget.model_validate_json(path.read_bytes()) if path.exists() else None


def _decide_budget(
    folder: Path,
    plan: ExperimentPlan,
    base: Base,
    arms: dict[str, Arm],
    evaluation: float,
    spent: float,
    events: Events,
) -> ResolvedBudget:
    """Turn the plan's budget into steps; a budget in minutes is measured first."""
    if plan.budget.trained_tokens:
        training = plan.training or (STANDARD if plan.budget.trained_tokens >= STANDARD_FROM else SHORT)
        steps = max(1, round(plan.budget.trained_tokens / training.tokens_per_step))
        return ResolvedBudget(
            training=training,
            steps=steps,
            dtype=base.dtype,
            trained_tokens_per_second=None,
            seconds_per_run=None,
            seconds_per_evaluation=evaluation,
        )
    events.emit("stage", what="measuring the speed")
    training = plan.training or SHORT
    started = time.monotonic()
    speed, overhead = _measure_speed(folder, base, next(iter(arms.values())), training, plan.runs[0].seed)
    left = (plan.budget.minutes or 10) * 60 - spent - (time.monotonic() - started)
    seconds = left * SAFETY / len(plan.runs) - evaluation - overhead
    smallest = min(arm.trained_tokens for arm in arms.values())
    tokens = min(seconds * speed, MAX_EPOCHS * smallest)
    if plan.training is None and tokens >= STANDARD_FROM:
        training = STANDARD
    steps = max(MIN_STEPS, _round_down(tokens / training.tokens_per_step))
    return ResolvedBudget(
        training=training,
        steps=steps,
        dtype=base.dtype,
        trained_tokens_per_second=round(speed, 1),
        seconds_per_run=round(steps * training.tokens_per_step / speed + overhead + evaluation, 1),
        seconds_per_evaluation=round(evaluation, 1),
    )


def _round_down(steps: float) -> int:
    """`steps` rounded down to two significant digits' worth of a coarse grid, so that like machines agree."""
    if steps < 1:
        return 0
    unit: float = 10 ** math.floor(math.log10(steps))
    return int(max(grid * unit for grid in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if grid * unit <= steps))


def _measure_speed(folder: Path, base: Base, arm: Arm, training: TrainingSetting, seed: int) -> tuple[float, float]:
    """Trained tokens a second of real optimizer steps, and the seconds a run costs besides them."""
    out = folder / "results" / ".speed"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    moments: list[tuple[float, int]] = []
    started = time.monotonic()
    finetune(
        base,
        arm.rows,
        training,
        seed=seed,
        steps=PROBE_STEPS,
        out=out,
        on_step=lambda _step, _steps, _loss, tokens: moments.append((time.monotonic(), tokens)),
    )
    total = time.monotonic() - started
    shutil.rmtree(out)
    (first, tokens_first), (last, tokens_last) = moments[0], moments[-1]
    speed = (tokens_last - tokens_first) / max(last - first, 1e-6)
    return speed, max(0.0, total - tokens_last / speed)


def _train_and_measure(
    folder: Path,
    run: Run,
    base: Base,
    arm: Arm,
    validation: Sequence[TrainRow],
    items: Sequence[PreparedItem],
    plan: ExperimentPlan,
    budget: ResolvedBudget,
    events: Events,
) -> None:
    out = folder / "results" / run.id
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    began: list[tuple[float, int]] = []

    def on_step(step: int, steps: int, loss: float, tokens: int) -> None:
        now = time.monotonic()
        began.append((now, tokens))
        (first, tokens_first) = began[0]
        speed = (tokens - tokens_first) / (now - first) if now > first and len(began) > 1 else None
        events.emit(
            "train",
            run=run.id,
            step=step,
            steps=steps,
            loss=round(loss, 4),
            trained_tokens=tokens,
            tokens_per_second=round(speed, 1) if speed else None,
        )

    with deferred_stop() as wants_stop:
        result = finetune(
            base,
            arm.rows,
            budget.training,
            seed=run.seed,
            steps=budget.steps,
            out=out,
            validation=validation,
            on_step=on_step,
            wants_stop=wants_stop,
            then=lambda model: _measure(folder, run.id, base, model, items, plan, events, wants_stop),
        )
        _summarise(folder, run, base, arm, result, time.monotonic() - started)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    events.emit("run-done", run=run.id, seconds=round(time.monotonic() - started, 1))


def _summarise(folder: Path, run: Run, base: Base, arm: Arm, result: RunResult, seconds: float) -> None:
    told = {"arm": run.arm, "seed": run.seed, "left_out": arm.left_out} | _summary(result) | _facts(base)
    _finish(folder, run.id, told | {"wall_seconds": round(seconds, 1)})


def _facts(base: Base) -> dict[str, Any]:
    """What a number depends on besides the plan, and the process's peak memory so far."""
    return {"revision": base.source.revision, "held": base.held, "dtype": base.dtype, "peak_mb": _peak_mb()}


def _summary(result: RunResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "trained_tokens": result.trained_tokens,
        "seconds": round(result.seconds, 1),
        "losses": [round(loss, 5) for loss in result.losses],
        "stopped_early": result.stopped_early,
        "sanity": asdict(result.sanity),
    }


def _measure(
    folder: Path,
    run: str,
    base: Base,
    model: Any,
    items: Sequence[PreparedItem],
    plan: ExperimentPlan,
    events: Events,
    wants_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Evaluate `model` on all items and write the run's metrics and answers. Raises Stopped when asked to."""

    def report(what: str) -> Callable[[int, int], None]:
        def on_item(done: int, total: int) -> None:
            events.emit("evaluate", run=run, what=what, done=done, total=total)
            if wants_stop():
                raise Stopped("Stopped", do="The same command resumes where it was.")

        return on_item

    micro_tokens = (plan.training or SHORT).micro_tokens
    metrics = reference_losses(base, model, items, micro_tokens, report("reference answers"))
    answers = generate(base, model, items, plan.evaluation.max_new_tokens, on_item=report("own answers"))
    metrics += answer_metrics(base, answers)
    out = folder / "results" / run
    out.mkdir(parents=True, exist_ok=True)
    _write(metrics, out / "metrics.parquet")
    _write(answers, out / "generations.parquet")


def _write(rows: Sequence[Metric] | Sequence[Generation], path: Path) -> None:
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), part)
    part.replace(path)


def _complete(folder: Path, run: str) -> bool:
    return (folder / "results" / run / SUMMARY).exists()


def _finish(folder: Path, run: str, summary: dict[str, Any]) -> None:
    write_atomic(folder / "results" / run / SUMMARY, json.dumps(summary, allow_nan=False))


def _peak_mb() -> int:
    """The process's peak resident memory so far, in MB (GPU memory not counted)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
