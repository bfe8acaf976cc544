"""How far a judge agrees with people: rank correlation, weighted kappa and length bias, each with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

ENOUGH = 30
"""Rows below which an interval is too wide, and too uncertain itself, to choose a judge by."""

_RESAMPLES = 2000
_AT_ONCE = 1_000_000  # numbers of one column that are held for resampling


@dataclass(frozen=True)
class Estimate:
    """A number between -1 and 1 with its 95% interval; None where the rows do not settle it."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """A judge beside people on `n` rows.

    `same_rating` and `same_label` are what the judge, or people, gave to every row: then most numbers mean nothing and
    are None. `kappa` is quadratically weighted (Cohen 1968). `length_judge` and `length_people` correlate ratings with
    the length of the answer; `length_bias` is how much more the judge follows length than people do.
    """

    n: int
    spearman: Estimate | None
    kappa: Estimate | None
    length_judge: Estimate | None
    length_people: Estimate | None
    length_bias: Estimate | None
    same_rating: float | None = None
    same_label: float | None = None


def agreement(judge: Sequence[float], people: Sequence[float], lengths: Sequence[int], scale: range) -> Agreement:
    """Compare ratings of a judge on `scale` with labels of people: 0 and 1 (bad and good), or 1 to 5.

    For kappa the judge's ratings are carried to the labels' scale in proportion and rounded; of two labels, the upper
    half of the scale is good. Intervals are percentile bootstraps over rows (2,000 draws, seed 0), as ties, of which
    labels have many, spoil the formulas for Spearman's rho. None where either side gave all rows the same.
    """
    levels = 2 if set(people) <= {0.0, 1.0} else 5
    low = 0.0 if levels == 2 else 1.0
    judged = np.asarray(judge, dtype=np.float64)
    carried = (judged - scale[0]) / (scale[-1] - scale[0]) * (levels - 1)
    rounded = np.clip(np.floor(carried + 0.5), 0, levels - 1) + low
    columns = np.array([judged, people, lengths, rounded], dtype=np.float64)
    n = columns.shape[1]
    same = [float(side[0]) if n and (side == side[0]).all() else None for side in (judged, columns[1])]
    if n < 3:
        return Agreement(n, None, None, None, None, None, *same)
    rng = np.random.default_rng(0)
    size = max(1, _AT_ONCE // n)
    drawn = np.concatenate(
        [_numbers(columns[:, rng.integers(0, n, (min(size, _RESAMPLES - i), n))]) for i in range(0, _RESAMPLES, size)]
    )
    seen = _numbers(columns[:, None, :])[0]
    spearman, kappa, judged_by, told_by, bias = (_estimate(*pair) for pair in zip(seen, drawn.T, strict=True))
    return Agreement(n, spearman, kappa, judged_by, told_by, bias, *same)


def weighted_kappa(a: Floats, b: Floats) -> Floats:
    """Cohen's kappa with quadratic weights of two raters along the last axis; NaN where one of them does not vary.

    With one constant rater the formula gives 0 whatever the other says, and with two 0/0: neither is a finding.
    """
    observed = ((a - b) ** 2).mean(-1)
    expected = (a**2).mean(-1) + (b**2).mean(-1) - 2 * a.mean(-1) * b.mean(-1)  # of all pairs of their ratings
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: Floats = np.where((np.ptp(a, -1) > 0) & (np.ptp(b, -1) > 0), 1 - observed / expected, np.nan)
    return kappa


def flip_share(flips: int, pairs: int) -> Estimate:
    """The share of pairs whose verdict changed with the order of the answers, with Wilson's (1927) interval."""
    interval = stats.binomtest(flips, pairs).proportion_ci(method="wilson")
    return Estimate(flips / pairs, float(interval.low), float(interval.high))


def mean_share(shares: Sequence[float]) -> Estimate:
    """The mean of the shares that one side got in each of some pairs, with a percentile bootstrap over the pairs."""
    given = np.asarray(shares, dtype=np.float64)
    rng, n = np.random.default_rng(0), len(given)
    size = max(1, _AT_ONCE // n)
    sizes = [min(size, _RESAMPLES - i) for i in range(0, _RESAMPLES, size)]
    low, high = np.quantile(np.concatenate([given[rng.integers(0, n, (s, n))].mean(-1) for s in sizes]), [0.025, 0.975])
    return Estimate(float(given.mean()), float(low), float(high))


def _numbers(columns: Floats) -> Floats:
    """(draws, 5) in the order of `Agreement`, from (judge, people, length, rounded judge) x draws x rows."""
    judge, people, length = stats.rankdata(columns[:3], axis=-1)
    with_length, people_with_length = _correlation(judge, length), _correlation(people, length)
    return np.stack(
        [
            _correlation(judge, people),
            weighted_kappa(columns[3], columns[1]),
            with_length,
            people_with_length,
            with_length - people_with_length,
        ],
        axis=-1,
    )


def _correlation(a: Floats, b: Floats) -> Floats:
    """Pearson's along the last axis; NaN where one does not vary."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    spread = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(spread > 0, (a * b).sum(-1) / spread, np.nan)
    return found


def _estimate(value: float, drawn: Floats) -> Estimate | None:
    if math.isnan(value):
        return None
    told = drawn[~np.isnan(drawn)]
    if len(told) < 0.9 * len(drawn):  # many draws hold one kind of label alone
        return Estimate(float(value), None, None)
    low, high = np.quantile(told, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))
