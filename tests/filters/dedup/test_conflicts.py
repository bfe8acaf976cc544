from __future__ import annotations

import random

import pytest

STEP = "steps: [conflicts]"
CAPITAL = "which city is the capital of the largest country on earth"


@pytest.fixture
def conflicts(outcomes, batches):
    """(id, id) of each pair that is reported, and the outcome."""

    def go(talks, recipe=STEP, **options):
        (outcome,) = outcomes(recipe, batches(talks, **options))
        return {(pair.duplicate_of, pair.id) for pair in outcome.pairs}, outcome

    return go


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("Moscow", "Ottawa, which lies in Canada", True),
        ("It is Moscow.", "it is Moscow", False),
        ("Moscow", "The capital of Russia, the largest country, is Moscow.", False),
        ("Yes, that is how it is done.", "No, that is not how it is done.", True),
        ("Add them and take the rest.\n#### 42", "Take the rest and add them.\n#### 41", True),
        ("Add them and take the rest.\n#### 1,042", "Take the rest and add them.\n#### 1042", False),
        ("print(sum(range(1, 101)))", "print(sum(range(0, 101)))", False),
        ("首都是莫斯科。", "这个问题没有人能够回答", True),
        ("Moscow", "", True),
        ("", "", False),
    ],
)
def test_answers_that_say_different_things_to_one_prompt(conflicts, talk, one, other, conflict):
    found, outcome = conflicts([talk(CAPITAL, one), talk(CAPITAL + "?", other)])
    assert bool(found) is conflict
    assert outcome.drops == []
    assert outcome.rows_out == 2


def test_a_pair_has_the_similarity_of_its_prompts_and_of_its_answers(conflicts, talk):
    words = [f"w{i}" for i in range(30)]
    talks = [talk(" ".join(words), "north by boat"), talk(" ".join(words[:-1]), "south by rail and by bus again")]
    _, outcome = conflicts(talks)
    (pair,) = outcome.pairs
    assert pair.similarity == 25 / 26
    assert pair.answer_similarity == 1 / 3, "of `north by boat` only `by` stands in the other"


def test_prompts_that_are_less_alike_than_the_threshold_do_not_ask_the_same(conflicts, talk):
    words = [f"w{i}" for i in range(30)]
    talks = [talk(" ".join(words), "north"), talk(" ".join(words[:-3]), "south")]
    assert conflicts(talks)[0] == set()
    assert conflicts(talks, "steps: [{conflicts: {threshold: 0.88}}]")[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("what are the latest news of today about electric cars and where can they be read in full", "electric cars"),
         ("what are the latest news of today about solar power and where can they be read in full", "solar power")),
        (("a man has 50 apples and eats three of them every day, how many days do they last", "sixteen and a bit"),
         ("a man has 70 apples and eats three of them every day, how many days do they last", "more than twenty")),
    ],
)  # fmt: skip
def test_a_difference_of_the_prompts_explains_that_of_the_answers(conflicts, talk, one, other):
    low = "steps: [{conflicts: {threshold: 0.2}}]"
    assert conflicts([talk(*one), talk(*other)], low)[0] == set()
    assert conflicts([talk(*one), talk(one[0], other[1])], low)[0], "to the same prompt they are at odds"


def test_another_system_turn_or_other_tools_ask_for_another_answer(conflicts, talk):
    def rows(**systems):
        return [talk(CAPITAL, answer, system=system) for answer, system in systems.items()]

    assert conflicts(rows(Moscow="Be brief.", Ottawa="Answer wrongly."))[0] == set()
    assert conflicts(rows(Moscow="Be brief.", Ottawa="Be  brief."))[0]
    assert conflicts(rows(Moscow=None, Ottawa=None), tools=[[{"name": "f"}], None])[0] == set()


def test_the_order_of_input_decides_nothing(conflicts, talk):
    talks = [talk(f"{CAPITAL} number {i % 5}", f"answer {'abcdefgh'[i % 8]} {'pqrst'[i % 3]}") for i in range(40)]
    found = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(list(enumerate(talks)), len(talks))
        found.append(sorted((p.duplicate_of, p.id, p.answer_similarity) for p in conflicts(shuffled)[1].pairs))
    assert found[0] == found[1] == found[2]
    assert found[0]


def test_many_answers_to_one_prompt_are_each_held_against_the_first(conflicts, talk):
    found, _ = conflicts([talk(CAPITAL, f"answer{i}") for i in range(300)])
    assert len(found) == 299
    assert len({first for first, _ in found}) == 1
