"""A judge beside people: numbers that other libraries confirm, intervals that hold the truth, flips counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from filters.judge.agreement import agreement, flip_share, weighted_kappa
from filters.judge.endpoint import Asker
from filters.judge.pairs import Pair, judge_pairs, verdict
from filters.judge.plan import Endpoint
from filters.judge.rubric import load_rubric

SCALE = range(1, 6)


def sample(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    people = rng.integers(1, 6, n).astype(float)
    judge = np.clip(np.round(people + rng.normal(0, noise, n)), 1, 5)
    return judge, people, rng.integers(10, 500, n)


def test_the_numbers_are_those_of_the_textbooks():
    from statsmodels.stats.inter_rater import cohens_kappa

    judge, people, lengths = sample(80, 1.0)
    found = agreement(judge, people, lengths, SCALE)
    assert found.spearman.value == pytest.approx(stats.spearmanr(judge, people).statistic)
    table = np.histogram2d(judge, people, bins=np.arange(0.5, 6))[0]
    assert found.kappa.value == pytest.approx(cohens_kappa(table, wt="quadratic").kappa)
    assert found.spearman.low < found.spearman.value < found.spearman.high
    assert found.length_bias.low < 0 < found.length_bias.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = stats.spearmanr(*sample(20_000, 1.5, seed=99)[:2]).statistic
    held = 0
    for seed in range(15):
        found = agreement(*sample(40, 1.5, seed), SCALE)
        held += found.spearman.low <= truth <= found.spearman.high
    assert held >= 12


def test_good_and_bad_are_compared_with_the_halves_of_the_scale():
    found = agreement([5, 4, 3.2, 2.8, 2, 1], [1, 1, 1, 0, 0, 0], [1, 2, 3, 4, 5, 6], SCALE)
    assert found.kappa.value == 1
    assert found.n == 6
    assert weighted_kappa(np.array([0.0, 1, 0, 1]), np.array([0.0, 0, 1, 1])) == 0


def test_a_judge_that_likes_length_is_found_out():
    rng = np.random.default_rng(1)
    lengths = rng.integers(10, 500, 60)
    people = rng.integers(1, 6, 60)
    found = agreement(1 + 4 * lengths / 500, people, lengths, SCALE)
    assert found.length_judge.value > 0.9
    assert found.length_bias.low > 0.5


def test_a_side_that_says_one_thing_tells_nothing():
    found = agreement([3, 3, 3, 3], [0, 1, 0, 1], [1, 2, 3, 4], SCALE)
    assert found.spearman is None
    assert found.length_judge is None
    assert agreement([1, 2], [0, 1], [1, 2], SCALE).spearman is None


def test_with_one_label_for_all_rows_there_is_no_kappa():
    judge, lengths = [5, 4, 3, 2, 1, 4], [1, 2, 3, 4, 5, 6]
    found = agreement(judge, [1] * 6, lengths, SCALE)
    assert (found.kappa, found.spearman, found.same_label, found.same_rating) == (None, None, 1, None)
    found = agreement([5] * 6, [1] * 6, lengths, SCALE)
    assert (found.kappa, found.same_label, found.same_rating) == (None, 1, 5)
    assert agreement(judge, [1, 0, 1, 0, 0, 1], lengths, SCALE).kappa is not None


def test_an_order_that_decides_is_a_tie_and_counted():
    assert (verdict(1, 1).winner, verdict(1, 1).flipped) == ("first", False)
    assert (verdict(0, 0).winner, verdict(0.5, 0.5).winner) == ("second", "tie")
    flip = verdict(1, 0)
    assert (flip.winner, flip.share, flip.flipped) == ("tie", 0.5, True)
    share = flip_share(3, 10)
    assert share.value == 0.3
    assert (round(share.low, 3), round(share.high, 3)) == (0.108, 0.603)  # Wilson, by hand


def test_an_endpoint_that_prefers_what_stands_first_flips_every_pair(serve, no_backoff):
    def script(prompt, nth):
        if "mute" in prompt:
            return "I like both."
        first = "zwei" in prompt or prompt.index("alpha") < prompt.index("omega")
        return f"Better: {'A' if first else 'B'}"

    server = serve(script)
    asked = [{"role": "user", "content": "Say it."}]
    pairs = [Pair("1", asked, "alpha", "omega"), Pair("2", asked, "zwei", "zwei!"), Pair("3", asked, "mute", "other")]
    asker = Asker(Endpoint(base_url=server.url, model="m"))
    found = {pair.key: verdict for pair, verdict in judge_pairs(asker, load_rubric("quality"), pairs)}
    assert (found["1"].winner, found["1"].share, found["1"].flipped) == ("first", 1.0, False)
    assert (found["2"].winner, found["2"].flipped) == ("tie", True)
    assert (found["3"].winner, found["3"].failure) == (None, "malformed")
    assert server.calls == 2 + 2 + 3
