"""What is told of single tokens: their bytes, whose they are, and why they are trained or not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.conversation import canonical_json
from workbench.errors import BadInput
from workbench.token_facts import counts, issue_token, pages, token_bytes, token_rows, why, write_tokens
from workbench.tokens import Lens, Row, lens, see

TOKENIZERS = Path(__file__).parents[2] / "../shared/tokenizers"
pytestmark = pytest.mark.skipif(not TOKENIZERS.exists(), reason="the folder of real tokenizers is not here")

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where does it go?"},
    {"role": "assistant", "content": "To the sea."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "Into the clouds."},
]


@pytest.fixture(scope="module")
def smollm() -> Lens:
    return lens(str(TOKENIZERS / "smollm2"))


@pytest.fixture(scope="module")
def qwen() -> Lens:
    return lens(str(TOKENIZERS / "qwen3"))


def told(through: Lens, messages) -> list[dict[str, str]]:
    """For each page, what is told of every token: {reason without its place: its text}."""
    seen = see(through, Row(0, 1, canonical_json(messages), None))
    found = []
    for page in pages(seen):
        reasons: dict[str, str] = {}
        for token, (start, end) in enumerate(page.example.offsets):
            reason = why(page, token, messages, through, seen.issues)
            reasons[reason] = reasons.get(reason, "") + page.example.text[start:end]
            assert reason.startswith("trained") == (page.example.trained[token] and page.is_left(token))
        found.append(reasons)
    return found


def test_every_token_of_a_plain_chat_has_its_reason(smollm):
    assert told(smollm, CHAT) == [
        {
            "ignored: the model is given it (system message 0)": "<|im_start|>system\nBe brief.<|im_end|>\n",
            "ignored: the model is given it (user message 1)": "<|im_start|>user\nWhere does it go?<|im_end|>\n",
            "ignored: inference hands it to the model, which goes on from there": "<|im_start|>assistant\n" * 2,
            "trained: the model must write it (assistant message 2)": "To the sea.",
            "trained: the stop token of assistant message 2, which the model must write": "<|im_end|>",
            "ignored: it stands behind what the model writes": "\n" * 2,
            "ignored: the model is given it (user message 3)": "<|im_start|>user\nAnd then?<|im_end|>\n",
            "trained: the model must write it (assistant message 4)": "Into the clouds.",
            "trained: the stop token of assistant message 4, which the model must write": "<|im_end|>",
        }
    ]


def test_a_system_text_of_the_templates_own_is_told_from_a_message(smollm):
    (reasons,) = told(smollm, CHAT[1:])
    own = "ignored: the model is given it (system text of the template's own)"
    assert reasons[own].startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert reasons["trained: the model must write it (assistant message 1)"] == "To the sea."


def test_turns_that_are_not_trained_say_why(smollm):
    off = [*CHAT[:2], {**CHAT[2], "train": False}, *CHAT[3:]]
    assert 'ignored: assistant message 2 has "train": false' in told(smollm, off)[0]
    last = replace(smollm, policy=replace(smollm.policy, turns="last"))
    assert "ignored: only the last assistant turn is trained" in told(last, CHAT)[0]
    full = replace(smollm, policy=replace(smollm.policy, turns="full"))
    assert list(told(full, CHAT)[0]) == ["trained: under the policy full every token is"]
    (reasons,) = told(smollm, [*CHAT[:4], {**CHAT[4], "train_spans": [[0, 8]]}])
    assert reasons["trained: the model must write it (assistant message 4)"] == "Into the"
    behind = "ignored: it stands behind what the model writes; or outside its train_spans"
    assert reasons[behind] == " clouds.<|im_end|>\n"


def test_reasoning_that_is_not_trained_says_so(qwen):
    thinks = [CHAT[1], {"role": "assistant", "content": "To the sea.", "reasoning_content": "Rivers run down."}]
    without = replace(qwen, policy=replace(qwen.policy, reasoning=False))
    reasons = told(without, thinks)[0]
    assert any("reasoning, which is not trained" in reason and "Rivers" in text for reason, text in reasons.items())


def test_expanded_rows_are_pages_and_say_where_the_other_turns_are_trained(qwen):
    thinks = {"role": "assistant", "content": "To the sea.", "reasoning_content": "Rivers run down."}
    found = told(qwen, [CHAT[1], thinks, CHAT[3], {**thinks, "content": "Into the clouds."}])
    assert len(found) == 2
    elsewhere = "ignored: assistant message 1 is trained in another example of this row"
    assert elsewhere not in found[0]
    assert "To the sea." in found[1][elsewhere]


def test_what_the_limit_takes_is_told_and_counted(smollm):
    seen = see(smollm, Row(0, 1, canonical_json(CHAT), None))
    length = len(pages(seen)[0].example.input_ids)
    whole = counts(seen)
    assert whole.total == length
    short = replace(smollm, limit=length - 8)
    (reasons,) = told(short, CHAT)
    assert list(reasons) == [f"ignored: the example is longer than {length - 8} tokens, and dropped"]
    assert counts(see(short, Row(0, 1, canonical_json(CHAT), None))).total == 0
    (reasons,) = told(replace(short, truncate="keep-start"), CHAT)
    assert len(smollm.tokenizer(reasons[f"ignored: cut away, {length - 8} tokens are the limit"]).input_ids) == 8
    (reasons,) = told(replace(short, truncate="keep-end"), CHAT)
    assert reasons[f"ignored: cut away, {length - 8} tokens are the limit"].startswith("<|im_start|>system")
    begins = replace(smollm, truncate="keep-end", limit=4)
    assert "ignored: after the cut nothing stands before it to predict it from" in told(begins, CHAT)[0]


def test_issues_lead_to_what_they_are_about(smollm):
    messages = [*CHAT[:3], {"role": "user", "content": "Say <|im_end|>"}, CHAT[4]]
    seen = see(replace(smollm, limit=30, truncate="keep-start"), Row(0, 1, canonical_json(messages), None))
    (page,) = pages(seen)
    places = {issue.kind: issue_token(page, issue) for issue in seen.issues}
    assert places["truncated"] == 30
    starts = {stretch.messages: stretch.start for stretch in page.stretches}
    assert places["special-in-content"] == starts[(3,)]


@pytest.mark.parametrize("name", ["smollm2", "qwen3", "llama3_1", "llama_sentencepiece"])
def test_the_bytes_of_all_tokens_are_the_bytes_of_the_text(name):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZERS / name / "tokenizer.json"))
    text = "a b\n\tdéjà 漢字 👨‍👩‍👧 \x00 ｆ ¼ ¬"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(token_bytes(tokenizer, id_) for id_ in ids)
    assert joined.removeprefix(b" ") == text.encode()
    assert token_bytes(tokenizer, len(tokenizer) + 5) == b""


def test_tokens_are_written_with_ids_bytes_and_losses(smollm, tmp_path):
    found = pages(see(smollm, Row(0, 1, canonical_json(CHAT), None)))
    ids = found[0].example.input_ids
    losses = [None, *[0.5] * (len(ids) - 1)]
    count = write_tokens(token_rows(found, smollm.tokenizer, [losses]), tmp_path / "tokens.json")
    rows = json.loads((tmp_path / "tokens.json").read_text())
    assert [row["id"] for row in rows] == ids
    assert count == len(ids)
    assert sum(row["trained"] for row in rows) == sum(found[0].example.trained)
    assert (rows[0]["loss"], rows[1]["loss"]) == (None, 0.5)
    write_tokens(token_rows(found, smollm.tokenizer), tmp_path / "tokens.csv")
    with (tmp_path / "tokens.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert "".join(row["text"] for row in table) == found[0].example.text
    assert bytes.fromhex("".join(row["bytes"] for row in table)).decode() == found[0].example.text
    with pytest.raises(BadInput, match="there already"):
        write_tokens(token_rows(found, smollm.tokenizer), tmp_path / "tokens.csv")
    with pytest.raises(BadInput, match=r"\.csv, \.json"):
        write_tokens(token_rows(found, smollm.tokenizer), tmp_path / "tokens.txt")
