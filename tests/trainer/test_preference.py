"""Win rates on simulated judges whose taste is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trainer.errors import BadInput
from trainer.preference import Preference, controlled_win_rate, noise_of_pairs, opponent, win_rate
from trainer.verdict import DEFAULT_METRICS

WIN = next(spec for spec in DEFAULT_METRICS if spec.name == "win_rate")


def judged(rng, runs=3, items=80, *, quality=0.0, length=0.0, longer=0.0, luck=0.0):
    """Shares and length differences: a judge with a taste for quality and for length; a fifth of pairs are ties."""
    mine, theirs = rng.normal(0, luck, (2, runs))
    lengths = rng.normal(30 * longer, 30, (runs, items))
    met = np.array([[theirs[opponent(run, item, runs)] for item in range(items)] for run in range(runs)])
    taste = quality + mine[:, None] - met + length * np.tanh(lengths / 30)
    wins = (rng.random((runs, items)) < 1 / (1 + np.exp(-taste))).astype(float)
    return np.where(rng.random((runs, items)) < 0.2, 0.5, wins), lengths


def test_every_run_meets_every_other_equally_often():
    met = [[opponent(run, item, 3) for item in range(6)] for run in range(3)]
    assert all(sorted(row) == [0, 0, 1, 1, 2, 2] for row in met)
    assert all(sorted(column) == [0, 1, 2] for column in zip(*met, strict=True))


def test_a_judge_who_likes_length_alone_prefers_neither_of_equal_length():
    rng = np.random.default_rng(0)
    found = [judged(rng, length=3.0, longer=0.7) for _ in range(40)]
    assert np.mean([win_rate(shares).candidate for shares, _ in found]) > 0.62
    controlled = [controlled_win_rate(*one) for one in found]
    assert np.mean([one.candidate for one in controlled]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.p < 0.05 for one in controlled]) <= 0.1


def test_a_judge_who_takes_the_longer_answer_whatever_it_says_still_gives_a_number():
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(20):
        lengths = rng.normal(20, 30, (3, 80))
        rates.append(controlled_win_rate((lengths > 0).astype(float), lengths).candidate)
    assert np.mean(rates) == pytest.approx(0.5, abs=0.05)
    assert np.std(rates) < 0.08, "where length tells all, the rate must not run off to either side"


def test_a_taste_for_quality_is_left_as_it_is():
    rng = np.random.default_rng(2)
    rates = [[f.candidate for f in (win_rate(s), controlled_win_rate(s, d))]
             for s, d in (judged(rng, quality=1.0) for _ in range(40))]  # fmt: skip
    truth = 0.1 + 0.8 / (1 + np.exp(-1.0))
    assert np.mean(rates, 0) == pytest.approx([truth, truth], abs=0.015)


def test_the_logistic_regression_is_that_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    shares, lengths = judged(np.random.default_rng(3), quality=0.5, length=1.0)
    x = np.append(np.tanh(lengths / lengths.std()).ravel(), [np.tanh(1), -np.tanh(1)])
    y = np.append(shares.ravel(), [0.5, 0.5])
    theta = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial()).fit().params[0]
    assert controlled_win_rate(shares, lengths).candidate == pytest.approx(1 / (1 + np.exp(-theta)), abs=1e-6)


@pytest.mark.parametrize("luck", [0.0, 0.5])
def test_the_same_data_wins_half_and_is_no_difference(luck):
    rng = np.random.default_rng(4)
    alarms, naive, repeats = np.zeros(2), 0, 150
    for _ in range(repeats):
        shares, lengths = judged(rng, luck=luck, longer=0.3)
        alarms += [win_rate(shares).p < 0.05, controlled_win_rate(shares, lengths).p < 0.05]
        naive += stats.ttest_1samp(shares.mean(0), 0.5).pvalue < 0.05
    assert (alarms / repeats <= 0.09).all()
    if luck:
        assert naive / repeats > 0.3, "by items alone, the luck of training is taken for data"


def test_runs_that_were_lucky_together_are_not_taken_for_steady():
    """Far from even a rate moves little with luck: without the slope, 12% of equals were told apart, and not 8%."""
    rng = np.random.default_rng(8)
    alarms = np.mean([win_rate(judged(rng, luck=2.0)[0]).p < 0.05 for _ in range(400)])
    assert alarms <= 0.1


def test_one_seed_must_clear_what_the_judge_makes_of_two_runs_on_the_same_data():
    rng = np.random.default_rng(5)
    shares, _ = judged(rng, 1, quality=1.0)
    assert win_rate(shares).decisive_p == 1.0
    calm, wild = (noise_of_pairs(judged(rng, 1, quality=q)[0]) for q in (0.0, 2.0))
    assert win_rate(shares, noise=wild).decisive_p > 0.05
    assert (calm.df, wild.df) == (1.0, 1.0)
    wins = int((shares == 1).sum()), int((shares == 0).sum())
    assert win_rate(shares).p == pytest.approx(stats.binomtest(wins[0], sum(wins)).pvalue, abs=0.01)


def test_all_won_is_no_interval_of_width_zero():
    found = win_rate(np.ones((3, 40)))
    assert found.candidate == 1.0
    assert 0 < found.ci[0] < 0.5 == found.ci[1]
    assert found.p < 0.001
    with pytest.raises(BadInput):
        win_rate(np.full((3, 40), 2.0))


def test_pairs_without_a_verdict_are_left_out_of_every_run():
    shares, lengths = judged(np.random.default_rng(6))
    shares[1, :7] = np.nan
    assert (win_rate(shares).n_items, win_rate(shares).n_missing) == (73, 7)
    assert controlled_win_rate(shares, lengths).n_items == 73


def test_slices_of_a_preference_find_where_it_is():
    rng = np.random.default_rng(7)
    shares, lengths = judged(rng, items=120)
    shares[:, 60:90] = 1.0
    (found,) = Preference(shares, lengths).sliced(WIN, {"task": [f"t{i // 30}" for i in range(120)]})
    verdicts = {one.name: one.verdict for one in found.slices}
    assert verdicts == {"t2": "better"} | {f"t{i}": "no difference detected" for i in (0, 1, 3)}


def test_a_judge_who_said_nothing_of_two_runs_on_the_same_data_gives_no_noise_floor():
    shares, lengths = judged(np.random.default_rng(10), 1, items=40, quality=3.0)
    for again in (None, np.full((1, 40), np.nan)):
        preference = Preference(shares, lengths, again=again)
        assert preference.noise is None
        assert {one.decisive_p for one in preference.by_name().values()} == {1.0}
    half = np.where(np.arange(40) < 20, np.nan, 0.5)[None]
    (found,) = Preference(shares, lengths, again=half).sliced(WIN, {"task": ["a"] * 20 + ["b"] * 20})
    assert [(one.name, one.p_decisive == 1.0) for one in found.slices] == [("a", True), ("b", False)]
