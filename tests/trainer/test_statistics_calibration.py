"""The statistics on simulated experiments of known variances: false alarms, power, and the traps they guard against.

`luck` is the standard deviation of a run's luck in units of what the items alone make of a run's mean. Draws are
seeded, so nothing here is flaky; with 600 experiments a true rate of 5% shows with a standard error of 0.9%.
"""

import numpy as np
import pytest
from scipy import stats

from trainer.statistics import (
    estimate_noise_floor,
    minimum_detectable_effect,
    paired_difference,
    paired_share_difference,
)

N_ITEMS = 64
REPEATS = 600


def arms(rng, n_seeds, luck, effect=0.0, item_effects=0.0, n_items=N_ITEMS):
    item = rng.normal(0, 2, n_items)
    a, b = (
        item + rng.normal(0, luck / np.sqrt(n_items), (n_seeds, 1)) + rng.normal(size=(n_seeds, n_items))
        for _ in range(2)
    )
    return a, b + effect + rng.normal(0, item_effects, n_items)


def items_only(a, b):
    return stats.ttest_1samp((b - a).mean(0), 0).pvalue


def seeds_only(a, b):
    return stats.ttest_ind(a.mean(1), b.mean(1)).pvalue


def rates(draw, *tests):
    """Share of experiments in which each test says that the arms differ."""
    hits = np.zeros(len(tests))
    for _ in range(REPEATS):
        a, b = draw()
        hits += [test(a, b) < 0.05 for test in tests]
    return hits / REPEATS


def ours(a, b):
    return paired_difference(a, b).p


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_the_same_data_twice_is_no_difference_where_items_alone_cry_wolf(n_seeds):
    rng = np.random.default_rng(n_seeds)
    alarms, by_items = rates(lambda: arms(rng, n_seeds, luck=3), ours, items_only)
    assert 0.03 <= alarms <= 0.085 if n_seeds == 2 else 0.03 <= alarms <= 0.07
    assert by_items > 0.4


@pytest.mark.parametrize("luck", [1.0, 1.5])
def test_small_p_values_are_as_rare_as_they_say_where_luck_and_rest_are_alike(luck):
    """Corrections for several tests stand on the tails: a p of 0.001 must not come in one of a hundred experiments."""
    rng = np.random.default_rng(90)
    found = np.array([ours(*arms(rng, 3, luck)) for _ in range(4000)])
    assert (found < 0.05).mean() <= 0.06
    assert (found < 0.01).mean() <= 0.016
    assert (found < 0.001).mean() <= 0.004


def test_effects_that_differ_from_item_to_item_are_no_difference_where_seeds_alone_cry_wolf():
    rng = np.random.default_rng(10)
    alarms, by_seeds = rates(lambda: arms(rng, 4, luck=0, item_effects=2.0), ours, seeds_only)
    assert 0.03 <= alarms <= 0.07
    assert by_seeds > 0.2


def test_without_luck_the_test_is_not_needlessly_careful():
    rng = np.random.default_rng(20)
    (alarms,) = rates(lambda: arms(rng, 3, luck=0, item_effects=1.0), ours)
    assert 0.03 <= alarms <= 0.07


def test_few_clusters_of_unequal_size_hold_the_rate_where_items_cry_wolf():
    rng = np.random.default_rng(30)
    member = np.repeat(np.arange(8), [1, 2, 3, 4, 8, 12, 16, 18])

    def draw():
        a, b = arms(rng, 1, luck=0)
        return a, b + rng.normal(size=8)[member]

    alarms, by_items = rates(draw, lambda a, b: paired_difference(a, b, clusters=list(member)).p, items_only)
    assert alarms <= 0.07
    assert by_items > 0.3


@pytest.mark.parametrize(("n_baselines", "luck"), [(2, 3), (4, 30)])
def test_one_seed_with_a_noise_floor_keeps_its_rate_where_two_runs_alone_cry_wolf(n_baselines, luck):
    rng = np.random.default_rng(40 + n_baselines + luck)
    alarms = alone = naive = 0
    for _ in range(REPEATS):
        runs, others = arms(rng, n_baselines, luck)
        noise = estimate_noise_floor(runs)
        found = paired_difference(runs[:1], others[:1], noise=noise)
        alarms += found.decisive_p < 0.05
        alone += found.p < 0.05
        naive += found.p < 0.05 and abs(found.delta) > noise.sd
    assert alarms / REPEATS <= 0.065
    assert alone / REPEATS > 0.4
    assert naive / REPEATS > 0.25  # to be further apart than one A/A pair is no evidence


def test_a_yes_no_metric_keeps_its_rate_with_runs_that_differ():
    rng = np.random.default_rng(50)

    def draw():
        logits = 2.5 + rng.normal(0, 1, 80) + rng.normal(0, 0.5, (2, 2, 1))
        return tuple((rng.random((2, 2, 80)) < 1 / (1 + np.exp(-logits))).astype(float))

    (alarms,) = rates(draw, lambda a, b: paired_share_difference(a, b).p)
    assert 0.02 <= alarms <= 0.085


@pytest.mark.parametrize(
    ("n_seeds", "luck", "item_effects"), [(2, 3.0, 1.0), (3, 3.0, 0.0), (3, 0.5, 1.0), (4, 3.0, 1.0)]
)
def test_the_announced_effect_is_found_four_times_in_five(n_seeds, luck, item_effects):
    rng = np.random.default_rng(60 + n_seeds)
    mde = minimum_detectable_effect(
        item_sd=np.sqrt(2),
        seed_sd=np.sqrt(2) * luck / np.sqrt(N_ITEMS),
        item_effect_sd=item_effects,
        n_items=N_ITEMS,
        n_seeds=n_seeds,
    )
    (found,) = rates(lambda: arms(rng, n_seeds, luck, mde, item_effects), ours)
    assert 0.72 <= found <= 0.88


def test_one_seed_finds_the_announced_effect_too():
    rng = np.random.default_rng(70)
    mde = minimum_detectable_effect(
        item_sd=np.sqrt(2), seed_sd=np.sqrt(2) * 3 / 8, n_items=N_ITEMS, n_seeds=1, noise_df=3
    )
    found = 0
    for _ in range(REPEATS):
        noise = estimate_noise_floor(arms(rng, 4, 3)[0])
        found += paired_difference(*arms(rng, 1, 3, mde), noise=noise).decisive_p < 0.05
    assert 0.72 <= found / REPEATS <= 0.88


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(80)
    covered = 0
    for _ in range(REPEATS):
        low, high = paired_difference(*arms(rng, 3, 3, effect=0.7, item_effects=1.0)).ci
        covered += low <= 0.7 <= high
    assert 0.925 <= covered / REPEATS <= 0.975
