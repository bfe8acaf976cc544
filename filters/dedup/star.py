"""Star clusters: every row that falls points at a row that is kept and like it, never at a neighbour's neighbour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from filters.dedup.jaccard import CROWD, Pairs
from filters.dedup.known import Lineup
from filters.step import Drop, Pair, SetResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 0.7
"""Pairs are kept from here up, whatever the threshold, so that it can be moved without comparing again."""

KEPT = 20
"""Pairs kept for each row: in a set of near-copies all of them would be quadratic."""

Falls = dict[int, tuple[int, float]]
"""Row that falls -> the kept row that it is most like, and how like it is. Rows by their place in the preference."""

Agree = Callable[[int, int], bool]
"""Whether two rows that are alike may fall for each other, by their places: a second look that costs more."""


def stars(pairs: Pairs, threshold: float, standing: int = 0, agree: Agree | None = None) -> Falls:
    """Which rows fall at `threshold`: from the most preferred down, each that is like a kept one.

    `pairs` name rows by their place in the preference, the first preferred. The first `standing` rows never fall.
    """
    return walk((pairs,), threshold, standing, agree)


def walk(chunks: Iterable[Pairs], threshold: float, standing: int = 0, agree: Agree | None = None) -> Falls:
    """As `stars`, with the pairs in parts: all pairs of one `second` row in the same part, lower rows before higher.

    Of a crowd of kept rows that a row is like and may not fall for, the nearest `CROWD` are tried: rows made from one
    template would else be asked about in a square.
    """
    falls: Falls = {}
    for pairs in chunks:
        near = np.flatnonzero((pairs.similarity >= threshold) & (pairs.second >= standing))
        if falls:
            near = near[~np.isin(pairs.first[near], np.fromiter(falls, np.int64, len(falls)))]
        order = near[np.lexsort((pairs.first[near], -pairs.similarity[near], pairs.second[near]))]
        row, refused = -1, 0
        for first, second, similarity in zip(
            pairs.first[order].tolist(), pairs.second[order].tolist(), pairs.similarity[order].tolist(), strict=True
        ):
            if second != row:
                row, refused = second, 0
            if second in falls or first in falls or refused == CROWD:
                continue
            if agree is None or agree(first, second):
                falls[second] = (first, similarity)
            else:
                refused += 1
    return falls


def threshold_for(
    pairs: Pairs, least: int, lowest: float = FLOOR, standing: int = 0, agree: Agree | None = None
) -> float | None:
    """A high threshold, not below `lowest`, at which at least `least` rows fall; None where there is none.

    Hundredths are tried from 1 down, then the similarities above the first that will do: every one of up to 100, else
    a hundred of them. No search by halves: lower is not always more, as a row that falls sets those free that fell
    for it alone.
    """

    def enough(threshold: float) -> bool:
        return len(stars(pairs, threshold, standing, agree)) >= least

    for hundredths in range(100, math.ceil(lowest * 100 - 1e-9) - 1, -1):
        if enough(hundredths / 100):
            marks = np.unique(pairs.similarity)
            marks = marks[(marks > hundredths / 100) & (marks < (hundredths + 1) / 100)][::-1]
            finer = marks[:: max(1, math.ceil(len(marks) / 100))].tolist()
            return float(next(filter(enough, finer), hundredths / 100))
    return None


def settle(
    lineup: Lineup[Any],
    pairs: Pairs,
    reason: str,
    measure: str | None,
    threshold: float,
    target: int | None = None,
    agree: Agree | None = None,
) -> SetResult:
    """What falls of `lineup` by its `pairs`, for `reason`; `measure` is what people call the similarity, if they do.

    Rows that are there already themselves fall as `known row`, and are like nobody but themselves. With a `target`,
    where `threshold` leaves more rows, it is lowered as far as it takes, to `FLOOR` at the least, and settled.
    """
    result = SetResult()
    again = lineup.again
    if again:
        new = ~(np.isin(pairs.first, again) | np.isin(pairs.second, again))
        pairs = Pairs(pairs.first[new], pairs.second[new], pairs.similarity[new])
    ids, standing = lineup.ids, lineup.standing
    result.drops += [Drop(ids[place], "known row", 1.0, ids[place]) for place in again]
    falls = stars(pairs, threshold, standing, agree)
    if target is not None:
        most = len(ids) - standing - len(again) - target
        if most > len(falls):
            floor = min(FLOOR, threshold)
            threshold = threshold_for(pairs, most, floor, standing, agree) or floor
            falls = stars(pairs, threshold, standing, agree)
        result.settled = {"threshold": threshold}
    for place, (survivor, similarity) in falls.items():
        detail = f"{measure} {similarity:.3f}" if measure else None
        result.drops.append(Drop(ids[place], reason, similarity, ids[survivor], detail))
    own = pairs.second >= standing
    few = worth_keeping(Pairs(pairs.first[own], pairs.second[own], pairs.similarity[own]))
    result.pairs += [
        Pair(ids[second], ids[first], similarity)
        for first, second, similarity in zip(
            few.first.tolist(), few.second.tolist(), few.similarity.tolist(), strict=True
        )
    ]
    return result


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
    others = np.ones(len(pairs.first), dtype=np.bool_)
    others[by_rank] = False
    rest = np.flatnonzero(others)
    nearest = np.lexsort((pairs.first[rest], -pairs.similarity[rest], pairs.second[rest]))
    kept = np.sort(np.concatenate([by_rank, _first_of_each(pairs, rest[nearest], KEPT - KEPT // 2)]))
    return Pairs(pairs.first[kept], pairs.second[kept], pairs.similarity[kept])


def _first_of_each(pairs: Pairs, order: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The first `most` pairs of each second row, in an `order` of pairs that is sorted by it."""
    second = pairs.second[order]
    begins = np.flatnonzero(np.r_[True, second[1:] != second[:-1]]) if len(second) else np.empty(0, dtype=np.int64)
    place = np.arange(len(second)) - np.repeat(begins, np.diff(np.r_[begins, len(second)]))
    return order[place < most]
