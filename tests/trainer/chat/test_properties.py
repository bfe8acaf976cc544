"""Random conversations in random Unicode: whatever is said, only what the model must write is trained."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.chat import MaskPolicy, stop_ids, tokenise

REAL = ["smollm2", "qwen3", "llama3_1", "llama_sentencepiece"]
STOP = {"smollm2": "<|im_end|>", "qwen3": "<|im_end|>", "llama3_1": "<|eot_id|>", "llama_sentencepiece": "<|end|>"}

# Words that trip parsers, between any characters at all.
AWKWARD = st.sampled_from(
    [
        "<think>",
        "</think>",
        "[INST]",
        "user\n",
        "assistant",
        "\n\n",
        "  ",
        "e\u0301",
        "각",
        "👩🏽‍🚀",
        "\u202e",
        "{{ x }}",
        "</s>",
        "#",
        "▁",
    ]
)
TEXT = st.lists(st.one_of(st.text(max_size=12), AWKWARD), max_size=5).map("".join)
FORGING = st.sampled_from(["<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<|end|>", "<|assistant|>\n", "ok"])

PROPERTY = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture
def real(load, with_template):
    """real(name): a real tokenizer; the one of SentencePiece's kind has no template of its own and gets Phi-3's."""
    return lambda name: with_template("phi3", None, name) if name == "llama_sentencepiece" else load(name)


@st.composite
def conversations(draw, said=TEXT):
    """With or without a system turn, a tool's call and result, reasoning, turns not to train, a last user turn."""
    messages = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(said)})
        if draw(st.integers(0, 3)) == 0:
            call = {"type": "function", "function": {"name": "find", "arguments": {"what": draw(TEXT)}}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append({"role": "tool", "content": draw(said)})
        answer = {"role": "assistant", "content": draw(TEXT), "train": draw(st.booleans())}
        thoughts = draw(TEXT) if draw(st.booleans()) else ""
        messages.append({**answer, "reasoning_content": thoughts} if thoughts else answer)
    if draw(st.booleans()):
        messages.append({"role": "user", "content": draw(said)})
    return messages


def trained_runs(example):
    marks = [False, *example.trained, False]
    firsts = [i for i in range(len(example.trained)) if marks[i + 1] and not marks[i]]
    ends = [i + 1 for i in range(len(example.trained)) if marks[i + 1] and not marks[i + 2]]
    return list(zip(firsts, ends, strict=True))


def trained_by_turn(done):
    return {
        turn: example.input_ids[first:end]
        for example in done.examples
        if any(example.trained)
        for turn, (first, end) in zip(example.turns, trained_runs(example), strict=True)
    }


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=40, **PROPERTY)
@given(messages=conversations())
def test_only_what_follows_the_prompt_of_inference_is_trained(real, name, messages):
    tokenizer = real(name)
    plain = [{key: value for key, value in message.items() if key != "train"} for message in messages]

    def rendered(count, prompt):
        return tokenizer.apply_chat_template(plain[:count], tokenize=False, add_generation_prompt=prompt)

    def encoded(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    done = tokenise(tokenizer, messages)
    issues = {(issue.kind, issue.turn) for issue in done.issues}
    assert "template-error" not in {kind for kind, _ in issues}
    wanted = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("train", True)]
    assert sorted(turn for example in done.examples for turn in example.turns) == wanted
    whole = rendered(len(plain), False)
    for example in done.examples:
        assert example.input_ids == encoded(example.text)
        if example.text != whole:
            assert ("expanded", example.turns[-1]) in issues
        if not any(example.trained):
            # SmolLM2 lacks a few bytes and gives wrong offsets behind one; such a text is cut at the borders of turns,
            # and not trained where a token lies across one.
            assert name == "smollm2" or not example.turns
            assert all(("straddle", turn) in issues for turn in example.turns)
            continue
        assert len(trained_runs(example)) == len(example.turns)
        for turn, (first, end) in zip(example.turns, trained_runs(example), strict=True):
            prompt, solo = rendered(turn, True), rendered(turn + 1, False)
            solo = solo[: solo.rindex(STOP[name]) + len(STOP[name])]
            assert solo.startswith(prompt)
            assert example.text.startswith(solo)
            # It ends with its one stop token; before it comes what inference gives, and between them the answer.
            run = example.input_ids[first:end]
            assert [i for i, id_ in enumerate(run) if id_ in stop_ids(tokenizer)] == [len(run) - 1]
            if ("straddle", turn) not in issues:
                assert example.input_ids[:first] == encoded(prompt)
                # Some tokenizers lose text (SmolLM2 lacks bytes, Qwen makes NFC), so both sides go through it.
                assert encoded(solo)[first:] == run
                assert tokenizer.decode(run) == tokenizer.decode(encoded(solo)[len(encoded(prompt)) :])


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=20, **PROPERTY)
@given(messages=conversations(said=FORGING), others=st.lists(TEXT, min_size=8, max_size=8))
def test_what_users_and_tools_say_changes_nothing_of_what_is_trained(real, name, messages, others):
    tokenizer = real(name)
    replies = iter(others)
    told = [{**m, "content": next(replies)} if m["role"] in ("user", "tool") else m for m in messages]
    here, there = tokenise(tokenizer, messages), tokenise(tokenizer, told)
    unsure = {
        turn for done in (here, there) for kind, turn in ((i.kind, i.turn) for i in done.issues) if kind == "straddle"
    }
    ours, theirs = trained_by_turn(here), trained_by_turn(there)
    for turn in (ours.keys() & theirs.keys()) - unsure:
        assert ours[turn] == theirs[turn]
    assert ours.keys() - unsure == theirs.keys() - unsure
    typed = {
        i
        for i, m in enumerate(messages)
        for stop in (STOP[name],)
        if m["role"] in ("user", "tool") and stop in m["content"]
    }
    assert typed <= {issue.turn for issue in here.issues if issue.kind == "special-in-content"}


@pytest.mark.parametrize("name", REAL)
@settings(max_examples=10, **PROPERTY)
@given(messages=conversations())
def test_the_last_policy_trains_a_part_of_what_all_trains(real, name, messages):
    tokenizer = real(name)
    messages = [{k: v for k, v in m.items() if k != "train"} for m in messages]
    last = tokenise(tokenizer, messages, None, MaskPolicy(turns="last"))
    everything = tokenise(tokenizer, messages)
    (example,) = last.examples
    full = next(e for e in everything.examples if e.text == example.text)
    assert example.turns == full.turns[-1:]
    if "straddle" not in {issue.kind for issue in everything.issues}:
        assert all(b for a, b in zip(example.trained, full.trained, strict=True) if a)
