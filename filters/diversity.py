"""Selectors by embeddings: good and different rows (`deita`), rows far apart (`k-center`), some of every cluster.

Each puts the rows into an order and keeps its beginning, as far as the budget goes. Rows are compared in the order of
their content hashes, so the order of input decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from filters.clusters import cluster, default_clusters
from filters.dedup.semantic import embed_unique
from filters.dedup.survivor import compared_text
from filters.selection import NOT_SELECTED, BudgetParams, lot, within
from filters.step import Drop, Outside, Row, SetResult, SetStep, Survivors
from filters.text import normalise
from trainer.conversation import Side
from trainer.errors import BadInput, UsageProblem
from trainer.models import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_BLOCK = 1024  # rows compared at a time
_CELLS = 2**24  # cosines held at a time: 64 MB
_DIGITS = 4  # of a cosine: a threshold means what is shown


class DiverseParams(BudgetParams):
    """A budget, and what is embedded by which model."""

    on: Side = "prompt"
    model: str = DEFAULT_EMBEDDER


@dataclass(frozen=True)
class Pool:
    """The rows to choose from in the order of their content hashes.

    `ids`, `costs` (n,) int64; `scores` (n,) float64, NaN where there is none; `vectors` (n, d) unit rows, NaN for a
    text that is empty or that the model cannot read: such rows are like no other.
    """

    ids: Ints
    hashes: tuple[str, ...]
    costs: Ints
    scores: NDArray[np.float64]
    vectors: Vectors

    @property
    def readable(self) -> Bools:
        """(n,) which rows have a vector."""
        return np.asarray(np.isfinite(self.vectors.sum(axis=1)))

    def by_score(self) -> Ints:
        """Places from the best score to the worst, those without one last; equal ones by content hash."""
        return np.argsort(-self.scores, kind="stable")


def gather(rows: Survivors, outside: Outside, params: DiverseParams, name: str, by: Sequence[str] = ()) -> Pool:
    """Read rows into a pool; a row's score is the product of its scores `by`, and missing where one of them is.

    Raises UsageProblem without embeddings or where no score goes by a name, BadInput for a product of negative scores.
    """
    if outside.embed is None:
        raise UsageProblem(f"{name} needs embeddings, and the caller gave no way to compute them", where=name)
    read: list[tuple[str, int, int, float, str]] = []
    for batch in rows:
        scores = _products(batch, outside, by, name)
        for row, cost, score in zip(batch, params.costs(batch), scores, strict=True):
            read.append((row.content_hash, row.id, cost, score, normalise(compared_text(row, params.on))))
        outside.progress(len(read), len(rows), name)
    read.sort(key=lambda one: one[:2])
    return Pool(
        ids=np.array([id for _, id, *_ in read], dtype=np.int64),
        hashes=tuple(content for content, *_ in read),
        costs=np.array([cost for *_, cost, _, _ in read], dtype=np.int64),
        scores=np.array([score for *_, score, _ in read], dtype=np.float64),
        vectors=embed_unique(outside.embed, [text for *_, text in read], params.model),
    )


def _products(batch: Sequence[Row], outside: Outside, by: Sequence[str], name: str) -> list[float]:
    if not by:
        return [math.nan] * len(batch)
    if outside.scored is None:
        raise TypeError(f"{name} needs scores, and the caller hands none over")
    product = [1.0] * len(batch)
    for scorer in by:
        for i, score in enumerate(outside.scored(scorer, batch)):
            value = math.nan if score.value is None else score.value
            if value < 0 and len(by) > 1:
                raise BadInput(
                    f"a product of scores needs scores of 0 or more, and {scorer} is {value:g} for a row",
                    where=name,
                    do="Select by that score alone.",
                )
            product[i] *= value
    return product


class DeitaParams(DiverseParams):
    """`by` is one score, or several whose product counts; nothing is kept that has a cosine of `threshold` or more."""

    by: str | list[str]
    threshold: float = Field(default=0.9, ge=0.01, le=1)

    @model_validator(mode="after")
    def _named(self) -> DeitaParams:
        if not self.scorers or not all(self.scorers):
            raise ValueError("by needs the name of a score, or several")
        return self

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scores."""
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)


