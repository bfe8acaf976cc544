from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from workbench.slicing import dimensions, length_bins

NAN = float("nan")


def test_length_bins_hold_like_numbers_and_equal_lengths_stay_together():
    bins = length_bins(np.array([*range(1, 31), NAN]))
    assert [bins.count(name) for name in ("1 to 10 tokens", "11 to 20 tokens", "21 to 30 tokens", None)] == [10] * 3 + [
        1
    ]
    bins = length_bins(np.array([5.0] * 20 + list(range(6, 16))))
    assert [(name, bins.count(name)) for name in dict.fromkeys(bins)] == [("5 tokens", 20), ("6 to 15 tokens", 10)]
    assert set(length_bins(np.full(40, 7.0))) == {"7 tokens"}
    assert set(length_bins(np.arange(19.0))) == {None}, "too few for two bins that could be tested"


@pytest.mark.parametrize(
    ("prompt", "reference", "language"),
    [
        ("Translate this sentence into German, please.", "Der Hund läuft heute durch den großen Park.", "de"),
        ("Welche Stadt ist die Hauptstadt von Frankreich?", "Paris", "de"),
        ("Write a function.", "```py\ndef f(): return 1\n```", None),
        ("Please write me a poem without any commas in it.", None, "en"),
    ],
)
def test_the_language_is_that_of_the_answer_wanted(prompt, reference, language):
    messages = [{"role": "user", "content": prompt}]
    if reference is not None:
        messages.append({"role": "assistant", "content": reference})
    items = pa.table({"messages": [json.dumps(messages)], "slice": ["t"], "cluster": ["c"]})
    found = dimensions(items, np.array([3.0]), np.array([NAN]))
    assert found["language"] == [language]
    assert (found["task"], found["cluster"]) == (["t"], ["c"])
