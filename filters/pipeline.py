"""Run the steps of a recipe over rows, one after the other, and say after each what left and why.

Rows are read again for every step, in batches; no text is held between steps. The caller stores each `StepOutcome`
as it comes, and can start again behind the last one it stored.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from filters.engines import Engine
from filters.errors import Wipeout
from filters.guard import guard
from filters.recipe import Recipe
from filters.remaining import Remaining, Rows, parsed
from filters.rules.language import language_scorer
from filters.step import (
    Compute,
    Drop,
    Embed,
    JobScorer,
    Outside,
    Pair,
    Progress,
    Rewrite,
    Row,
    RowStep,
    Score,
    Scored,
    Scorer,
    SetStep,
    Step,
    StepOutcome,
)
from trainer.conversation import canonical_json, content_hash
from trainer.errors import UsageProblem


class ScoreCache(Protocol):
    """Scores that were computed before, by content hash. `error` scores may be kept; they are computed again."""

    def get(self, hashes: Sequence[str], scorer: str, fingerprint: str) -> Mapping[str, Score]:
        """The known scores among `hashes`."""
        ...

    def put(self, scores: Mapping[str, Score], scorer: str, fingerprint: str) -> None:
        """Keep these scores (content hash -> score), replacing older ones."""
        ...

    def scorers(self) -> Mapping[str, Sequence[str]]:
        """The fingerprints that scores are kept under, by the scorer's name."""
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

    def scorers(self) -> Mapping[str, Sequence[str]]:
        """The fingerprints that scores are kept under, by the scorer's name."""
        found: dict[str, list[str]] = {}
        for scorer, fingerprint in self._scores:
            found.setdefault(scorer, []).append(fingerprint)
        return found


def run(
    recipe: Recipe,
    rows: Rows,
    *,
    scores: ScoreCache | None = None,
    embed: Embed | None = None,
    compute: Compute | None = None,
    engine: Engine | None = None,
    others: Callable[[str], Rows] | None = None,
    items: Callable[[str], Rows] | None = None,
    finished: Sequence[Collection[int]] = (),
    rewritten: Iterable[Rewrite] = (),
    allow_wipeout: bool | Callable[[Wipeout], bool] = False,
    progress: Progress | None = None,
) -> Iterator[StepOutcome]:
    """Yield a `StepOutcome` after each step of `recipe`, in order.

    `rows()` must give the same rows in the same order each time it is called, as Arrow batches with `id` int64,
    `content_hash`, `messages`, `tools`, `source` and `category`. `finished` holds the dropped ids of steps already
    done, `rewritten` what these rewrote, in order: they are neither run nor yielded again. `embed` is needed by steps
    on embeddings only, `compute` by steps whose scores take a model or a service; `engine` does the work of steps
    elsewhere and changes nothing of what comes out; `others`, the rows of a version or
    source by name, and `items`, those of an eval set, by steps that compare with one.
    `progress(done, total, what)` counts rows within a step.

    Raises `Wipeout`, before the step is yielded, where the guard stops it, unless `allow_wipeout` is true, or is a
    function and says so of that one.
    """
    cache = scores if scores is not None else MemoryScores()
    tell = progress if progress is not None else _silent
    for step in recipe.steps[len(finished) :]:
        if isinstance(step, RowStep):
            _ = step.scorers  # a tokenizer that cannot be had is found before any work is done
    left = Remaining(rows)
    for dropped in finished:
        left.drop(dropped)
    left.rewrite(rewritten)
    for position in range(len(finished), len(recipe.steps)):
        step = recipe.steps[position]
        started = time.perf_counter()
        work = (
            _judge_rows(step, left, cache, compute, engine, tell)
            if isinstance(step, RowStep)
            else _judge_set(
                step,
                left,
                Outside(
                    embed, tell, _named(others), _scored(recipe.steps[:position], cache, left), _named(items), engine
                ),
            )
        )
        if allow_wipeout is not True:
            where = f"{recipe.name}, step {position + 1} ({step.name})"
            try:
                guard(step, where, left, work.drops, lambda batch: score_rows(language_scorer("prompt"), batch, cache))
            except Wipeout as wipeout:
                if not allow_wipeout or not allow_wipeout(wipeout):
                    raise
        rows_in = len(left)
        left.drop([drop.id for drop in work.drops])
        left.rewrite(work.rewrites)
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
            unscored_dropped=work.unscored_dropped,
            errors=work.errors,
            errors_dropped=work.errors_dropped,
            rewrites=work.rewrites,
        )