class Deita(SetStep[DeitaParams]):
    """Walk from the best row to the worst; keep a row while its cosine to every kept row is below the threshold.

    Liu et al., "What Makes Good Data for Alignment?" (arXiv:2312.15685), where the score is complexity times quality.
    The cosine is a similarity: the larger, the more alike. Rows without a score come last. A row that the model cannot
    read is like no other, and so is kept where the budget reaches it; such rows and those without a score are counted
    as unscored. A row that falls for another names the kept row that is most like it.
    """

    name = "deita"
    kind = "selector"
    params_model = DeitaParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop what is like a better row, and what the budget does not reach."""
        pool = gather(rows, outside, self.params, self.name, self.params.scorers)
        order = pool.by_score()
        kept: list[int] = []
        drops: list[Drop] = []
        spent = walked = 0
        for place, like, cosine in walk(pool.vectors, order, self.params.threshold, kept):
            if spent >= self.params.budget:
                break
            walked += 1
            if like is None:
                kept.append(place)
                spent += int(pool.costs[place])
            else:
                drops.append(
                    Drop(int(pool.ids[place]), "like a better row", round(cosine, _DIGITS), int(pool.ids[like]))
                )
            if walked % _BLOCK == 0:
                outside.progress(walked, len(order), f"{self.name}: comparing")
        drops += [
            Drop(int(pool.ids[place]), NOT_SELECTED, None if np.isnan(score := pool.scores[place]) else float(score))
            for place in order[walked:].tolist()
        ]
        return _result(pool, drops, ~pool.readable | np.isnan(pool.scores))


def walk(
    vectors: Vectors, order: Ints, threshold: float, kept: Sequence[int]
) -> Iterator[tuple[int, int | None, float]]:
    """For each place of `order` the most similar row of `kept` and the cosine, or None where none reaches `threshold`.

    The caller adds to `kept` what it keeps, between two steps: whatever came with None, and nothing else. Blocks of
    rows are compared with all that is kept by one matrix product, then with each other. Memory is linear in the rows.
    """
    least = threshold - 0.5 * 10.0**-_DIGITS
    vectors = np.nan_to_num(vectors)  # unreadable: a cosine of 0 with everything
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        some = vectors[block]
        best = np.full(len(block), -np.inf, dtype=np.float32)
        which = np.zeros(len(block), dtype=np.int64)
        before = np.array(kept, dtype=np.int64)
        for part in np.array_split(before, max(1, math.ceil(len(before) * len(block) / _CELLS))):
            if len(part):
                _take_over(best, which, some @ vectors[part].T, part)
        among = some @ some.T
        for i, place in enumerate(block.tolist()):
            if best[i] >= least:
                yield place, int(which[i]), float(best[i])
            else:
                yield place, None, float(best[i])
                later = among[i] > best
                best[later] = among[i][later]
                which[later] = place


def _take_over(best: Vectors, which: Ints, cosines: Vectors, places: Ints) -> None:
    """Note in `best` and `which` what is nearer among `places` than what stands there."""
    nearest = cosines.argmax(axis=1)
    value = cosines[np.arange(len(cosines)), nearest]
    nearer = value > best
    best[nearer], which[nearer] = value[nearer], places[nearest[nearer]]


class KCenterParams(DiverseParams):
    """A budget, and what is embedded by which model."""


class KCenter(SetStep[KCenterParams]):
    """Take the row nearest to the mean of all, then again and again the row that is least like all taken ones.

    The greedy algorithm for k-center: the farthest row is at most twice as far from a taken one as it could be for `k`
    rows (Gonzalez, 1985; Sener and Savarese, arXiv:1708.00489). It takes what is strange first, so flaws, too: clean up
    before. Rows that the model cannot read come last, by content hash, and are counted as unscored.
    """

    name = "k-center"
    kind = "selector"
    params_model = KCenterParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but the rows that were taken."""
        pool = gather(rows, outside, self.params, self.name)
        readable = np.flatnonzero(pool.readable)
        blind = np.flatnonzero(~pool.readable)
        taken: list[int] = []
        spent = 0
        for place in farthest_first(pool.vectors[readable]):
            if spent >= self.params.budget:
                break
            taken.append(int(readable[place]))
            spent += int(pool.costs[taken[-1]])
            outside.progress(spent, self.params.budget, self.name)
        if len(taken) == len(readable):
            taken += blind[: within(pool.costs[blind].tolist(), self.params.budget - spent)].tolist()
        return _result(pool, _all_but(pool, taken), ~pool.readable)


