"""Tokens that a tokenizer has and its model has not: refused before they reach the embeddings."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from trainer.arms import read_arm  # noqa: E402
from trainer.chat import MaskPolicy  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.evaluate import EvalItem, answering_prompt, prepare  # noqa: E402

PLAIN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ASKED = [{"role": "user", "content": "q<|extra|>"}, PLAIN[1]]
ANSWERED = [PLAIN[0], {"role": "assistant", "content": "a<|extra|>"}]


@pytest.fixture
def grown(tiny):
    """The tiny model with a tokenizer that was given one token more."""
    tokenizer = type(tiny.tokenizer).from_pretrained(tiny.source.path)
    tokenizer.add_tokens(["<|extra|>"], special_tokens=True)
    return replace(tiny, tokenizer=tokenizer)


@pytest.fixture
def arm(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(messages):
        text = canonical_json(messages)
        row = {"content_hash": content_hash(text), "messages": text, "tools": None}
        schema = pa.schema([(name, pa.string()) for name in row])
        pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "arm.parquet")
        return tmp_path / "arm.parquet"

    return write


def test_what_reached_the_embeddings_would_be_an_index_error(grown):
    ids = grown.tokenizer("<|extra|>", add_special_tokens=False)["input_ids"]
    with pytest.raises(IndexError):
        grown.model(input_ids=torch.tensor([ids]))


@pytest.mark.parametrize("messages", [ASKED, ANSWERED])
def test_a_row_with_a_token_that_the_model_lacks_is_refused_with_what_to_do(grown, arm, messages):
    with pytest.raises(
        BadInput, match=r"no embedding for '<\|extra\|>', token 259 of its tokenizer \(it has 259\)"
    ) as told:
        read_arm(grown, arm(messages), MaskPolicy(), 100)
    assert "Take the tokenizer that came with the model" in told.value.do
    assert read_arm(grown, arm(PLAIN), MaskPolicy(), 100).trained_tokens == 2, "the others are trained as before"


def test_prompts_and_references_with_one_are_refused_too(grown):
    for messages in (ASKED, ANSWERED):
        with pytest.raises(BadInput, match="no embedding"):
            prepare(grown, [EvalItem(0, messages, None, "0")], MaskPolicy())
    with pytest.raises(BadInput, match="no embedding"):
        answering_prompt(grown, ASKED[:1], None, MaskPolicy())
    assert answering_prompt(grown, PLAIN[:1], None, MaskPolicy())
