from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.schedule import TrainRow, cut_to_steps, epoch_steps, epochs_in_steps, micro_batches, seeded_order, steps_of


def row(key: str, prompt: int, trained: int) -> TrainRow:
    return TrainRow(key, [5] * (prompt + trained), [-100] * prompt + [5] * trained)


ROWS = [row(f"k{i}", 3 + i % 7, 2 + i % 11) for i in range(60)]


def test_rows_that_two_sets_share_come_in_the_same_order():
    keys = [f"k{i}" for i in range(50)]
    some = keys[::3]
    order = [keys[i] for i in seeded_order(keys, 4, 0) if keys[i] in some]
    assert order == [some[i] for i in seeded_order(some, 4, 0)]


def test_the_order_is_another_one_for_every_seed_and_epoch():
    keys = [f"k{i}" for i in range(20)]
    orders = {tuple(seeded_order(keys, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_of_input_decides_nothing():
    shuffled = [*ROWS[30:], *ROWS[:30]]
    first = [[ROWS[i].key for i in step] for step in steps_of(ROWS, seed=1, steps=20, tokens_per_step=40)]
    second = [[shuffled[i].key for i in step] for step in steps_of(shuffled, seed=1, steps=20, tokens_per_step=40)]
    assert first == second


def test_arms_of_different_size_train_equally_many_tokens_in_equally_many_steps():
    small, big = ROWS[:12], ROWS
    for rows in (small, big):
        plan = steps_of(rows, seed=0, steps=25, tokens_per_step=50)
        total = sum(rows[i].trained for step in plan for i in step)
        assert len(plan) == 25
        assert 25 * 50 <= total < 25 * 50 + max(r.trained for r in rows)


def test_an_arm_of_long_answers_trains_no_more_than_one_of_short_ones():
    for size, of_step in ((4, 50), (49, 50), (50, 50), (51, 50), (700, 50), (3, 2), (5, 1)):
        rows = cut_to_steps([row(f"k{i}", 5, size + i % 3) for i in range(40)], of_step)
        plan = steps_of(rows, seed=0, steps=25, tokens_per_step=of_step)
        assert 25 * of_step <= sum(rows[i].trained for step in plan for i in step) < 26 * of_step


def test_a_row_that_is_cut_trains_each_of_its_tokens_once_behind_all_that_stands_before_it():
    labels = [-100, -100, *range(2, 9), -100, -100, *range(11, 20), -100]
    long, short = TrainRow("long", range(20 + 1), labels), row("short", 1, 4)
    first, second, third, *whole = cut_to_steps([long, short], 6)
    assert whole == [short]
    parts = (first, second, third)
    assert {part.trained for part in parts} == {5, 6}
    assert sorted(token for part in parts for token in part.labels if token != -100) == [*range(2, 9), *range(11, 20)]
    for part in parts:
        assert list(part.input_ids) == list(range(part.labels[-1] + 1)), "up to its last trained token"
        assert all(label in (-100, at) for at, label in enumerate(part.labels))


def test_every_row_is_seen_once_before_any_is_seen_twice():
    plan = steps_of(ROWS, seed=0, steps=10, tokens_per_step=20)
    seen = [i for step in plan for i in step]
    assert len(seen) <= len(ROWS)
    assert len(seen) == len(set(seen))


LONG = [row(f"k{i}", 3, 5 + 90 * (i % 3)) for i in range(60)]


@pytest.mark.parametrize("rows", [ROWS, LONG], ids=["short", "longer than a step"])
@pytest.mark.parametrize(("epochs", "per_step"), [(1, 20), (3, 20), (2, 1000), (3, 7)])
def test_epochs_are_exactly_as_many_passes_in_as_many_steps_by_every_seed(rows, epochs, per_step):
    steps = epoch_steps(rows, epochs, per_step)
    for seed in range(5):
        plan = epochs_in_steps(rows, seed=seed, epochs=epochs, steps=steps)
        seen = [i for step in plan for i in step]
        assert {seen.count(i) for i in range(len(rows))} == {epochs}
        assert len(plan) == steps
        assert all(plan)


def test_the_steps_of_epochs_are_alike_in_tokens():
    plan = epochs_in_steps(ROWS, seed=0, epochs=2, steps=epoch_steps(ROWS, 2, 40))
    sizes = [sum(ROWS[i].trained for i in step) for step in plan]
    assert max(sizes) - min(sizes) <= 2 * max(r.trained for r in ROWS)


def test_a_row_longer_than_a_step_does_not_make_an_empty_step():
    plan = steps_of([row("long", 2, 500), row("short", 2, 3)], seed=0, steps=4, tokens_per_step=50)
    assert all(plan)


def test_rows_without_trained_tokens_are_refused_rather_than_looped_over_for_ever():
    with pytest.raises(ValueError, match="no row has a trained token"):
        steps_of([row("a", 5, 0)], seed=0, steps=1, tokens_per_step=10)


def test_the_first_token_of_a_sequence_counts_as_ignored_because_nothing_predicts_it():
    assert TrainRow("k", [1, 2, 3], [1, 2, 3]).trained == 2


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 500))
def test_micro_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = micro_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
