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
    """A run of the plan: its id, which arm it trains, and by which seed."""

    id: str
    arm: str
    seed: int


@dataclass
class Progress:
    """The job of an experiment as its events tell it; `take` each of them in order.

    `losses` are per run and optimizer step (from 1), in nats per trained token; `seconds` per finished run.
    """

    runs: Sequence[PlannedRun]
    phase: str = ""
    """What is done now, in a word or two; empty before the job has begun and when it has ended."""
    run: str = ""
    """The run under way: an id of `runs`, or the base's while the untrained model is evaluated."""
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
    _first_step: tuple[float, int] = (0.0, 0)  # when, and which, in this run and process
    _trained_at: float = 0.0
    _evaluation_seconds: float | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Go on by one event of the job."""
        self.at = event["t"]
        match event["event"]:
            case "started":
                self.failed = {}  # it tries again
                self._between_runs()
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
                self._between_runs()
            case "done" | "stopped" | "error":
                self.phase, self.run = "", ""

    def snapshot(self) -> Progress:
        """As it stands, for another thread to read."""
        losses = {run: dict(steps) for run, steps in self.losses.items()}
        return replace(self, losses=losses, seconds=dict(self.seconds), failed=dict(self.failed))

    def current(self) -> PlannedRun | None:
        """The run of the plan that is under way."""
        return next((run for run in self.runs if run.id == self.run), None)

    def share(self) -> float:
        """How much of the job is done, from 0 to 1."""
        return min((self._ended() + self._run_share()) / max(len(self.runs), 1), 1.0)

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end at `now` (seconds since the epoch); None where nothing tells yet."""
        whole = self._run_seconds()
        if whole is None:
            return None
        under_way = 1 if self.current() else 0
        waiting = len(self.runs) - self._ended() - under_way
        left = whole * (waiting + under_way * (1 - self._run_share()))
        return max(left - max(now - self.at, 0.0), 0.0)

    def _train(self, event: dict[str, Any]) -> None:
        if event["run"] != self.run or self.phase != "training":
            self.run, self.phase, self.evaluated = event["run"], "training", 0.0
            self._first_step = (event["t"], event["step"])
            self.seconds.pop(self.run, None)  # its results were lost
        self.step, self.steps, self.speed = event["step"], event["steps"], event["tokens_per_second"]
        self.losses.setdefault(self.run, {})[self.step] = event["loss"]
        self._trained_at = event["t"]
        since, first = self._first_step
        if self.step > first:
            self._step_seconds = (event["t"] - since) / (self.step - first)

    def _evaluate(self, event: dict[str, Any]) -> None:
        if event["run"] != self.run:  # resumed in its evaluation, or the base's
            self.run, self.step, self._trained_at = event["run"], self.steps, event["t"]
        self.phase = "evaluating"
        before = _PASSES.index(event["what"]) if event["what"] in _PASSES else 0
        self.evaluated = (before + event["done"] / max(event["total"], 1)) / len(_PASSES)

    def _run_done(self, event: dict[str, Any]) -> None:
        if "seconds" in event:
            self.seconds[event["run"]] = event["seconds"]
            self._evaluation_seconds = event["t"] - self._trained_at
        self._between_runs()

    def _between_runs(self) -> None:
        self.phase, self.run, self.step, self.evaluated = _LOADING, "", 0, 0.0

    def _ended(self) -> int:
        return len(self.seconds) + len(self.failed)

    def _run_share(self) -> float:
        if not self.current():
            return 0.0
        whole, evaluation = self._run_seconds(), self._evaluation_seconds
        part = min(evaluation / whole, 1.0) if whole and evaluation else _EVALUATION
        return (1 - part) * self.step / max(self.steps, 1) + part * self.evaluated

    def _run_seconds(self) -> float | None:
        """What a whole run takes: as those before it, as its steps so far, or as the budget has it."""
        if self.seconds:
            return sum(self.seconds.values()) / len(self.seconds)
        if self._step_seconds is not None and self.steps:
            return self.steps * self._step_seconds + (self._evaluation_seconds or 0.0)
        return self._planned_seconds


def planned_runs(job: dict[str, Any]) -> list[PlannedRun]:
    """The runs of a job's plan (JSON)."""
    return [PlannedRun(run["id"], run["arm"], run["seed"]) for run in job["runs"]]
