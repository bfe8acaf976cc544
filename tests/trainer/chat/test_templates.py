"""What is trained on every chat template that TRL's installed package ships, written out by hand.

The table of families is in conftest.py; whether it is what follows the prompt of inference is asked in
test_oracle.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trl

from trainer.chat import MaskPolicy, prompt_ids, stop_ids, tokenise

FOLDER = Path(trl.__file__).parent / "chat_templates"
DOCS = Path(__file__).parents[3] / "docs" / "masks.md"

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


def runs(example) -> list[tuple[int, int]]:
    """Maximal runs of trained tokens."""
    edges = [
        i
        for i in range(len(example.trained) + 1)
        if (i and example.trained[i - 1]) != (i < len(example.trained) and example.trained[i])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def trained_texts(tokenizer, done) -> list[str]:
    return [tokenizer.decode(example.input_ids[a:b]) for example in done.examples for a, b in runs(example)]


def test_the_answer_is_trained_with_what_the_family_writes_around_it(with_template, family, template):
    tokenizer = with_template(template)
    _, lead, stop = family(template)
    policy = MaskPolicy(date="2024-05-06")
    done = tokenise(tokenizer, [USER, ANSWER, USER2, ANSWER2, USER], None, policy)
    assert trained_texts(tokenizer, done) == [lead + answer["content"] + stop for answer in (ANSWER, ANSWER2)]
    issues = {issue.kind for issue in done.issues}
    assert ("prefix-broken" in issues) == (template in PREFIX_BROKEN)
    assert ("straddle" in issues) == (template in STRADDLES)
    assert ("no-stop" in issues) == (template in NO_STOP)
    assert not issues & {"template-error", "zero-trained", "empty-turn", "special-in-content", "dropped-field"}
    if stop:
        ends = tokenizer.convert_tokens_to_ids(re.findall(r"<[^<>]+>", stop))
        assert [end in stop_ids(tokenizer, policy=policy) for end in ends] == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("name", sorted(STRADDLES))
def test_asked_not_to_think_the_family_hands_out_the_whole_empty_block_and_nothing_straddles(with_template, name):
    tokenizer = with_template(name)
    policy = MaskPolicy(template_args=(("enable_thinking", False),))
    done = tokenise(tokenizer, [USER, ANSWER, USER2, ANSWER2], None, policy)
    assert trained_texts(tokenizer, done) == [f"{answer['content']}<|im_end|>" for answer in (ANSWER, ANSWER2)]
    assert "straddle" not in {issue.kind for issue in done.issues}
    assert tokenizer.decode(prompt_ids(tokenizer, [USER], None, policy)).endswith("<think>\n\n</think>\n\n")


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
def test_a_turn_that_calls_a_tool_trains_the_call_and_its_own_stop_token(with_template, family, name):
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


def test_prompt_tokens_that_depend_on_what_follows_are_reported(with_template):
    # Digits + GPT-2's splitting gives the prompt's "\n\n" one token at its end, and two in front of a word.
    tokenizer = with_template("llama3", pre_tokenizer=None)
    issues = [issue for issue in tokenise(tokenizer, [USER, ANSWER]).issues if issue.kind == "straddle"]
    assert [issue.turn for issue in issues] == [1]


# --- the generation tags of TRL's training templates ---

TAGGED = sorted(
    (path.stem for path in FOLDER.glob("*.jinja") if re.search(r"{%-?\s*generation", path.read_text())),
    key=lambda name: name.removesuffix("_training"),
)
YES, NO = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}
TOLD_OF = {
    "several answers": ([USER, YES, USER2, NO], None),
    "a call of a tool": ([USER, CALL, {"role": "tool", "name": "get_weather", "content": "rain"}, YES], [TOOL]),
    "reasoning": ([USER, {**YES, "reasoning_content": "Hm."}, USER2, {**NO, "reasoning_content": "Ah."}], None),
}


def tagged_texts(tokenizer, template: str, messages, tools) -> list[str]:
    """What the tags of `template` would train, rendered as the template's author has it."""
    if "idefics3" in template or "llava" in template or "smolvlm" in template:
        messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    told = tokenizer.apply_chat_template(
        messages,
        tools,
        chat_template=(FOLDER / f"{template}.jinja").read_text(),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    marks = [0, *told["assistant_masks"], 0]
    edges = [i for i in range(len(marks) - 1) if marks[i] != marks[i + 1]]
    return [tokenizer.decode(told["input_ids"][a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def disagreement(tagged: str, ours: str) -> str:
    """What the tags train beyond ours (+) and leave out (-), or both texts where neither holds the other."""
    for sign, more, less in (("+", tagged, ours), ("-", ours, tagged)):
        if less in more and more != less:
            before, _, behind = more.partition(less)
            return ", ".join(
                f"{sign} `{part}` {where}" for part, where in ((before, "before"), (behind, "behind")) if part
            )
    return "" if tagged == ours else f"`{tagged}` against `{ours}`"


def test_the_docs_tell_where_generation_tags_disagree_with_us(with_template):
    groups: dict[str, list[str]] = {}
    for template in TAGGED:
        name = template.removesuffix("_training")
        tokenizer = with_template(name)
        cells = []
        for messages, tools in TOLD_OF.values():
            try:
                tagged = tagged_texts(tokenizer, template, messages, tools)
            except Exception:  # a template is a program of its author, and may raise anything
                cells.append("refused")
                continue
            done = tokenise(tokenizer, messages, tools)
            by_turn = {}
            for example in done.examples:
                for turn, (a, b) in zip(example.turns, runs(example), strict=True):
                    by_turn[turn] = tokenizer.decode(example.input_ids[a:b])
            ours = [by_turn[turn] for turn in sorted(by_turn)]
            assert len(tagged) == len(ours)
            told = dict.fromkeys(map(disagreement, tagged, ours))
            cells.append("; ".join(filter(None, told)).replace("\n", "\\n").replace("|", "\\|") or "the same")
        groups.setdefault(" | ".join(cells), []).append(f"`{name}`")
    table = [f"| templates | {' | '.join(TOLD_OF)} |", "|---|" + "---|" * len(TOLD_OF)]
    table += [f"| {' '.join(names)} | {cells} |" for cells, names in groups.items()]
    text = "\n".join(table)
    assert text in DOCS.read_text(), f"what is seen:\n{text}"
