"""Steps that other packages bring: found by their entry points, loaded when a recipe names one.

    [project.entry-points."sft_workbench.steps"]
    shouting = "example_step:Shouting"

A package that is broken breaks the recipes that name its steps, and nothing else; every error names it. How to write
one: docs/own-steps.md.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from filters.step import (
    Finding,
    JobScorer,
    Outside,
    Row,
    RowStep,
    Score,
    Scorer,
    SetResult,
    SetStep,
    Step,
    StepParams,
    Survivors,
)
from trainer.errors import BadInput, Problem

GROUP = "sft_workbench.steps"
KINDS = ("filter", "selector")


@dataclass(frozen=True)
class OwnStep:
    """A step that a package offers; its code was not looked at yet. `package` is the name and version."""

    name: str
    package: str
    entry: EntryPoint

    def load(self) -> type[Step[Any]]:
        """The step's class, whose settings and scores name its package. Raises BadInput where it is none."""
        with _blamed(self):
            found = self.entry.load()
        if flaw := _flaw(found, self.name):
            raise _problem(self, flaw)
        return _signed(found, self)


def own_steps(taken: Collection[str]) -> tuple[dict[str, OwnStep], dict[str, str]]:
    """The steps that packages offer by name, and for each name that is refused a sentence that says why.

    A name that is `taken` stays the workbench's own; a name that two packages offer is nobody's.
    """
    offers: dict[str, list[OwnStep]] = {}
    for entry in entry_points(group=GROUP):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        offers.setdefault(entry.name, []).append(OwnStep(entry.name, package, entry))
    found, refused = {}, {}
    for name, several in offers.items():
        packages = " and ".join(sorted({one.package for one in several}))
        if name in taken:
            refused[name] = f"the step {name!r} of {packages} is left out: the workbench has a step of that name"
        elif len(several) > 1:
            refused[name] = f"the step {name!r} is left out: {packages} both offer one of that name"
        else:
            found[name] = several[0]
    return found, refused


def _problem(own: OwnStep, what: str) -> BadInput:
    do = f"Mend or uninstall {own.package.split()[0]}, or take the step out of the recipe; --debug shows where."
    return BadInput(f"the step {own.name!r} of {own.package} {what}", do=do)


@contextmanager
def _blamed(own: OwnStep) -> Iterator[None]:
    """What the package raises is told as its own, a Problem as it is."""
    try:
        yield
    except (Problem, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise _problem(own, f"failed ({type(error).__name__}: {error})") from error


def _flaw(found: object, name: str) -> str | None:
    """Why `found` is no step that could go by `name`."""
    if not (isinstance(found, type) and issubclass(found, (RowStep, SetStep))):
        return "is neither a RowStep nor a SetStep of filters.step"
    if inspect.isabstract(found):
        return f"lacks {', '.join(sorted(found.__abstractmethods__))}"
    for attribute in ("name", "kind", "params_model"):
        if not hasattr(found, attribute):
            return f"has no {attribute!r}"
    if found.name != name:
        return f"calls itself {found.name!r}"
    if found.kind not in KINDS:
        return f"is of the kind {found.kind!r}, not one of {', '.join(KINDS)}"
    params_model: object = found.params_model
    if not (isinstance(params_model, type) and issubclass(params_model, StepParams)):
        return "has a params_model that is no StepParams"
    return None


def _signed(found: type[Step[Any]], own: OwnStep) -> type[Step[Any]]:
    """A subclass that says whose it is: in its settings, so in recipe hashes and the ledger; in the fingerprints of
    its scores, so that those of another version are computed anew; and in every error.
    """
    signed = _signed_row_step(found, own) if issubclass(found, RowStep) else _signed_set_step(found, own)
    signed.__name__ = found.__name__
    return signed


def _signed_row_step(found: Any, own: OwnStep) -> type[Step[Any]]:
    class Signed(found):  # type: ignore[misc]
        def settings(self) -> dict[str, Any]:
            return _settings(super().settings, own)

        @functools.cached_property
        def scorers(self) -> Sequence[Scorer | JobScorer]:
            with _blamed(own):
                return [_signed_scorer(scorer, own) for scorer in super().scorers]

        def decide(self, scores: Sequence[Score]) -> Finding | None:
            with _blamed(own):
                finding = super().decide(scores)
            if not isinstance(finding, Finding | None):
                raise _problem(own, f"decided {finding!r}, which is neither a Finding nor None")
            return finding

    for name in ("without", "flag", "rewrite"):
        setattr(Signed, name, _guarded(getattr(found, name), own))
    return Signed


def _signed_set_step(found: Any, own: OwnStep) -> type[Step[Any]]:
    class Signed(found):  # type: ignore[misc]
        def settings(self) -> dict[str, Any]:
            return _settings(super().settings, own)

        def select(self, rows: Survivors, outside: Outside) -> SetResult:
            with _blamed(own):
                result = super().select(rows, outside)
            if not isinstance(result, SetResult):
                raise _problem(own, f"selected {type(result).__name__}, which is no SetResult")
            return result

    return Signed


def _guarded(method: Callable[..., Any], own: OwnStep) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any) -> Any:
        with _blamed(own):
            return method(*args)

    return call


def _settings(of: Callable[[], dict[str, Any]], own: OwnStep) -> dict[str, Any]:
    with _blamed(own):
        return of() | {"package": own.package}


def _signed_scorer(scorer: Scorer | JobScorer, own: OwnStep) -> Scorer | JobScorer:
    params = {**scorer.params, "package": own.package}
    if isinstance(scorer, JobScorer):
        return replace(scorer, params=params)

    def score(rows: Sequence[Row]) -> list[Score]:
        with _blamed(own):
            scores = scorer.score(rows)
        if len(scores) != len(rows):
            raise _problem(own, f"gave {len(scores)} scores for {len(rows)} rows")
        return scores

    return replace(scorer, params=params, score=score)