def score_rows(scorer: Scorer | JobScorer, rows: Sequence[Row], cache: ScoreCache) -> list[Score]:
    """The scores of `rows`, from `cache` where it has them; new ones go there.

    What a job has not scored (`compute_missing`) is an error.
    """
    known = dict(cache.get([row.content_hash for row in rows], scorer.name, scorer.fingerprint))
    missing = {
        row.content_hash: row
        for row in rows
        if row.content_hash not in known or known[row.content_hash].state == "error"
    }
    if missing and isinstance(scorer, JobScorer):
        known = {key: Score.error("its job gave no score") for key in missing} | known
    elif missing and isinstance(scorer, Scorer):
        fresh = dict(zip(missing, scorer.score(list(missing.values())), strict=True))
        cache.put(fresh, scorer.name, scorer.fingerprint)
        known.update(fresh)
    return [known[row.content_hash] for row in rows]


def compute_missing(scorer: JobScorer, left: Iterable[list[Row]], cache: ScoreCache, compute: Compute | None) -> None:
    """Have the scores computed that `cache` lacks, or has as errors; every part goes there as it comes."""
    rows = _missing(scorer, left, cache)
    if rows is None:
        return
    if compute is None:
        raise UsageProblem(
            f"{scorer.name} needs a model or a service, and the caller gave no way to ask it",
            where=scorer.name,
            do="Pass compute= to the pipeline.",
        )
    for part in compute(scorer, rows):
        cache.put(part, scorer.name, scorer.fingerprint)


def _missing(scorer: Scorer | JobScorer, left: Iterable[list[Row]], cache: ScoreCache) -> Iterator[list[Row]] | None:
    """The rows whose scores `cache` lacks, or has as errors, when they are asked for; None where there are none."""

    def missing() -> Iterator[list[Row]]:
        for batch in left:
            known = cache.get([row.content_hash for row in batch], scorer.name, scorer.fingerprint)
            fresh = [r for r in batch if r.content_hash not in known or known[r.content_hash].state == "error"]
            if fresh:
                yield fresh

    rows = missing()
    first = next(rows, None)
    return None if first is None else chain([first], rows)


def kept_rows(rows: Rows, outcomes: Iterable[StepOutcome]) -> Iterator[list[Row]]:
    """The rows that no step dropped, as the steps that rewrote some left them, in batches in input order."""
    left = Remaining(rows)
    for outcome in outcomes:
        left.drop([drop.id for drop in outcome.drops])
        left.rewrite(outcome.rewrites)
    return iter(left)


def kept_ids(rows: Rows, outcomes: Iterable[StepOutcome]) -> list[int]:
    """The ids that no step dropped, in input order."""
    return [row.id for batch in kept_rows(rows, outcomes) for row in batch]


@dataclass
class _Work:
    drops: list[Drop] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    unscored: int = 0
    unscored_dropped: int = 0
    errors: int = 0
    errors_dropped: int = 0
    settled: dict[str, Any] = field(default_factory=dict)
    rewrites: list[Rewrite] = field(default_factory=list)


def _judge_rows(
    step: RowStep[Any],
    left: Remaining,
    cache: ScoreCache,
    compute: Compute | None,
    engine: Engine | None,
    progress: Progress,
) -> _Work:
    work, flagged = _Work(), Counter[str]()
    for scorer in step.scorers:
        if isinstance(scorer, JobScorer):
            compute_missing(scorer, left, cache, compute)
        elif engine and engine.takes(scorer) and (rows := _missing(scorer, left, cache)):
            for part in engine.score(scorer, rows):
                cache.put(part, scorer.name, scorer.fingerprint)
            work.settled["engine"] = engine.name
    done, total = 0, len(left)
    for batch in left:
        columns = [score_rows(scorer, batch, cache) for scorer in step.scorers]
        _derive(step, batch, columns, cache)
        by_row: Iterable[tuple[Score, ...]] = zip(*columns, strict=True) if columns else [()] * len(batch)
        for row, scores in zip(batch, by_row, strict=True):
            states = {score.state for score in scores}
            if "error" in states:
                work.errors += 1
                finding = step.without("error")
                work.errors_dropped += finding is not None
            elif "unscored" in states:
                work.unscored += 1
                finding = step.without("unscored")
                work.unscored_dropped += finding is not None
            else:
                finding = step.decide(scores)
                if finding is None:
                    flagged.update(filter(None, [step.flag(scores)]))
                    work.rewrites += _rewrites(step, row, scores)
            if finding:
                work.drops.append(Drop(row.id, finding.reason, finding.score, detail=finding.detail))
        done += len(batch)
        progress(done, total, step.name)
    if flagged:
        work.settled["flagged"] = dict(flagged.most_common())
    return work


