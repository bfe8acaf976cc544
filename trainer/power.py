"""What an experiment can see: the noise of training, and the smallest effect found with a given power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize, special, stats

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


def t_power(effect: float, se: float, df: float, confidence: float = 0.95) -> float:
    """Power of a two-sided t test against a true effect, `se` being the true standard error, known with `df`."""
    return _power(effect / se, _critical_values(df, confidence))


def t_effect(se: float, df: float, confidence: float = 0.95, power: float = POWER) -> float:
    """The true effect that this t test finds with the given power; infinite if there is no test."""
    if not 0 < se < math.inf or df <= 0:
        return math.inf
    critical = _critical_values(df, confidence)
    high = 4.0
    while _power(high, critical) < power:
        high *= 2
    return se * float(optimize.brentq(lambda effect: _power(effect, critical) - power, 0.0, high, xtol=1e-6))


def _critical_values(df: float, confidence: float) -> Floats:
    """Critical values in units of the true standard error, at 500 equally likely values of the estimated one."""
    quantiles = (np.arange(500) + 0.5) / 500
    values: Floats = stats.t.ppf(0.5 + confidence / 2, df) * np.sqrt(stats.chi2.ppf(quantiles, df) / df)
    return values


def _power(effect: float, critical: Floats) -> float:
    """Power averaged over critical values: `scipy.stats.nct` gives NaN where one degree of freedom needs it."""
    return float((special.ndtr(effect - critical) + special.ndtr(-effect - critical)).mean())


def minimum_detectable_effect(
    *,
    item_sd: float,
    seed_sd: float,
    n_items: int,
    n_seeds: int,
    n_clusters: int | None = None,
    item_effect_sd: float = 0.0,
    noise_df: float = 1.0,
    confidence: float = 0.95,
    power: float = POWER,
) -> float:
    """The effect an experiment will find with the given power, before it is run (unit of the metric).

    `item_sd` and `seed_sd` are a `NoiseFloor`'s; `item_effect_sd` is how much the true effect differs from item to
    item, which runs on the same data cannot tell: zero gives a lower bound. Several seeds: the expected mean squares
    of `variance_of_mean`. One seed: the effect must pass the items' test and clear a noise floor of `noise_df`
    degrees of freedom. `n_clusters` of like size that the items are in have fewer degrees of freedom than items alone
    (None).
    """
    if n_items < 2 or n_seeds < 1 or min(item_sd, seed_sd, item_effect_sd) < 0:
        raise UsageProblem("a planned experiment needs two items or more, one seed or more, and no negative sd")
    df_item = (n_clusters or n_items) - 1.0
    if not df_item:
        return math.inf
    rest, effect = item_sd**2 / n_items, item_effect_sd**2 / n_items
    noise = seed_sd**2 + rest
    if n_seeds == 1:
        tests = [(rest + effect, df_item), (noise, noise_df)]
        return max(t_effect(math.sqrt(variance), df, confidence, power) for variance, df in tests)
    df_run = 2.0 * (n_seeds - 1)
    parts = [(rest + effect * n_seeds, df_item), (noise, df_run), (-rest, df_run * df_item)]
    variance = sum(value for value, _ in parts) / n_seeds
    return t_effect(math.sqrt(variance), satterthwaite(parts), confidence, power) if variance else math.inf


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
