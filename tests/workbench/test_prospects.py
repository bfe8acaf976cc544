"""What is said before an experiment that cannot decide: only then, and with what would be enough."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from trainer.plan import Budget, ExperimentPlan, ModelSetting
from trainer.power import NoiseFloor, minimum_detectable_effect
from workbench.prospects import doubts, expected_mde, least_win_rate

ALONE = [str(item) for item in range(60)]
QUIET = NoiseFloor(sd=0.005, df=4, item_sd=0.02, n_items=60)
LOUD = NoiseFloor(sd=0.1, df=4, item_sd=0.3, n_items=60)


def job(**budget: Any) -> ExperimentPlan:
    return ExperimentPlan(model=ModelSetting(name="m"), budget=Budget(**budget), arms={}, runs=[])


def test_nothing_is_said_of_an_experiment_that_can_decide_or_of_which_nothing_is_known():
    assert doubts(job(trained_tokens=8000), ALONE, 3, QUIET, 0.5) == []
    assert doubts(job(minutes=10), ALONE, 3, None, None) == []


@pytest.mark.parametrize("clusters", [["0"], ["same"] * 60])
def test_one_item_or_one_cluster_has_no_interval(clusters):
    [told] = doubts(job(trained_tokens=8000), clusters, 3, QUIET, 0.5)
    assert "cannot decide anything" in told


def test_too_few_steps_are_told_with_the_tokens_that_would_do():
    [told] = doubts(job(trained_tokens=500), ALONE, 3, None, None)
    assert "500 trained tokens are 2 optimizer steps" in told
    enough = int(re.findall(r"([\d,]+) would be 8", told)[0].replace(",", ""))
    assert doubts(job(trained_tokens=enough), ALONE, 3, None, None) == []


def test_minutes_that_earlier_runs_needed_more_than_are_doubted():
    [told] = doubts(job(minutes=1.5), ALONE, 3, None, None, least=330.0)
    assert "1.5 minutes will hardly do" in told
    assert "take 5.5 minutes in all" in told
    assert doubts(job(minutes=6), ALONE, 3, None, None, least=330.0) == []


def test_noise_as_large_as_what_training_does_is_told_with_the_seeds_that_would_do():
    gain = 0.2
    [told] = doubts(job(trained_tokens=8000), ALONE, 2, LOUD, gain)
    [(seeds, mde)] = re.findall(r"(\d+) seeds would find ([\d.]+)", told)
    expected = minimum_detectable_effect(
        item_sd=LOUD.item_sd, seed_sd=LOUD.seed_sd, n_items=60, n_seeds=int(seeds), noise_df=LOUD.df
    )
    assert float(mde) == pytest.approx(expected, abs=5e-4)
    assert expected < gain / 2
    assert doubts(job(trained_tokens=8000), ALONE, int(seeds), LOUD, gain) == []


def test_where_seeds_alone_do_not_help_that_is_not_proposed():
    items = NoiseFloor(sd=0.4, df=4, item_sd=3.0, n_items=60)
    [told] = doubts(job(trained_tokens=8000), ALONE, 12, items, 0.3)
    assert "items would find" in told
    [told] = doubts(job(trained_tokens=8000), ALONE, 12, LOUD, 0.0001)
    assert "train longer" in told


def test_items_in_few_clusters_tell_less_than_as_many_alone():
    few, steady = [str(item % 3) for item in range(60)], NoiseFloor(sd=0.05, df=40, item_sd=0.3, n_items=60)
    for seeds in (1, 3):
        assert expected_mde(steady, few, seeds) > 1.2 * expected_mde(steady, ALONE, seeds)
    assert expected_mde(QUIET, ["same"] * 60, 3) == math.inf


def test_what_a_win_rate_must_be_shrinks_with_items_and_seeds_and_grows_with_candidates():
    assert least_win_rate(ALONE, 1) == pytest.approx(2.9 * 0.5 / math.sqrt(60), rel=0.02)
    assert least_win_rate(ALONE, 3) < least_win_rate(ALONE, 3, 4) < least_win_rate(ALONE, 1)
    assert least_win_rate(["same"] * 60, 3) == math.inf
