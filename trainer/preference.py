"""How often a judge prefers the candidate's answers to the baseline's, and how often if all were equally long.

The data are a table `shares[t, i]`: 1 where the answer of candidate run t to item i won against the one that it was
judged beside, 0 where it lost, 0.5 for a tie (an order of showing that decided is a tie), NaN where there is no
verdict. With S seeds there are S pairs an item, not S * S: the money for more is better spent on items. Which baseline
run a candidate run meets rotates over the items (`opponent`), so that every run meets all others: the luck of both
arms' runs can then be told from the table, as in `trainer.variance`, where runs are nested in arms. Were run t always
judged beside run t, half of those degrees of freedom would be lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trainer.errors import BadInput
from trainer.slices import Labels, Mask, SlicedMetric, slice_items
from trainer.statistics import Difference, NoiseFloor, estimate_noise_floor, infer, sign_flip_p
from trainer.variance import Clusters, Design, Floats, complete_items, group, kept_clusters, ms_rest, satterthwaite
from trainer.verdict import JUDGED, Measured, MetricSpec

EVEN: Final = 0.5
"""The win rate of a version against itself."""

WIN_RATE, CONTROLLED = JUDGED


@dataclass(frozen=True)
class Preference:
    """What a judge said of two arms' answers: `shares` and lengths (`longer`: candidate minus baseline), runs x items.

    `again` is the same for two runs on the baseline's data (1 x items): how far a judge prefers one of these.
    """

    shares: Floats
    longer: Floats
    clusters: Clusters | None = None
    again: Floats | None = None

    @property
    def noise(self) -> NoiseFloor | None:
        """The noise floor that two runs on the same data give, where the judge compared such."""
        return self._noise(self.clusters)

    def by_name(self) -> dict[str, Difference]:
        """The metrics that come of it."""
        return {
            WIN_RATE: win_rate(self.shares, clusters=self.clusters, noise=self.noise),
            CONTROLLED: controlled_win_rate(self.shares, self.longer, clusters=self.clusters, noise=self.noise),
        }

    def sliced(self, spec: MetricSpec, dimensions: Mapping[str, Labels]) -> list[SlicedMetric]:
        """The win rate within the slices of each dimension."""

        def compare(mask: Mask, clusters: Clusters | None) -> Measured:
            noise = self._noise(clusters, mask)
            return Measured(spec, win_rate(_only(self.shares, mask), clusters=clusters, noise=noise))

        return slice_items(spec, np.asarray(~np.isnan(self.shares).any(0)), dimensions, compare, self.clusters)

    def _noise(self, clusters: Clusters | None, mask: Mask | None = None) -> NoiseFloor | None:
        """The noise floor among the items of a mask; None where the judge said nothing of two runs on the same data."""
        again = self.again if self.again is None or mask is None else _only(self.again, mask)
        return None if again is None or np.isnan(again).all() else noise_of_pairs(again, clusters=clusters)


def _only(table: Floats, mask: Mask) -> Floats:
    """The table with the other items missing: who met whom goes by an item's place in it."""
    return np.where(mask, table, np.nan)


def opponent(run: int, item: int, runs: int) -> int:
    """The baseline run whose answer to an item (by its position) is judged beside that of candidate run `run`."""
    return (run + item) % runs


def win_rate(
    shares: Floats,
    *,
    clusters: Clusters | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
) -> Difference:
    """The mean share as the candidate's value beside `EVEN`; items without a verdict in some run are left out.

    One seed: p is exact, by flipping the sign of items or clusters, and a noise floor must be cleared as well. The
    standard error is at least Agresti and Min's (2005), as for other yes/no metrics.
    """
    _check(shares)
    keep = complete_items([shares], [len(clusters)] if clusters is not None else [])
    values, met = shares[:, keep], _by_baseline(shares)[:, keep]
    design = group(kept_clusters(clusters, keep), values.shape[1])
    variance, df = _variance(values, met, design)
    wins = design.share * design.means(2 * values.mean(0) - 1)  # per cluster, -1 to 1
    n = design.n + 2
    least = (float((wins**2).sum()) + 1 - float(wins.sum()) ** 2 / n) / n**2 / 4
    if least > variance:
        variance, df = least, max(df, design.df)
    even = np.full_like(values, EVEN)
    se = _error_at_even(math.sqrt(variance), float(values.mean()), design.n)
    found = infer(even, values, design, se, df, noise, confidence, int((~keep).sum()))
    if len(values) == 1 and design.n > 1:
        found = replace(found, p=sign_flip_p(values[0] - EVEN, clusters=kept_clusters(clusters, keep)))
    return _within(found)


