"""How far an experiment's job is, by the events that it tells: what it does now, the losses, the time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_LOADING = "preparing"
_PASSES = ("reference answers", "own answers")
"""The passes over the eval items that make an evaluation, in order."""
_EVALUATION = 0.3
"""Share of a run that its evaluation is taken for until one was seen."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan: its id, which arm it trains, and by which seed. A `merged` one is only evaluated."""

    id: str
    arm: str
    seed: int
    merged: bool = False


@dataclass
class Progress:
    """The job of an experiment as its events tell it; `take` each of them in order.

    `losses` are per run and optimizer step (from 1), in nats per trained token; `seconds` per finished run.
    """

    runs: Sequence[PlannedRun]
    phase: str = ""
    """What is done now, in a word or two; empty before the job has begun and when it has ended."""
    run: str = ""
    """The run under way: an id of `runs`, or the base's while the untrained model is evaluated. Of several that are
    made side by side, the one last told of."""
    step: int = 0
    steps: int = 0
    """Optimizer steps of the run under way; 0 until the budget is known."""
    speed: float | None = None
    """Trained tokens a second."""
    losses: dict[str, dict[int, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Of what each run failed that did."""
    evaluated: float = 0.0
    """Share of the evaluation under way."""
    at: float = 0.0
    """When the last event was told, in seconds since the epoch."""
    _planned_seconds: float | None = None  # of a run, as the budget has it
    _step_seconds: float | None = None
    _first_step: dict[str, tuple[float, int]] = field(default_factory=dict)  # when, and which, in this process
    _trained_at: dict[str, float] = field(default_factory=dict)
    _evaluation_seconds: float | None = None
    _under_way: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each run under way, the shares of its steps and of its evaluation that are done."""

    def take(self, event: dict[str, Any]) -> None:
        """Go on by one event of the job."""
        self.at = event["t"]
        match event["event"]:
            case "started":
                self.failed = {}  # it tries again
                self._first_step, self._under_way = {}, {}
                self._after_run("")
            case "stage":
                self.phase = str(event["what"])
            case "budget":
                self.steps = event["steps"] or max(event["steps_of"].values(), default=0)
                self._planned_seconds = event["seconds_per_run"]
                self._evaluation_seconds = event["seconds_per_evaluation"] or None
            case "train":
                self._train(event)
            case "evaluate":
                self._evaluate(event)
            case "run-done":
                self._run_done(event)
            case "run-failed":
                self.failed[event["run"]] = str(event["what"])
                self._after_run(event["run"])
            case "done" | "stopped" | "error":
                self.phase, self.run, self._under_way = "", "", {}

    def snapshot(self) -> Progress:
        """As it stands, for another thread to read."""
        losses = {run: dict(steps) for run, steps in self.losses.items()}
        under_way = dict(self._under_way)
        return replace(self, losses=losses, seconds=dict(self.seconds), failed=dict(self.failed), _under_way=under_way)

    def current(self) -> PlannedRun | None:
        """The run of the plan that is under way."""
        return next((run for run in self.runs if run.id == self.run), None)

    def share(self) -> float:
        """How much of the job is done, from 0 to 1."""
        return min((self._ended() + sum(self._shares().values())) / max(len(self.runs), 1), 1.0)

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end at `now` (seconds since the epoch); None where nothing tells yet."""
        whole = self._run_seconds()
        if whole is None:
            return None
        shares = self._shares()
        of_merged = self._evaluation_seconds or _EVALUATION * whole
        left = sum(
            (of_merged if run.merged else whole) * (1 - shares.get(run.id, 0.0))
            for run in self.runs
            if run.id not in self.seconds and run.id not in self.failed
        )
        return max(left / max(len(shares), 1) - max(now - self.at, 0.0), 0.0)

    def _train(self, event: dict[str, Any]) -> None:
        run, at = event["run"], event["t"]
        self.run, self.phase, self.evaluated = run, "training", 0.0
        if run not in self._first_step:
            self._first_step[run] = (at, event["step"])
            self.seconds.pop(run, None)  # its results were lost
        self.step, self.steps, self.speed = event["step"], event["steps"], event["tokens_per_second"]
        self.losses.setdefault(run, {})[self.step] = event["loss"]
        self._under_way[run] = (self.step / max(self.steps, 1), 0.0)
        self._trained_at[run] = at
        since, first = self._first_step[run]
        if self.step > first:
            self._step_seconds = (at - since) / (self.step - first)

    def _evaluate(self, event: dict[str, Any]) -> None:
        run = event["run"]
        self._trained_at.setdefault(run, event["t"])  # resumed in its evaluation, or the base's
        self.run, self.step, self.phase = run, self.steps, "evaluating"
        before = _PASSES.index(event["what"]) if event["what"] in _PASSES else 0
        self.evaluated = (before + event["done"] / max(event["total"], 1)) / len(_PASSES)
        self._under_way[run] = (1.0, self.evaluated)

    def _run_done(self, event: dict[str, Any]) -> None:
        run = event["run"]
        if "seconds" in event:
            self.seconds[run] = event["seconds"]
            self._evaluation_seconds = event["t"] - self._trained_at.get(run, event["t"])
        self._after_run(run)

    def _after_run(self, ended: str) -> None:
        self._first_step.pop(ended, None)
        self._trained_at.pop(ended, None)
        self._under_way.pop(ended, None)
        self.phase, self.run, self.step, self.evaluated = _LOADING, "", 0, 0.0

    def _ended(self) -> int:
        return len(self.seconds) + len(self.failed)

    def _shares(self) -> dict[str, float]:
        """How much of each run of the plan that is under way is done, from 0 to 1, by run id."""
        whole, evaluation = self._run_seconds(), self._evaluation_seconds
        part = min(evaluation / whole, 1.0) if whole and evaluation else _EVALUATION
        found = {}
        for run in self.runs:
            if run.id in self._under_way:
                trained, evaluated = self._under_way[run.id]
                found[run.id] = evaluated if run.merged else (1 - part) * trained + part * evaluated
        return found

    def _run_seconds(self) -> float | None:
        """What a whole run that is trained takes: as those before it, as its steps so far, or as the budget has it."""
        if trained := [self.seconds[run.id] for run in self.runs if run.id in self.seconds and not run.merged]:
            return sum(trained) / len(trained)
        if self._step_seconds is not None and self.steps:
            return self.steps * self._step_seconds + (self._evaluation_seconds or 0.0)
        return self._planned_seconds


def planned_runs(job: dict[str, Any]) -> list[PlannedRun]:
    """The runs of a job's plan (JSON)."""
    merged = job.get("merged", {})
    return [PlannedRun(run["id"], run["arm"], run["seed"], run["arm"] in merged) for run in job["runs"]]
