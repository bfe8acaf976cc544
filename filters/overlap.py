"""What each step of a recipe would drop by itself, of which only it: an order of steps hides that.

In a run a step sees what the steps before it left. So the ledger of a run does not tell whether a step could be left
out: here each step judges the whole input, and the rows that it would drop are compared with those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from filters.pipeline import ScoreCache, run
from filters.recipe import Recipe
from filters.remaining import Remaining, Rows
from filters.step import Embed, JobScorer, Progress, Rewrite, Row, RowStep, Score, Step


@dataclass(frozen=True)
class StepOverlap:
    """What one step would drop of the whole input: `alone` rows, of which `only` fall to no other step.

    `shared[i]` counts the rows that the i-th step of the report would drop as well. `unjudged` rows have no score:
    the step has nothing to say of them, or a job would have to compute what is not stored.
    """

    position: int
    name: str
    alone: int
    only: int
    shared: tuple[int, ...]
    unjudged: int

    def as_dict(self) -> dict[str, Any]:
        """The step in the JSON that other programs rely on; positions count from 1."""
        return {
            "position": self.position + 1,
            "name": self.name,
            "alone": self.alone,
            "also_another": self.alone - self.only,
            "only": self.only,
            "shared": list(self.shared),
            "unjudged": self.unjudged,
        }


@dataclass(frozen=True)
class Overlap:
    """The steps of a recipe over `rows` rows, `dropped` by any of them. `left_out` names the selectors."""

    rows: int
    dropped: int
    steps: tuple[StepOverlap, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report in the JSON that other programs rely on."""
        return {
            "rows": self.rows,
            "dropped_by_any": self.dropped,
            "steps": [step.as_dict() for step in self.steps],
            "left_out": list(self.left_out),
        }


def overlap(
    recipe: Recipe,
    rows: Rows,
    *,
    scores: ScoreCache,
    embed: Embed | None = None,
    others: Callable[[str], Rows] | None = None,
    items: Callable[[str], Rows] | None = None,
    progress: Progress | None = None,
) -> Overlap:
    """Let every filter and deduplicator of `recipe` judge all rows; the other arguments are those of `run`.

    A deduplicator compares all rows, so of two copies it may drop one that an earlier step would have taken out.
    Selectors are left out: what they drop depends on how many rows there are. No job is started for scores that a
    model or a service gives: rows without a stored one are counted as unjudged. What a step rewrites, the steps behind
    it see rewritten, as in a run.
    """
    found: list[tuple[int, int, np.ndarray[Any, np.dtype[np.bool_]]]] = []
    everything = Remaining(rows)
    rewritten: list[Rewrite] = []
    for position, step in enumerate(recipe.steps):
        if step.kind == "selector":
            continue
        outcome = next(
            run(
                recipe,
                rows,
                scores=scores,
                embed=embed,
                compute=_compute_nothing,
                others=others,
                items=items,
                finished=[()] * position,  # the steps before it have dropped nothing
                rewritten=rewritten,
                allow_wipeout=True,
                progress=progress,
            )
        )
        unknown = _unknown(step, everything, scores)
        dropped = everything.mask([drop.id for drop in outcome.drops if drop.id not in unknown])
        rewritten += outcome.rewrites
        everything.rewrite(outcome.rewrites)
        found.append((position, outcome.unscored + outcome.errors, dropped))
    masks = np.array([dropped for _, _, dropped in found], dtype=np.bool_).reshape(len(found), len(everything.ids))
    by_any = masks.sum(axis=0)
    steps = tuple(
        StepOverlap(
            position=position,
            name=recipe.steps[position].name,
            alone=int(dropped.sum()),
            only=int((dropped & (by_any == 1)).sum()),
            shared=tuple(int(count) for count in (masks & dropped).sum(axis=1)),
            unjudged=unjudged,
        )
        for position, unjudged, dropped in found
    )
    left_out = tuple(step.name for step in recipe.steps if step.kind == "selector")
    return Overlap(len(everything.ids), int((by_any > 0).sum()), steps, left_out)


def _unknown(step: Step[Any], rows: Remaining, scores: ScoreCache) -> set[int]:
    """Rows that a job was never run for: a step that drops where a job fails (`without`) does not drop these."""
    jobs = [scorer for scorer in step.scorers if isinstance(scorer, JobScorer)] if isinstance(step, RowStep) else []
    found: set[int] = set()
    for batch in rows if jobs else ():
        hashes = [row.content_hash for row in batch]
        for scorer in jobs:
            known = scores.get(hashes, scorer.name, scorer.fingerprint)
            found.update(row.id for row in batch if row.content_hash not in known)
    return found


def _compute_nothing(scorer: JobScorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
    """What has no stored score stays without: this is a report, and a judge costs money."""
    return iter(())
