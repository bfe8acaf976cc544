"""Base models without a chat template, dressed in well-known formats."""

from __future__ import annotations

import copy
import re

import pytest

from trainer.chat import prompt_ids, stop_ids, tokenise
from trainer.chat.plain_formats import PLAIN_FORMATS, with_template
from trainer.errors import BadInput, ModelUnavailable, UsageProblem

from .conftest import SHARED

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a fruit."},
    {"role": "assistant", "content": "Plum."},
    {"role": "user", "content": "Another?"},
    {"role": "assistant", "content": "Pear,\nof course."},
]

# How the messages are written, with ⊢ for the tokenizer's bos token and ⊣ for its eos token.
WRITTEN = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nName a fruit.<|im_end|>\n"
    "<|im_start|>assistant\nPlum.<|im_end|>\n<|im_start|>user\nAnother?<|im_end|>\n"
    "<|im_start|>assistant\nPear,\nof course.<|im_end|>\n",
    "alpaca": "Be brief.\n\n### Instruction:\nName a fruit.\n\n### Response:\nPlum.⊣\n\n"
    "### Instruction:\nAnother?\n\n### Response:\nPear,\nof course.⊣\n\n",
    "vicuna": "Be brief. USER: Name a fruit. ASSISTANT: Plum.⊣USER: Another? ASSISTANT: Pear,\nof course.⊣",
    "llama-2": "⊢[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nName a fruit. [/INST] Plum. ⊣⊢[INST] Another? [/INST] "
    "Pear,\nof course. ⊣",
    "zephyr": "<|system|>\nBe brief.⊣\n<|user|>\nName a fruit.⊣\n<|assistant|>\nPlum.⊣\n<|user|>\nAnother?⊣\n"
    "<|assistant|>\nPear,\nof course.⊣\n",
}


@pytest.fixture(scope="session")
def base_models(load):
    """Two tokenizers as base models have them: without a template, the first of the SentencePiece kind."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if not (SHARED / "llama_sentencepiece").is_dir():
        pytest.skip("the llama_sentencepiece tokenizer is not on this machine")
    text = (SHARED / "llama_sentencepiece/tokenizer.json").read_text()
    raw, plain = Tokenizer.from_str(text), Tokenizer.from_str(text.replace('"normalized": true', '"normalized": false'))
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    llama, as_is = (PreTrainedTokenizerFast(tokenizer_object=each, **ends) for each in (plain, raw))
    gpt = copy.deepcopy(load("smollm2"))
    gpt.chat_template = None
    gpt.bos_token = gpt.eos_token = "<|endoftext|>"
    return {"llama": llama, "llama as it is": as_is, "gpt": gpt}


def trained(tokenizer, done):
    (example,) = done.examples
    return tokenizer.decode(
        [id_ for id_, is_trained in zip(example.input_ids, example.trained, strict=True) if is_trained]
    )


@pytest.mark.parametrize("base", ["llama", "gpt"])
@pytest.mark.parametrize("name", PLAIN_FORMATS)
def test_a_format_is_written_as_it_is_known_and_trains_answers_with_their_ends(base_models, base, name):
    tokenizer = with_template(base_models[base], name, add_tokens=name == "chatml")
    start, end = tokenizer.bos_token, tokenizer.eos_token
    done = tokenise(tokenizer, MESSAGES)
    assert done.issues == []
    (example,) = done.examples
    # Where the tokenizer puts its bos token before a text, the format does too.
    opens = start if base == "llama" and name != "llama-2" else ""
    assert example.text == opens + WRITTEN[name].replace("⊢", start).replace("⊣", end)
    stop = "<|im_end|>" if name == "chatml" else end
    assert stop_ids(tokenizer) >= {tokenizer.convert_tokens_to_ids(stop)}
    assert trained(tokenizer, done).replace(" ", "") == f"Plum.{stop}Pear,\nofcourse.{stop}"
    for turn in (2, 4):
        prompt = prompt_ids(tokenizer, MESSAGES[:turn])
        assert example.input_ids[: len(prompt)] == prompt
        assert not example.trained[len(prompt) - 1]
        assert example.trained[len(prompt)]


def test_nothing_is_added_to_a_tokenizer_unasked(base_models):
    base = base_models["llama"]
    dressed = with_template(base, "chatml")
    assert len(dressed) == len(base)
    assert base.chat_template is None
    kinds = {issue.kind for issue in tokenise(dressed, MESSAGES).issues}
    assert "no-stop" in kinds, "its turns end in plain text"
    assert len(with_template(base, "chatml", add_tokens=True)) == len(base) + 2
    known = with_template(base_models["gpt"], "chatml", add_tokens=True)
    assert len(known) == len(base_models["gpt"]), "the tokens are there already"


def test_a_turn_that_a_format_does_not_know_is_told(base_models):
    for name in ("alpaca", "vicuna", "llama-2", "zephyr"):
        tokenizer = with_template(base_models["llama"], name)
        (issue,) = tokenise(tokenizer, [*MESSAGES[1:3], {"role": "tool", "content": "x"}]).issues
        assert issue.kind == "template-error"
        assert re.search(f"the {name} format has no .*turn of tool", issue.detail)


def test_an_eos_token_that_the_tokenizer_overlooks_behind_a_word_is_told(base_models):
    # Its file marks special tokens as normalised, and normalising puts a blank before them: only ` </s>` is the token.
    tokenizer = with_template(base_models["llama as it is"], "vicuna")
    done = tokenise(tokenizer, MESSAGES)
    assert [(issue.kind, issue.turn) for issue in done.issues] == [("no-stop", 2), ("no-stop", 4)]


def test_a_file_is_taken_as_it_stands_and_judged_at_once(base_models, tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ m['role'] + '=' + m['content'] + eos_token }}{% endfor %}")
    tokenizer = with_template(base_models["llama"], str(file))
    assert tokenise(tokenizer, MESSAGES[1:3]).examples[0].text == "user=Name a fruit.</s>assistant=Plum.</s>"
    file.write_text("{% for m in messages %}\n{{ m }}{% end %}")
    with pytest.raises(BadInput, match=r"mine\.jinja, line 2: is no Jinja template"):
        with_template(base_models["llama"], str(file))
    with pytest.raises(BadInput, match="cannot be read"):
        with_template(base_models["llama"], str(tmp_path / "none.jinja"))


def test_names_that_are_none_are_told_with_the_nearest(base_models):
    with pytest.raises(UsageProblem, match="Did you mean llama-2"):
        with_template(base_models["llama"], "llama2")
    with pytest.raises(UsageProblem, match="chatml, alpaca, vicuna, llama-2, zephyr"):
        with_template(base_models["llama"], "quince")
    with pytest.raises(UsageProblem, match="has no special tokens to add"):
        with_template(base_models["llama"], "alpaca", add_tokens=True)


def test_the_error_without_a_template_names_every_format(base_models):
    with pytest.raises(ModelUnavailable) as caught:
        tokenise(base_models["llama"], MESSAGES)
    assert all(name in caught.value.do for name in PLAIN_FORMATS)
