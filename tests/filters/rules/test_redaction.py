"""Redaction: every piece gives way to its mark, and nothing else changes."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.registry import STEPS
from filters.rules.personal import Kind, find
from filters.rules.redaction import redact

from .test_pii import KEY_TAIL, NOT_PERSONAL, PERSONAL

KINDS = get_args(Kind)
BODY = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKB"] * 3)
PRIVATE = "-----BEGIN " + f"PRIVATE KEY-----\n{BODY}\n"
END = "-----END " + "PRIVATE KEY-----"
MAIL = "ann.lee@tidewater.org"


def turn(text, role="assistant", **more):
    return {"role": role, "content": text, **more}


def redacted(message, on="both", kinds=KINDS):
    [made], _ = redact([message], on, kinds)
    return made


def of(text):
    return redacted(turn(text))["content"]


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
def test_a_mark_takes_the_place_of_what_was_found_and_the_rest_stays(kind, text):
    [piece] = find(text)
    assert of(text) == f"{text[: piece.start]}[{kind}]{text[piece.end :]}"


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_is_not_personal_stays_as_it_is(text):
    assert of(text) == text


@given(
    st.lists(st.sampled_from([text for _, text in PERSONAL]), max_size=4), st.sampled_from(["", " ", "-", ".", "\n"])
)
def test_nothing_is_found_in_what_is_left(texts, between):
    assert find(of(between.join(texts))) == []


def test_a_piece_that_another_one_hid_goes_too():
    assert of(f"{MAIL}/84.17.203.9") == "[mail]/[ip]"
    assert of(f"{MAIL}(613) 704-0926") == "[mail][phone]"


def test_a_private_key_goes_whole_also_where_its_end_is_missing():
    assert of(f"My key:\n{PRIVATE}{END}\nthanks") == "My key:\n[key]\nthanks"
    assert of(f"My key:\n{PRIVATE}and so on") == "My key:\n[key]\nand so on"
    assert of(PRIVATE.replace("\n", "\\n") + END) == "[key]"


def test_what_stands_twice_in_the_arguments_of_a_call_stands_there_twice():
    def call(arguments):
        return turn("", tool_calls=[{"function": {"name": "write", "arguments": arguments}}])

    said = f'{{"to": "{MAIL}", "to": "84.17.203.9", "n": {{"to": 1, "to": [2, "{MAIL}"]}}}}'
    made = redacted(call(said))["tool_calls"][0]["function"]["arguments"]
    assert made == '{"to": "[mail]", "to": "[ip]", "n": {"to": 1, "to": [2, "[mail]"]}}'
    untouched = '{"to": "me", "to":  "you"}'
    assert redacted(call(untouched)) == call(untouched)


def test_only_the_chosen_kinds_and_sides_change():
    text = f"{MAIL} at 84.17.203.9"
    assert redacted(turn(text), kinds=["ip"])["content"] == f"{MAIL} at [ip]"
    for on, changed in (("prompt", "user"), ("response", "assistant")):
        made, _ = redact([turn(text, role) for role in ("system", "user", "assistant", "tool")], on, KINDS)
        assert [m["role"] for m in made if m["content"] != text] == [changed]
    made, pieces = redact([turn(text, role) for role in ("system", "user", "assistant", "tool")], "both", KINDS)
    assert [m["content"] for m in made] == ["[mail] at [ip]"] * 4
    assert [piece.text for piece in pieces[:2]] == [MAIL, "84.17.203.9"]


def test_reasoning_and_text_parts_are_looked_through_and_images_are_not():
    image = {"type": "image_url", "image_url": f"https://x.tidewater.org/{MAIL}"}
    made = redacted(turn([{"type": "text", "text": MAIL}, image], reasoning_content=f"It is {MAIL}."))
    assert made["content"] == [{"type": "text", "text": "[mail]"}, image]
    assert made["reasoning_content"] == "It is [mail]."


def called(arguments):
    call = {"id": "+49 30 2093 7712", "type": "function", "function": {"name": "f", "arguments": arguments}}
    made = redacted(turn("", tool_calls=[call]))["tool_calls"]
    assert made == [call | {"function": {"name": "f", "arguments": made[0]["function"]["arguments"]}}], "the id stays"
    return made[0]["function"]["arguments"]


def test_arguments_of_tool_calls_stay_json_whatever_holds_the_piece():
    given = {"to": [MAIL, {"cc": f"x\n{MAIL}"}], "n": 3, "card": 4539148803436467, "ok": True, "none": None, "x": 1.5}
    made = {"to": ["[mail]", {"cc": "x\n[mail]"}], "n": 3, "card": "[card]", "ok": True, "none": None, "x": 1.5}
    assert called(given) == made
    assert json.loads(called(json.dumps(given))) == made, "as JSON text"
    assert called('{"n":  3}') == '{"n":  3}', "not written anew without need"
    assert called(f"not JSON: {MAIL}") == "not JSON: [mail]"


def test_the_name_of_an_argument_tells_a_key_from_noise():
    assert called({"api_key": KEY_TAIL, "noise": KEY_TAIL}) == {"api_key": "[key]", "noise": KEY_TAIL}


def test_arguments_that_are_named_by_addresses_do_not_become_one():
    assert called({MAIL: 1, "bob@tidewater.org": 2, "c@tidewater.org": 3}) == {
        "[mail]": 1,
        "[mail] [mail]": 2,
        "[mail] [mail] [mail]": 3,
    }


def test_what_is_trained_stays_trained():
    text = f"Dear {MAIL}, call (613) 704-0926 today."
    cuts = [[0, 5], [5, 26], [27, 40], [50, len(text)]]
    made = redacted(turn(text, train_spans=cuts))
    assert made["content"] == "Dear [mail], call [phone] today."
    assert [made["content"][a:b] for a, b in made["train_spans"]] == ["Dear ", "[mail]", " call [phone]", "day."]


def test_redacting_tells_kinds_and_no_piece(make_row):
    step = STEPS["pii"](STEPS["pii"].params_model(action="redact"))
    row = make_row(f"I am {MAIL}", "Ann: b@tidewater.org, card 4539 1488 0343 6467.")
    scores = step.scorers[0].score([row])
    assert step.decide(scores) is None
    edit = step.rewrite(row, scores)
    assert (edit.reason, edit.detail) == ("redacted card, mail", "1 card, 2 mail")
    assert [m["content"] for m in edit.messages] == ["I am [mail]", "Ann: [mail], card [card]."]
