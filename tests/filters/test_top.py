"""`judge` and `top` as steps of a recipe."""

from __future__ import annotations

import pytest

from filters.errors import RecipeProblem
from filters.pipeline import MemoryScores, run
from filters.recipe import parse_recipe
from filters.step import Score

LETTERS = "letters"


@pytest.fixture
def rows(batches, talk):
    return batches([talk("Say it", "a" * n) for n in (5, 3, 8, 1, 2)], size=2)


def rated(rows, judge, text, **known):
    """Run a recipe whose judge is `judge(answer)`."""

    def compute(scorer, batches):
        for batch in batches:
            yield {row.content_hash: judge(row.text("response")) for row in batch}

    return list(run(parse_recipe(text), rows, scores=MemoryScores(), compute=compute, allow_wipeout=True))


def by_length(text):
    return Score(float(len(text)))


@pytest.mark.parametrize(
    ("params", "gone", "cut_at"),
    [("k: 2", {1, 3, 4}, 5), ("share: 0.6", {3, 4}, 3), ("k: 9", set(), 1), ("k: 1, order: lowest", {0, 1, 2, 4}, 1)],
)
def test_the_best_by_a_score_stay(rows, params, gone, cut_at):
    _, top = rated(rows, by_length, f"steps:\n  - judge\n  - top: {{by: judge-helpfulness, {params}}}")
    assert {drop.id for drop in top.drops} == gone
    assert top.params["cut_at"] == cut_at
    assert all(drop.score is not None for drop in top.drops)


def test_equals_are_settled_by_content_and_not_by_order(batches, talk):
    talks = [talk(f"Say {n}", "a") for n in range(8)]
    kept = []
    for order in (talks, talks[::-1]):
        _, top = rated(batches(order), by_length, "steps: [judge, {top: {by: judge-helpfulness, k: 3}}]")
        gone = {drop.id for drop in top.drops}
        kept.append({order[id][0]["content"] for id in range(8) if id not in gone})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


@pytest.mark.parametrize(("missing", "stays"), [("drop", False), ("keep", True)])
def test_rows_that_the_judge_failed_on_are_counted_and_no_number(rows, missing, stays):
    def judge(text):
        return Score(state="error", label="refused") if len(text) == 8 else by_length(text)

    text = f"steps:\n  - judge\n  - top: {{by: judge-helpfulness, k: 2, missing: {missing}}}"
    judged, top = rated(rows, judge, text)
    assert (judged.errors, judged.errors_dropped, judged.drops) == (1, 0, [])
    assert (top.unscored, top.unscored_dropped) == (1, 0 if stays else 1)
    assert (2 not in {drop.id for drop in top.drops}) == stays
    assert {0, 1} & {drop.id for drop in top.drops} == set()
    dropped, *_ = rated(rows, judge, "steps: [{judge: {on_error: drop}}]")
    assert [(drop.id, drop.reason) for drop in dropped.drops] == [(2, "not judged")]
    assert (dropped.errors, dropped.errors_dropped) == (1, 1)


def test_rows_rated_too_low_leave_with_their_rating(rows):
    (judged,) = rated(rows, by_length, "steps: [{judge: {min: 3}}]")
    assert {(drop.id, drop.score, drop.reason) for drop in judged.drops} == {
        (3, 1.0, "rated below 3"),
        (4, 2.0, "rated below 3"),
    }


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("judge: {base_url: 'http://me:pass@host/v1', model: m}", "holds a password"),
        ("judge: {base_url: 'http://host/v1'}", "an endpoint needs model"),
        ("judge: {backend: reward}", "a sequence classifier"),
        ("judge: {min: 1}", "min must be above 1"),
        ("judge: {rubric: helpfullness}", "Did you mean 'helpfulness'"),
        ("judge: {budget_cost: 3}", "price_in"),
        ("top: {by: x}", "share or k"),
        ("top: {by: x, k: 3, share: 0.5}", "share or k"),
    ],
)
def test_parameters_that_do_not_fit_are_found_before_anything_runs(step, says):
    with pytest.raises(RecipeProblem, match=says) as caught:
        parse_recipe(f"steps:\n  - {step}")
    assert "pass@" not in str(caught.value)


def test_scores_are_kept_by_what_they_depend_on_and_nothing_else(tmp_path):
    def fingerprint(**params):
        given = {"model": "m", "base_url": "http://host/v1", **params}
        return parse_recipe(f"steps: [{{judge: {given}}}]").steps[0].scorers[0].fingerprint

    same = fingerprint()
    assert fingerprint(base_url="http://other/v1", concurrency=2, budget_calls=5, timeout=9, min=2) == same
    assert len({same, fingerprint(model="n"), fingerprint(temperature=1.0), fingerprint(rubric="safety")}) == 4


def test_a_larger_budget_is_the_same_recipe_and_another_rubric_text_is_not(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ninstructions: Judge.\n")

    def recipe_hash(**params):
        return parse_recipe(f"steps: [{{judge: {dict(rubric=str(own), **params)}}}]").recipe_hash

    before = recipe_hash()
    assert recipe_hash(budget_calls=10, concurrency=1) == before
    own.write_text("name: own\ninstructions: Judge well.\n")
    assert recipe_hash() != before


def test_who_judges_by_default_is_used_only_where_the_recipe_is_silent():
    defaults = {"judge": {"backend": "endpoint", "base_url": "http://host/v1", "model": "m"}}

    def judge(step):
        return parse_recipe(f"steps: [{step}]", defaults=defaults).steps[0].params.judge()

    assert judge("judge").model == "m"
    assert judge("{judge: {rubric: safety}}").base_url == "http://host/v1"
    assert judge("{judge: {backend: local}}").kind == "local"
