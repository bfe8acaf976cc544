"""A running experiment, told as it goes: bars on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from trainer.errors import Problem
from trainer.plan import MAX_EPOCHS

_EVERY = 15.0  # seconds between lines about one run where nobody watches a terminal
_OFF = 1.5  # times longer or shorter than foreseen that a run must take to be told


class _Teller(Protocol):
    def __call__(self, event: dict[str, Any]) -> None: ...


@contextmanager
def telling(runs: int, merged: int = 0) -> Iterator[_Teller]:
    """A function that takes a job's events and shows them; of `runs` that are made, `merged` are not trained."""
    teller = _Bars(runs, merged) if sys.stderr.isatty() else _Lines(runs, merged)
    try:
        yield teller.tell
    finally:
        teller.close()


def budget_sentence(event: dict[str, Any], runs: int, merged: int = 0) -> str:
    """What a `budget` event decided for `runs` runs that are trained and `merged` ones, in one line."""
    training = event["training"]
    rates = " or ".join(f"{rate:g}" for rate in event.get("rates") or [training["learning_rate"]])
    setting = f"preset {training['preset']}, learning rate {rates}, {event['dtype']}"
    if event["steps"] is None:
        text = f"{runs} runs of about {training['tokens_per_step']:,} trained tokens a step ({setting})"
    else:
        text = (
            f"each of {runs} runs: {event['steps']} steps of {training['tokens_per_step']:,}, "
            f"{event['trained_tokens']:,} trained tokens ({setting})"
        )
    others = {arm: steps for arm, steps in event.get("steps_of", {}).items() if steps != event["steps"]}
    if others:
        text += "; " + ", ".join(f"{arm} {steps:,} steps" for arm, steps in others.items())
    if event["seconds_per_run"]:
        seconds = event["seconds_per_run"] * runs + event["seconds_per_evaluation"] * merged
        text += f", about {_duration(event['seconds_per_run'])} a run, {_duration(seconds)} in all"
    if merged:
        text += f"; {merged} more are merged, and measured only"
    if event["stretched"]:
        text += "; that is longer than was asked for, but fewer steps teach nothing worth comparing"
    if event.get("capped"):
        text += f"; more would be over {MAX_EPOCHS} passes over the rows"
    return text


class _Pace:
    """What the first run took beside what a budget in minutes had foreseen of it, told once where they lie far apart.

    The budget stays: arms whose runs trained more or less than those of others could not be compared.
    """

    def __init__(self, runs: int) -> None:
        self._runs = runs  # that are trained
        self._foreseen: float | None = None
        self._whole: set[str] = set()  # runs that began in this job, not in one before it

    def told(self, event: dict[str, Any]) -> str | None:
        """What there is to say after an event, if there is."""
        if event["event"] == "budget":
            self._foreseen = event["seconds_per_run"]
        elif event["event"] == "train" and event["step"] == 1:
            self._whole.add(event["run"])
        elif event["event"] == "run-done" and self._foreseen and event["run"] in self._whole:
            took, foreseen, self._foreseen = event["seconds"], self._foreseen, None
            if not foreseen / _OFF <= took <= foreseen * _OFF:
                return (
                    f"{event['run']} took {_duration(took)}, and {_duration(foreseen)} were foreseen by the first "
                    f"steps: {self._runs} runs take about {_duration(took * self._runs)}. The steps stay, so that all "
                    "runs train alike; ctrl-c, and --trained-tokens sets another number"
                )
        return None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


class _Lines:
    """Plain lines: one for every stage and finished run, and every 15 seconds one about the run under way."""

    def __init__(self, runs: int, merged: int = 0) -> None:
        self.runs, self.merged = runs, merged
        self.done = 0
        self.last = 0.0
        self.pace = _Pace(runs - merged)

    def tell(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        pace = self.pace.told(event)
        if kind == "stage":
            self._say(f"{event['what']} ...")
        elif kind == "arm":
            self._say(arm_sentence(event))
        elif kind == "budget":
            self._say(budget_sentence(event, self.runs - self.merged, self.merged))
        elif kind == "train" and time.monotonic() - self.last > _EVERY:
            speed = event["tokens_per_second"]
            rate = f", {speed:.0f} trained tokens/s" if speed else ""
            self._say(f"  {event['run']}: step {event['step']} of {event['steps']}, loss {event['loss']:.3f}{rate}")
        elif kind == "run-done" and "seconds" in event:
            self.done += 1
            self._say(f"  {event['run']}: done in {_duration(event['seconds'])} ({self.done} of {self.runs})")
        elif kind == "run-failed":
            self.done += 1
            self._say(f"  {failure_sentence(event)} ({self.done} of {self.runs})")
        if pace:
            self._say(pace)

    def close(self) -> None:
        """Nothing to take down."""

    def _say(self, text: str) -> None:
        self.last = time.monotonic()
        click.echo(text, err=True)


def arm_sentence(event: dict[str, Any]) -> str:
    """What an `arm` event tells of one arm's rows, in one line."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in event["left_out"].items())
    text = f"{event['arm']}: {event['rows']:,} rows, {event['trained_tokens']:,} trained tokens"
    return f"{text}; left out: {left_out}" if left_out else text


def failure_sentence(event: dict[str, Any]) -> str:
    """What a `run-failed` event tells, in one line."""
    return f"{event['run']} failed: {Problem(event['what'], where=event['where'], do=event['do'])}"


class _Bars:
    """One bar over all runs and one for what happens now, with loss, rate and time left."""

    def __init__(self, runs: int, merged: int = 0) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.runs, self.merged = runs, merged
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=Console(stderr=True, markup=False, highlight=False),
            transient=True,
        )
        self.all = self.bars.add_task("runs", total=runs, now="")
        self.current = self.bars.add_task("starting", total=None, now="")
        self.subject = ""
        self.pace = _Pace(runs - merged)
        self.bars.start()

    def tell(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        pace = self.pace.told(event)
        if kind == "stage":
            self._on(event["what"], 0, None)
        elif kind == "arm":
            self.bars.console.print(arm_sentence(event))
        elif kind == "budget":
            self.bars.console.print(budget_sentence(event, self.runs - self.merged, self.merged))
        elif kind == "train":
            speed = event["tokens_per_second"]
            rate = f" · {speed:.0f} trained tokens/s" if speed else ""
            self._on(f"training {event['run']}", event["step"], event["steps"], f"loss {event['loss']:.3f}{rate}")
        elif kind == "evaluate":
            self._on(f"{event['run']}: {event['what']}", event["done"], event["total"])
        elif kind == "run-done" and "seconds" in event:
            self.bars.advance(self.all)
        elif kind == "run-failed":
            self.bars.advance(self.all)
            self.bars.console.print(failure_sentence(event))
        if pace:
            self.bars.console.print(pace)

    def close(self) -> None:
        """Take the bars away."""
        self.bars.stop()

    def _on(self, subject: str, done: int, total: int | None, now: str = "") -> None:
        if subject != self.subject:
            self.subject = subject
            self.bars.reset(self.current)
        self.bars.update(self.current, description=subject, completed=done, total=total, now=now)