def farthest_first(vectors: Vectors) -> Iterator[int]:
    """The places of unit `vectors` (n, d), the next always the one whose nearest among those before is farthest."""
    if not len(vectors):
        return
    place = int(np.argmax(vectors @ vectors.mean(axis=0)))
    nearest = np.full(len(vectors), -np.inf, dtype=np.float32)
    for _ in range(len(vectors)):
        yield place
        np.maximum(nearest, vectors @ vectors[place], out=nearest)
        nearest[place] = np.inf
        place = int(np.argmin(nearest))


class ClusterBalancedParams(DiverseParams):
    """Some rows of each of `clusters` clusters (default: the root of half the rows, at most 100).

    `share: equal` takes as many of each cluster as it has, up to one number; `proportional` as many as the cluster is
    large. Inside a cluster the best by the score `by` come first, without it chance decides by `seed`.
    """

    clusters: int | None = Field(default=None, ge=1)
    share: Literal["equal", "proportional"] = "equal"
    by: str | None = Field(default=None, min_length=1)
    seed: int = 0


class ClusterBalanced(SetStep[ClusterBalancedParams]):
    """Keep rows of every cluster of their embeddings (k-means), equally many or in proportion.

    Rows that the model cannot read are a cluster of their own; they and rows without the score `by`, which come last in
    their cluster, are counted as unscored.
    """

    name = "cluster-balanced"
    kind = "selector"
    params_model = ClusterBalancedParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but some of every cluster."""
        params = self.params
        pool = gather(rows, outside, params, self.name, (params.by,) if params.by else ())
        labels = np.full(len(pool.ids), -1, dtype=np.int64)
        if pool.readable.any():
            readable = pool.vectors[pool.readable]
            labels[pool.readable] = cluster(readable, params.clusters or default_clusters(len(readable))).labels
        labels += 1
        inside = pool.by_score() if params.by else _by_lot(pool.hashes, params.seed)
        turns = np.empty(len(labels), dtype=np.float64)
        for label in range(int(labels.max(initial=0)) + 1):
            members = inside[labels[inside] == label]
            turns[members] = np.arange(len(members))
            if params.share == "proportional":  # of any beginning, every cluster has its share, give or take a row
                turns[members] = (turns[members] + 0.5) / max(1, len(members))
        order = np.lexsort((np.arange(len(labels)), labels, turns))
        taken = order[: within(pool.costs[order].tolist(), params.budget)].tolist()
        missing = np.isnan(pool.scores) if params.by else np.zeros(len(labels), dtype=np.bool_)
        result = _result(pool, _all_but(pool, taken), ~pool.readable | missing)
        result.settled["clusters_made"] = len(np.unique(labels))
        return result


def _by_lot(hashes: Sequence[str], seed: int) -> Ints:
    lots = [lot(seed, content) for content in hashes]
    return np.array(sorted(range(len(lots)), key=lots.__getitem__), dtype=np.int64)


def _result(pool: Pool, drops: list[Drop], unjudged: Bools) -> SetResult:
    """`drops`, and how many rows could not be judged (`unjudged`, by place), and how many of these are among them."""
    fallen = np.isin(pool.ids, [drop.id for drop in drops])
    return SetResult(drops, unscored=int(unjudged.sum()), unscored_dropped=int((unjudged & fallen).sum()))


def _all_but(pool: Pool, taken: Sequence[int]) -> list[Drop]:
    falls = np.ones(len(pool.ids), dtype=np.bool_)
    falls[list(taken)] = False
    return [
        Drop(int(id), NOT_SELECTED, None if np.isnan(score) else float(score))
        for id, score in zip(pool.ids[falls].tolist(), pool.scores[falls].tolist(), strict=True)
    ]
