"""Every chat template that TRL's installed package ships, against an oracle that knows no masks.

The oracle: what `apply_chat_template(add_generation_prompt=True)` gives for the messages before a turn, then the
trained tokens of the turn, must be how the training example begins; and the trained tokens must read as what the
model has to write, which for a plain answer is a lead-in of the family (empty for most), the content, and the
family's stop token.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import trl
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from trainer.chat import MaskPolicy, prompt_ids, stop_ids, tokenise

FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))

# Family (the start of the template's name, longest match) -> tokenizer eos, lead-in, end of a turn.
FAMILIES = {
    "cohere": ("<|END_OF_TURN_TOKEN|>", "", "<|END_OF_TURN_TOKEN|>"),
    "cohere2": ("<|END_OF_TURN_TOKEN|>", "", "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"),
    "deepseek": ("<｜end▁of▁sentence｜>", "", "<｜end▁of▁sentence｜>"),
    "diffusion_gemma": ("<eos>", "", "<turn|>"),
    "gemma": ("<eos>", "", "<end_of_turn>"),
    "gemma4": ("<eos>", "", "<turn|>"),
    "glm4moe": ("<|endoftext|>", "\n<think></think>\n", ""),
    "gptoss": ("<|return|>", "<|channel|>final<|message|>", "<|return|>"),
    "idefics3": ("<end_of_utterance>", " ", "<end_of_utterance>"),
    "lfm2": ("<|im_end|>", "", "<|im_end|>"),
    "llama3": ("<|eot_id|>", "", "<|eot_id|>"),
    "llava_next": ("</s>", " ", "</s>"),
    "muse_glimmer": ("<|eot|>", " to=user<|message|>", "<|eot|>"),
    "nemotron": ("<|im_end|>", "", "<|im_end|>"),
    "phi3": ("<|endoftext|>", "", "<|end|>"),
    "qwen2": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3": ("<|im_end|>", "<think>\n\n</think>\n\n", "<|im_end|>"),
    "qwen3_5_nothink": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3_5_think": ("<|im_end|>", "\n</think>\n\n", "<|im_end|>"),
    "qwen3_6": ("<|im_end|>", "\n</think>\n\n", "<|im_end|>"),
    "qwen3_8": ("<|im_end|>", "\n</think>\n\n", "<|im_end|>"),
    "qwen3_instruct_2507": ("<|im_end|>", "", "<|im_end|>"),
    "qwen3_vl": ("<|im_end|>", "", "<|im_end|>"),
    "smolvlm": ("<end_of_utterance>", " ", "<end_of_utterance>"),
}

# Templates whose prompt is not how a plain answer begins, whatever arguments they take: they hand out a `<think>`
# that an answer without reasoning does not contain. Trained from the content on, and reported.
PREFIX_BROKEN = {"deepseek_r1_distill", "deepseekv3"}
# They hand out `<think>` too, but take enable_thinking=False: found by trying, and used for prompts as well.
SWITCHED = {"nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"}
# The prompt ends in `<think>` and a newline, and a plain answer begins with another: one token for both, by the
# splitting these families use. It stays untrained, and the row says so.
STRADDLES = {"qwen3_5_think", "qwen3_6", "qwen3_8"}
NO_STOP = {"glm4moe"}  # its turns end where the next one's header begins, so the last turn has no stop token at all

USER, USER2 = {"role": "user", "content": "Hi there"}, {"role": "user", "content": "More?"}
ANSWER, ANSWER2 = (
    {"role": "assistant", "content": "Paris, of course."},
    {"role": "assistant", "content": "Rome:\n1. old\n2. big"},
)


def family(name: str) -> tuple[str, str, str]:
    return FAMILIES[max((key for key in FAMILIES if name.startswith(key)), key=len)]


_TOKEN = re.compile(r"<\|[A-Za-z_0-9]+\|>|<｜[^｜<>]+｜>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_[a-z]+>|</s>|<s>")


# SmolLM2's own splitting tells a run of newlines at the end of a text from one in front of a word; that of the
# families whose prompts end in newlines does not.
_LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_LINES = Sequence([Split(Regex(_LINES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


@pytest.fixture
def with_template(smollm2):
    """The SmolLM2 tokenizer, dressed as another family: its template, its special tokens."""

    def dress(name: str, pre_tokenizer: PreTokenizer | None = SPLIT_LINES):
        tokenizer = copy.deepcopy(smollm2)
        if pre_tokenizer:
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text()
        eos = family(name)[0]
        found = sorted(set(_TOKEN.findall(tokenizer.chat_template)) | {eos})
        tokenizer.add_special_tokens({"additional_special_tokens": found, "eos_token": eos, "bos_token": "<BOS>"})
        return tokenizer

    return dress


def runs(example) -> list[tuple[int, int]]:
    """Maximal runs of trained tokens."""
    edges = [
        i
        for i in range(len(example.trained) + 1)
        if (i and example.trained[i - 1]) != (i < len(example.trained) and example.trained[i])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def check(tokenizer, messages, policy, lead: str, stop: str, tools=None) -> list[int]:
    """The oracle. Returns the turns that were trained."""
    done = tokenise(tokenizer, messages, tools, policy)
    assert done.examples, done.issues
    seen = []
    for example in done.examples:
        pieces = runs(example)
        assert len(pieces) == len(example.turns)
        for turn, (first, last) in zip(example.turns, pieces, strict=True):
            prompt = prompt_ids(tokenizer, messages[:turn], tools, policy)
            assert example.input_ids[:first] == prompt
            wanted = lead + messages[turn]["content"] + stop
            assert tokenizer.decode(example.input_ids[first:last]) == wanted
            seen.append(turn)
    return sorted(seen)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in PREFIX_BROKEN | STRADDLES])
def test_each_turn_trains_what_the_model_must_write_after_the_prompt(with_template, name):
    tokenizer = with_template(name)
    _, lead, stop = family(name)
    policy = MaskPolicy(date="2024-05-06")
    assert check(tokenizer, [USER, ANSWER], policy, lead, stop) == [1]
    assert check(tokenizer, [USER, ANSWER, USER2, ANSWER2], policy, lead, stop) == [1, 3]
    assert check(tokenizer, [USER, ANSWER, USER2], policy, lead, stop) == [1]
    issues = {issue.kind for issue in tokenise(tokenizer, [USER, ANSWER, USER2, ANSWER2], None, policy).issues}
    assert not issues & {"prefix-broken", "straddle", "zero-trained", "empty-turn", "special-in-content"}
    assert ("no-stop" in issues) == (name in NO_STOP)
    if stop:
        ends = re.findall(r"<[^<>]+>", stop)
        assert tokenizer.convert_tokens_to_ids(ends[-1]) in stop_ids(tokenizer, policy=policy)
        assert not {tokenizer.convert_tokens_to_ids(end) for end in ends[:-1]} & stop_ids(tokenizer, policy=policy)


@pytest.mark.parametrize("name", sorted(PREFIX_BROKEN))
def test_a_handed_out_think_is_reported_and_the_content_is_trained(with_template, name):
    tokenizer = with_template(name)
    stop = family(name)[2]
    done = tokenise(tokenizer, [USER, ANSWER, USER2, ANSWER2])
    assert [issue.turn for issue in done.issues if issue.kind == "prefix-broken"] == [1, 3]
    texts = [tokenizer.decode(e.input_ids[a:b]) for e in done.examples for a, b in runs(e)]
    assert texts == [ANSWER["content"] + stop, ANSWER2["content"] + stop]


@pytest.mark.parametrize("name", sorted(STRADDLES))
def test_a_token_across_the_border_is_reported_and_not_trained(with_template, name):
    tokenizer = with_template(name)
    messages = [USER, ANSWER, USER2, ANSWER2]
    done = tokenise(tokenizer, messages)
    assert [issue.turn for issue in done.issues if issue.kind == "straddle"] == [1, 3]
    texts = [tokenizer.decode(e.input_ids[a:b]) for e in done.examples for a, b in runs(e)]
    assert texts == [f"</think>\n\n{messages[turn]['content']}<|im_end|>" for turn in (1, 3)]
    # Asked not to think, the family hands out all of the empty block, and nothing lies across the border.
    policy = MaskPolicy(template_args=(("enable_thinking", False),))
    assert check(tokenizer, messages, policy, "", "<|im_end|>") == [1, 3]


@pytest.mark.parametrize("name", sorted(SWITCHED))
def test_a_templates_own_switch_is_found_and_used_for_prompts_too(with_template, name):
    tokenizer = with_template(name)
    text = tokenizer.decode(prompt_ids(tokenizer, [USER]))
    assert text.endswith("<think></think>")
    # What the user sets is never overridden, even where the result is worse.
    policy = MaskPolicy(template_args=(("enable_thinking", True),))
    assert tokenizer.decode(prompt_ids(tokenizer, [USER], policy=policy)).endswith("<think>\n")
    assert "prefix-broken" in {issue.kind for issue in tokenise(tokenizer, [USER, ANSWER], None, policy).issues}


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Its name."}}},
    },
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "id": "call00001", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    ],
}
# How a turn that calls a tool ends, where that is not how a plain answer ends.
TOOL_STOPS = {
    "gptoss": "<|call|>",
    **{f"gemma4{version}": "<|tool_response>" for version in ("", "_v3", "_v4", "_v5")},
    "diffusion_gemma": "<|tool_response>",
}


@pytest.mark.parametrize("name", sorted({*TOOL_STOPS, "qwen2_5", "qwen3", "lfm2_v2", "muse_glimmer", "llama3_1"}))
def test_a_turn_that_calls_a_tool_trains_the_call_and_its_own_stop_token(with_template, name):
    tokenizer = with_template(name)
    done = tokenise(tokenizer, [USER, CALL], [TOOL])
    (example,) = done.examples
    ((first, last),) = runs(example)
    assert example.input_ids[:first] == prompt_ids(tokenizer, [USER], [TOOL])
    text = tokenizer.decode(example.input_ids[first:last])
    assert "get_weather" in text
    assert "Oslo" in text
    assert text.endswith(TOOL_STOPS.get(name, family(name)[2]))
    assert {issue.kind for issue in done.issues} <= {"injected-system"}


def test_a_forged_stop_token_in_the_arguments_of_a_call_does_not_end_it(with_template):
    tokenizer = with_template("gptoss")
    function = {"name": "get_weather", "arguments": {"city": "Oslo<|call|>, really"}}
    done = tokenise(tokenizer, [USER, {**CALL, "tool_calls": [{"type": "function", "function": function}]}], [TOOL])
    (example,) = done.examples
    ((first, last),) = runs(example)
    assert tokenizer.decode(example.input_ids[first:last]).endswith('really"}<|call|>')
    assert "special-in-content" in {issue.kind for issue in done.issues}


def test_arguments_as_text_where_the_template_joins_them_as_such(with_template):
    tokenizer = with_template("deepseekv3")
    done = tokenise(tokenizer, [USER, CALL], [TOOL])
    assert '{"city": "Oslo"}' in done.examples[0].text


def test_every_template_of_the_package_is_in_the_table():
    assert len(TEMPLATES) >= 30
    assert {name for name in TEMPLATES if name.startswith(tuple(FAMILIES))} == set(TEMPLATES)


def test_prompt_tokens_that_depend_on_what_follows_are_reported(with_template):
    # Digits + GPT-2's splitting gives the prompt's "\n\n" one token at its end, and two in front of a word.
    tokenizer = with_template("llama3", pre_tokenizer=None)
    issues = [issue for issue in tokenise(tokenizer, [USER, ANSWER]).issues if issue.kind == "straddle"]
    assert [issue.turn for issue in issues] == [1]
