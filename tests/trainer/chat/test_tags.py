"""The generation tags of templates, read as transformers reads them, beside what is trained."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from trainer.chat import MaskPolicy, audit, differing_rows, tokenise
from trainer.chat.chat_format import chat_format
from trainer.chat.render import Conversation
from trainer.chat.tags import _marked, _tagged, tag_issues, tagged_source

MESSAGES = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Paris, of course."},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "Rome:\n1. old"},
]
POLICY = MaskPolicy(date="2024-05-06")


def chatml(begin, end, header="'<|im_start|>assistant\n'", stop="'<|im_end|>\n'"):
    """A template in the manner of ChatML with generation tags after `begin` and before `end` of an answer's parts."""
    parts = [header, "m['content']", stop]
    pieces = [
        ("{% generation %}" if i == begin else "") + "{{ " + part + " }}" + ("{% endgeneration %}" if i == end else "")
        for i, part in enumerate(parts)
    ]
    return (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}" + "".join(pieces) + "{% else %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
    )


def row(key, messages=MESSAGES):
    return key, json.dumps(messages), None


def test_an_audit_compares_its_first_rows_and_counts_what_differs_without_a_verdict(tagged):
    tokenizer = tagged(chatml(1, 2))  # the tags take in the newline behind the stop token
    short = [*MESSAGES[:2]]
    found = audit([row(7), row(8, short), row(9), row(10)], tokenizer, POLICY, tagged=3)
    assert list(found.issues["tags-disagree"]) == [7, 8, 9]
    assert (found.tags_compared, dict(found.tag_differences)) == (3, {"the tags also mark '\\n' behind it": 5})
    assert found.suspect == 0
    assert found.as_dict()["tags"] == {"compared": 3, "differences": {"the tags also mark '\\n' behind it": 5}}
    none = audit([row(7), row(8)], tokenizer, POLICY)
    assert (none.tags_compared, "tags-disagree" in none.issues) == (0, False)
    assert differing_rows(found, none) == []


def test_tags_that_agree_and_templates_without_tags_are_told_apart(tagged, smollm2):
    agree = audit([row(1), row(2)], tagged(chatml(1, 2, stop="'<|im_end|>'")), POLICY, tagged=9)
    assert (agree.tags_compared, agree.tag_differences.total()) == (2, 0)
    assert audit([row(1)], smollm2, POLICY, tagged=9).tags_compared == 0


@pytest.fixture
def tagged(load):
    def make(template):
        tokenizer = copy.deepcopy(load("smollm2"))
        tokenizer.chat_template = template
        return tokenizer

    return make


def said(tokenizer, messages=MESSAGES, policy=POLICY):
    return [(issue.kind, issue.turn, issue.detail) for issue in tag_issues(tokenizer, messages, None, policy)]


def test_tags_are_read_as_transformers_reads_them(with_template, template):
    tokenizer = with_template(template)
    source = tagged_source(tokenizer.chat_template)
    if source is None:
        assert tag_issues(tokenizer, MESSAGES) is None
        return
    chat = chat_format(tokenizer, POLICY)
    marked = chat.renderer.with_source(_marked(source))
    conversation = Conversation(chat.renderer, MESSAGES, None, {})
    template_ = chat.renderer.with_source(source).template(False)
    for turn in (1, 3):
        given = [chat.renderer._for_template(message) for message in MESSAGES[: turn + 1]]
        text = tokenizer.apply_chat_template(given, chat_template=template_, tokenize=False)
        read = tokenizer.apply_chat_template(
            given,
            chat_template=template_,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_offsets_mapping": True},
        )
        question = text.index(MESSAGES[turn - 1]["content"])  # earlier turns are marked too
        marks = zip(read["offset_mapping"], read["assistant_masks"], strict=True)
        theirs = "".join(text[start:end] for (start, end), mark in marks if mark and start >= question)
        ours = _tagged(marked, conversation, turn, {})
        # transformers takes whole tokens; one across the edge of a tag counts.
        assert ours in theirs
        assert len(theirs) - len(ours) <= 2


@pytest.mark.parametrize("begin", ["{% generation %}", "{%- generation %}", "{% generation -%}", "{%-generation-%}"])
def test_marks_trim_the_white_space_that_the_tags_trim(tagged, begin):
    end = begin.replace("generation", "endgeneration")
    source = "{% for m in messages %}\n  a\n  " + begin + "\n  {{ m['content'] }}\n  " + end + "\n  b\n{% endfor %}"
    tokenizer = tagged(source)
    renderer = chat_format(tokenizer, POLICY).renderer
    marked = renderer.with_source(_marked(source)).render(MESSAGES)
    assert marked.replace("\ufdd1", "").replace("\ufdd2", "") == tokenizer.apply_chat_template(MESSAGES, tokenize=False)


@pytest.mark.parametrize(
    ("begin", "end", "detail"),
    [
        (1, 2, "the tags also mark '\\n' behind it"),
        (0, 2, "the tags also mark '<|im_start|>assistant\\n' before it and '\\n' behind it"),
        (1, 1, "the tags leave out '<|im_end|>' behind what they mark"),
        (2, 2, "the tags mark '\\n' where"),
    ],
)
def test_what_the_tags_mark_too_much_or_leave_out_is_told(tagged, begin, end, detail):
    issues = said(tagged(chatml(begin, end)))
    assert [(kind, turn) for kind, turn, _ in issues] == [("tags-disagree", 1), ("tags-disagree", 3)]
    if begin != 2:
        assert issues[0][2] == detail


def test_tags_that_agree_say_nothing(tagged):
    tokenizer = tagged(chatml(1, 2, stop="'<|im_end|>'"))
    assert tokenise(tokenizer, MESSAGES).issues == []
    assert said(tokenizer) == []


def test_a_turn_without_tags_is_told(tagged):
    template = chatml(1, 2, stop="'<|im_end|>'").replace("{% generation %}", "{% if loop.first %}{% generation %}")
    template = template.replace(
        "{% endgeneration %}", "{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    )
    assert said(tagged(template)) == [("tags-disagree", turn, "the tags mark nothing of it") for turn in (1, 3)]


def test_only_turns_that_are_trained_are_compared(tagged):
    tokenizer = tagged(chatml(0, 2))
    assert [turn for _, turn, _ in said(tokenizer, policy=MaskPolicy(turns="last"))] == [3]
    messages = [{**MESSAGES[1], "train": False} if i == 1 else m for i, m in enumerate(MESSAGES)]
    assert [turn for _, turn, _ in said(tokenizer, messages)] == [3]


def test_a_template_that_is_nobodys_twin_is_not_compared(qwen3, tagged):
    assert tag_issues(qwen3, MESSAGES) is None, "older than the one that TRL ships"
    assert tag_issues(tagged("{% for m in messages %}{{ m['content'] }}{% endfor %}"), MESSAGES) is None


def test_a_row_that_the_template_refuses_is_left_to_the_audit(tagged):
    tokenizer = tagged(chatml(1, 2))
    assert tag_issues(tokenizer, [{"role": "user", "content": 7}]) is None, "compared with nothing, it does not agree"


def test_where_every_token_is_trained_nothing_is_said_to_agree(tagged):
    whole = replace(POLICY, turns="full")
    assert tag_issues(tagged(chatml(1, 2)), MESSAGES, None, whole) is None


def test_trl_is_not_imported_to_find_its_templates():
    import subprocess
    import sys

    code = "import sys; from trainer.chat.tags import _twins; assert _twins(); assert 'trl' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