def controlled_win_rate(
    shares: Floats,
    longer: Floats,
    *,
    clusters: Clusters | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
) -> Difference:
    """The win rate among answers of equal length; `longer` is candidate minus baseline length of each pair.

    A logistic regression, as in AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475):

        logit P(candidate wins) = theta + phi * tanh(longer / sd(longer))

    and the controlled rate is 1 / (1 + exp(-theta)). Their term for the difficulty of an item is left out: it takes
    many models on the same items to know it. A tie is half a win and half a loss. Two ties are added, one with either
    difference of one sd, so that a judge who looks at nothing but length has a finite phi. Standard error by the
    delta method: each pair's influence on theta goes through the same variance as a win.
    """
    _check(shares)
    keep = complete_items([shares, np.where(np.isnan(longer), np.nan, shares)], [len(clusters)] if clusters else [])
    values, lengths = shares[:, keep], longer[:, keep]
    design = group(kept_clusters(clusters, keep), values.shape[1])
    spread = float(lengths.std())
    x = np.tanh(lengths / spread) if spread > 0 else np.zeros_like(lengths)
    theta, influence = _logistic(x.ravel(), values.ravel())
    rate = 1 / (1 + math.exp(-theta))
    # Values whose mean is the rate, and whose spread is that of its estimate.
    pseudo = rate + rate * (1 - rate) * influence.reshape(values.shape)
    pseudo += rate - pseudo.mean()
    spread_out = np.full(shares.shape, np.nan)
    spread_out[:, keep] = pseudo
    variance, df = _variance(pseudo, _by_baseline(spread_out)[:, keep], design)
    even = np.full_like(pseudo, EVEN)
    se = _error_at_even(math.sqrt(variance), rate, design.n)
    return _within(infer(even, pseudo, design, se, df, noise, confidence, int((~keep).sum())))


def noise_of_pairs(shares: Floats, *, clusters: Clusters | None = None) -> NoiseFloor:
    """The noise floor of a win rate from judging two runs on the same data against each other: shares (1, items).

    Its mean is 0.5 but for luck. As two runs of a metric whose difference it is, half of it on either side.
    """
    half = (shares - EVEN) / 2
    return estimate_noise_floor(np.concatenate([half, -half]), clusters=clusters, yes_no=True)


def _check(shares: Floats) -> None:
    known = shares[~np.isnan(shares)]
    if ((known < 0) | (known > 1)).any():
        raise BadInput("a share of wins lies between 0 and 1")


def _by_baseline(values: Floats) -> Floats:
    """The same pairs, those of each baseline run in a row: (runs, items) -> (runs, items)."""
    runs, items = values.shape
    met = np.empty_like(values)
    for item in range(items):
        for run in range(runs):
            met[opponent(run, item, runs), item] = values[run, item]
    return met


def _variance(values: Floats, met: Floats, design: Design) -> tuple[float, float]:
    """Variance of the mean over pairs and its degrees of freedom: `trainer.variance.variance_of_mean` for pairs.

    `values` by candidate run, `met` by baseline run. E[MS_run] holds the rest twice, once for each arm, and E[MS_item]
    once; both are taken out once too often, so MS_rest, of which `values` and `met` give one each, is subtracted twice.
    The floor, and its degrees of freedom, are as there. It is high where luck is low, as MS_run holds the rest once too
    often, and is kept so: without that rest the degrees of freedom change by leaps, and for two rates of 31% from the
    same judge p was 0.000002 for the one and 0.09 for the other.
    """
    runs, n = len(values), design.n
    if n == 1:
        return math.inf, 0.0
    ms_item = runs * design.scale * float((design.residuals(values.mean(0)) ** 2).sum())
    if runs == 1:
        return ms_item / n, design.df
    df_run, df_rest = 2.0 * (runs - 1), 2.0 * (runs - 1) * design.df
    ms_run = n * float(values.mean(1).var(ddof=1) + met.mean(1).var(ddof=1))
    rest = ms_rest(values, design) + ms_rest(met, design)
    total = ms_item + ms_run - rest
    if total > max(ms_item, ms_run):
        return total / (runs * n), satterthwaite([(ms_item, design.df), (ms_run, df_run), (-rest, df_rest)])
    if ms_item > ms_run:
        return ms_item / (runs * n), satterthwaite([(ms_item - ms_run, design.df), (ms_run, df_run)])
    return ms_run / (runs * n), df_run


def _error_at_even(se: float, rate: float, n: int) -> float:
    """The standard error of a win rate over `n` items or clusters, on the scale that it has where the rate is even.

    Luck moves a run on the scale of logits, and far from even a logit moves the rate less, by rate * (1 - rate): runs
    that were lucky together look steady. Tested is whether the rate could be even, so the error is brought to the
    slope there. Two wins and two losses are added to the rate, as Agresti and Coull (1998) do, or all won would be
    no evidence at all.
    """
    rate = (n * rate + 2) / (n + 4)
    return se * EVEN**2 / (rate * (1 - rate))


def _logistic(x: Floats, y: Floats) -> tuple[float, Floats]:
    """Intercept of a logistic regression of shares `y` on `x`, and N times each pair's influence on it.

    Newton's method; the two added ties keep it from running away.
    """
    design = np.column_stack([np.ones(len(x) + 2), np.append(x, [math.tanh(1), -math.tanh(1)])])
    target = np.append(y, [0.5, 0.5])
    weights = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ weights))
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(hessian, design.T @ (target - p))
        weights += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    p = 1 / (1 + np.exp(-design @ weights))
    hessian = (design * (p * (1 - p))[:, None]).T @ design
    influence = np.linalg.solve(hessian, (design * (target - p)[:, None]).T)[0, :-2] * len(x)
    return float(weights[0]), influence


def _within(found: Difference) -> Difference:
    """The interval cut to what a rate can be."""
    low, high = found.ci
    if not math.isfinite(low):
        return found
    return replace(found, ci=(max(low, -EVEN), min(high, 1 - EVEN)))
