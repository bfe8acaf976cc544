"""Metrics that other packages bring: found by their entry points, read off every answer, reported beside the others.

    [project.entry-points."sft_workbench.metrics"]
    is_json = "example_metric:IsJson"

A package that is broken costs its own metric and nothing else; every error names it. How to write one:
docs/own-metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from trainer.conversation import Message
from trainer.errors import BadInput
from trainer.verdict import MetricSpec

GROUP = "sft_workbench.metrics"


@dataclass(frozen=True)
class Answered:
    """A greedy answer to an eval item.

    `asked` are the turns that it answers, `reference` the text of the reference answer (None where there is none),
    `finish` is `stop` where the model ended it and `length` where the limit of new tokens did.
    """

    item: int
    asked: Sequence[Message]
    reference: str | None
    answer: str
    finish: str


class AnswerMetric(Protocol):
    """What an entry point names: a class without arguments that measures one answer at a time."""

    higher_is_better: bool

    def measure(self, answered: Answered) -> float | None:
        """A finite number, or None where this answer has none."""


@dataclass(frozen=True)
class OwnMetric:
    """A metric that a package offers; `package` is the name and version."""

    name: str
    package: str
    made: AnswerMetric

    @property
    def spec(self) -> MetricSpec:
        """Its part in a verdict: none."""
        return MetricSpec(self.name, "report", higher_is_better=self.made.higher_is_better)

    def measure(self, answers: Iterable[Answered]) -> dict[int, float]:
        """The number of each item that has one. Raises BadInput, which names metric, package and item."""
        found = {}
        for answered in answers:
            try:
                value: object = self.made.measure(answered)
            except (Exception, SystemExit) as error:
                what = f"failed on item {answered.item} ({type(error).__name__}: {error})"
                raise _problem(self.name, self.package, what) from error
            if value is None:
                continue
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise _problem(self.name, self.package, f"gave {value!r} for item {answered.item}, no finite number")
            found[answered.item] = float(value)
        return found


def own_metrics(taken: Collection[str]) -> tuple[list[OwnMetric], list[str]]:
    """The metrics that packages offer, by name, and a sentence for each that cannot be used.

    A name that is `taken` stays the workbench's own; a name that two packages offer is nobody's.
    """
    offers: dict[str, list[tuple[str, EntryPoint]]] = {}
    for entry in entry_points(group=GROUP):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        offers.setdefault(entry.name, []).append((package, entry))
    found, refused = [], []
    for name, several in sorted(offers.items()):
        packages = " and ".join(sorted({package for package, _ in several}))
        if name in taken:
            refused.append(f"The metric {name!r} of {packages} is left out: the workbench has one of that name.")
        elif len(several) > 1:
            refused.append(f"The metric {name!r} is left out: {packages} both offer one of that name.")
        else:
            [(package, entry)] = several
            try:
                found.append(OwnMetric(name, package, _load(name, package, entry)))
            except BadInput as problem:
                refused.append(str(problem))
    return found, refused


def _load(name: str, package: str, entry: EntryPoint) -> AnswerMetric:
    try:
        made: Any = entry.load()()
    except (Exception, SystemExit) as error:
        raise _problem(name, package, f"cannot be loaded ({type(error).__name__}: {error})") from error
    if not callable(getattr(made, "measure", None)):
        raise _problem(name, package, "has no method measure(answered)")
    if not isinstance(getattr(made, "higher_is_better", None), bool):
        raise _problem(name, package, "does not say higher_is_better = True or False")
    metric: AnswerMetric = made
    return metric


def _problem(name: str, package: str, what: str) -> BadInput:
    return BadInput(f"The metric {name!r} of {package} {what}", do=f"Mend or uninstall {package.split()[0]}.")
