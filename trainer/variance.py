"""How sure is a mean over eval items and training runs? Clusters, mean squares and their degrees of freedom.

The model of one arm's table, `x[s, i]` for seed s and item i, next to the other arm's:

    x[arm, s, i] = mean[arm] + item[i] + arm-by-item[arm, i] + run[arm, s] + rest[arm, s, i]

Items are crossed with runs and paired between the arms. Runs are *nested* in arms: two trainings with one seed on
other data are two draws of the training's luck. So the run component is estimated inside each arm, which doubles
its degrees of freedom (two seeds: 2 instead of 1) and can only be too careful when a seed does help to pair runs.
`docs/statistics.md` has the simulated error rates behind each choice.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import BadInput, UsageProblem

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable]


def kept_clusters(clusters: Clusters | None, keep: NDArray[np.bool_]) -> Clusters | None:
    """The clusters of the items that are kept; None (every item alone) stays None."""
    return None if clusters is None else [c for c, kept in zip(clusters, keep, strict=True) if kept]


def complete_items(tables: Sequence[Floats], n_labels: Sequence[int]) -> NDArray[np.bool_]:
    """Which items have a value in every run of every table; errors for tables that cannot be compared."""
    if any(t.ndim != 2 for t in tables) or len({t.shape for t in tables}) > 1:
        raise UsageProblem(f"tables must be seeds x items and of one shape, not {[t.shape for t in tables]}")
    n_seeds, n_items = tables[0].shape
    if n_seeds == 0 or any(n != n_items for n in n_labels):
        raise UsageProblem(f"{n_seeds} seeds x {n_items} items, but clusters or weights for {list(n_labels)} items")
    if any(np.isinf(t).any() for t in tables):
        raise BadInput("a metric has infinite values", do="Mark items that could not be measured as NaN.")
    for t in tables:
        empty = np.flatnonzero(np.isnan(t).all(1))
        if n_items and len(empty):
            raise BadInput("a run has no value for any item", where=f"seed row {empty[0]}", do="Run it again.")
    complete = ~np.any([np.isnan(t).any(0) for t in tables], axis=0)
    if not complete.any():
        raise BadInput("no item has a value in every run", do="Evaluate the runs on the same items.")
    return np.asarray(complete)


@dataclass(frozen=True)
class Design:
    """Items grouped in clusters. `share[g]` = size of cluster g / mean size; `member[i]` = cluster of item i.

    The mean over items is the mean over clusters of share * cluster mean. `df` and `scale` are Bell and McCaffrey's
    (2002) for it: with r_g = share_g * (x_g - weighted mean), `scale * sum(r^2)` is unbiased for
    mean(share^2) * Var(x_g), and has `df` degrees of freedom by Satterthwaite, if cluster means vary alike.
    """

    member: NDArray[np.intp]
    share: Floats
    df: float
    scale: float

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.share)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Items in each cluster."""
        return np.bincount(self.member)

    def residuals(self, table: Floats) -> Floats:
        """share * (cluster mean - weighted mean) along the last axis: (..., items) -> (..., clusters)."""
        means = self.means(table)
        residuals: Floats = self.share * (means - (means * self.share).mean(-1, keepdims=True))
        return residuals

    def means(self, table: Floats) -> Floats:
        """Cluster means: (..., items) -> (..., clusters)."""
        order = np.argsort(self.member, kind="stable")
        starts = np.searchsorted(self.member[order], np.arange(self.n))
        sums: Floats = np.add.reduceat(table[..., order], starts, axis=-1)
        means: Floats = sums / self.sizes
        return means


def group(clusters: Clusters | None, n_items: int) -> Design:
    """The design of `n_items` items in these clusters; without clusters, and for a cluster None, items stand alone."""
    if clusters is None:
        member = np.arange(n_items)
    else:
        keys = [("", i) if c is None else ("c", c) for i, c in enumerate(clusters)]
        numbers = {key: g for g, key in enumerate(dict.fromkeys(keys))}
        member = np.array([numbers[key] for key in keys])
    sizes = np.bincount(member)
    n = len(sizes)
    a = sizes * n / n_items
    if n == 1:
        return Design(member, a, 0.0, math.inf)
    # K = R'R with R = diag(a)(I - 1a'/n), the matrix of sum(r^2); both traces in closed form.
    p2, p3, p4, p5 = (float((a**k).sum()) for k in (2, 3, 4, 5))
    beta = p2 / n**2
    trace = p2 - 2 * p3 / n + p2 * beta
    trace_sq = p4 + 2 * (beta * p4 - 2 * p5 / n)
    trace_sq += 2 * (p3**2 + p2 * p4) / n**2 - 4 * beta * p2 * p3 / n + (beta * p2) ** 2
    return Design(member, a, trace**2 / trace_sq, p2 / n / trace)


def satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent (signed) mean squares (value, df). Satterthwaite (1946)."""
    total = sum(value for value, _ in parts)
    return total**2 / sum(value**2 / df for value, df in parts)


def variance_of_mean(a: Floats, b: Floats, design: Design) -> tuple[float, float]:
    """Variance of the mean difference and its degrees of freedom.

    Several seeds, S x G clusters: (MS_item + MS_run - MS_rest) / (S G), from the expected mean squares of the two-way
    random-effects layout (Searle, Casella and McCulloch 1992, ch. 4): MS_item from the differences averaged over
    seeds; MS_run and MS_rest inside each arm, then added. The subtraction takes out the rest that both others contain;
    as a difference it can fall below its parts by chance, even below zero, so the sum is never less than the larger of
    MS_item and MS_run: dropping either component would be the classic error of pretending that it is zero. Where
    MS_item is that larger one, the part of it that the runs may account for is known no better than MS_run is: with the
    items' many degrees of freedom for all of it, p values below 0.001 would come seven times too often.
    One seed: the clusters' variance alone.
    """
    n_seeds, n = len(a), design.n
    if n == 1:
        return math.inf, 0.0
    ms_item = n_seeds * design.scale * float((design.residuals((b - a).mean(0)) ** 2).sum())
    if n_seeds == 1:
        return ms_item / n, design.df
    df_run, df_rest = 2.0 * (n_seeds - 1), 2.0 * (n_seeds - 1) * design.df
    ms_run = n * float(a.mean(1).var(ddof=1) + b.mean(1).var(ddof=1))
    rest = ms_rest(a, design) + ms_rest(b, design)
    total = ms_item + ms_run - rest
    if total > max(ms_item, ms_run):
        df = satterthwaite([(ms_item, design.df), (ms_run, df_run), (-rest, df_rest)])
        return total / (n_seeds * n), df
    if ms_item > ms_run:
        return ms_item / (n_seeds * n), satterthwaite([(ms_item - ms_run, design.df), (ms_run, df_run)])
    return ms_run / (n_seeds * n), df_run


def ms_rest(runs: Floats, design: Design) -> float:
    """Mean square of what neither item nor run explains, within one arm: (runs, items) -> a number."""
    residuals = design.residuals(runs)
    squares = float(((residuals - residuals.mean(0)) ** 2).sum())
    return design.scale * squares / (len(runs) - 1)
