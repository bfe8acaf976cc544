from __future__ import annotations

import pytest
from pydantic import ValidationError

from filters.registry import STEPS


def test_bounds_are_inclusive_and_named_in_the_reason(judge, make_row):
    row = make_row("a", "one two three")
    assert judge("length", row, min_words=3, max_words=3) is None
    assert judge("length", row, min_words=4).reason == "too short"
    assert judge("length", row, max_words=2).reason == "too long"
    assert judge("length", row, max_chars=12).detail == "13 chars, at most 12"


def test_the_side_can_be_chosen(judge, make_row):
    row = make_row("a b c d", "e")
    assert judge("length", row, on="prompt", min_words=4) is None
    assert judge("length", row, on="response", min_words=2).reason == "too short"


def test_an_empty_answer_is_too_short_and_a_tool_call_is_not(judge, make_row):
    assert judge("length", make_row("a", "  \n"), min_chars=1).reason == "too short"
    call = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
    ]
    assert judge("length", make_row(messages=call), min_chars=1) == "unscored"


def test_tokens_are_those_of_the_named_tokenizer(judge, make_row, tiny_model):
    row = make_row("a", "hello")  # five bytes, and the tiny tokenizer has one token a byte
    assert judge("length", row, min_tokens=5, max_tokens=5, tokenizer=str(tiny_model)) is None
    assert judge("length", row, min_tokens=6, tokenizer=str(tiny_model)).reason == "too short"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "needs at least one of"),
        ({"min_words": 5, "max_words": 4}, "no row could pass"),
        ({"min_words": "5"}, "valid integer"),
        ({"min_words": 0}, "greater than or equal to 1"),
        ({"min_word": 5}, "Extra inputs"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params, message):
    with pytest.raises(ValidationError, match=message):
        STEPS["length"].params_model(**params)


def test_only_what_a_score_depends_on_is_in_its_fingerprint(tiny_model):
    def prints(**params):
        return [s.fingerprint for s in STEPS["length"](STEPS["length"].params_model(**params)).scorers]

    assert prints(min_words=3) == prints(max_words=9, max_drop=0.9)
    assert prints(min_words=3, on="prompt") != prints(min_words=3)
    assert prints(min_words=3, tokenizer="another") == prints(min_words=3)
    assert prints(min_tokens=3, tokenizer=str(tiny_model)) != prints(min_words=3)
