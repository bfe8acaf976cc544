"""What an experiment can see: the noise of training, and the smallest effect found with a given power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, stats

from trainer.errors import UsageProblem
from trainer.variance import Clusters, Floats, complete_items, group, kept_clusters, ms_rest, satterthwaite

POWER: Final = 0.8


@dataclass(frozen=True)
class NoiseFloor:
    """How far the means of two runs on the *same* data lie apart, by the luck of training alone.

    `sd`: standard deviation of the difference between two runs' means, in the metric's unit, known with `df` degrees
    of freedom. `item_sd`: standard deviation over items of the difference between two runs. `n_items`: items behind it.
    """

    sd: float
    df: float
    item_sd: float
    n_items: int

    @property
    def seed_sd(self) -> float:
        """The part of `sd` that more items would not remove."""
        return math.sqrt(max(self.sd**2 - self.item_sd**2 / self.n_items, 0.0))

    def p(self, delta: float) -> float:
        """Two-sided p of a difference this large between two runs on the same data: t with `df` degrees of freedom."""
        if delta == 0:
            return 1.0
        return float(2 * stats.t.sf(abs(delta) / self.sd, self.df)) if self.sd > 0 else 0.0

    def bound(self, confidence: float = 0.95) -> float:
        """The size a difference must exceed to clear the floor. One A/A pair (1 df) costs 12.7 sd, three 3.2 sd."""
        return float(stats.t.ppf(0.5 + confidence / 2, self.df)) * self.sd

    def detectable(self, confidence: float = 0.95) -> float:
        """The true effect that clears the floor with 80% power; 0 where two runs never differ."""
        return t_effect(self.sd, self.df, confidence) if self.sd > 0 else 0.0


def t_power(effect_in_se: float, df: float, confidence: float) -> float:
    """Power of a two-sided t test, by integrating over the distribution of the estimated standard error.

    `scipy.stats.nct` returns NaN in the region that one degree of freedom needs.
    """
    quantiles = (np.arange(2000) + 0.5) / 2000
    critical = stats.t.ppf(0.5 + confidence / 2, df) * np.sqrt(stats.chi2.ppf(quantiles, df) / df)
    return float((stats.norm.cdf(effect_in_se - critical) + stats.norm.cdf(-effect_in_se - critical)).mean())


def t_effect(se: float, df: float, confidence: float, power: float = POWER) -> float:
    """The true effect that a two-sided t test with this standard error finds with the given power."""
    if not 0 < se < math.inf or df <= 0:
        return math.inf
    high = 4.0
    while t_power(high, df, confidence) < power:
        high *= 2
    return se * float(optimize.brentq(lambda x: t_power(x, df, confidence) - power, 0.0, high, xtol=1e-6))


def minimum_detectable_effect(
    *,
    item_sd: float,
    seed_sd: float,
    n_items: int,
    n_seeds: int,
    noise_df: float = 1.0,
    confidence: float = 0.95,
    power: float = POWER,
) -> float:
    """The effect an experiment will find with the given power, before it is run (unit of the metric).

    `item_sd` and `seed_sd` come from a `NoiseFloor`, or better from earlier comparisons. Var = seed_sd^2 / n_seeds +
    item_sd^2 / n_items: all spread over items counts as if it came back with every seed, which is a little too careful.
    One seed: the effect must pass the items' test and clear a noise floor of `noise_df` degrees of freedom.
    """
    if n_items < 2 or n_seeds < 1 or item_sd < 0 or seed_sd < 0:
        raise UsageProblem("a planned experiment needs two items or more, one seed or more, and no negative sd")
    item_part = item_sd**2 / n_items
    if n_seeds == 1:
        floor = t_effect(math.sqrt(seed_sd**2 + item_part), noise_df, confidence, power)
        return max(t_effect(math.sqrt(item_part), n_items - 1, confidence, power), floor) if item_part else floor
    parts = [(seed_sd**2 / n_seeds, 2.0 * (n_seeds - 1)), (item_part, n_items - 1.0)]
    total = seed_sd**2 / n_seeds + item_part
    return t_effect(math.sqrt(total), satterthwaite(parts), confidence, power) if total else math.inf


def estimate_noise_floor(runs: Floats, *, clusters: Clusters | None = None, yes_no: bool = False) -> NoiseFloor:
    """Noise floor from two or more runs of the *same* arm with different seeds: (runs, items), NaN for missing.

    sd^2 = 2 Var(run means), df = runs - 1. It is never less than what the items' own spread makes of two runs
    (estimated with far more degrees of freedom) nor, for a yes/no metric, than one item: two runs that agree by
    chance do not prove that training is free of luck.
    """
    if runs.ndim != 2 or len(runs) < 2:
        raise UsageProblem(f"a noise floor needs two or more runs of one arm (runs x items), not shape {runs.shape}")
    keep = complete_items([runs], [len(clusters)] if clusters is not None else [])
    x = runs[:, keep]
    n_items = x.shape[1]
    design = group(kept_clusters(clusters, keep), n_items)
    item_part = 2 * ms_rest(x, design) / design.n if design.n > 1 else 0.0
    least = max(item_part, 1 / n_items**2 if yes_no else 0.0)
    sd = math.sqrt(max(2 * float(x.mean(1).var(ddof=1)), least))
    return NoiseFloor(sd=sd, df=len(x) - 1.0, item_sd=math.sqrt(item_part * n_items), n_items=n_items)


def pool_noise_floors(floors: Sequence[NoiseFloor]) -> NoiseFloor:
    """One floor from several of the same metric, model, setting and eval set: history buys degrees of freedom.

    Variances are averaged by their degrees of freedom. Each arm of an experiment with several seeds gives one.
    """
    if not floors or len({f.n_items for f in floors}) > 1:
        raise UsageProblem("noise floors can be pooled when they come from one eval set, and there is at least one")
    df = sum(f.df for f in floors)
    sd, item_sd = (
        math.sqrt(sum(f.df * v**2 for f, v in zip(floors, vs, strict=True)) / df)
        for vs in ([f.sd for f in floors], [f.item_sd for f in floors])
    )
    return NoiseFloor(sd=sd, df=df, item_sd=item_sd, n_items=floors[0].n_items)
