from __future__ import annotations

import random

import pytest


def left(recipe, conversations, batches, outcomes):
    (outcome,) = outcomes(recipe, batches(conversations))
    gone = {drop.id for drop in outcome.drops}
    return [str(messages) for i, messages in enumerate(conversations) if i not in gone], outcome


@pytest.fixture
def conversations(talk):
    return [talk(f"Question {i}?", "word " * (i % 10 + 1)) for i in range(60)]


@pytest.mark.parametrize("recipe", ["steps: [{random-k: {k: 20}}]", "steps: [{longest-k: {k: 20}}]"])
def test_the_choice_does_not_hang_on_the_order_of_input(recipe, conversations, batches, outcomes):
    chosen = set()
    for seed in range(4):
        random.Random(seed).shuffle(conversations)
        kept, outcome = left(recipe, conversations, batches, outcomes)
        assert len(kept) == 20
        assert set(outcome.reasons) == {"not selected"}
        chosen.add(tuple(sorted(kept)))
    assert len(chosen) == 1


def test_another_seed_chooses_others_and_about_as_evenly(conversations, batches, outcomes):
    one, _ = left("steps: [{random-k: {k: 20, seed: 1}}]", conversations, batches, outcomes)
    two, _ = left("steps: [{random-k: {k: 20, seed: 2}}]", conversations, batches, outcomes)
    assert 0 < len(set(one) & set(two)) < 20


def test_one_row_more_changes_at_most_one_row_of_the_choice(conversations, batches, outcomes, talk):
    before, _ = left("steps: [{random-k: {k: 20}}]", conversations, batches, outcomes)
    after, _ = left("steps: [{random-k: {k: 20}}]", [*conversations, talk("New?", "Yes.")], batches, outcomes)
    assert len(set(before) - set(after)) <= 1


def test_the_longest_are_the_longest(conversations, batches, outcomes):
    kept, outcome = left("steps: [{longest-k: {k: 12}}]", conversations, batches, outcomes)
    assert all(text.count("word") >= 9 for text in kept)
    assert max(drop.score for drop in outcome.drops) <= 9


def test_fewer_rows_than_asked_for_all_stay(conversations, batches, outcomes):
    _, outcome = left("steps: [{random-k: {k: 1000}}]", conversations, batches, outcomes)
    assert outcome.drops == []


def test_a_selector_may_drop_nearly_all(conversations, batches, outcomes):
    kept, _ = left("steps: [{random-k: {k: 1}}]", conversations, batches, outcomes)
    assert len(kept) == 1
