"""What is written is read back: the lossless forms to the same hashes, the others with an account of what is gone."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.conversation import canonical_json, content_hash
from workbench.errors import UsageProblem
from workbench.formats.read import Record, open_source
from workbench.formats.write import WriteReport, only_pairs, write_examples

Example = tuple[list[dict], list[dict] | None, dict]
U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def batches(examples: list[Example]) -> Iterator[pa.RecordBatch]:
    for i in range(0, len(examples), 2):
        part = examples[i : i + 2]
        yield pa.record_batch(
            {
                "id": pa.array(range(i, i + len(part)), pa.int64()),
                "messages": [canonical_json(m) for m, _, _ in part],
                "tools": pa.array([None if t is None else canonical_json(t) for _, t, _ in part], pa.string()),
                "meta": [canonical_json(meta) for _, _, meta in part],
            }
        )


def hashes(examples: list[Example]) -> list[str]:
    return [content_hash(canonical_json(m), None if t is None else canonical_json(t)) for m, t, _ in examples]


def read_back(path: Path) -> list[Record]:
    rows = list(open_source(path).rows())
    assert all(isinstance(row, Record) for row in rows), rows
    return rows


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["\u2028", "\u0085", "\x0c\x1e", "\r\n", "\x00", "😀\U0001f3f4", "<|im_end|>", '"\\', "null", "{", "[]"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
json_objects = st.dictionaries(text, json_values, max_size=3)
calls = st.builds(
    lambda name, arguments, more: {"type": "function", "function": {"name": name, "arguments": arguments}, **more},
    text,
    json_objects,
    st.sampled_from([{}, {"id": "call_1"}]),
)
assistant = st.builds(
    lambda content, more: {"role": "assistant", "content": content, **more},
    text,
    st.fixed_dictionaries(
        {},
        optional={
            "reasoning_content": text,
            "tool_calls": st.lists(calls, min_size=1, max_size=2),
            "train": st.just(False),
        },
    ),
)
others = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    st.sampled_from(["system", "developer", "user", "tool"]),
    text,
    st.fixed_dictionaries({}, optional={"name": text, "tool_call_id": text}),
)
conversations = st.builds(lambda turns, last: [*turns, last], st.lists(others | assistant, max_size=4), assistant)
schemas = st.lists(
    st.builds(
        lambda name, more: {"type": "function", "function": {"name": name, "parameters": more}}, text, json_objects
    ),
    min_size=1,
    max_size=2,
)
examples = st.lists(st.tuples(conversations, st.none() | schemas, json_objects), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("format", "name"),
    [("messages", "out.jsonl"), ("messages", "out.json"), ("parquet", "out.parquet"), ("datasets", "out")],
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=examples)
def test_lossless_forms_come_back_to_the_same_hashes(tmp_path, rows, format, name):
    out = tmp_path / name
    if format == "datasets":
        out.mkdir(exist_ok=True)
    report = write_examples(batches(rows), out, format)
    assert (report.rows, report.lost) == (len(rows), [])
    back = read_back(out)
    assert [r.content_hash for r in back] == hashes(rows)
    assert [json.loads(r.messages) for r in back] == [m for m, _, _ in rows]
    assert [r.meta for r in back] == [meta for _, _, meta in rows]


def test_lossless_through_every_form_and_back_again(tmp_path):
    rows: list[Example] = [([U, {**A, "train": False}], [CALL], {"meta": {"id": 1}, "id": 2}), ([U, A], None, {})]
    for name, format in [("a.jsonl", "messages"), ("b.parquet", "parquet"), ("c.json", "messages")]:
        write_examples(batches(rows), tmp_path / name, format)
        back = read_back(tmp_path / name)
        assert [r.content_hash for r in back] == hashes(rows)
        assert [r.meta for r in back] == [meta for _, _, meta in rows]
        rows = [(json.loads(r.messages), r.tools and json.loads(r.tools), r.meta) for r in back]


def test_batches_need_no_meta_column(tmp_path):
    batch = pa.record_batch({"messages": [canonical_json([U, A])], "tools": pa.array([None], pa.string())})
    for name, format in [("a.jsonl", "messages"), ("a.parquet", "parquet")]:
        write_examples(iter([batch]), tmp_path / name, format)
        assert [r.meta for r in read_back(tmp_path / name)] == [{}]


def test_one_example_is_one_line_for_every_reader(tmp_path):
    out = tmp_path / "out.jsonl"
    rows: list[Example] = [([{**U, "content": "a\u2028b\u2029c\u0085d\x0ce\r\nf"}, A], None, {})] * 2
    write_examples(batches(rows), out, "messages")
    assert len(out.read_text(encoding="utf-8").splitlines()) == 2
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[0])["messages"] == rows[0][0]


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_alpaca_of_plain_talk_loses_nothing(tmp_path, name):
    system = {"role": "system", "content": "be"}
    rows: list[Example] = [([U, A], None, {"id": 1}), ([system, U, A, U, A, {**U, "content": "q3"}, A], None, {})]
    assert write_examples(batches(rows), tmp_path / name, "alpaca") == WriteReport(2, [])
    back = read_back(tmp_path / name)
    assert [r.content_hash for r in back] == hashes(rows)
    assert back[0].meta == {"id": 1}
    first = (tmp_path / name).read_text(encoding="utf-8").strip("[\n").split("\n")[0].rstrip(",")
    assert json.loads(first) == {"instruction": "q", "input": "", "output": "a", "meta": {"id": 1}}


def test_alpaca_says_what_it_loses(tmp_path):
    tool_call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    rows: list[Example] = [
        ([U, tool_call, {"role": "tool", "content": "1"}, A], [CALL], {}),
        ([U, A, U], None, {}),
        ([U, tool_call], None, {}),
        ([{"role": "system", "content": ""}, U, {**A, "reasoning_content": "hm", "train": False}], [CALL], {}),
        ([U, A], None, {}),
    ]
    report = write_examples(batches(rows), tmp_path / "out.json", "alpaca")
    assert report == WriteReport(
        2,
        [
            "Empty system turns, which Alpaca cannot tell from none: 1",
            "Examples not written, as Alpaca knows only user and assistant turns in alternation, without tools: 3",
            "Examples that lost their tool schemas: 1",
            "Turns that lost their `reasoning_content`: 1",
            "Turns that lost their `train`: 1",
        ],
    )
    assert [json.loads(r.messages) for r in read_back(tmp_path / "out.json")] == [[U, A], [U, A]]


def test_sharegpt_keeps_roles_tools_weights_and_metadata(tmp_path):
    turns = [
        {"role": "system", "content": "be"},
        U,
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL], "train": False},
        {"role": "tool", "content": "1"},
        {**A, "train": False},
        U,
        A,
    ]
    rows: list[Example] = [(turns, [{"type": "function", "function": {"name": "f"}}], {"id": 1}), ([U, A], None, {})]
    assert write_examples(batches(rows), tmp_path / "out.json", "sharegpt") == WriteReport(2, [])
    back = read_back(tmp_path / "out.json")
    assert [json.loads(r.messages) for r in back] == [turns, [U, A]]
    assert [r.content_hash for r in back] == hashes(rows)
    assert back[0].meta == {"id": 1}
    assert open_source(tmp_path / "out.json").format == "sharegpt"


def test_sharegpt_says_what_it_loses(tmp_path):
    turns = [
        {"role": "developer", "content": "be"},
        {**U, "name": "Ann"},
        {**A, "reasoning_content": "hm", "tool_calls": [{**CALL, "id": "c1"}]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        A,
    ]
    report = write_examples(batches([(turns, None, {})]), tmp_path / "out.json", "sharegpt")
    assert report == WriteReport(
        1,
        [
            "Tool calls that lost their id or other fields: 1",
            "Turns that lost their `name`: 1",
            "Turns that lost their `reasoning_content`: 1",
            "Turns that lost their `tool_call_id`: 1",
            "Turns whose role `developer` became `system`: 1",
            "Turns with text and tool calls that became two turns: 1",
        ],
    )
    (back,) = read_back(tmp_path / "out.json")
    assert [m["role"] for m in json.loads(back.messages)] == [
        "system",
        "user",
        "assistant",
        "assistant",
        "tool",
        "assistant",
    ]


def test_prompt_and_completion_part_before_the_last_answer(tmp_path):
    system = {"role": "system", "content": "be"}
    turns = [system, U, {**A, "reasoning_content": "hm"}, {**U, "content": "q2"}, {**A, "tool_calls": [CALL]}]
    rows: list[Example] = [(turns, [CALL], {"id": 1}), ([U, A], None, {})]
    report = write_examples(batches(rows), tmp_path / "out.jsonl", "prompt-completion")
    assert report == WriteReport(2, ["Earlier answers that went into the prompt, where they are not trained: 1"])
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert first == {"prompt": turns[:4], "completion": turns[4:], "tools": [CALL], "meta": {"id": 1}}
    assert second == {"prompt": [U], "completion": [A]}
    assert [r.content_hash for r in read_back(tmp_path / "out.jsonl")] == hashes(rows)


def test_prompt_and_completion_say_what_they_lose(tmp_path):
    rows: list[Example] = [
        ([A, U], None, {}),
        ([U, {**A, "train": False}, U, {**A, "train": False}, U, U], None, {}),
    ]
    report = write_examples(batches(rows), tmp_path / "out.jsonl", "prompt-completion")
    assert report == WriteReport(
        1,
        [
            "Completions with `train: false`, which trainers of this form do not heed: 1",
            "Examples not written, as nothing stands before their answer: 1",
            "Turns left out, as they stand behind the last answer: 2",
        ],
    )


@pytest.mark.parametrize(
    "other",
    [
        ([U, A, U, A], None, {}),
        ([U, A], [CALL], {}),
        ([U, {**A, "train": False}], None, {}),
        ([{"role": "system", "content": ""}, U, A], None, {}),
    ],
)
def test_one_row_that_is_more_than_a_pair_keeps_all_rows_conversations(other):
    pairs: list[Example] = [([U, A], None, {"id": 1})] * 5
    assert only_pairs(batches(pairs))
    assert not only_pairs(batches([*pairs, other, *pairs]))


def test_pairs_can_be_text(tmp_path):
    rows: list[Example] = [([{**U, "content": "q\x00"}, A], None, {"id": 1})]
    report = write_examples(batches(rows), tmp_path / "out.jsonl", "prompt-completion", pairs_as_text=True)
    assert (report.rows, report.lost) == (1, [])
    assert "no chat template" in report.notes[0]
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"prompt": "q\0", "completion": "a", "meta": {"id": 1}}
    assert [r.content_hash for r in read_back(tmp_path / "out.jsonl")] == hashes(rows)


def test_parquet_holds_texts_that_any_reader_can_parse(tmp_path):
    write_examples(batches([([U, A], None, {}), ([U, A], [CALL], {"a": None})]), tmp_path / "a.parquet", "parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"messages": canonical_json([U, A]), "tools": None, "meta": None},
        {"messages": canonical_json([U, A]), "tools": canonical_json([CALL]), "meta": '{"a":null}'},
    ]


def test_the_datasets_library_reads_values_and_fills_nothing_in(tmp_path):
    other = {"type": "function", "function": {"name": "g", "arguments": {"y": "text", "deep": {"z": [1, "2"]}}}}
    rows: list[Example] = [([U, {**A, "tool_calls": [call]}], [CALL], {}) for call in (CALL, other)] + [
        ([U, A], None, {})
    ]
    write_examples(batches(rows), tmp_path / "a.parquet", "parquet")
    (tmp_path / "saved").mkdir()
    write_examples(batches(rows), tmp_path / "saved", "datasets")
    cache = str(tmp_path / "cache")
    for read in (
        datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), split="train", cache_dir=cache),
        datasets.load_from_disk(str(tmp_path / "saved")),
    ):
        assert [(row["messages"], row["tools"]) for row in read] == [(m, t) for m, t, _ in rows]


def test_integers_that_the_datasets_library_cannot_read_are_told(tmp_path):
    def asks(number: int) -> Example:
        return (
            [U, {**A, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": number}}}]}],
            None,
            {},
        )

    rows = [asks(number) for number in (2**64 - 1, -(2**63), 2**64, -(2**63) - 1)]
    rows.append(([{**U, "content": str(2**70)}, A], None, {}))
    for i, row in enumerate(rows):
        report = write_examples(batches([row]), tmp_path / f"{i}.parquet", "parquet")
        read = datasets.load_dataset(
            "parquet", data_files=str(tmp_path / f"{i}.parquet"), split="train", cache_dir=str(tmp_path / "cache")
        )
        if report.notes:
            with pytest.raises(ValueError, match="Value is too"):
                read[0]
        else:
            assert read[0]["messages"] == row[0]
        assert [r.content_hash for r in read_back(tmp_path / f"{i}.parquet")] == hashes([row])
    assert write_examples(batches(rows), tmp_path / "all.parquet", "parquet").notes == [
        "Rows with an integer beyond 64 bits, at which the library `datasets` fails: 2"
    ]


def test_there_is_no_such_format(tmp_path):
    with pytest.raises(UsageProblem, match="no format 'csv' to write"):
        write_examples(iter([]), tmp_path / "out.csv", "csv")
    assert list(tmp_path.iterdir()) == []
