"""The runs of an experiment: each trained, or merged of others, then measured, and its results written.

See `trainer.experiment` for the files.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from trainer import processes
from trainer.adapters import with_adapters
from trainer.answer_metrics import answer_metrics, prompt_lengths, regurgitation
from trainer.arms import Arm
from trainer.base import Base, load_base, with_policy
from trainer.budget import budget_in_epochs, budget_in_minutes, budget_in_tokens, for_device
from trainer.environment import environment
from trainer.errors import BadInput, Problem, Stopped, UsageProblem
from trainer.evaluate import PreparedItem, generate, reference_losses, write_measured
from trainer.failures import FAILED, check_comparable, note_failure, run_problem
from trainer.finetune import RunResult, finetune
from trainer.forgetting import forgetting
from trainer.merged_arm import merged_adapter
from trainer.methods import check_config, measuring
from trainer.plan import BASE, SHORT, ExperimentPlan, ResolvedBudget, Run
from trainer.protocol import Events, deferred_stop, write_atomic
from trainer.schedule import TrainRow, epoch_steps

BUDGET = "budget.json"
SUMMARY = "summary.json"
TRAINED = "trained.json"

SAMPLE_ITEMS = 10
SAMPLE_TOKENS = 24
"""What measuring the speed answers, to see how much slower that is with an adapter: a few seconds on two cores."""

WantsStop = Callable[[], bool]


@dataclass
class Runs:
    """What all runs of an experiment share; the base is held as the run under way wants it.

    `workers` make the runs side by side, this process among them; see `trainer.devices`.
    """

    folder: Path
    plan: ExperimentPlan
    base: Base
    arms: dict[str, Arm]
    validation: dict[str, list[TrainRow]]
    items: Sequence[PreparedItem]
    windows: Sequence[Sequence[int]]
    events: Events
    workers: int = 1

    def hold(self, quantize: str) -> None:
        """Hold the base in 4 bits or as it is; where that is not so, it is loaded again in place of the other."""
        if quantize == "auto" or (quantize == "nf4") == (self.base.held != "dense"):
            return
        self.events.emit("stage", what="loading the model in 4 bits" if quantize == "nf4" else "loading the model")
        wanted = self.plan.model.model_copy(update={"quantize": quantize, "dtype": self.base.dtype})
        del self.base  # its weights go before those of the other come
        self.base, _ = with_policy(load_base(wanted), self.plan.policy)

    def results(self, run: str) -> Path:
        """The folder of a run's results."""
        return self.folder / "results" / run

    def is_complete(self, run: str) -> bool:
        """Whether a run was trained and measured to its end."""
        return (self.results(run) / SUMMARY).exists()

    def has_ended(self, run: Run) -> bool:
        """Whether a run is complete, or failed."""
        return self.is_complete(run.id) or (self.results(run.id) / FAILED).exists()

    def is_empty(self, arm: str) -> bool:
        """Whether an arm is to be trained and has nothing to train on."""
        return arm in self.arms and not self.arms[arm].trained_tokens

    def finish(self, run: str, summary: dict[str, Any]) -> None:
        """Write the file that makes a run complete: `summary`, and what its numbers depend on besides the plan."""
        if not processes.is_first():
            processes.wait()
            return
        facts = {
            "revision": self.base.source.revision,
            "held": self.base.held,
            "dtype": self.base.dtype,
            "peak_mb": _peak_mb(),
            "environment": environment(),
        }
        write_atomic(self.results(run) / SUMMARY, json.dumps(summary | facts, allow_nan=False))
        processes.wait()

    def fail_empty_arms(self) -> None:
        """Note that the runs of arms with nothing to train failed. Raises BadInput where that leaves no comparison."""
        what = "no row with trained tokens is left to train on"
        do = "`workbench tokens VERSION --audit` shows why rows are not trained."
        for run in self.plan.runs:
            if self.is_empty(run.arm):
                self.fail(run, BadInput(what, where=f"arm {run.arm}", do=do))
        check_comparable(self.folder / "results", self.plan)

    def check_configs(self) -> None:
        """Raise BadInput where a PEFT config cannot be trained on this model: now, not after hours of other arms."""
        for own in self.plan.settings.values():
            if own.training.method == "peft":
                check_config(self.base, own.training)

    def attempt(self, run: Run, budget: ResolvedBudget) -> None:
        """Make a run; what goes wrong with it alone is noted, so that the others go on."""
        try:
            if run.arm in self.plan.merged:
                self.merge_and_measure(run)
            else:
                self.train_and_measure(run, budget)
        except Exception as error:
            problem = run_problem(error)
            # What befell one of several processes alone, such as memory that ran out, the others know nothing of.
            if problem is None or (processes.count() > 1 and not isinstance(error, Problem)):
                raise
            traceback.print_exc()
            self.fail(run, problem)

    def fail(self, run: Run, problem: Problem) -> None:
        """Note that a run failed, and of what."""
        if processes.is_first():
            note_failure(self.results(run.id), problem)
        processes.wait()
        told = {"what": problem.what, "where": problem.where, "do": problem.do}
        self.events.emit("run-failed", run=run.id, arm=run.arm, **told)

    def measure_base(self) -> None:
        """Evaluate the untrained model."""
        started = time.monotonic()
        self.measure(BASE, None, self.base.model)
        self.finish(BASE, {"evaluation_seconds": round(time.monotonic() - started, 1)})
        self.events.emit("run-done", run=BASE)

    def agreed_budget(self) -> ResolvedBudget:
        """The budget that the first process decides on; all measure the speed together."""
        try:
            budget, problem = self.budget(), None
        except Problem as error:
            budget, problem = None, error
        budget, problem = processes.from_first((budget, problem))
        if problem or budget is None:
            raise problem or Problem("no budget")
        return budget

    def budget(self) -> ResolvedBudget:
        """What every run trains: as decided before, or decided now and kept. Raises as `budget_in_minutes`."""
        path = self.folder / BUDGET
        if path.exists():
            kept = ResolvedBudget.model_validate_json(path.read_bytes())
            # One that was taken over with a run of a sweep has the setting that the sweep began with.
            own = self.plan.training
            return kept.model_copy(update={"training": for_device(own, self.base)}) if own else kept
        evaluation = self.plan.evaluation_seconds or 0.0
        if self.plan.base and self.is_complete(BASE):
            evaluation = float(json.loads((self.results(BASE) / SUMMARY).read_text())["evaluation_seconds"])
        names = [name for name, arm in self.arms.items() if arm.trained_tokens]
        arms = [self.arms[name] for name in names]
        budget = budget_in_tokens(self.plan, self.base, evaluation)
        budget = budget or budget_in_epochs(self.plan, self.base, arms, evaluation)
        if budget is None and processes.sharded():
            raise UsageProblem(
                "a budget in minutes is measured with the whole model, which no process has here",
                where="FSDP",
                do="Compare with --trained-tokens.",
            )
        if budget is None:
            self.events.emit("stage", what="measuring the speed")
            spent = time.monotonic() - self.events.began
            scratch = self.results(".speed")
            turns = math.ceil(len(self.plan.runs) / self.workers)
            watched = self.validation[names[0]]
            budget = budget_in_minutes(
                self.plan, self.base, arms, watched, evaluation, self._sample, spent, scratch, turns
            )
        if processes.is_first():
            write_atomic(path, budget.model_dump_json(indent=1))
        return budget

    def length(self, arm: str, budget: ResolvedBudget) -> tuple[int, int | None]:
        """The optimizer steps of each run of an arm, and how many passes over its rows they are to be exactly."""
        rows, own = self.arms[arm], self.plan.settings.get(arm)
        cut_short = arm in self.plan.whole and rows.trained_tokens > (budget.trained_tokens or 0)
        if budget.steps is None or cut_short:
            epochs = (own and own.epochs) or self.plan.budget.epochs or 1
            return epoch_steps(rows.rows, epochs, budget.training.tokens_per_step), epochs
        return budget.steps, None

    def _sample(self, model: Any) -> None:
        """A small part of what `measure` does, in about the same proportions."""
        every = max(1, len(self.items) // SAMPLE_ITEMS)
        items = self.items[::every]
        reference_losses(self.base, model, items, self._micro_tokens)
        generate(self.base, model, items, min(SAMPLE_TOKENS, self.plan.evaluation.max_new_tokens))
        forgetting(self.base, model, self.windows[::every])

    def _base_answers(self) -> list[tuple[int, str]]:
        """What the untrained model answered: (item, text); nothing where that is not known."""
        given = self.plan.base_answers
        path = self.folder / given if given else self.results(BASE) / "generations.parquet"
        table = pq.read_table(path, columns=["item", "text"]).to_pylist() if path.exists() else []
        return [(int(row["item"]), str(row["text"])) for row in table]

    @property
    def _micro_tokens(self) -> int:
        return (self.plan.training or SHORT).micro_tokens

    def train_and_measure(self, run: Run, budget: ResolvedBudget) -> None:
        """Train one arm with one seed, evaluate it, and write its results; of a model that is split only train it."""
        out = self.results(run.id)
        out.mkdir(parents=True, exist_ok=True)
        arm = self.arms[run.arm]
        steps, epochs = self.length(run.arm, budget)
        own = self.plan.settings.get(run.arm)
        started = time.monotonic()
        trained, split = out / TRAINED, processes.sharded()
        with deferred_stop() as wants_stop:
            if trained.exists():
                with with_adapters(self.base, {run.id: out / "adapter"})(run.id) as model:
                    try:
                        self.measure(run.id, run.arm, model, wants_stop)
                    finally:
                        model.unload()  # the base goes on to the next run
                self.finish(run.id, json.loads(trained.read_text()))
                self._end(run, time.monotonic() - started)
                return
            result = finetune(
                self.base,
                arm.rows,
                for_device(own.training, self.base) if own else budget.training,
                seed=run.seed,
                steps=steps,
                epochs=epochs,
                out=out,
                validation=self.validation[run.arm],
                on_step=_step_teller(run.id, self.events),
                wants_stop=wants_stop,
                then=lambda model: None if split else self.measure(run.id, run.arm, model, wants_stop),
            )
            seconds = round(time.monotonic() - started, 1)
            told = {"arm": run.arm, "seed": run.seed, "left_out": arm.left_out, "wall_seconds": seconds}
            told |= _summary(result)
            if split:
                if processes.is_first():
                    write_atomic(trained, json.dumps(told, allow_nan=False))
                processes.wait()
                return
            self.finish(run.id, told)
        self._end(run, seconds)

    def _end(self, run: Run, seconds: float) -> None:
        shutil.rmtree(self.results(run.id) / "checkpoints", ignore_errors=True)
        self.events.emit("run-done", run=run.id, seconds=round(seconds, 1))

    def merge_and_measure(self, run: Run) -> None:
        """Make a run's adapter of those of other runs, evaluate it, and write its results.

        Raises Problem where one of these failed.
        """
        parts = self.plan.parts(run)
        if missing := [part.id for part in parts if not self.is_complete(part.id)]:
            raise Problem(f"it is made of {', '.join(missing)}, which failed", where=f"run {run.id}")
        out, started = self.results(run.id), time.monotonic()
        self.events.emit("stage", what="combining adapters")
        folders = [self.results(part.id) / "adapter" for part in parts]
        with merged_adapter(self.base, self.plan.merged[run.arm], folders, run.seed, out / "adapter") as (model, kept):
            self.measure(run.id, run.arm, model)
        seconds = round(time.monotonic() - started, 1)
        made = {"made_of": [part.id for part in parts], "kept": round(kept, 4)}
        trained: dict[str, Any] = {"steps": 0, "trained_tokens": 0, "seconds": 0.0, "losses": [], "left_out": {}}
        self.finish(run.id, {"arm": run.arm, "seed": run.seed, "wall_seconds": seconds} | trained | made)
        self.events.emit("run-done", run=run.id, seconds=seconds)

    def measure(self, run: str, arm: str | None, model: Any, wants_stop: WantsStop = lambda: False) -> None:
        """Evaluate `model` on all items and write the run's metrics and answers. Raises Stopped when asked to.

        `arm` is what the model was trained on, if it was.
        """

        def heed(_: object = None) -> None:
            if wants_stop():
                raise Stopped("Stopped", do="The same command resumes where it was.")

        def teller(what: str) -> Callable[[int, int], None]:
            def on_item(done: int, total: int) -> None:
                self.events.emit("evaluate", run=run, what=what, done=done, total=total)
                heed()

            return on_item

        items = processes.share(self.items)
        limit = self.plan.evaluation.max_new_tokens
        with measuring():
            metrics = reference_losses(self.base, model, items, self._micro_tokens, teller("reference answers"))
            # A batch of answers may take minutes: a stop is heeded after each of its tokens.
            answers = generate(self.base, model, items, limit, on_item=teller("own answers"), on_tokens=heed)
            general = forgetting(self.base, model, self.windows)
        metrics = sorted(processes.gathered(metrics), key=lambda metric: metric.item)
        answers = sorted(processes.gathered(answers), key=lambda answer: answer.item)
        metrics += answer_metrics(self.base, self.items, answers)
        metrics += general
        if arm is None:
            metrics += prompt_lengths(self.items)
        else:
            trained_on = self.plan.merged[arm].of if arm in self.plan.merged else [arm]
            rows = [self.folder / self.plan.arms[part] for part in trained_on]
            metrics += regurgitation(rows, self.items, answers, self._base_answers())
        if broken := {metric.metric for metric in metrics if not math.isfinite(metric.value)}:
            raise Problem(
                f"{', '.join(sorted(broken))} of the trained model is no number",
                do="Training went wrong in its last steps: try a lower learning rate (--preset standard).",
            )
        if not processes.is_first():
            return
        out = self.results(run)
        out.mkdir(parents=True, exist_ok=True)
        write_measured(metrics, out / "metrics.parquet")
        write_measured(answers, out / "generations.parquet")


def _step_teller(run: str, events: Events) -> Callable[[int, int, float, int], None]:
    """What tells of each optimizer step, with the speed since the first one that this process made."""
    first: list[tuple[float, int]] = []

    def on_step(step: int, steps: int, loss: float, tokens: int) -> None:
        now = time.monotonic()
        if not first:
            first.append((now, tokens))
        since, tokens_then = first[0]
        speed = round((tokens - tokens_then) / (now - since), 1) if now > since else None
        events.emit(
            "train",
            run=run,
            step=step,
            steps=steps,
            loss=round(loss, 4),
            trained_tokens=tokens,
            tokens_per_second=speed,
        )

    return on_step


def _summary(result: RunResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "trained_tokens": result.trained_tokens,
        "seconds": round(result.seconds, 1),
        "losses": [round(loss, 5) for loss in result.losses],
        "stopped_early": result.stopped_early,
        "sanity": asdict(result.sanity),
        "cost": asdict(result.cost),
    }


def _peak_mb() -> int:
    """The process's peak resident memory in MB, since training began where that is told; not a GPU's."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
