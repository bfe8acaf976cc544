from __future__ import annotations

import random

import pytest

from trainer.chat.packing import packed_waste, padded_waste


def test_padding_fills_each_batch_up_to_its_longest_row():
    assert padded_waste([4, 4, 4, 4], 2) == 0
    assert padded_waste([1, 3, 2, 2], 2) == pytest.approx(1 - 8 / 10)
    assert padded_waste([1, 3, 2], 2) == pytest.approx(1 - 6 / 8)
    assert padded_waste([], 2) == 0


@pytest.mark.parametrize(
    ("lengths", "sequences"),
    [([], 0), ([10], 1), ([6, 5], 2), ([5, 5, 4, 6], 2), ([7, 3, 6, 4, 5, 5], 3), ([9, 8, 2, 1], 2), ([1] * 25, 3)],
)
def test_packing_puts_rows_together_as_long_as_they_fit(lengths, sequences):
    waste = packed_waste(lengths, 10)
    assert waste == pytest.approx(1 - sum(lengths) / (10 * sequences) if sequences else 0)


def test_packing_is_never_worse_than_the_bound_of_best_fit_and_never_better_than_whole():
    draw = random.Random(0)
    for _ in range(30):
        lengths = [draw.randint(1, 100) for _ in range(draw.randint(1, 200))]
        least = -(-sum(lengths) // 100)
        used = round(sum(lengths) / (1 - packed_waste(lengths, 100)) / 100)
        assert least <= used <= 11 / 9 * max(least, sum(length > 50 for length in lengths)) + 1
