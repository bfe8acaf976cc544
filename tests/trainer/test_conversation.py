"""Canonical JSON: one value, one text, the same that the standard library writes with these settings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.conversation import canonical_json

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_canonical_json_is_what_the_standard_library_writes(value):
    text = canonical_json(value)
    assert text == json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert json.loads(text) == value


def test_a_value_that_cannot_be_written_does_not_disturb_the_next():
    loop: list[object] = []
    loop.append(loop)
    for bad in (float("nan"), {"x": float("inf")}, loop):
        with pytest.raises(ValueError, match=r"JSON|Circular"):
            canonical_json(bad)
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
