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
from typing import Any, cast

from filters.step import (
    Drop,
    Edit,
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
from trainer.conversation import canonical_json, content_hash
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

        def rewrite(self, row: Row, scores: Sequence[Score]) -> Edit | None:
            with _blamed(own):
                edit: Edit | None = super().rewrite(row, scores)
                if isinstance(edit, Edit):
                    content_hash(canonical_json(list(edit.messages)))  # what no file takes fails here
                flaw = _edit_flaw(edit)
            if flaw:
                raise _problem(own, flaw)
            return edit

    for name, kind in (("decide", Finding), ("without", Finding), ("flag", str)):
        setattr(Signed, name, _guarded(getattr(found, name), kind, own))
    return Signed


def _signed_set_step(found: Any, own: OwnStep) -> type[Step[Any]]:
    class Signed(found):  # type: ignore[misc]
        def settings(self) -> dict[str, Any]:
            return _settings(super().settings, own)

        def select(self, rows: Survivors, outside: Outside) -> SetResult:
            with _blamed(own):
                result = super().select(rows, outside)
                flaw = _result_flaw(result, rows)
            if flaw:
                raise _problem(own, flaw)
            return cast(SetResult, result)

    return Signed


def _guarded(method: Callable[..., Any], kind: type, own: OwnStep) -> Callable[..., Any]:
    """`method`, which must give a `kind` or None."""

    @functools.wraps(method)
    def call(*args: Any) -> Any:
        with _blamed(own):
            found = method(*args)
        if not isinstance(found, kind | None):
            raise _problem(own, f"gave {found!r} in {method.__name__}, which is neither a {kind.__name__} nor None")
        return found

    return call


def _edit_flaw(edit: object) -> str | None:
    """Why no row can go on as what `rewrite` gave."""
    if edit is None:
        return None
    if not isinstance(edit, Edit):
        return f"gave {edit!r} in rewrite, which is neither an Edit nor None"
    if not edit.messages or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in edit.messages):
        return "gave an Edit whose messages are no list of objects with a role"
    return None if isinstance(edit.reason, str) else f"gave an Edit with the reason {edit.reason!r}, which is no text"


def _result_flaw(result: object, rows: Survivors) -> str | None:
    """Why the rows of what `select` gave cannot leave."""
    if not isinstance(result, SetResult):
        return f"selected {type(result).__name__}, which is no SetResult"
    drops: Sequence[object] = result.drops
    left = {row.id for batch in rows for row in batch} if drops else set()
    for drop in drops:
        if not isinstance(drop, Drop):
            return f"dropped {drop!r}, which is no Drop"
        if drop.id not in left:
            return f"dropped the row {drop.id!r}, which it was not given or had dropped already"
        left.remove(drop.id)
    return None


def _settings(of: Callable[[], dict[str, Any]], own: OwnStep) -> dict[str, Any]:
    with _blamed(own):
        return of() | {"package": own.package}


def _signed_scorer(scorer: Scorer | JobScorer, own: OwnStep) -> Scorer | JobScorer:
    params = {**scorer.params, "package": own.package}
    canonical_json(params)  # the fingerprint is made of it
    if isinstance(scorer, JobScorer):
        return replace(scorer, params=params)

    def score(rows: Sequence[Row]) -> list[Score]:
        with _blamed(own):
            scores = scorer.score(rows)
        if len(scores) != len(rows):
            raise _problem(own, f"gave {len(scores)} scores for {len(rows)} rows")
        for score in scores:
            if not isinstance(score, Score):
                raise _problem(own, f"gave {score!r} as a score, which is no Score")
        return scores

    return replace(scorer, params=params, score=score)
