"""Run the steps of a recipe over rows, one after the other, and say after each what left and why.

Rows are read again for every step, in batches; no text is held between steps. The caller stores each `StepOutcome`
as it comes, and can start again behind the last one it stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from filters.guard import guard
from filters.recipe import Recipe
from filters.remaining import Remaining, Rows, parsed
from filters.rules.language import language_scorer
from filters.step import Drop, Embed, Outside, Pair, Progress, Row, RowStep, Score, Scorer, SetStep, Step, StepOutcome


class ScoreCache(Protocol):
    """Scores that were computed before, by content hash. `error` scores may be kept; they are computed again."""

    def get(self, hashes: Sequence[str], scorer: str, fingerprint: str) -> Mapping[str, Score]:
        """The known scores among `hashes`."""
        ...

    def put(self, scores: Mapping[str, Score], scorer: str, fingerprint: str) -> None:
        """Keep these scores (content hash -> score), replacing older ones."""
        ...


class MemoryScores:
    """A score cache that lives as long as the process: for a notebook."""

    def __init__(self) -> None:
        self._scores: dict[tuple[str, str], dict[str, Score]] = {}

    def get(self, hashes: Sequence[str], scorer: str, fingerprint: str) -> Mapping[str, Score]:
        """The known scores among `hashes`."""
        known = self._scores.get((scorer, fingerprint), {})
        return {key: known[key] for key in hashes if key in known}

    def put(self, scores: Mapping[str, Score], scorer: str, fingerprint: str) -> None:
        """Keep these scores."""
        self._scores.setdefault((scorer, fingerprint), {}).update(scores)


def run(
    recipe: Recipe,
    rows: Rows,
    *,
    scores: ScoreCache | None = None,
    embed: Embed | None = None,
    others: Callable[[str], Rows] | None = None,
    finished: Sequence[Collection[int]] = (),
    allow_wipeout: bool = False,
    progress: Progress | None = None,
) -> Iterator[StepOutcome]:
    """Yield a `StepOutcome` after each step of `recipe`, in order.

    `rows()` must give the same rows in the same order each time it is called, as Arrow batches with `id` int64,
    `content_hash`, `messages`, `tools`, `source` and `category`. `finished` holds the dropped ids of steps already
    done: these are neither run nor yielded again. `embed` is needed by steps on embeddings only, and `others`, the
    rows of a version or source by name, by steps that compare with one.
    `progress(done, total, what)` counts rows within a step.

    Raises `Wipeout`, before the step is yielded, where the guard stops it, unless `allow_wipeout`.
    """
    cache = scores if scores is not None else MemoryScores()
    tell = progress if progress is not None else _silent
    for step in recipe.steps[len(finished) :]:
        if isinstance(step, RowStep):
            _ = step.scorers  # a tokenizer that cannot be had is found before any work is done
    left = Remaining(rows)
    for dropped in finished:
        left.drop(dropped)
    for position in range(len(finished), len(recipe.steps)):
        step = recipe.steps[position]
        started = time.perf_counter()
        work = (
            _judge_rows(step, left, cache, tell)
            if isinstance(step, RowStep)
            else _judge_set(step, left, _outside(embed, tell, others))
        )
        if not allow_wipeout:
            where = f"{recipe.name}, step {position + 1} ({step.name})"
            guard(step, where, left, work.drops, lambda batch: score_rows(language_scorer("prompt"), batch, cache))
        rows_in = len(left)
        left.drop([drop.id for drop in work.drops])
        yield StepOutcome(
            position=position,
            name=step.name,
            kind=step.kind,
            params=step.settings() | work.settled,
            rows_in=rows_in,
            drops=work.drops,
            pairs=work.pairs,
            seconds=time.perf_counter() - started,
            unscored=work.unscored,
            errors=work.errors,
        )


def score_rows(scorer: Scorer, rows: Sequence[Row], cache: ScoreCache) -> list[Score]:
    """The scores of `rows`, from `cache` where it has them; new ones go there."""
    known = dict(cache.get([row.content_hash for row in rows], scorer.name, scorer.fingerprint))
    missing = {
        row.content_hash: row
        for row in rows
        if row.content_hash not in known or known[row.content_hash].state == "error"
    }
    if missing:
        fresh = dict(zip(missing, scorer.score(list(missing.values())), strict=True))
        cache.put(fresh, scorer.name, scorer.fingerprint)
        known.update(fresh)
    return [known[row.content_hash] for row in rows]


def kept_ids(rows: Rows, outcomes: Iterable[StepOutcome]) -> list[int]:
    """The ids that no step dropped, in input order."""
    left = Remaining(rows)
    for outcome in outcomes:
        left.drop([drop.id for drop in outcome.drops])
    return [row.id for batch in left for row in batch]


@dataclass
class _Work:
    drops: list[Drop] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    unscored: int = 0
    errors: int = 0
    settled: dict[str, Any] = field(default_factory=dict)


def _judge_rows(step: RowStep[Any], left: Remaining, cache: ScoreCache, progress: Progress) -> _Work:
    work = _Work()
    done, total = 0, len(left)
    for batch in left:
        columns = [score_rows(scorer, batch, cache) for scorer in step.scorers]
        for row, scores in zip(batch, zip(*columns, strict=True), strict=True):
            states = {score.state for score in scores}
            if "error" in states:
                work.errors += 1
            elif "unscored" in states:
                work.unscored += 1
            elif finding := step.decide(scores):
                work.drops.append(Drop(row.id, finding.reason, finding.score, detail=finding.detail))
        done += len(batch)
        progress(done, total, step.name)
    return work


def _outside(embed: Embed | None, progress: Progress, others: Callable[[str], Rows] | None) -> Outside:
    if others is None:
        return Outside(embed, progress)
    rows_of = others
    return Outside(embed, progress, lambda name: parsed(rows_of(name)))


def _judge_set(step: Step[Any], left: Remaining, outside: Outside) -> _Work:
    if not isinstance(step, SetStep):
        raise TypeError(f"{type(step).__name__} is neither a row step nor a set step")
    result = step.select(left, outside)
    return _Work(result.drops, result.pairs, result.unscored, settled=result.settled)


def _silent(done: int, total: int | None, what: str) -> None:
    """Progress that nobody watches."""
