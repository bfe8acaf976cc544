"""Star clusters: every row that falls points at a row that is kept and like it, never at a neighbour's neighbour."""

from __future__ import annotations

import math
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import numpy as np

from filters.dedup.jaccard import Pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 0.7
"""Pairs are kept from here up, whatever the threshold, so that it can be moved without comparing again."""

KEPT = 20
"""Pairs kept for each row: in a set of near-copies all of them would be quadratic."""

Falls = dict[int, tuple[int, float]]
"""Row that falls -> the kept row that it is most like, and how like it is. Rows by their place in the preference."""


def stars(pairs: Pairs, threshold: float, standing: int = 0) -> Falls:
    """Which rows fall at `threshold`: from the most preferred down, each that is like a kept one.

    `pairs` name rows by their place in the preference, the first preferred. The first `standing` rows never fall.
    """
    near = np.flatnonzero((pairs.similarity >= threshold) & (pairs.second >= standing))
    order = near[np.lexsort((pairs.first[near], -pairs.similarity[near], pairs.second[near]))]
    falls: Falls = {}
    for first, second, similarity in zip(
        pairs.first[order].tolist(), pairs.second[order].tolist(), pairs.similarity[order].tolist(), strict=True
    ):
        if second not in falls and first not in falls:
            falls[second] = (first, similarity)
    return falls


def threshold_for(pairs: Pairs, least: int, lowest: float = FLOOR, standing: int = 0) -> float | None:
    """A high threshold, not below `lowest`, at which at least `least` rows fall; None where there is none.

    Hundredths are tried from 1 down, then the similarities above the first that will do: every one of up to 100, else
    a hundred of them. No search by halves: lower is not always more, as a row that falls sets those free that fell
    for it alone.
    """
    for hundredths in range(100, math.ceil(lowest * 100 - 1e-9) - 1, -1):
        if len(stars(pairs, hundredths / 100, standing)) >= least:
            marks = np.unique(pairs.similarity)
            marks = marks[(marks > hundredths / 100) & (marks < (hundredths + 1) / 100)][::-1]
            finer = marks[:: max(1, math.ceil(len(marks) / 100))].tolist()
            enough = (mark for mark in finer if len(stars(pairs, mark, standing)) >= least)
            return float(next(enough, hundredths / 100))
    return None


def preferred_first(
    ids: NDArray[np.int64], preferred: NDArray[np.int64], similarity: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Pairs]:
    """Pairs of (row, preferred row) by id as pairs by place: the ids in an order of preference, and the pairs.

    Raises graphlib.CycleError where the preferences contradict each other.
    """
    before: dict[int, list[int]] = {}
    for row, better in zip(ids.tolist(), preferred.tolist(), strict=True):
        before.setdefault(row, []).append(better)
    order = np.fromiter(TopologicalSorter(before).static_order(), np.int64)
    sorter = np.argsort(order)
    first, second = (sorter[np.searchsorted(order, side, sorter=sorter)] for side in (preferred, ids))
    return order, Pairs(first, second, similarity)


def worth_keeping(pairs: Pairs) -> Pairs:
    """Of each row's pairs with preferred ones at most `KEPT`: half the most preferred, and the nearest of the others.

    The preferred are those that it may fall for at another threshold; the nearest are what people want to see.
    """
    by_rank = _first_of_each(pairs, np.lexsort((pairs.first, pairs.second)), KEPT // 2)
    rest = np.setdiff1d(np.arange(len(pairs.first)), by_rank)
    nearest = np.lexsort((pairs.first[rest], -pairs.similarity[rest], pairs.second[rest]))
    kept = np.sort(np.concatenate([by_rank, _first_of_each(pairs, rest[nearest], KEPT - KEPT // 2)]))
    return Pairs(pairs.first[kept], pairs.second[kept], pairs.similarity[kept])


def _first_of_each(pairs: Pairs, order: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The first `most` pairs of each second row, in an `order` of pairs that is sorted by it."""
    second = pairs.second[order]
    begins = np.flatnonzero(np.r_[True, second[1:] != second[:-1]]) if len(second) else np.empty(0, dtype=np.int64)
    place = np.arange(len(second)) - np.repeat(begins, np.diff(np.r_[begins, len(second)]))
    return order[place < most]
