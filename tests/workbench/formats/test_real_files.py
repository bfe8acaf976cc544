"""Data sets as they are published: counts measured from the files and checked by looking at them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from trainer.conversation import canonical_json
from workbench.formats.read import Record, Reject, open_source

DATA = Path(__file__).parents[3] / "../shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not here (../shared/data)")

FILES = [
    # file, format as detected, rows imported, rows rejected
    ("alpaca/alpaca_en.json", "alpaca", 999, 0),
    ("alpaca/alpaca_zh.json", "alpaca", 1000, 0),
    ("alpaca/codegen_instruct.json", "alpaca", 4535, 0),
    ("alpaca/roleplay_instruct.json", "alpaca", 1923, 0),
    ("near_duplicates/toolformer_exact_deduped.json", "alpaca", 7673, 0),
    ("near_duplicates/toolformer_similarity_0.9.json", "alpaca", 5959, 0),
    ("near_duplicates/toolformer_similarity_0.7.json", "alpaca", 3487, 0),
    ("sharegpt/dummy_conversation.json", "sharegpt", 500, 0),
    ("sharegpt/glaive_toolcall_en.json", "sharegpt", 300, 0),
    ("messages/conversations.jsonl", "messages", 128, 0),
    ("messages/content_parts_loss_weight.jsonl", "messages", 500, 0),
    ("messages/reason_tool_use_50.jsonl", "messages", 50, 0),
    ("prompt_completion/gsm8k_train.jsonl", "prompt-completion", 7473, 0),
    ("preference/dpo_en.json", "preference", 299, 0),
    ("trees/oasst_en_100_tree.jsonl", "tree", 100, 0),
    ("nested/self_instruct_seed_tasks.jsonl", "nested", 175, 0),
    ("tools/bfcl_simple_python.jsonl", "unknown", 0, 400),
    ("eval/ifeval_prompts.jsonl", "unknown", 0, 541),
    ("eval/mt_bench_questions.jsonl", "questions", 31, 49),
]


def raw_rows(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line]


def records(name: str) -> list[Record]:
    return [row for row in open_source(DATA / name).rows() if isinstance(row, Record)]


def conversations(name: str) -> list[list[dict]]:
    return [json.loads(record.messages) for record in records(name)]


@pytest.mark.parametrize(("name", "format", "imported", "rejected"), FILES, ids=[name for name, *_ in FILES])
def test_every_row_comes_out_once(name, format, imported, rejected):
    source = open_source(DATA / name)
    rows = list(source.rows())
    assert source.format == format
    assert Counter(type(row) for row in rows) == Counter({Record: imported, Reject: rejected})
    assert [row.row for row in rows] == list(range(len(raw_rows(DATA / name))))
    for row in rows:
        if isinstance(row, Record):
            assert row.messages == canonical_json(json.loads(row.messages))
        else:
            assert json.loads(row.raw)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (
            "tools/bfcl_simple_python.jsonl",
            {
                "a prompt without an answer: `question` is there, but no `completion`, `response` or `answer`; "
                "the columns are `id`, `question`, `function`. "
                "If one of them is the answer, name it with --map prompt=question,response=COL": 400
            },
        ),
        (
            "eval/ifeval_prompts.jsonl",
            {
                "a prompt without an answer: `prompt` is there, but no `completion`, `response` or `answer`; "
                "the columns are `key`, `prompt`, `instruction_id_list`, `kwargs`. "
                "If one of them is the answer, name it with --map prompt=prompt,response=COL": 541
            },
        ),
        (
            "eval/mt_bench_questions.jsonl",
            {
                "a prompt without an answer: 2 questions in `turns`, and no `reference`": 41,
                "a prompt without an answer: `reference[1]` is empty": 7,
                "a prompt without an answer: `reference[0]` is empty": 1,
            },
        ),
    ],
)
def test_prompts_without_answers_are_told_so_row_by_row(name, reasons):
    assert Counter(row.reason for row in open_source(DATA / name).rows() if isinstance(row, Reject)) == reasons


def test_the_table_covers_the_folder():
    there = {str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.suffix in (".json", ".jsonl", ".csv")}
    assert there == {name for name, *_ in FILES}


@pytest.mark.parametrize("name", ["alpaca/alpaca_zh.json", "alpaca/codegen_instruct.json"])
def test_alpaca_text_is_the_text_of_the_file(name):
    for raw, messages in zip(raw_rows(DATA / name), conversations(name), strict=True):
        prompt = raw["instruction"] + ("\n\n" + raw["input"] if raw["input"] else "")
        answer = raw["output"] if "output" in raw else raw["response"]
        assert messages == [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def test_tool_calls_of_sharegpt_keep_their_arguments():
    raws, talks = raw_rows(DATA / "sharegpt/glaive_toolcall_en.json"), conversations("sharegpt/glaive_toolcall_en.json")
    calls = 0
    for raw, messages in zip(raws, talks, strict=True):
        assert len(messages) == len(raw["conversations"])
        for turn, message in zip(raw["conversations"], messages, strict=True):
            if turn["from"] == "function_call":
                calls += 1
                assert message["role"] == "assistant"
                assert [call["function"] for call in message["tool_calls"]] == [json.loads(turn["value"])]
            else:
                assert message["content"] == turn["value"]
    assert calls == 211
    assert sum(record.tools is not None for record in records("sharegpt/glaive_toolcall_en.json")) == 191


def test_reasoning_and_tool_calls_in_content_parts():
    talks = conversations("messages/reason_tool_use_50.jsonl")
    roles = Counter(message["role"] for messages in talks for message in messages)
    assert roles == {"system": 50, "user": 70, "assistant": 112, "tool": 42}
    answers = [message for messages in talks for message in messages if message["role"] == "assistant"]
    assert all(message["reasoning_content"] for message in answers)
    assert Counter(len(message.get("tool_calls", ())) for message in answers) == {0: 59, 1: 41, 2: 9, 3: 3}


def test_loss_weights_that_say_what_is_the_rule_anyway_leave_no_trace():
    for messages in conversations("messages/content_parts_loss_weight.jsonl"):
        assert [message.keys() for message in messages] == [{"role", "content"}] * 2


def test_chosen_side_of_preference_pairs_ends_the_conversation():
    raws, found = raw_rows(DATA / "preference/dpo_en.json"), records("preference/dpo_en.json")
    for raw, record in zip(raws, found, strict=True):
        messages = json.loads(record.messages)
        assert [m["content"] for m in messages] == [t["value"] for t in [*raw["conversations"], raw["chosen"]]]
        assert messages[-1]["role"] == "assistant"
        assert record.meta == {"rejected": raw["rejected"]}


def test_best_path_of_a_tree_takes_the_best_rank_at_every_step():
    raws, found = raw_rows(DATA / "trees/oasst_en_100_tree.jsonl"), records("trees/oasst_en_100_tree.jsonl")
    for raw, record in zip(raws, found, strict=True):
        node = raw["prompt"]
        for turn, message in zip(record.meta["path"], json.loads(record.messages), strict=True):
            if turn["message_id"] != node["message_id"]:
                ranks = [reply["rank"] for reply in node["replies"] if "rank" in reply]
                node = next(reply for reply in node["replies"] if reply["message_id"] == turn["message_id"])
                assert node.get("rank") == min(ranks, default=None)
            assert message["content"] == node["text"]
    assert Counter(len(json.loads(record.messages)) for record in found) == {2: 55, 4: 45}


def test_all_paths_of_the_trees_end_in_every_last_answer():
    source = open_source(DATA / "trees/oasst_en_100_tree.jsonl", trees="all")
    rows = list(source.rows())
    assert source.format == "tree-all"

    def last_answers(node: dict) -> int:
        below = sum(last_answers(reply) for reply in node["replies"])
        return below or (node["role"] == "assistant")

    trees = raw_rows(source.parts[0].path)
    assert Counter(row.row for row in rows) == {i: last_answers(tree["prompt"]) for i, tree in enumerate(trees)}
    assert [row.row for row in rows] == sorted(row.row for row in rows)
    assert [row.part for row in rows].count(0) == len(trees) == 100
    assert len(rows) == 546
    assert len({row.content_hash for row in rows}) == 546


def test_instances_of_a_task_are_prompt_and_answer():
    name = "nested/self_instruct_seed_tasks.jsonl"
    for raw, messages in zip(raw_rows(DATA / name), conversations(name), strict=True):
        (instance,) = raw["instances"]
        prompt = raw["instruction"] + ("\n\n" + instance["input"] if instance["input"] else "")
        assert [message["content"] for message in messages] == [prompt, instance["output"]]
