"""Is the candidate's mean different from the baseline's, and how small a difference would have been seen?

The data are two tables, `baseline[s, i]` and `candidate[s, i]`: seed s, eval item i, one number each. The model is in
`trainer.variance`, planning and the noise floor in `trainer.power`; `docs/statistics.md` explains the choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import stats

from trainer.errors import BadInput, UsageProblem
from trainer.power import NoiseFloor, estimate_noise_floor, minimum_detectable_effect, pool_noise_floors, t_effect
from trainer.resampling import crossed_bootstrap, sign_flip_p
from trainer.variance import Clusters, Design, Floats, complete_items, group, kept_clusters, variance_of_mean

__all__ = [
    "SCOPE_ONE_SEED",
    "SCOPE_SEEDS",
    "Difference",
    "NoiseFloor",
    "crossed_bootstrap",
    "estimate_noise_floor",
    "holm",
    "minimum_detectable_effect",
    "paired_difference",
    "paired_share_difference",
    "pool_noise_floors",
    "sign_flip_p",
]

SCOPE_ONE_SEED: Final = "these two runs"
SCOPE_SEEDS: Final = "any seed of this setting"
ROUNDING: Final = 1e-12  # spread below this share of the values themselves is floating-point dust, not variance


@dataclass(frozen=True)
class Difference:
    """A paired comparison of one metric; `delta` = candidate - baseline, averaged over items (and seeds).

    `ci`, `p` (two-sided), `se` and `df` belong to `delta`. `mde` is the true effect that this experiment would have
    found with 80% power; infinite where it cannot be known. `token_weighted` is the difference of token-weighted means.
    `n_missing` items lack a value in some run and are left out of every run. `noise_p` is set for one seed with a
    noise floor.
    """

    baseline: float
    candidate: float
    delta: float
    token_weighted: float | None
    ci: tuple[float, float]
    p: float
    se: float
    df: float
    mde: float
    n_seeds: int
    n_items: int
    n_clusters: int
    n_missing: int
    confidence: float
    noise: NoiseFloor | None = None

    @property
    def scope(self) -> str:
        """What the interval and p speak about; items always stand for items like them."""
        return SCOPE_SEEDS if self.n_seeds > 1 else SCOPE_ONE_SEED

    @property
    def noise_p(self) -> float | None:
        """For one seed: could two runs on the same data lie this far apart? None without a noise floor."""
        return self.noise.p(self.delta) if self.n_seeds == 1 and self.noise is not None else None

    @property
    def decisive_p(self) -> float:
        """The p that better and worse are decided by.

        With several seeds it is `p`. With one, both the items and the noise floor must agree, so it is the larger of
        the two (intersection-union test, Berger 1982), and 1 without a noise floor: nothing can be decided.
        """
        if self.n_seeds > 1:
            return self.p
        return max(self.p, self.noise_p) if self.noise_p is not None else 1.0

    def among(self, comparisons: int) -> Difference:
        """The same as one of several comparisons that are decided together by Holm's correction.

        Its `mde` is then what the strictest of these tests finds, the one at alpha / `comparisons`.
        """
        confidence = 1 - (1 - self.confidence) / comparisons
        mde = t_effect(self.se, self.df, confidence)
        if self.n_seeds == 1:
            mde = max(mde, math.inf if self.noise is None else self.noise.detectable(confidence))
        return replace(self, mde=mde)


def paired_difference(
    baseline: Floats,
    candidate: Floats,
    *,
    clusters: Clusters | None = None,
    weights: Floats | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Compare two arms, tables (seeds x items) with the same seeds and items; NaN marks a missing value.

    An item that is missing anywhere is left out everywhere. `clusters` names each item's cluster (None: its own).
    `weights` (items) are tokens, for `token_weighted` only. `noise` matters for one seed; with several, the runs of
    the experiment itself measure it. One cluster, or one item, gives an infinite interval.
    Where nothing varies at all, a t test has no meaning: p is 1 without a difference, else the sign test's over
    clusters. Raises UsageProblem for shapes that do not fit, BadInput for values that cannot be used.
    """
    keep = complete_items([baseline, candidate], [len(x) for x in (clusters, weights) if x is not None])
    a, b = baseline[:, keep], candidate[:, keep]
    design = group(kept_clusters(clusters, keep), a.shape[1])
    variance, df = variance_of_mean(a, b, design)
    token_weighted = None if weights is None else _weighted((b - a).mean(0), weights[keep])
    return infer(a, b, design, math.sqrt(variance), df, noise, confidence, int((~keep).sum()), token_weighted)


