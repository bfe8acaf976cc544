"""Checks on the t intervals for few items, by resampling; every draw comes from an explicit seed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from trainer.errors import BadInput
from trainer.variance import Clusters, Floats, complete_items, group


def sign_flip_p(d: Floats, *, clusters: Clusters | None = None, resamples: int = 20_000, seed: int = 0) -> float:
    """Two-sided p that differences d (items) are symmetric about zero, flipping whole clusters (Fisher 1935).

    Exact while 2^clusters is at most `resamples`, else drawn with `seed`. A check for few items; like every test over
    items alone it speaks of the runs at hand.
    """
    design = group(clusters, len(d))
    sums = design.means(d) * design.sizes
    sums = sums[sums != 0]
    if len(sums) < 2:
        return 1.0
    test = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
        vectorized=True,
    )
    return float(test.pvalue)


def crossed_bootstrap(
    baseline: Floats,
    candidate: Floats,
    *,
    clusters: Clusters | None = None,
    resamples: int = 5_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean difference, drawing clusters (paired) and, apart in each arm, runs.

    Owen's (2007) pigeonhole bootstrap. A check on the t interval's normality for several seeds; with S seeds it
    understates the run component by (S - 1) / S, so for two or three it is the narrower one. No missing values.
    """
    if not np.isfinite(baseline).all() or not np.isfinite(candidate).all():
        raise BadInput("the bootstrap takes complete tables", do="Leave out items with missing values first.")
    complete_items([baseline, candidate], [len(clusters)] if clusters is not None else [])
    design = group(clusters, baseline.shape[1])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(design.n, np.full(design.n, 1 / design.n), resamples) * design.sizes
    items = drawn / drawn.sum(1, keepdims=True)
    means = []
    for arm in (baseline, candidate):
        runs = rng.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), resamples) / len(arm)
        means.append(np.einsum("rs,sg,rg->r", runs, design.means(arm), items, optimize=True))
    low, high = np.quantile(means[1] - means[0], [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
