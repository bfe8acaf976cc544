"""Rows that hold more than a conversation: preference pairs, reply trees, nested instances, questions."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from workbench.formats.read import Record, Reject

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def all_of(opened: Callable[..., Any], *rows: dict, **options: Any) -> list[Record | Reject]:
    return list(opened("a.jsonl", "\n".join(json.dumps(row) for row in rows), **options).rows())


def said(record: Record) -> list[str]:
    return [message["content"] for message in json.loads(record.messages)]


# preference pairs


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"input": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": A, "rejected": "b"},
        {"prompt": [U], "chosen": [A], "rejected": "b"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": "b"},
        {"messages": [U], "chosen": [A], "rejected": "b"},
        {"chosen": [U, A], "rejected": "b"},
        {"prompt": "q", "chosen": [U, A], "rejected": "b"},
        {"prompt": "q", "messages": [U, A], "chosen": [U, A], "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "messages": None, "instruction": None},
        {"prompt": "q", "chosen": "a", "rejected": "b", "conversations": "", "instruction": ""},
    ],
)
def test_preference_pair_is_its_chosen_side_and_the_rejected_stays_as_metadata(opened, row):
    source = opened("a.jsonl", json.dumps(row))
    (record,) = source.rows()
    assert source.format == "preference"
    assert json.loads(record.messages) == [U, A]
    assert {name: value for name, value in record.meta.items() if value} == {"rejected": "b"}


def test_preference_keeps_system_history_and_what_is_said_nowhere_else(opened):
    row = {
        "system": "be", "instruction": "Do", "input": "this", "history": [["q1", "a1"]],
        "chosen": "a", "rejected": [U, {**A, "content": "b"}], "score_chosen": 8.5,
    }  # fmt: skip
    (record,) = all_of(opened, row)
    assert said(record) == ["be", "q1", "a1", "Do\n\nthis", "a"]
    assert record.meta == {"rejected": row["rejected"], "score_chosen": 8.5}
    (other,) = all_of(opened, {"prompt": "another", "messages": [A], "chosen": [U, A], "rejected": None})
    assert json.loads(other.messages) == [U, A]
    assert other.meta == {"prompt": "another", "messages": [A], "rejected": None}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "a", "rejected": "b"}, "`chosen` is an answer alone, and no column has the prompt"),
        ({"prompt": "q", "chosen": True, "rejected": "b"}, "`chosen` is true or false, not text"),
        ({"prompt": "q", "chosen": {}, "rejected": "b"}, "`chosen[0]` has no role"),
        ({"prompt": "q", "chosen": [], "rejected": "b"}, "the conversation in `chosen` is empty"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "`prompt` is a number, not text"),
        ({"chosen": [U], "rejected": "b"}, "the conversation has no assistant turn"),
        (
            {"messages": [U, A], "chosen": "a", "rejected": "b"},
            "`messages` ends with an assistant turn already, before the `chosen` one",
        ),
        ({"prompt": "q", "completion": "a"}, "no column `chosen`; this row has `prompt`, `completion`"),
    ],
)
def test_reason_of_a_preference_row(opened, row, reason):
    (reject,) = all_of(opened, row, format="preference")
    assert reject.reason.startswith(reason)


# reply trees


def node(text: str, *replies: dict, **fields: Any) -> dict:
    return {"role": "prompter" if text[0] == "q" else "assistant", "text": text, "replies": list(replies), **fields}


TREE = {
    "message_tree_id": "t",
    "prompt": node(
        "q",
        node("a-unranked"),
        node("a-second", node("q2"), node("q3", node("a3")), rank=1),
        node("a-best", node("q4"), node("q5", node("a5-worse", rank=1), node("a5", node("q6"), rank=0)), rank=0),
        node("a-deleted", rank=-1, deleted=True),
    ),
}


def test_best_path_follows_ranks_and_answered_questions_to_the_last_answer(opened):
    source = opened("a.jsonl", json.dumps(TREE))
    (record,) = source.rows()
    assert source.format == "tree"
    assert said(record) == ["q", "a-best", "q5", "a5"]
    assert [m["role"] for m in json.loads(record.messages)] == ["user", "assistant"] * 2
    assert record.meta == {"message_tree_id": "t", "path": [{}, {"rank": 0}, {}, {"rank": 0}]}


def test_all_paths_end_in_each_answer_that_is_not_followed_by_another(opened):
    rows = all_of(opened, TREE, {"prompt": node("q", node("a"))}, trees="all")
    assert [(row.row, row.part) for row in rows] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert [said(row) for row in rows[:4]] == [
        ["q", "a-best", "q5", "a5"],
        ["q", "a-best", "q5", "a5-worse"],
        ["q", "a-second", "q3", "a3"],
        ["q", "a-unranked"],
    ]


def test_trees_can_be_read_whole_by_format_too(opened):
    assert len(all_of(opened, TREE, format="tree-all")) == 4


@pytest.mark.parametrize("trees", ["best", "all"])
@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (node("q"), "the tree has no turn of an assistant"),
        (node("q", node("a", deleted=True)), "the tree has no turn of an assistant"),
        (node("q", 3), "`prompt.replies[0]` is a number, not a message with replies"),
        (node("q", {"role": "x", "text": "a"}), "`prompt.replies[0]`: unknown role 'x'"),
        (node("q", {"role": "assistant"}), "`prompt.replies[0]`: the content is null, not text"),
        ({"role": "prompter", "text": "q", "replies": {}}, "the tree has no turn of an assistant"),
        ({"role": "prompter", "text": "q", "replies": "a"}, "`prompt.replies` is text, not a list"),
    ],
)
def test_reason_of_a_tree(opened, prompt, reason, trees):
    (reject,) = all_of(opened, {"prompt": prompt}, trees=trees)
    assert reject.reason == reason


def test_a_tree_that_would_explode_is_rejected_not_written_out(opened):
    bomb = node("q" * 2_000_000, *[node(f"a{i}") for i in range(100)])
    rows = all_of(opened, {"prompt": bomb}, TREE, trees="all")
    assert [type(row) for row in rows] == [Reject, *[Record] * 4]
    assert rows[0].reason == "the conversations of the row have more than 100,000,000 characters together"


def chain(turns: int) -> str:
    levels = "".join(f'{{"role":"{role}","text":"x","replies":[' for role in ["prompter", "assistant"] * (turns // 2))
    return '{"prompt":' + levels + "]}" * turns + "}"


@pytest.mark.parametrize("trees", ["best", "all"])
def test_a_long_chain_of_replies_is_one_conversation_and_an_endless_one_a_reject(opened, trees):
    long, endless, short = opened("a.jsonl", "\n".join(map(chain, (300, 100_000, 2))), trees=trees).rows()
    assert len(said(long)) == 300
    assert endless.reason == "the JSON is nested too deep"
    assert said(short) == ["x", "x"]


# nested instances


def test_each_instance_is_an_example_of_its_row(opened):
    row = {
        "id": "t1", "instruction": "Do", "is_classification": False,
        "instances": [{"input": "x", "output": "a"}, {"input": "", "output": "b", "id": 7}],
    }  # fmt: skip
    source = opened("a.jsonl", json.dumps(row))
    first, second = source.rows()
    assert source.format == "nested"
    assert (first.row, first.part, second.row, second.part) == (0, 0, 0, 1)
    assert [said(first), said(second)] == [["Do\n\nx", "a"], ["Do", "b"]]
    assert first.meta == {"id": "t1", "is_classification": False}
    assert second.meta == {"id": "t1", "is_classification": False, "instance": {"id": 7}}


def test_a_column_of_the_row_is_not_lost_to_one_of_the_same_name_in_an_instance(opened):
    row = {"instruction": "Do", "input": "outer", "instance": 1, "instances": [{"input": "x", "output": "a", "n": 2}]}
    (record,) = all_of(opened, row)
    assert said(record) == ["Do\n\nx", "a"]
    assert record.meta == {"input": "outer", "instance": 1, "instance_": {"n": 2}}


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        ([], "`instances` is empty: there is an instruction, but no answer"),
        ({"a": 1}, "`instances` is an object, not a list"),
        ([3], "`instances[0]` is a number, not an object"),
        ([{"input": "x"}], "`instances[0]` has no answer; it has `input`"),
        ([{"output": "a"}, {"output": None}], "`instances[1]`: `output` is null, not text"),
    ],
)
def test_a_row_with_one_bad_instance_is_rejected_whole(opened, instances, reason):
    rows = all_of(
        opened, {"instruction": "Do", "instances": instances}, {"instruction": "x", "output": "y"}, format="nested"
    )
    assert rows[0] == Reject(0, reason, rows[0].raw)
    assert len(rows) == 2


# questions


def test_questions_with_references_are_a_conversation(opened):
    row = {"question_id": 1, "turns": ["q", "q2"], "reference": ["a", "a2"]}
    source = opened("a.jsonl", json.dumps(row))
    (record,) = source.rows()
    assert source.format == "questions"
    assert said(record) == ["q", "a", "q2", "a2"]
    assert record.meta == {"question_id": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"turns": ["q"]}, "a prompt without an answer: 1 questions in `turns`, and no `reference`"),
        ({"turns": ["q"], "reference": ["a", "b"]}, "`reference` does not hold one answer for each of the 1 questions"),
        ({"turns": ["q"], "reference": [""]}, "a prompt without an answer: `reference[0]` is empty"),
        ({"turns": ["q"], "reference": [3]}, "`turns[0]` or `reference[0]` is not text"),
        ({"turns": "q"}, "`turns` is text, not a list of questions"),
    ],
)
def test_reason_of_questions(opened, row, reason):
    (reject,) = all_of(opened, row, format="questions")
    assert reject.reason.startswith(reason)
