from __future__ import annotations

import json

import pytest

from trainer.chat import TRUNCATIONS, MaskPolicy, fit, tokenise, window


def talk(*turns, system=None):
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return [{"role": "system", "content": system}, *messages] if system else messages


LONG = talk("one " * 9, "first " * 5, "two " * 8, "second " * 4, "three " * 7, "third " * 6, system="Be kind.")
TOOLS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "What is the weather? " * 4},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "sky"}}}]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Still."},
]


def ids_of(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, return_dict=False)


def shorten(tokenizer, messages, limit, how, policy=None):
    done = tokenise(tokenizer, messages, None, policy)
    return done, fit(tokenizer, done, messages, None, policy, limit, how)


def kinds(fitted):
    return {issue.kind for issue in fitted.issues}


@pytest.mark.parametrize("how", TRUNCATIONS)
def test_what_fits_stays_as_it_is(smollm2, how):
    done = tokenise(smollm2, LONG)
    fitted = fit(smollm2, done, LONG, None, None, len(done.examples[0].input_ids), how)
    assert fitted.examples == done.examples
    assert (fitted.cuts, fitted.issues) == ([], [])


@pytest.mark.parametrize("how", TRUNCATIONS)
@pytest.mark.parametrize("turns", ["all", "last", "full"])
@pytest.mark.parametrize("model", ["smollm2", "qwen3"])
def test_nothing_is_longer_than_the_limit_and_every_token_is_left_or_told_as_lost(load, model, turns, how):
    tokenizer = load(model)
    policy = MaskPolicy(turns=turns)
    for messages in (LONG, [*LONG, {"role": "user", "content": "And a last word?"}], TOOLS):
        done = tokenise(tokenizer, messages, None, policy)
        for limit in (1, 20, 45, 60, 80, 110):
            fitted = fit(tokenizer, done, messages, None, policy, limit, how)
            assert all(len(example.input_ids) <= limit for example in fitted.examples)
            for count, lost in (
                (lambda example: len(example.input_ids), sum(cut.tokens for cut in fitted.cuts)),
                (lambda example: sum(example.trained), sum(cut.trained for cut in fitted.cuts)),
            ):
                assert sum(map(count, done.examples)) == sum(map(count, fitted.examples)) + lost
            over = [len(example.input_ids) > limit for example in done.examples]
            assert [cut.example for cut in fitted.cuts] == [i for i, long in enumerate(over) if long]
            assert len(fitted.examples) == over.count(False) + sum(cut.kept for cut in fitted.cuts)
            assert ("truncated" in kinds(fitted)) == any(over)
            assert ("response-lost" in kinds(fitted)) == any(cut.trained for cut in fitted.cuts)


def test_by_default_a_row_leaves_that_would_lose_a_trained_token(smollm2):
    done = tokenise(smollm2, LONG)
    example = done.examples[0]
    last = max(i for i, trained in enumerate(example.trained) if trained)
    for limit, left in ((last + 1, 1), (last, 0)):
        fitted = fit(smollm2, done, LONG, None, None, limit)
        assert len(fitted.examples) == left
        assert kinds(fitted) == ({"truncated"} if left else {"truncated", "response-lost"})
    (cut,) = fitted.cuts
    assert (cut.tokens, cut.trained, cut.turns) == (len(example.input_ids), sum(example.trained), 3)


def test_by_default_an_unanswered_end_is_cut_without_a_loss(smollm2):
    messages = [*LONG, {"role": "user", "content": "so long " * 30}]
    done, fitted = shorten(smollm2, messages, len(ids_of(smollm2, LONG)), "drop")
    (whole,), (left,) = done.examples, fitted.examples
    assert left.input_ids == whole.input_ids[: len(left.input_ids)]
    assert sum(left.trained) == sum(whole.trained) > 0
    assert kinds(fitted) == {"truncated"}


@pytest.mark.parametrize(("how", "kept"), [("keep-start", slice(None, 50)), ("keep-end", slice(-50, None))])
def test_keeping_one_end_cuts_tokens_and_tells_whose(smollm2, how, kept):
    done, fitted = shorten(smollm2, LONG, 50, how)
    (whole,), (left,), (cut,) = done.examples, fitted.examples, fitted.cuts
    assert left.input_ids == whole.input_ids[kept]
    assert left.trained[1:] == whole.trained[kept][1:]
    assert [left.text[a:b] for a, b in left.offsets] == [whole.text[a:b] for a, b in whole.offsets[kept]]
    assert whole.input_ids[cut.start : cut.end] == left.input_ids
    assert cut.tokens == len(whole.input_ids) - 50
    assert cut.turns == (2 if how == "keep-start" else 1)


