from __future__ import annotations

import random

import pytest

from filters.dedup.survivor import DedupParams, compared_text, ranks
from filters.errors import RecipeProblem
from filters.pipeline import MemoryScores
from filters.step import Outside, Score
from trainer.errors import UsageProblem

BEST = "steps: [{%s: {on: prompt, keep: best, by: quality, max_drop: 1}}]"
LOWEST = BEST.replace("by: quality", "by: quality, lowest: true")
ASKED = "how long does it take to boil an egg until it is hard"


@pytest.fixture
def scored(batches, talk, make_row):
    """Answers with their scores (None: unscored, no entry: never looked at), as rows and as a cache of scores."""

    def make(answers):
        talks = [talk(ASKED, answer) for answer in answers]
        scores = MemoryScores()
        for messages, value in zip(talks, answers.values(), strict=True):
            found = Score(value) if value is not None else Score.unscored("not read")
            scores.put({make_row(messages=messages).content_hash: found}, "quality", "f1")
        return talks, scores

    return make


def fallen(outcome):
    return {drop.id: drop.duplicate_of for drop in outcome.drops}


@pytest.mark.parametrize("step", ["exact", "minhash"])
def test_the_best_by_a_score_survives_and_the_lowest_where_low_is_good(outcomes, batches, scored, step):
    talks, scores = scored({"a much longer answer": 2.0, "short": 4.0, "another answer": 3.0})
    (outcome,) = outcomes(BEST % step, batches(talks), scores=scores)
    assert fallen(outcome) == {0: 1, 2: 1}
    (outcome,) = outcomes(LOWEST % step, batches(talks), scores=scores)
    assert fallen(outcome) == {1: 0, 2: 0}


@pytest.mark.parametrize("recipe", [BEST, LOWEST])
def test_a_row_without_the_score_loses_to_one_with_it(outcomes, batches, scored, recipe):
    talks, scores = scored({"the longest of these answers": None, "short": 0.0})
    (outcome,) = outcomes(recipe % "minhash", batches(talks), scores=scores)
    assert fallen(outcome) == {0: 1}


def test_of_equal_scores_the_longest_survives_whatever_the_order(outcomes, batches, scored):
    talks, scores = scored({"one": 3.0, "one two": 3.0, "six two": 3.0, "five": 3.0, "nothing": None})
    kept = set()
    for seed in range(4):
        shuffled = random.Random(seed).sample(talks, len(talks))
        (outcome,) = outcomes(BEST % "exact", batches(shuffled), scores=scores)
        (survivor,) = set(fallen(outcome).values())
        kept.add(shuffled[survivor][1]["content"])
    assert len(kept) == 1
    assert kept < {"one two", "six two"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_stands_in_no_order_is_refused_and_of_a_model_an_error(value):
    with pytest.raises(ValueError, match="finite number"):
        Score(value)
    assert Score.measured(value).state == "error"
    assert Score.measured(2.5, detail="seen") == Score(2.5, detail="seen")


def test_a_score_that_nobody_computed_is_refused_with_those_that_there_are(outcomes, batches, scored):
    talks, scores = scored({"a": 1.0, "b": 2.0})
    with pytest.raises(UsageProblem, match="Scores there are: quality"):
        outcomes((BEST % "exact").replace("quality", "beauty"), batches(talks), scores=scores)


def test_best_without_a_way_to_look_scores_up_says_so(make_row):
    params = DedupParams(keep="best", by="quality")
    with pytest.raises(UsageProblem, match="no way to look scores up"):
        ranks([make_row("a", "b")], params, Outside(None, lambda *_: None), "exact")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("keep: best", "needs `by`"),
        ("by: quality", "go with `keep: best`"),
        ("keep: first, lowest: true", "go with `keep: best`"),
    ],
)
def test_best_and_its_score_go_together(outcomes, batches, params, said):
    with pytest.raises(RecipeProblem, match=said):
        outcomes(f"steps: [{{minhash: {{{params}}}}}]", batches([]))


def test_what_is_compared_holds_calls_by_function_and_arguments(make_row):
    def calling(id_, city, text=""):
        call = {"id": id_, "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
        return make_row(
            messages=[
                {"role": "user", "content": "And now?"},
                {"role": "assistant", "content": text, "tool_calls": [call]},
                {"role": "tool", "content": "4 degrees"},
                {"role": "assistant", "content": "It is cold."},
            ]
        )

    response = compared_text(calling("call_1", "Oslo"), "response")
    assert response == '{"arguments":{"city":"Oslo"},"name":"weather"}\nIt is cold.'
    assert compared_text(calling("call_2", "Oslo"), "response") == response, "the id of a call is a random label"
    assert compared_text(calling("call_1", "Rome"), "response") != response
    assert compared_text(calling("call_1", "Oslo"), "prompt") == "And now?"
    assert "tool: 4 degrees" in compared_text(calling("call_1", "Oslo"), "both")
    assert compared_text(make_row("", ""), "both") == "", "no text is nothing to compare"
