"""The statistics against independent implementations, and on data that has no ordinary answer."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from trainer.errors import BadInput, UsageProblem
from trainer.power import t_effect, t_power
from trainer.statistics import (
    SCOPE_ONE_SEED,
    SCOPE_SEEDS,
    NoiseFloor,
    crossed_bootstrap,
    estimate_noise_floor,
    holm,
    minimum_detectable_effect,
    paired_difference,
    paired_share_difference,
    pool_noise_floors,
    sign_flip_p,
)
from trainer.variance import group


def draw(seed, n_seeds, n_items, run_sd=0.3, effect=0.2):
    rng = np.random.default_rng(seed)
    item = rng.normal(0, 2, n_items)
    own = rng.normal(0, 0.5, n_items)
    a = item + rng.normal(0, run_sd, (n_seeds, 1)) + rng.normal(size=(n_seeds, n_items))
    b = item + own + effect + rng.normal(0, run_sd, (n_seeds, 1)) + rng.normal(size=(n_seeds, n_items))
    return a, b


def mean_squares(table):
    """Item, run and rest mean squares of a seeds x items table by statsmodels."""
    s, i = np.indices(table.shape)
    frame = pd.DataFrame({"x": table.ravel(), "s": s.ravel(), "i": i.ravel()})
    squares = anova_lm(ols("x ~ C(i) + C(s)", frame).fit())["mean_sq"]
    return squares["C(i)"], squares["C(s)"], squares["Residual"]


# One seed


def test_one_seed_without_clusters_is_the_paired_t_test():
    a, b = draw(0, 1, 40)
    found = paired_difference(a, b)
    expected = stats.ttest_rel(b[0], a[0])
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.ci == pytest.approx((low, high))
    assert (found.df, found.n_items, found.scope) == (39, 40, SCOPE_ONE_SEED)
    assert found.delta == pytest.approx(found.candidate - found.baseline)


def test_equal_clusters_are_a_t_test_of_their_means():
    a, b = draw(1, 1, 40)
    clusters = [f"doc-{i % 8}" for i in range(40)]
    found = paired_difference(a, b, clusters=clusters)
    means = (b - a)[0].reshape(5, 8).mean(0)
    assert found.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert (found.df, found.n_clusters) == (pytest.approx(7), 8)


def test_unequal_clusters_follow_bell_and_mccaffrey():
    a, b = draw(2, 1, 31)
    member = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 12])
    found = paired_difference(a, b, clusters=list(member))
    # The uncorrected cluster sandwich is statsmodels'; the correction and df come from the matrix they are defined by.
    sandwich = OLS((b - a)[0], np.ones(31)).fit(
        cov_type="cluster", cov_kwds={"groups": member, "use_correction": False, "df_correction": False}
    )
    share = np.bincount(member) * 6 / 31
    r = np.diag(share) @ (np.eye(6) - np.outer(np.ones(6), share) / 6)
    k = r.T @ r
    correction = (share**2).sum() / np.trace(k)
    assert found.se == pytest.approx(math.sqrt(correction) * sandwich.bse[0])
    assert found.df == pytest.approx(np.trace(k) ** 2 / np.trace(k @ k))
    assert found.df < 5  # less than six clusters of one size would give


def test_a_cluster_of_none_is_an_item_alone():
    a, b = draw(3, 1, 12)
    assert paired_difference(a, b, clusters=[None] * 12) == paired_difference(a, b)
    assert group([None, "x", None, "x"], 4).n == 3


# Several seeds


@pytest.mark.parametrize("run_sd", [0.3, 2.0])
def test_several_seeds_follow_the_anova_of_statsmodels(run_sd):
    a, b = draw(4, 3, 12, run_sd=run_sd)
    found = paired_difference(a, b)
    item, _, _ = mean_squares(b - a)
    (_, run_a, rest_a), (_, run_b, rest_b) = mean_squares(a), mean_squares(b)
    run, rest = run_a + run_b, rest_a + rest_b
    total = item + run - rest
    assert total > max(item, run)  # the case without the floor
    df = total**2 / (item**2 / 11 + run**2 / 4 + rest**2 / 44)
    assert found.se == pytest.approx(math.sqrt(total / 36))
    assert found.df == pytest.approx(df)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.delta) / found.se, df))
    assert found.scope == SCOPE_SEEDS


def test_the_variance_never_falls_below_either_component():
    a, b = draw(5, 3, 12, run_sd=0.0)
    a, b = (x - x.mean(1, keepdims=True) + 1 for x in (a, b))  # run means agree exactly: MS_run is zero
    found = paired_difference(a, b)
    item, _, _ = mean_squares(b - a)
    assert found.se == pytest.approx(math.sqrt(item / 36))
    assert found.df == 11
    a, b = np.arange(3)[:, None] + np.zeros((3, 12)), np.arange(3)[::-1, None] + np.zeros((3, 12))  # runs alone differ
    assert paired_difference(a, b).se == pytest.approx(math.sqrt(2 / 3))
    assert paired_difference(a, b).df == pytest.approx(4)


def test_clusters_count_with_several_seeds_too():
    a, b = draw(6, 3, 40)
    clusters = list(np.repeat(np.arange(8), 5))
    by_cluster = paired_difference(a.reshape(3, 8, 5).mean(2), b.reshape(3, 8, 5).mean(2))
    found = paired_difference(a, b, clusters=clusters)
    assert (found.se, found.df, found.p) == pytest.approx((by_cluster.se, by_cluster.df, by_cluster.p))


def test_the_sum_over_unequal_clusters_is_still_the_mean_over_items():
    a, b = draw(7, 2, 9)
    found = paired_difference(a, b, clusters=[0, 0, 0, 0, 0, 0, 1, 1, 2])
    assert found.delta == pytest.approx((b - a).mean())


# What both share


def test_token_weights_weigh_items_and_leave_the_primary_mean_alone():
    a, b = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[2.0, 2.0], [3.0, 2.0]])
    found = paired_difference(a, b, weights=np.array([1.0, 3.0]))
    assert (found.delta, found.token_weighted) == (0.75, 0.375)
    assert paired_difference(a, b).token_weighted is None
    with pytest.raises(BadInput, match="weights"):
        paired_difference(a, b, weights=np.array([1.0, -3.0]))


def test_an_item_missing_in_one_run_is_left_out_of_all():
    a, b = draw(8, 2, 20)
    holed = b.copy()
    holed[1, 3] = np.nan
    weights, clusters = np.arange(1.0, 21.0), [i // 2 for i in range(20)]
    found = paired_difference(a, holed, weights=weights, clusters=clusters)
    kept = [i for i in range(20) if i != 3]
    expected = paired_difference(a[:, kept], b[:, kept], weights=weights[kept], clusters=[clusters[i] for i in kept])
    assert (found.n_missing, found.n_items) == (1, 19)
    assert (found.delta, found.se, found.token_weighted) == (expected.delta, expected.se, expected.token_weighted)


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_identical_inputs_give_no_difference_and_no_error(n_seeds):
    a, _ = draw(9, n_seeds, 10)
    rounded = np.full((n_seeds, 10), 0.3)
    for one, other in (
        (a, a.copy()),
        (np.ones((n_seeds, 10)), np.ones((n_seeds, 10))),
        (rounded, rounded * 0 + 0.1 + 0.2),
    ):
        found = paired_difference(one, other)
        assert (found.delta, found.p) == (0.0, 1.0)
        assert found.ci[0] <= 0 <= found.ci[1]


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_constant_shift_gets_the_sign_test_not_certainty(n_seeds):
    a = np.full((n_seeds, 4), 0.1)
    few = paired_difference(a, a + 0.2)
    assert few.p == 0.125
    assert few.ci == (-math.inf, math.inf)
    many = paired_difference(np.full((n_seeds, 10), 0.1), np.full((n_seeds, 10), 0.3))
    assert many.p == 2 / 1024
    assert many.ci == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_one_item_or_one_cluster_has_an_infinite_interval(n_seeds):
    a, b = draw(10, n_seeds, 6)
    for found in (
        paired_difference(a[:, :1], b[:, :1]),
        paired_difference(a, b, clusters=["x"] * 6),
        paired_share_difference(np.zeros((n_seeds, 6)), np.ones((n_seeds, 6)), clusters=["x"] * 6),
    ):
        assert found.ci == (-math.inf, math.inf)
        assert (found.p, found.mde) == (1.0, math.inf)


def test_tables_that_cannot_be_compared_are_refused_with_words():
    a, b = draw(11, 2, 5)
    with pytest.raises(UsageProblem, match="one shape"):
        paired_difference(a, b[:, :4])
    with pytest.raises(UsageProblem, match="seeds x items"):
        paired_difference(a[0], b[0])
    with pytest.raises(UsageProblem, match="clusters or weights"):
        paired_difference(a, b, clusters=["x"])
    with pytest.raises(UsageProblem, match="confidence"):
        paired_difference(a, b, confidence=95)
    with pytest.raises(BadInput, match="infinite"):
        paired_difference(a, np.where(b > 0, np.inf, b))
    with pytest.raises(BadInput, match="no value for any item"):
        paired_difference(a, np.array([b[0], [np.nan] * 5]))
    with pytest.raises(BadInput, match="no item has a value"):
        paired_difference(np.array([[1.0, np.nan]]), np.array([[np.nan, 1.0]]))
    with pytest.raises(BadInput, match="no item has a value"):
        paired_difference(np.zeros((1, 0)), np.zeros((1, 0)))


# Yes/no metrics


def yes_no(won, lost, both, neither):
    pairs = [(0, 1)] * won + [(1, 0)] * lost + [(1, 1)] * both + [(0, 0)] * neither
    a, b = np.array(pairs, float).T
    return a[None], b[None]


@pytest.mark.parametrize("table", [(9, 1, 20, 3), (3, 3, 10, 10), (6, 0, 30, 0), (0, 0, 40, 0)])
def test_one_seed_yes_no_is_the_exact_mcnemar_test(table):
    won, lost, both, neither = table
    found = paired_share_difference(*yes_no(*table))
    assert found.p == pytest.approx(mcnemar([[both, lost], [won, neither]], exact=True).pvalue)
    assert found.delta == pytest.approx((won - lost) / sum(table))


def test_flipping_signs_of_single_items_is_mcnemars_test():
    a, b = yes_no(9, 2, 20, 3)
    assert sign_flip_p((b - a)[0]) == pytest.approx(paired_share_difference(a, b).p)


def test_one_seed_yes_no_with_clusters_flips_whole_clusters():
    a, b = yes_no(8, 0, 8, 0)
    apart = paired_share_difference(a, b).p
    together = paired_share_difference(a, b, clusters=[i // 4 for i in range(16)]).p
    assert apart == pytest.approx(2 / 2**8)
    assert together == pytest.approx(0.5)  # two clusters that agree


def test_no_change_in_a_share_is_not_known_to_be_exactly_none():
    a = np.ones((1, 40))
    for n_seeds in (1, 3):
        found = paired_share_difference(np.tile(a, (n_seeds, 1)), np.tile(a, (n_seeds, 1)))
        se = math.sqrt((0.5 + 0.5) / 42**2)  # Agresti and Min: half an item in each cell, 42 items
        assert found.se == pytest.approx(se)
        assert found.ci == pytest.approx((-stats.t.ppf(0.975, 39) * se, stats.t.ppf(0.975, 39) * se))
        assert found.p == 1.0


def test_a_share_over_several_seeds_uses_the_crossed_model():
    rng = np.random.default_rng(12)
    a, b = (rng.random((3, 60)) < 0.6).astype(float), (rng.random((3, 60)) < 0.7).astype(float)
    crossed, found = paired_difference(a, b), paired_share_difference(a, b)
    assert (found.p, found.se, found.df) == (crossed.p, crossed.se, crossed.df)


def test_a_share_needs_yes_or_no():
    with pytest.raises(BadInput, match="yes/no"):
        paired_share_difference(np.array([[0.5, 1]]), np.array([[0.0, 1]]))


# Noise floor and planning


def test_one_seed_must_clear_the_noise_floor():
    a, b = draw(13, 1, 200, run_sd=0.0, effect=1.0)
    assert paired_difference(a, b).p < 1e-6
    assert paired_difference(a, b).decisive_p == 1.0  # no floor, no verdict
    assert paired_difference(a, b).mde == math.inf
    loud = paired_difference(a, b, noise=NoiseFloor(sd=0.5, df=1, item_sd=1, n_items=200))
    assert loud.decisive_p == pytest.approx(2 * stats.t.sf(abs(loud.delta) / 0.5, 1))
    assert loud.p < 1e-6
    assert loud.mde == pytest.approx(t_effect(0.5, 1))
    quiet = paired_difference(a, b, noise=NoiseFloor(sd=0.05, df=5, item_sd=1, n_items=200))
    assert quiet.decisive_p < 0.001
    a, b = draw(13, 1, 8, effect=0.0)
    few_items = paired_difference(a, b, noise=NoiseFloor(sd=1e-6, df=5, item_sd=1, n_items=8))
    assert few_items.decisive_p == few_items.p > 0.05  # a quiet training does not make up for too few items


def test_several_seeds_measure_their_own_noise():
    a, b = draw(14, 2, 30)
    noisy = paired_difference(a, b, noise=NoiseFloor(sd=9, df=1, item_sd=1, n_items=30))
    assert noisy == paired_difference(a, b)
    assert noisy.decisive_p == noisy.p


def test_the_noise_floor_is_the_spread_of_the_runs_of_one_arm():
    a, _ = draw(15, 4, 50, run_sd=1.0)
    found = estimate_noise_floor(a)
    assert found.sd == pytest.approx(math.sqrt(2) * a.mean(1).std(ddof=1))
    assert found.df == 3
    assert found.bound() == pytest.approx(stats.t.ppf(0.975, 3) * found.sd)
    pair = estimate_noise_floor(a[:2])
    assert pair.item_sd == pytest.approx((a[1] - a[0]).std(ddof=1))
    assert pair.sd == pytest.approx(abs(a[1].mean() - a[0].mean()))
    assert pair.seed_sd == pytest.approx(math.sqrt(pair.sd**2 - pair.item_sd**2 / 50))
    assert pair.p(0.0) == 1.0


def test_two_runs_that_agree_by_chance_do_not_make_the_floor_zero():
    a, _ = draw(16, 2, 50)
    a -= a.mean(1, keepdims=True)
    found = estimate_noise_floor(a)
    assert found.sd == pytest.approx((a[1] - a[0]).std(ddof=1) / math.sqrt(50))
    assert found.seed_sd == 0
    always = np.ones((2, 40))
    assert estimate_noise_floor(always, yes_no=True).sd == 1 / 40
    assert estimate_noise_floor(always).sd == 0
    assert estimate_noise_floor(always).p(0.1) == 0.0


def test_a_noise_floor_needs_two_runs():
    with pytest.raises(UsageProblem, match="two or more runs"):
        estimate_noise_floor(np.ones((1, 5)))


def test_history_buys_degrees_of_freedom():
    one, two = (NoiseFloor(sd=s, df=d, item_sd=1.0, n_items=10) for s, d in ((3.0, 1), (1.0, 3)))
    pooled = pool_noise_floors([one, two])
    assert (pooled.sd, pooled.df) == (pytest.approx(math.sqrt((9 + 3) / 4)), 4)
    with pytest.raises(UsageProblem, match="one eval set"):
        pool_noise_floors([one, NoiseFloor(1.0, 1, 1.0, 11)])
    with pytest.raises(UsageProblem, match="at least one"):
        pool_noise_floors([])


@pytest.mark.parametrize("df", [2, 5, 63])
def test_power_is_that_of_the_noncentral_t(df):
    effect = t_effect(0.5, df)
    critical = stats.t.ppf(0.975, df)
    exact = stats.nct.sf(critical, df, effect / 0.5) + stats.nct.cdf(-critical, df, effect / 0.5)
    assert exact == pytest.approx(0.8, abs=0.001)
    assert t_power(effect, 0.5, df) == pytest.approx(0.8, abs=0.001)


def test_what_an_experiment_can_see_shrinks_with_seeds_items_and_quiet():
    plan = {"item_sd": 0.3, "seed_sd": 0.02, "n_items": 80, "n_seeds": 2}
    base = minimum_detectable_effect(**plan)
    for better in ({"n_seeds": 3}, {"n_items": 160}, {"seed_sd": 0.01}, {"item_sd": 0.2}, {"power": 0.5}):
        assert minimum_detectable_effect(**{**plan, **better}) < base
    assert minimum_detectable_effect(**plan, item_effect_sd=1.0) > base
    assert minimum_detectable_effect(**{**plan, "n_seeds": 1}) > 2 * base  # one A/A pair
    assert minimum_detectable_effect(**{**plan, "n_items": 10**9}) > 0.02  # items cannot buy seeds
    with pytest.raises(UsageProblem, match="two items"):
        minimum_detectable_effect(**{**plan, "n_items": 1})


# Multiplicity and resampling


def test_holm_is_that_of_statsmodels():
    p_values = [0.04, 0.001, 0.3, 0.012, 0.012]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def test_the_sign_flip_test_agrees_with_t_for_ordinary_data_and_repeats():
    a, b = draw(17, 1, 60, run_sd=0.0, effect=0.4)
    d = (b - a)[0]
    p = sign_flip_p(d, seed=3)
    assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=0.3)
    assert p == sign_flip_p(d, seed=3)
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.25)
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_the_bootstrap_sees_items_runs_and_clusters():
    a, b = draw(18, 6, 60, run_sd=0.5)
    width = np.diff(crossed_bootstrap(a, b, seed=1))[0]
    crossed = paired_difference(a, b)
    assert width == pytest.approx(np.diff(crossed.ci)[0], rel=0.3)
    assert crossed_bootstrap(a, b, seed=1) == crossed_bootstrap(a, b, seed=1)
    calm = (x - x.mean(1, keepdims=True) for x in (a, b))
    assert np.diff(crossed_bootstrap(*calm, seed=1))[0] < 0.8 * width
    shifted = b + np.repeat(np.random.default_rng(1).normal(size=6), 10)
    clusters = list(np.repeat(np.arange(6), 10))
    wide, narrow = (np.diff(crossed_bootstrap(a, shifted, clusters=c, seed=1))[0] for c in (clusters, None))
    assert wide > 1.2 * narrow
    with pytest.raises(BadInput, match="complete"):
        crossed_bootstrap(a, np.where(b > 1, np.nan, b))
