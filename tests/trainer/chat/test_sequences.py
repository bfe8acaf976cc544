"""Ranges and Runs are read as the lists that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.chat.sequences import Ranges, Runs

PLACES = st.none() | st.integers(-9, 9)
SLICES = st.builds(slice, PLACES, PLACES, st.none() | st.sampled_from([1, 2, -1]))


@given(pairs=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=8), cut=SLICES)
def test_ranges_are_read_as_a_list_of_pairs(pairs, cut):
    ranges = Ranges.of(pairs)
    assert (list(ranges), len(ranges), [ranges[i] for i in range(len(pairs))]) == (pairs, len(pairs), pairs)
    assert list(ranges[cut]) == pairs[cut]
    assert ranges[cut] == Ranges.of(pairs[cut])
    assert ranges != Ranges.of([*pairs, (0, 1)])


@given(words=st.lists(st.sampled_from("ab"), max_size=8), cut=SLICES)
def test_runs_are_read_as_a_list_of_words(words, cut):
    runs = Runs.of(zip(words, range(1, len(words) + 1), strict=True))
    assert (list(runs), len(runs), [runs[i] for i in range(-len(words), len(words))]) == (
        words,
        len(words),
        words + words,
    )
    assert list(runs[cut]) == words[cut]
    assert len(runs.words) == sum(a != b for a, b in zip(words, [None, *words], strict=False))
    with pytest.raises(IndexError):
        runs[len(words)]


def test_a_run_that_ends_before_it_begins_is_empty():
    assert list(Runs.of([("a", 0), ("b", 3), ("c", 2), ("b", 4), ("d", 5)])) == ["b"] * 4 + ["d"]
