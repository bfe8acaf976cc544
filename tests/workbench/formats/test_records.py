"""The texts of a record: canonical JSON to the byte, whichever library writes it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.conversation import canonical_json, content_hash
from workbench.formats.records import read_row
from workbench.formats.rows import RowProblem

text = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\x00", "\x1f", "\x7f", "\u2028", '"', "\\"])
)
numbers = st.integers() | st.sampled_from([2**63, 2**64, -(2**63) - 1, 2**53 + 1]) | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers.filter(lambda number: abs(number) != float("inf")) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def record(**more):
    [only] = read_row(0, {"prompt": "q", "completion": "a", **more}, format="prompt-completion", mapping={})
    return only


@settings(deadline=None)
@given(value=values)
def test_metadata_is_written_as_canonical_json(value):
    assert record(x=value).meta_json == canonical_json({"x": value})


@settings(deadline=None)
@given(prompt=text, answer=text, schema=values)
def test_messages_and_tools_are_written_as_canonical_json(prompt, answer, schema):
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    only = record(prompt=prompt, completion=answer, tools=tools)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    assert only.messages == canonical_json(turns)
    assert only.tools == canonical_json(tools)
    assert only.content_hash == content_hash(only.messages, only.tools)
    assert only.meta_json is None


@pytest.mark.parametrize("value", [1e16, 1e-7, -0.0, 1.0, 5e-324, 2**64, -(2**70), True, "\x7f\x1f"])
def test_values_that_libraries_write_differently(value):
    assert record(x=value).meta_json == canonical_json({"x": value})
    assert record(x=[{"y": value}]).meta_json == canonical_json({"x": [{"y": value}]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "a number is NaN or infinite"),
        ([{"x": float("inf")}], "a number is NaN or infinite"),
        ("\ud800", "a lone surrogate"),
        ({"\udfff": 1}, "a lone surrogate"),
    ],
)
def test_values_that_cannot_be_written(value, reason):
    with pytest.raises(RowProblem, match=reason):
        record(x=value)


@pytest.mark.parametrize("deepest", [1, 1.5])
def test_nesting_ends_at_the_same_depth_for_both(deepest):
    def nested(levels: int) -> object:
        value: object = deepest
        for _ in range(levels):
            value = [value]
        return value

    assert record(x=nested(99)).meta_json
    for levels in (100, 150, 300):
        with pytest.raises(RowProblem, match="nested too deep"):
            record(x=nested(levels))


def turns(content, **more):
    return [{"role": "user", "content": "q"}, {"role": "assistant", "content": content, **more}]


@pytest.mark.parametrize("as_text", [False, True])
def test_what_content_parts_say_besides_their_text_is_told(as_text):
    part = {"type": "text", "text": "a", "weight": 1, "cache_control": {"type": "ephemeral"}, "citations": []}
    messages = turns([part, {"type": "text", "text": "b", "id": 7}])
    value = {"messages": canonical_json(messages) if as_text else messages}
    [only] = read_row(0, value, format="messages", mapping={})
    assert only.lost_keys == {"cache_control", "id"}
    assert "cache_control" not in only.messages


def test_text_that_looks_like_turns_has_lost_nothing():
    prompt = canonical_json(turns([{"type": "text", "text": "a", "cache_control": 1}]))
    [only] = read_row(0, {"prompt": prompt, "completion": "a"}, format="prompt-completion", mapping={})
    assert only.lost_keys == set()


@pytest.mark.parametrize(
    ("mark", "told"),
    [({"weight": 0.5}, True), ({"loss_weight": 2}, True), ({"weight": 1}, False), ({"weight": 0}, False), ({}, False)],
)
def test_weights_that_nothing_is_trained_by_are_told(mark, told):
    [only] = read_row(0, {"messages": turns("a", **mark)}, format="messages", mapping={})
    assert only.other_weight is told