def paired_share_difference(
    baseline: Floats,
    candidate: Floats,
    *,
    clusters: Clusters | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
) -> Difference:
    """`paired_difference` for a yes/no metric (0, 1 or NaN per item): `delta` is a difference of shares.

    One seed: p is exact, McNemar's (1947), or, with clusters, of its generalisation, flipping the sign of whole
    clusters. Several seeds: the crossed model on the shares, since McNemar per seed speaks of those two runs only.
    Either way the standard error is at least Agresti and Min's (2005; half an item added to each cell of the paired
    table): forty of forty in both arms is not an interval of zero width.
    """
    if any(not np.isin(t[~np.isnan(t)], (0.0, 1.0)).all() for t in (baseline, candidate)):
        raise BadInput("a yes/no metric may hold only 0, 1 and missing values")
    keep = complete_items([baseline, candidate], [len(clusters)] if clusters is not None else [])
    a, b = baseline[:, keep], candidate[:, keep]
    design = group(kept_clusters(clusters, keep), a.shape[1])
    variance, df = variance_of_mean(a, b, design)
    wins = design.share * design.means((b - a).mean(0))  # per cluster, -1 to 1; per item without clusters
    n = design.n + 2
    least = (float((wins**2).sum()) + 1 - float(wins.sum()) ** 2 / n) / n**2
    if least > variance:
        variance, df = least, max(df, design.df)
    result = infer(a, b, design, math.sqrt(variance), df, noise, confidence, int((~keep).sum()))
    if len(a) > 1 or design.n == 1:
        return result
    if design.n == a.shape[1]:
        n_won, n_lost = int((b > a).sum()), int((a > b).sum())
        p = float(stats.binomtest(n_won, n_won + n_lost).pvalue) if n_won + n_lost else 1.0
    else:
        p = sign_flip_p((b - a)[0], clusters=kept_clusters(clusters, keep))
    return replace(result, p=p)


def infer(
    a: Floats,
    b: Floats,
    design: Design,
    se: float,
    df: float,
    noise: NoiseFloor | None,
    confidence: float,
    n_missing: int,
    token_weighted: float | None = None,
) -> Difference:
    """Interval, p and MDE of the mean of b - a, complete tables, given its standard error and degrees of freedom."""
    if not 0 < confidence < 1:
        raise UsageProblem(f"confidence must lie between 0 and 1, not {confidence}")
    one_seed = len(a) == 1
    dust = ROUNDING * float(max(np.abs(a).max(), np.abs(b).max()))
    delta = float((b - a).mean())
    delta = delta if abs(delta) > dust else 0.0
    ci, p, mde = (-math.inf, math.inf), 1.0, math.inf
    if se <= dust:
        se = 0.0
        p = 1.0 if delta == 0 else min(1.0, 2.0 * 0.5**design.n)
        ci = (delta, delta) if delta == 0 or p < 1 - confidence else ci
    elif se < math.inf:
        half = float(stats.t.ppf(0.5 + confidence / 2, df)) * se
        ci = (delta - half, delta + half)
        p = float(2 * stats.t.sf(abs(delta) / se, df))
        mde = t_effect(se, df, confidence)
    if one_seed:  # without a noise floor one seed detects nothing; with one, an effect must also clear it
        mde = max(mde, math.inf if noise is None else noise.detectable(confidence))
    return Difference(
        baseline=float(a.mean()),
        candidate=float(b.mean()),
        delta=delta,
        token_weighted=token_weighted,
        ci=ci,
        p=p,
        se=se,
        df=df,
        mde=mde,
        n_seeds=len(a),
        n_items=a.shape[1],
        n_clusters=design.n,
        n_missing=n_missing,
        confidence=confidence,
        noise=noise if one_seed else None,
    )


def _weighted(d: Floats, weights: Floats) -> float:
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise BadInput("token weights must be finite, not negative, and not all zero")
    return float(np.average(d, weights=weights))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that hold the chance of any false alarm in the family at alpha. Holm (1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]
