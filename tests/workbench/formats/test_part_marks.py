"""Parts of an answer that are marked as not trained: from the row of a file to the labels of its tokens."""

from __future__ import annotations

import json

import pytest

from trainer.chat import tokenise
from trainer.models import DEFAULT_MODEL, load_tokenizer
from workbench.formats.read import Reject

U = {"role": "user", "content": "q"}
CALL = {"type": "tool_call", "tool_call": {"name": "f", "arguments": {}}}


def text(value, **marks):
    return {"type": "text", "text": value, **marks}


@pytest.fixture
def answer(read):
    """answer(*parts): the message that an answer of these parts becomes."""

    def of(*parts, **more):
        row = {"messages": [U, {"role": "assistant", "content": list(parts), **more}]}
        (only,) = read("a.jsonl", json.dumps(row), format="messages")
        if isinstance(only, Reject):
            return only.reason
        return json.loads(only.messages)[1]

    return of


@pytest.mark.parametrize("off", [{"train": False}, {"weight": 0}, {"loss_weight": 0.0}, {"train": True, "weight": 0}])
@pytest.mark.parametrize("on", [{}, {"train": True}, {"weight": 1}])
def test_marks_on_parts_become_spans_of_the_joined_text(answer, off, on):
    made = answer(text("One. ", **on), "And. ", text("Two. ", **off), text("", **on), text("Three.", **on))
    assert made == {"role": "assistant", "content": "One. And. Two. Three.", "train_spans": [[0, 10], [15, 21]]}
    assert answer(text("One.", **on), text("Two.", **on)) == {"role": "assistant", "content": "One.Two."}
    assert answer(text("One.", **off), text("Two.", **off)) == {
        "role": "assistant", "content": "One.Two.", "train": False,
    }  # fmt: skip


def test_the_labels_are_those_of_the_parts(answer):
    tokenizer = load_tokenizer(DEFAULT_MODEL)

    def trained(*parts, **more):
        examples = tokenise(tokenizer, [U, answer(*parts, **more)]).examples
        return "".join(tokenizer.decode([label for label in example.labels if label != -100]) for example in examples)

    off = {"train": False}
    assert trained(text("One."), text(" Two.")) == "One. Two.<|im_end|>"
    assert trained(text("One.", **off), text(" Two.")) == " Two.<|im_end|>"
    assert trained(text("One."), text(" Two.", **off)) == "One."
    assert trained(text("One."), text(" Two.", **off), text(" Three.")) == "One. Three.<|im_end|>"
    assert trained(text("One.", **off)) == ""
    assert trained(text("One."), text(" Two.", **off), train=False) == ""


def test_parts_of_turns_that_are_never_trained_lose_their_marks(read):
    row = {"messages": [{"role": "user", "content": [text("q", weight=0.5)]}, {"role": "assistant", "content": "a"}]}
    assert json.loads(read("a.jsonl", json.dumps(row))[0].messages)[0] == U


REFUSED = [
    ([text("x", weight=0.5)], {}, "content part 0, `weight` is '0.5'; a part is trained"),
    ([text("x", train="no")], {}, "content part 0, `train` is 'no'; a part is trained"),
    ([{"type": "thinking", "thinking": "h", "train": False}, text("x")], {}, "content part 0 is marked as not trained"),
    ([{**CALL, "weight": 0}], {}, "content part 0 is marked as not trained"),
    ([text("x"), text("y", train=False), CALL], {}, "beside its tool calls is marked as not trained"),
    ([text("x", train=False), CALL], {}, "beside its tool calls is marked as not trained"),
    ([text("x", train=False), text("y")], {"reasoning_content": "h"}, "beside its reasoning is marked as not trained"),
    ([text("x", train=False)], {"train_spans": [[0, 1]]}, "`messages[1]` has `train_spans` and parts"),
]


@pytest.mark.parametrize(("parts", "more", "says"), REFUSED, ids=[says for *_, says in REFUSED])
def test_a_mark_that_could_not_be_kept_rejects_the_row(answer, parts, more, says):
    assert says in answer(*parts, **more)


def test_calls_and_reasoning_beside_trained_text_are_no_matter(answer):
    thought = {"type": "thinking", "thinking": "h"}
    made = answer(thought, text("a"), text("b", train=False), text("c"), CALL)
    assert (made["content"], made["train_spans"], made["reasoning_content"]) == ("abc", [[0, 1], [2, 3]], "h")
    assert made["tool_calls"][0]["function"]["name"] == "f"
