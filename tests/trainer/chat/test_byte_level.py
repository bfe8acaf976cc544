"""The short way to ids and positions gives what the tokenizer gives, or says that it cannot."""

from __future__ import annotations

import copy

import pytest
from tokenizers import AddedToken, normalizers, processors
from tokenizers.pre_tokenizers import ByteLevel as Splitting

from trainer.chat.byte_level import ByteLevel
from trainer.chat.encode import Encoder

TEXTS = [
    "",
    "plain",
    "  two spaces,\r\n\n a line and\ttabs \n",
    "naïve 中文字 Ωμέγα ｆｕｌｌ",
    "👩🏽‍🚀 and 🇩🇪, a flag",
    "<|im_start|>user\nnot <|im_end|> only<|im_end|>\n",
    "<think>\n\n</think>\n\n<tool_call>{}</tool_call>",
    "<|im_start|>\u0301 alone",
    "x" * 300 + " 12345678901234567890",
]
CHANGED = [
    "e\u0301 in two characters",
    "the Angstrom sign \u212b",
    "a\u0378b, which is no character yet",
]


def by_call(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)


def test_ids_and_positions_are_the_tokenizers(tokenizer):
    short = ByteLevel.of(tokenizer)
    assert short is not None
    for text, ids in zip(TEXTS, short.ids(TEXTS), strict=True):
        told = by_call(tokenizer, text)
        assert ids == told["input_ids"]
        ranges = list(short.ranges(text, ids))
        if "llama" not in tokenizer.name_or_path:
            assert ranges == told["offset_mapping"]
        # Llama 3's leaves the spaces of a token out of its range: ours has all of it.
        for (start, end), (a, b) in zip(ranges, told["offset_mapping"], strict=True):
            assert start <= a <= b <= end
            assert not (text[start:a] + text[b:end]).strip()


@pytest.mark.parametrize("text", CHANGED)
def test_a_text_that_the_normalizer_may_change_is_left_to_the_tokenizer(qwen3, text):
    short = ByteLevel.of(qwen3)
    assert short.ids(["as it is", text])[1] is None
    (encoding,) = Encoder(qwen3).batch([text], offsets=True)
    assert (encoding.ids, list(encoding.offsets)) == (
        by_call(qwen3, text)["input_ids"],
        by_call(qwen3, text)["offset_mapping"],
    )


def test_no_positions_are_told_where_the_bytes_of_the_tokens_are_not_the_text(smollm2):
    short = ByteLevel.of(smollm2)
    text = "a\x1d: b"
    (ids,) = short.ids([text])
    if smollm2.decode(ids) == text:
        pytest.skip("this tokenizer has every byte")
    assert short.ranges(text, ids) is None
    assert short.ranges("ab", short.ids(["ac"])[0]) is None
    assert short.ranges("ab", [len(smollm2) + 5]) is None, "an id that there is not"


def changed(load, change):
    tokenizer = copy.deepcopy(load("smollm2"))
    change(tokenizer)
    return tokenizer


@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase()),
        lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", Splitting(add_prefix_space=True)),
        lambda t: t.add_tokens([AddedToken("<quince>", rstrip=True)]),
        lambda t: setattr(t, "split_special_tokens", True),
    ],
)
def test_a_tokenizer_that_does_more_to_a_text_goes_the_long_way(load, change):
    tokenizer = changed(load, change)
    assert ByteLevel.of(tokenizer) is None
    text = "Say <quince>  <|im_end|> Now"
    assert Encoder(tokenizer).ids(text) == by_call(tokenizer, text)["input_ids"]


def test_nothing_is_added_by_either_way(load):
    adding = copy.deepcopy(load("smollm2"))
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert adding("a")["input_ids"][0] == 1
    longer = copy.deepcopy(adding)
    longer.backend_tokenizer.normalizer = normalizers.Replace("x", "y")
    assert (ByteLevel.of(adding) is None, ByteLevel.of(longer) is None) == (False, True)
    assert Encoder(adding).ids("a") == Encoder(longer).ids("a") == load("smollm2")("a")["input_ids"]


def test_a_tokenizer_that_is_told_to_cut_and_pad_does_neither(load):
    tokenizer = copy.deepcopy(load("smollm2"))
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert Encoder(tokenizer).ids("one two three four") == by_call(load("smollm2"), "one two three four")["input_ids"]


def test_an_added_token_is_known_by_its_text(load):
    tokenizer = copy.deepcopy(load("smollm2"))
    tokenizer.add_tokens(["quîncetown", "<|quince|>"])
    text = "to quîncetown<|quince|>!"
    (encoding,) = Encoder(tokenizer).batch([text], offsets=True)
    assert ByteLevel.of(tokenizer).ranges(text, encoding.ids) == encoding.offsets
    assert "quîncetown" in [text[start:end] for start, end in encoding.offsets]
