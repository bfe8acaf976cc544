"""How far a judge agrees with people: rank correlation, weighted kappa and length bias, each with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

ENOUGH = 30
"""Rows below which an interval is too wide, and too uncertain itself, to choose a judge by."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number between -1 and 1 with its 95% interval; None where the rows do not settle it."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """A judge beside people on `n` rows.

    `kappa` is quadratically weighted (Cohen 1968). `length_judge` and `length_people` correlate ratings with the length
    of the answer; `length_bias` is how much more the judge follows length than people do.
    """

    n: int
    spearman: Estimate | None
    kappa: Estimate | None
    length_judge: Estimate | None
    length_people: Estimate | None
    length_bias: Estimate | None


def agreement(judge: Sequence[float], people: Sequence[float], lengths: Sequence[int], scale: range) -> Agreement:
    """Compare ratings of a judge on `scale` with labels of people: 0 and 1 (bad and good), or 1 to 5.

    For kappa the judge's ratings are carried to the labels' scale in proportion and rounded; of two labels, the upper
    half of the scale is good. Intervals are percentile bootstraps over rows (2,000 draws, seed 0), as ties, of which
    labels have many, spoil the formulas for Spearman's rho. None where either side gave all rows the same.
    """
    a, b, size = (np.asarray(values, dtype=np.float64) for values in (judge, people, lengths))
    levels = 2 if set(people) <= {0.0, 1.0} else 5
    low = 0.0 if levels == 2 else 1.0
    carried = low + (a - scale[0]) / (scale[-1] - scale[0]) * (levels - 1)
    rounded = np.clip(np.floor(carried - low + 0.5), 0, levels - 1)

    def bias(rows: NDArray[np.int64]) -> float:
        return _rho(a[rows], size[rows]) - _rho(b[rows], size[rows])

    return Agreement(
        len(a),
        _estimate(len(a), lambda rows: _rho(a[rows], b[rows])),
        _estimate(len(a), lambda rows: weighted_kappa(rounded[rows], b[rows] - low, levels)),
        _estimate(len(a), lambda rows: _rho(a[rows], size[rows])),
        _estimate(len(a), lambda rows: _rho(b[rows], size[rows])),
        _estimate(len(a), bias),
    )


def weighted_kappa(a: Floats, b: Floats, levels: int) -> float:
    """Cohen's kappa with quadratic weights of two raters with ratings 0 to `levels` - 1; NaN where neither varies."""
    expected = float(np.mean((a[:, None] - np.arange(levels)) ** 2 @ np.bincount(b.astype(int), minlength=levels)))
    expected /= len(b)
    return 1 - float(np.mean((a - b) ** 2)) / expected if expected else math.nan


def flip_share(flips: int, pairs: int) -> Estimate:
    """The share of pairs whose verdict changed with the order of the answers, with Wilson's (1927) interval."""
    interval = stats.binomtest(flips, pairs).proportion_ci(method="wilson")
    return Estimate(flips / pairs, float(interval.low), float(interval.high))


def _rho(a: Floats, b: Floats) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return math.nan
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _estimate(n: int, statistic: Callable[[NDArray[np.int64]], float]) -> Estimate | None:
    if n < 3:
        return None
    value = statistic(np.arange(n))
    if math.isnan(value):
        return None
    rng = np.random.default_rng(0)
    drawn = np.array([statistic(rng.integers(0, n, n)) for _ in range(_RESAMPLES)])
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) < _RESAMPLES * 0.9:  # most draws hold one kind of label alone
        return Estimate(value, None, None)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
