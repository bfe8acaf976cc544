"""Star clusters: every row that falls points at a row that is kept and like it, never at a neighbour's neighbour."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from filters.dedup.jaccard import Pairs

FLOOR = 0.7
"""Pairs are kept from here up, whatever the threshold, so that it can be moved without comparing again."""

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


def threshold_for(pairs: Pairs, most: int, standing: int = 0) -> float | None:
    """The highest threshold at which at least `most` rows fall; None where even the lowest similarity is not enough."""
    marks = np.unique(pairs.similarity)
    low, high = 0, len(marks)  # at marks[low - 1] enough fall, at marks[high] not; fewer fall as the threshold rises
    while low < high:
        middle = (low + high) // 2
        if len(stars(pairs, float(marks[middle]), standing)) >= most:
            low = middle + 1
        else:
            high = middle
    return float(marks[low - 1]) if low else None


def preferred_first(
    ids: NDArray[np.int64], preferred: NDArray[np.int64], similarity: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Pairs]:
    """Pairs of (row, preferred row) by id as pairs by place: the ids in an order of preference, and the pairs.

    Raises graphlib.CycleError where the preferences contradict each other.
    """
    from filters.dedup.jaccard import Pairs

    before: dict[int, list[int]] = {}
    for row, better in zip(ids.tolist(), preferred.tolist(), strict=True):
        before.setdefault(row, []).append(better)
    order = np.fromiter(TopologicalSorter(before).static_order(), np.int64)
    sorter = np.argsort(order)
    first, second = (sorter[np.searchsorted(order, side, sorter=sorter)] for side in (preferred, ids))
    return order, Pairs(first, second, similarity)


def nearest(pairs: Pairs, most: int) -> Pairs:
    """The `most` nearest of those that are preferred to it, for each row."""
    from filters.dedup.jaccard import Pairs

    order = np.lexsort((pairs.first, -pairs.similarity, pairs.second))
    second = pairs.second[order]
    begins = np.flatnonzero(np.r_[True, second[1:] != second[:-1]]) if len(second) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[begins, len(second)])
    kept = order[np.arange(len(second)) - np.repeat(begins, sizes) < most]
    return Pairs(pairs.first[kept], pairs.second[kept], pairs.similarity[kept])