def test_a_token_with_nothing_before_it_is_not_trained(smollm2):
    example = tokenise(smollm2, LONG).examples[0]
    first = example.trained.index(True)
    _, fitted = shorten(smollm2, LONG, len(example.input_ids) - first, "keep-end")
    assert fitted.examples[0].input_ids[0] == example.input_ids[first]
    assert fitted.examples[0].trained[:2] == [False, True]
    assert (fitted.cuts[0].trained, fitted.cuts[0].turns) == (1, 1)


def test_dropping_turns_leaves_a_conversation_as_the_template_writes_it(smollm2):
    whole = ids_of(smollm2, LONG)
    rests = [LONG[:1] + LONG[first:] for first in (3, 5)]
    for rest, lost in zip(rests, (1, 2), strict=True):
        expected = ids_of(smollm2, rest)
        for limit in (len(expected), len(expected) + 1):
            _, fitted = shorten(smollm2, LONG, limit, "drop-turns")
            (left,), (cut,) = fitted.examples, fitted.cuts
            assert left.input_ids == expected
            assert left.trained == tokenise(smollm2, rest).examples[0].trained
            assert left.turns == (2, 4, 6)[lost:]
            assert cut.dropped == tuple(range(1, 1 + 2 * lost))
            assert (cut.tokens, cut.turns) == (len(whole) - len(expected), lost)
    _, fitted = shorten(smollm2, LONG, len(ids_of(smollm2, rests[1])) - 1, "drop-turns")
    assert fitted.examples == []
    assert fitted.cuts[0].turns == 3


def test_dropping_turns_takes_a_question_with_its_tool_calls_and_results(qwen3):
    rest = [TOOLS[0], *TOOLS[5:]]
    _, fitted = shorten(qwen3, TOOLS, len(ids_of(qwen3, rest)), "drop-turns")
    assert [cut.dropped for cut in fitted.cuts if cut.kept] == [(1, 2, 3, 4)]
    assert fitted.examples[-1].turns == (6,)
    assert fitted.examples[-1].input_ids == ids_of(qwen3, rest)


def test_a_greeting_before_the_first_question_goes_as_an_exchange_of_its_own(smollm2):
    messages = [LONG[0], {"role": "assistant", "content": "hello " * 9}, *LONG[1:3]]
    _, fitted = shorten(smollm2, messages, len(ids_of(smollm2, LONG[:3])), "drop-turns")
    assert fitted.cuts[0].dropped == (1,)
    assert [example.turns for example in fitted.examples] == [(3,)]


def test_dropping_turns_trains_no_turn_twice_where_a_row_became_several_examples(qwen3):
    messages = talk(*(text for i in range(5) for text in (f"question {i} " * 6, f"answer {i} " * 6)))
    done = tokenise(qwen3, messages)
    assert len(done.examples) == 5
    longest = max(len(example.input_ids) for example in done.examples)
    _, fitted = shorten(qwen3, messages, longest - 1, "drop-turns")
    assert sorted(turn for example in fitted.examples for turn in example.turns) == [1, 3, 5, 7, 9]
    assert fitted.cuts
    assert kinds(fitted) == {"truncated"}
    assert sum(sum(example.trained) for example in fitted.examples) == sum(sum(e.trained) for e in done.examples)


def test_a_turn_that_is_not_to_be_trained_is_not_trained_in_what_is_left_either(smollm2):
    messages = [*LONG[:3], LONG[3], {**LONG[4], "train": False}, *LONG[5:]]
    _, fitted = shorten(smollm2, messages, len(ids_of(smollm2, LONG)) - 1, "drop-turns")
    assert [example.turns for example in fitted.examples] == [(6,)]
    assert fitted.cuts[0].turns == 1


def test_the_window_is_the_least_that_the_folder_and_the_tokenizer_say(smollm2, tmp_path):
    said = smollm2.model_max_length
    assert window(smollm2, str(tmp_path)) == (said if said < 10**9 else None)
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 77}))
    assert window(smollm2, str(tmp_path)) == 77
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 66}}))
    assert window(smollm2, str(tmp_path)) == 66
    (tmp_path / "config.json").write_text("[]")
    assert window(smollm2, str(tmp_path)) == (said if said < 10**9 else None)
