"""Many rows at once give what each gives alone."""

from __future__ import annotations

import copy

import pytest

from trainer.chat import MaskPolicy, tokenise
from trainer.chat.mask import tokenise_many
from trainer.errors import ModelUnavailable

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


ROWS = [
    (chat(("user", "Hi"), ("assistant", "Hello.")), None),
    (
        chat(("system", "s"), ("user", "Grüße 👩🏽‍🚀"), ("assistant", "\n\nJa."), ("user", "x"), ("assistant", "y")),
        None,
    ),
    ([*chat(("user", "2+2?")), {"role": "assistant", "content": "", "tool_calls": [CALL]}], TOOLS),
    (chat(("user", "a\ud800"), ("assistant", "x")), None),  # refused
    (chat(("user", "Hi"), ("assistant", "a\x1d: b")), None),  # SmolLM2 gives no usable positions here
    (
        [*chat(("user", "q")), {"role": "assistant", "content": "4", "reasoning_content": "Hm."}, *chat(("user", "z"))],
        None,
    ),
    (chat(("user", "none")), None),
    (chat(("user", "i<|im_end|>"), ("assistant", "j<|im_end|>k")), None),
]


@pytest.mark.parametrize("policy", [None, MaskPolicy(turns="last"), MaskPolicy(turns="full")])
@pytest.mark.parametrize("size", [3, 100])
def test_many_rows_give_what_each_gives_alone(tokenizer, policy, size):
    rows = ROWS * 2
    alone = [tokenise(tokenizer, messages, tools, policy) for messages, tools in rows]
    assert list(tokenise_many(tokenizer, iter(rows), policy, batch_size=size)) == alone


def test_no_row_gives_nothing_and_a_missing_template_is_told_at_once(smollm2):
    assert list(tokenise_many(smollm2, [])) == []
    bare = copy.deepcopy(smollm2)
    bare.chat_template = None
    with pytest.raises(ModelUnavailable):
        next(tokenise_many(bare, ROWS))


def test_only_a_few_batches_are_taken_ahead(smollm2):
    taken = []

    def rows():
        for i in range(1000):
            taken.append(i)
            yield ROWS[0]

    next(tokenise_many(smollm2, rows(), batch_size=2))
    assert len(taken) <= 2 * 6