def _rewrites(step: RowStep[Any], row: Row, scores: Sequence[Score]) -> list[Rewrite]:
    """What the step makes of a row: nothing where its text stays what it is."""
    edit = step.rewrite(row, scores)
    text = row.messages_json if edit is None else canonical_json(list(edit.messages))
    if edit is None or text == row.messages_json:
        return []
    return [Rewrite(row.id, text, content_hash(text, row.tools_json), edit.reason, edit.detail)]


def _derive(step: RowStep[Any], batch: Sequence[Row], columns: Sequence[list[Score]], cache: ScoreCache) -> None:
    """Keep the scores that follow from those of the step; rows that lack one of these have none."""
    hashes = [row.content_hash for row in batch]
    for derived in step.derived:
        fingerprint = derived.fingerprint(step.scorers)
        known = cache.get(hashes, derived.name, fingerprint)
        fresh = {
            key: derived.derive(scores)
            for key, *scores in zip(hashes, *columns, strict=True)
            if key not in known and all(score.state == "ok" for score in scores)
        }
        if fresh:
            cache.put(fresh, derived.name, fingerprint)


def _named(rows_of: Callable[[str], Rows] | None) -> Callable[[str], Iterator[list[Row]]] | None:
    return None if rows_of is None else lambda name: parsed(rows_of(name))


def _scored(before: Sequence[Step[Any]], cache: ScoreCache, left: Remaining) -> Scored:
    """Scores by name: those of the nearest step before that has the scorer, else the only ones in the cache.

    A row that was rewritten since has the score that it got: that of the text which the step saw.
    """
    own: dict[str, tuple[str, int]] = {}
    for position, step in enumerate(before):
        if isinstance(step, RowStep):
            own |= {scorer.name: (scorer.fingerprint, position) for scorer in step.scorers}
            own |= {derived.name: (derived.fingerprint(step.scorers), position) for derived in step.derived}
    may_rewrite = [isinstance(step, RowStep) and type(step).rewrite is not RowStep.rewrite for step in before]

    def seen(row: Row, position: int | None) -> list[str]:
        """The hashes under which the score of a row may lie, the likeliest first."""
        hashes = left.hashes(row)
        if position is not None and not any(may_rewrite[:position]):
            return hashes[:1]
        if position is not None and not any(may_rewrite[position:]):
            return hashes[-1:]
        return hashes[::-1]

    def scored(scorer: str, rows: Sequence[Row]) -> list[Score]:
        fingerprint, position = own.get(scorer) or (_only(scorer, cache.scorers()), None)
        hashes = [seen(row, position) for row in rows]
        known = cache.get(list(chain.from_iterable(hashes)), scorer, fingerprint)
        missing = Score.unscored("no score")
        return [next((known[key] for key in several if key in known), missing) for several in hashes]

    return scored


def _only(name: str, scorers: Mapping[str, Sequence[str]]) -> str:
    """The fingerprint of the scores of `name`. Raises UsageProblem where there are none, or several."""
    found = scorers.get(name, ())
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageProblem(
            f"there are scores {name!r} of {len(found)} settings or models",
            where=name,
            do="Put the step that computes the ones meant before this one, into the same recipe.",
        )
    names = ", ".join(sorted(scorers)) or "none"
    raise UsageProblem(
        f"no row has a score {name!r}",
        where=name,
        do=f"Put a step that computes it before this one. Scores there are: {names}.",
    )


def _judge_set(step: Step[Any], left: Remaining, outside: Outside) -> _Work:
    if not isinstance(step, SetStep):
        raise TypeError(f"{type(step).__name__} is neither a row step nor a set step")
    result = step.select(left, outside)
    return _Work(result.drops, result.pairs, result.unscored, result.unscored_dropped, settled=result.settled)


def _silent(done: int, total: int | None, what: str) -> None:
    """Progress that nobody watches."""
