from __future__ import annotations

import copy
import datetime

import pytest

from trainer.chat.encode import covers
from trainer.chat.render import Conversation, Renderer, RenderError, dict_arguments, frozen_dates, text_arguments


def call(arguments):
    return {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": arguments}}],
    }


def arguments(message):
    return message["tool_calls"][0]["function"]["arguments"]


def test_tool_arguments_are_handed_over_as_dicts_whatever_form_they_came_in():
    assert arguments(dict_arguments(call('{"a": 1}'))) == {"a": 1}
    assert arguments(dict_arguments(call({"a": 1}))) == {"a": 1}
    assert arguments(dict_arguments(call("not json"))) == "not json"
    assert arguments(text_arguments(call({"a": "ö"}))) == '{"a": "ö"}'
    given = call('{"a": 1}')
    dict_arguments(given)
    assert arguments(given) == '{"a": 1}', "the caller's message must stay as it was"


def test_a_template_that_joins_arguments_as_text_gets_text(smollm2):
    tokenizer = copy.deepcopy(smollm2)
    tokenizer.chat_template = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{% endfor %}"
    )
    renderer = Renderer(tokenizer, {}, None)
    assert Conversation(renderer, [call({"a": 1})], None, {}).whole == 'f {"a": 1}'
    with pytest.raises(RenderError, match="the chat template fails"):
        renderer.render([call({"a": 1})])


def test_a_frozen_date_leaves_the_rest_of_the_template_as_it_was(smollm2):
    tokenizer = copy.deepcopy(smollm2)
    source = "\n  {% if strftime_now is defined %}\n{{ strftime_now('%Y') }}{% endif %}\n x"
    tokenizer.chat_template = source
    live = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    frozen = Renderer(tokenizer, {}, "1999-12-31").render([{"role": "user", "content": "x"}])
    assert frozen == live.replace(str(datetime.date.today().year), "1999")
    assert frozen_dates("{{ 1 }}", datetime.date(2020, 1, 1)) == "{{ 1 }}"


def test_each_rendering_is_made_once(smollm2):
    made = []

    class Counting(Renderer):
        def render(self, *args, **kwargs):
            made.append(kwargs)
            return super().render(*args, **kwargs)

    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 3
    conversation = Conversation(Counting(smollm2, {}, None), messages, None, {})
    for _ in range(2):
        for i in range(1, 7):
            conversation.upto(i)
            conversation.upto(i, prompt=True)
    assert len(made) == 12


@pytest.mark.parametrize(
    ("text", "offsets", "sound"),
    [
        ("ab cd", [(0, 2), (2, 5)], True),
        ("ab cd", [(0, 2), (3, 5)], True),  # a trimmed space
        ("e\u0301x", [(0, 1), (2, 3)], True),  # composed to one character, range of the first alone
        ("abcd", [(0, 2), (3, 4)], False),  # a letter that no token covers
        ("abcd", [(2, 4), (0, 2)], False),  # out of order
        ("abcd", [(0, 2), (0, 0)], False),
        ("abcd", [(0, 2)], False),  # the end is missing
        ("👩", [(0, 1), (0, 1), (0, 1)], True),  # three tokens of one character
        ("", [], True),
    ],
)
def test_offsets_must_run_through_the_text_in_order(text, offsets, sound):
    assert covers(text, offsets) is sound
