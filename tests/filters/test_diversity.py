"""Selectors by embeddings: `deita`, `k-center` and `cluster-balanced`, on vectors whose geometry is known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from filters.diversity import farthest_first, walk
from filters.errors import RecipeProblem
from filters.pipeline import MemoryScores, run
from filters.recipe import parse_recipe
from filters.step import Score
from filters.text import measure
from trainer.errors import BadInput, UsageProblem

TOKENIZER = (Path(__file__).parents[2] / "../shared/tokenizers/smollm2").resolve()
K_CENTER = "steps: [{k-center: {k: %d}}]"


def clustered(rows=2000, centres=40, size=32, spread=0.12, seed=5):
    """Unit vectors (rows, size) around few centres: nearly all cosines inside a cluster are above 0.6."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, size))
    vectors = middle[np.arange(rows) % centres] + spread * rng.normal(size=(rows, size)) * rng.uniform(
        0.2, 2, size=(rows, 1)
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table(vectors):
    """An embedding that looks prompts up: `prompt 7` has vector 7."""

    def embed(texts, model):
        return vectors[[int(text.split()[-1]) for text in texts]]

    return embed


def rated(recipe, talks, batches, values, embed, **options):
    """Run `recipe` where row i has the score values[i] under the name `judge-helpfulness` (None: it failed)."""
    by_text = {talks[i][0]["content"]: values[i] for i in range(len(talks))}

    def compute(scorer, parts):
        for part in parts:
            found = [by_text[row.text("prompt")] for row in part]
            yield {
                row.content_hash: Score.error("no") if value is None else Score(float(value))
                for row, value in zip(part, found, strict=True)
            }

    rows = batches(talks, size=500)
    return list(run(parse_recipe(recipe), rows, scores=MemoryScores(), compute=compute, embed=embed, **options))[-1]


def chosen(outcome, rows):
    gone = {drop.id for drop in outcome.drops}
    return [i for i in range(rows) if i not in gone]


@pytest.fixture(scope="module")
def deita(batches, talk):
    def go(params, vectors, values, order=None):
        places = list(range(len(vectors))) if order is None else order
        talks = [talk(f"prompt {i}", f"answer {i}") for i in places]
        recipe = f"steps: [judge, {{deita: {{by: judge-helpfulness, {params}}}}}]"
        outcome = rated(recipe, talks, batches, [values[i] for i in places], table(vectors))
        return {places[i] for i in chosen(outcome, len(places))}, outcome, places

    return go


def by_hand(vectors, values, threshold):
    """The rule, one row at a time."""
    kept = []
    for i in sorted(range(len(values)), key=lambda i: -values[i]):
        if all(round(float(vectors[i] @ vectors[j]), 4) < threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_of_two_thousand_rows_in_clusters_the_walk_keeps_what_the_rule_keeps(deita, threshold):
    vectors = clustered()
    values = np.random.default_rng(1).permutation(2000)
    expected = by_hand(vectors, values, threshold)
    kept, outcome, _ = deita(f"k: 2000, threshold: {threshold}", vectors, values)
    assert kept == set(expected)
    assert 40 <= len(kept) < 1900
    for drop in outcome.drops:
        assert drop.duplicate_of in kept
        nearest = max(float(vectors[drop.id] @ vectors[i]) for i in expected if values[i] > values[drop.id])
        assert drop.score == pytest.approx(nearest, abs=1e-4)
        assert drop.score >= threshold
    within_budget, cut, _ = deita(f"k: 25, threshold: {threshold}", vectors, values)
    assert within_budget == set(expected[:25])
    assert set(cut.reasons) == {"like a better row", "not selected"}


def test_the_order_of_input_decides_nothing_where_scores_are_equal(deita):
    vectors, found = clustered(300, 10), set()
    for seed in range(3):
        order = list(range(300))
        random.Random(seed).shuffle(order)
        kept, _, _ = deita("k: 30, threshold: 0.7", vectors, [i % 3 for i in range(300)], order)
        found.add(frozenset(kept))
    assert len(found) == 1
    assert len(found.pop()) == 10  # one a cluster; a threshold of 0.7 leaves no second one


def test_rows_without_a_score_come_last_and_unreadable_ones_are_like_no_other(deita):
    vectors = np.eye(6, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    vectors[4:] = np.nan
    values = [None, 5, 4, None, 3, 2]
    kept, outcome, _ = deita("k: 6", vectors, values)
    assert kept == {1, 2, 4, 5}
    assert {drop.id: drop.duplicate_of for drop in outcome.drops} == {0: 1, 3: 2}
    assert (outcome.unscored, outcome.unscored_dropped) == (4, 2)
    kept, outcome, _ = deita("k: 3", vectors, values)
    assert kept == {1, 2, 4}
    assert {drop.id: drop.score for drop in outcome.drops} == {0: None, 3: None, 5: 2.0}


def test_the_score_is_the_product_of_those_named(batches, talk):
    talks = [talk(f"prompt {i}", "yes " * n) for i, n in enumerate((1, 5, 3))]
    recipe = "steps: [judge, {judge: {rubric: quality}}, {deita: {by: [judge-helpfulness, judge-quality], k: 1}}]"

    def compute(scorer, parts):
        for part in parts:
            for row in part:
                n = len(row.text("response").split())
                yield {row.content_hash: Score(float(n if scorer.name == "judge-quality" else sign * (6 - n)))}

    def last():
        rows = batches(talks)
        return list(run(parse_recipe(recipe), rows, scores=MemoryScores(), compute=compute, embed=table(np.eye(3))))

    sign = 1  # 5, 1, 3 by 1, 5, 3 makes 5, 5, 9
    assert chosen(last()[-1], 3) == [2]
    sign = -1
    with pytest.raises(BadInput, match="scores of 0 or more"):
        last()


def test_a_block_sees_what_blocks_before_it_kept():
    vectors = clustered(2500, 5, spread=0.01)
    vectors[0] = np.nan
    kept = []
    for place, like, _ in walk(vectors, np.arange(2500), 0.9, kept):
        if like is None:
            kept.append(place)
    assert kept == [0, 1, 2, 3, 4, 5]


def test_the_farthest_row_is_always_next(batches, outcomes, talk):
    # On a circle: the mean lies at 48 degrees, so the row at 50 begins; from it 200 is farthest, then 0, then 90.
    degrees = [0, 30, 40, 50, 90, 200]
    vectors = np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]).astype(np.float32)
    assert list(farthest_first(vectors))[:4] == [3, 5, 0, 4]
    talks = [talk(f"prompt {i}", "answer") for i in range(6)]
    kept = []
    for order in (range(6), range(5, -1, -1)):
        (outcome,) = outcomes(K_CENTER % 3, batches([talks[i] for i in order]), embed=table(vectors))
        kept.append({list(order)[i] for i in chosen(outcome, 6)})
    assert kept == [{0, 3, 5}, {0, 3, 5}]


def test_unreadable_rows_are_taken_when_all_others_are(batches, outcomes, talk):
    vectors = np.array([[1, 0], [0, 1], [np.nan, np.nan], [np.nan, np.nan]], dtype=np.float32)
    rows = batches([talk(f"prompt {i}", "answer") for i in range(4)])
    (two,) = outcomes(K_CENTER % 2, rows, embed=table(vectors))
    assert chosen(two, 4) == [0, 1]
    (three,) = outcomes(K_CENTER % 3, rows, embed=table(vectors))
    assert len(chosen(three, 4)) == 3
    assert {0, 1} < set(chosen(three, 4))
    assert (three.unscored, three.unscored_dropped) == (2, 1)


@pytest.fixture(scope="module")
def uneven():
    """100 unit vectors in three clusters that nobody can mix up, of 60, 30 and 10 rows."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(8)[:3], [60, 30, 10], axis=0) + 0.05 * rng.normal(size=(100, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("share", "k", "expected"),
    [("equal", 30, (10, 10, 10)), ("equal", 50, (20, 20, 10)), ("proportional", 20, (12, 6, 2))],
)
def test_every_cluster_gives_its_share(uneven, share, k, expected, batches, outcomes, talk):
    order = random.Random(2).sample(range(100), 100)
    rows = batches([talk(f"prompt {i}", "answer") for i in order])
    recipe = f"steps: [{{cluster-balanced: {{k: {k}, clusters: 3, share: {share}}}}}]"
    (outcome,) = outcomes(recipe, rows, embed=table(uneven))
    kept = [order[i] for i in chosen(outcome, 100)]
    assert tuple(np.histogram(kept, [0, 60, 90, 100])[0]) == expected
    assert outcome.params["clusters_made"] == 3


def test_inside_a_cluster_the_best_come_first(uneven, batches, talk):
    talks = [talk(f"prompt {i}", "answer") for i in range(100)]
    recipe = "steps: [judge, {cluster-balanced: {k: 6, clusters: 3, by: judge-helpfulness}}]"
    outcome = rated(recipe, talks, batches, [None if i == 99 else i for i in range(100)], table(uneven))
    assert chosen(outcome, 100) == [58, 59, 88, 89, 97, 98]
    assert (outcome.unscored, outcome.unscored_dropped) == (1, 1)


@pytest.mark.parametrize("step", ["random-k", "longest-k", "k-center", "cluster-balanced"])
def test_a_budget_of_tokens_is_reached_by_the_last_row_and_not_before(step, batches, outcomes, talk):
    if not TOKENIZER.exists():
        pytest.skip(f"no tokenizer at {TOKENIZER}")
    answers = ["word" + " word" * (i % 7) for i in range(60)]
    assert measure(answers, "tokens", str(TOKENIZER)) == [i % 7 + 1 for i in range(60)]
    rows = batches([talk(f"prompt {i}", answer) for i, answer in enumerate(answers)])
    for tokens in (1, 40, 41, 10_000):
        recipe = f"steps: [{{{step}: {{tokens: {tokens}, tokenizer: '{TOKENIZER}'}}}}]"
        (outcome,) = outcomes(recipe, rows, embed=table(clustered(60, 6)))
        costs = [i % 7 + 1 for i in chosen(outcome, 60)]
        assert len(costs) == 60 if tokens == 10_000 else tokens <= sum(costs) < tokens + 7


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("random-k", "k rows or tokens"),
        ("k-center: {k: 2, tokens: 5}", "k rows or tokens"),
        ("deita: {k: 2}", "needs 'by'"),
        ("deita: {by: [], k: 2}", "name of a score"),
        ("deita: {by: x, k: 2, threshold: 0}", "greater than or equal to 0.01"),
        ("cluster-balanced: {k: 2, clusters: 0}", "greater than or equal to 1"),
    ],
)
def test_parameters_that_do_not_fit_are_found_before_anything_runs(step, says):
    with pytest.raises(RecipeProblem, match=says):
        parse_recipe(f"steps:\n  - {step}")


def test_no_rows_and_no_embeddings(batches, outcomes, talk):
    gone = "steps: [{length: {min_words: 9, max_drop: 1}}, {%s: {k: 2}}]"
    for name in ("k-center", "cluster-balanced"):
        *_, outcome = outcomes(gone % name, batches([talk("a", "b")]), embed=table(np.eye(2)), allow_wipeout=True)
        assert (outcome.rows_in, outcome.drops) == (0, [])
        with pytest.raises(UsageProblem, match="needs embeddings"):
            outcomes(f"steps: [{{{name}: {{k: 2}}}}]", batches([talk("a", "b")]))
