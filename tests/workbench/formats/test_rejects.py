"""Each reason for which a row is quarantined, one row at a time: the rows around it are imported."""

import io
import json
import re
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.formats.read import Record, Reject
from workbench.formats.rows import RAW_LIMIT

GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
U, A = GOOD["messages"]


def deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


CONVERSATIONS = [
    ({"messages": []}, "the conversation in `messages` is empty"),
    ({"messages": None}, "`messages` is null, not a list of turns"),
    ({"messages": 3}, "`messages` is a number, not a list of turns"),
    ({"messages": "not JSON"}, "`messages`: not JSON: Expecting value at character 1"),
    ({"messages": ["q", "a"]}, "`messages[0]` is text, not a turn with a role and a content"),
    ({"messages": [U]}, "the conversation has no assistant turn"),
    ({"messages": [U, {"role": "narrator", "content": "x"}, A]}, "`messages[1]`: unknown role 'narrator'"),
    ({"messages": [U, {"content": "x"}]}, "`messages[1]` has no role"),
    ({"messages": [U, {"role": 3, "content": "x"}]}, "`messages[1]`: the role is a number, not text"),
    ({"messages": [U, {"role": [], "content": "x"}]}, "`messages[1]`: the role is a list, not text"),
    ({"messages": [{**U, "content": True}, A]}, "`messages[0]`: the content is true or false, not text"),
    (
        {"messages": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}, A]},
        "`messages[0]`: content part 0 is of type \"['text']\"; only text can be imported",
    ),
    ({"messages": [{"role": "user", "content": 3}, A]}, "`messages[0]`: the content is a number, not text"),
    ({"messages": [{"role": "user", "content": {}}, A]}, "`messages[0]`: the content is an object, not text"),
    ({"messages": [{"role": "user", "content": None}, A]}, "`messages[0]`: the content is null, not text"),
    ({"messages": [U, {"role": "assistant"}]}, "`messages[1]`: the content is null, not text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, A]},
        "`messages[0]`: content part 0 is of type 'image_url'; only text can be imported",
    ),
    ({"messages": [U, {**A, "content": [{"type": "text"}]}]}, "`messages[1]`: content part 0 is null, not text"),
    ({"messages": [U, {**A, "content": [7]}]}, "`messages[1]`: content part 0 is a number"),
    ({"messages": [U, {**A, "reasoning_content": ["x"]}]}, "`messages[1]`: `reasoning_content` is a list, not text"),
    ({"messages": [U, {**A, "train": "no"}]}, "`messages[1]`: `train` is text, not true, false or a number"),
    ({"messages": [U, {**A, "tool_calls": [{"id": "1"}]}]}, "`messages[1]`: a tool call has no function name"),
    ({"messages": [U, {**A, "tool_calls": [3]}]}, "`messages[1]`: a tool call is a number, not an object"),
    (
        {"messages": [U, {**A, "tool_calls": [{"name": "f", "arguments": "{x"}]}]},
        "`messages[1]: arguments of f`: not JSON: Expecting property name enclosed in double quotes at character 2",
    ),
    (
        {"messages": [U, {**A, "tool_calls": [{"name": "f", "arguments": [1]}]}]},
        "`messages[1]`: the arguments of 'f' are a list, not an object",
    ),
    (
        {"messages": [U, {"from": "function_call", "value": "f(1)"}]},
        "`messages[1]`: not JSON: Expecting value at character 1",
    ),
    ({**GOOD, "tools": "f(x)"}, "`tools`: not JSON: Expecting value at character 1"),
    ({**GOOD, "tools": 3}, "`tools` is a number, not a list of tool schemas"),
    ({**GOOD, "tools": [3]}, "`tools[0]` is a number, not a tool schema"),
    ({**GOOD, "system": 3}, "`system` is a number, not text"),
    ({"question": "q"}, "no column `messages`; this row has `question`"),
    ({}, "no column `messages`; this row has none"),
    ({**GOOD, "x": deep(150)}, "the JSON is nested too deep (at most 100 levels)"),
    ({**GOOD, "tools": [{"name": "f", "parameters": deep(150)}]}, "the JSON is nested too deep (at most 100 levels)"),
]


@pytest.mark.parametrize(("row", "reason"), CONVERSATIONS, ids=[reason[:50] for _, reason in CONVERSATIONS])
def test_reason_of_a_row(read, row, reason):
    lines = [json.dumps(GOOD), json.dumps(GOOD), json.dumps(row), json.dumps(GOOD)]
    rows = read("a.jsonl", "\n".join(lines))
    assert [type(r) for r in rows] == [Record, Record, Reject, Record]
    assert rows[2] == Reject(2, reason, lines[2] + "\n")


NOT_FINITE = "a number is NaN or infinite, which JSON cannot carry"
SURROGATE = "a lone surrogate (half of a \\uD800-\\uDFFF pair), which UTF-8 cannot carry"
RAW = [
    (b'"text"', "the row is text, not an object"),
    (b"[1]", "the row is a list, not an object"),
    (b"null", "the row is null, not an object"),
    (b'{"x": nothing}', "not JSON: Expecting value at character 7"),
    (b'{"x": "\\q"}', "not JSON: Invalid \\escape at character 8"),
    (b"1" * 5000, "not JSON that can be read: a number has too many digits"),
    (b"[" * 50_000 + b"]" * 50_000, "the JSON is nested too deep"),
    (json.dumps({**GOOD, "x": float("nan")}).encode(), NOT_FINITE),
    (json.dumps({**GOOD, "x": float("-inf")}).encode(), NOT_FINITE),
    (json.dumps(GOOD).replace('"q"', '"\\ud800"').encode(), SURROGATE),
    (json.dumps({**GOOD, "\udfff": 1}).encode(), SURROGATE),
]
RAW_IDS = [f"{reason[:40]} {i}" for i, (_, reason) in enumerate(RAW)]
UNENDED = [
    (b'{"messages": [', "not JSON: Expecting value at character 16"),
    (b'{"x": "y', "not JSON: Unterminated string starting at character 7"),
    (b'{"a": 1} {"b": 2}', "not JSON: Extra data at character 10"),
    (b"[" * 100_000, "the JSON is nested too deep"),
]


@pytest.mark.parametrize(("raw", "reason"), [*RAW, *UNENDED], ids=[*RAW_IDS, *(reason[:40] for _, reason in UNENDED)])
def test_reason_of_a_line_that_is_no_good_json(read, raw, reason):
    good = json.dumps(GOOD).encode()
    rows = read("a.jsonl", b"\n".join([good, raw, good]))
    assert [type(r) for r in rows] == [Record, Reject, Record]
    assert rows[1] == Reject(1, reason, (raw.decode() + "\n")[:RAW_LIMIT])


@pytest.mark.parametrize(
    "first",
    [
        b'["x"]',
        b"[1, 2",
        b"[]",
        b'{"x": ""}]}',
        b'{"a": 1} {"b": 2}',
        b'{"x": [',
        b"{",
        b"null",
        b'"',
        b"]",
        b"\xff",
        b"[{",
    ],
)
def test_a_bad_first_line_does_not_make_the_file_another_one(read, first):
    good = json.dumps(GOOD).encode()
    rows = read("a.jsonl", b"\n".join([first, good, good, good]), format="messages")
    assert [type(r) for r in rows] == [Reject, Record, Record, Record]
    assert [type(r) for r in read("a.jsonl", b"\n".join([first, good]), format="messages")] == [Reject, Record]


@pytest.mark.parametrize(
    "text", ["[\n{}\n]", "[{},\n{}\n]", "[\n{},\n{}]\n", "[{}\n,{}]", "[{}, {}]\n", "[\n {}\n ]\n"]
)
def test_arrays_may_be_named_jsonl(read, text):
    good = json.dumps(GOOD)
    rows = read("a.jsonl", text.replace("{}", good))
    assert [type(r) for r in rows] == [Record] * text.count("{}")


@pytest.mark.parametrize(("raw", "reason"), RAW, ids=RAW_IDS)
def test_reason_of_an_element_that_is_no_good_json(read, raw, reason):
    good = json.dumps(GOOD).encode()
    rows = read("a.json", b"[" + b",\n".join([good, raw, good]) + b"]")
    assert [type(r) for r in rows] == [Record, Reject, Record]
    assert rows[1] == Reject(1, reason, raw.decode())


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_bytes_that_are_not_utf8_cost_their_own_row_only(read, name):
    rows = [
        b'{"prompt": "caf\xe9", "completion": "a"}' if i == 1 else b'{"prompt": "q", "completion": "a"}'
        for i in range(3)
    ]
    data = {
        "a.jsonl": b"\n".join(rows),
        "a.json": b"[" + b",".join(rows) + b"]",
        "a.csv": b"prompt,completion\nq,a\ncaf\xe9,a\nq,a\n",
    }[name]
    result = read(name, data)
    assert [type(r) for r in result] == [Record, Reject, Record]
    assert "not UTF-8" in result[1].reason
    assert "caf\\xe9" in result[1].raw
    assert result[1].altered == "escaped"


def test_lone_surrogate_in_a_column_name_gives_a_reason_that_can_be_stored(read):
    (only,) = read("a.jsonl", '{"\\ud800": 1}')
    only.reason.encode("utf-8")
    assert "`\\ud800`" in only.reason


ALPACA = [
    ({"instruction": "q", "output": None}, "`output` is null, not text"),
    ({"instruction": 1, "output": "a"}, "`instruction` is a number, not text"),
    ({"instruction": "q", "input": ["x"], "output": "a"}, "`input` is a list, not text"),
    (
        {"instruction": "q", "output": "a", "history": ["q", "a"]},
        "`history[0]` is not a pair of texts [prompt, answer]",
    ),
    (
        {"instruction": "q", "output": "a", "history": {"q": "a"}},
        "`history` is an object, not a list of [prompt, answer] pairs",
    ),
    ({"instruction": "q"}, "no column `output` or `response`; this row has `instruction`"),
]


@pytest.mark.parametrize(("row", "reason"), ALPACA, ids=[reason[:50] for _, reason in ALPACA])
def test_reason_of_an_alpaca_row(read, row, reason):
    rows = read("a.jsonl", json.dumps(row), format="alpaca")
    assert [r.reason for r in rows] == [reason]


def test_empty_answers_are_rows_like_any_other(read):
    assert isinstance(read("a.jsonl", '{"instruction": "", "output": ""}')[0], Record)
    assert isinstance(read("a.jsonl", json.dumps({"messages": [U, {**A, "content": ""}]}))[0], Record)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_stands_twice_rejects_the_row_for_one_value_would_be_lost(read, name):
    call = {"name": "f", "arguments": '{"x": 1, "x": 2}'}
    texts = [
        json.dumps(GOOD),
        json.dumps(GOOD).replace('"content": "q"', '"content": "q", "content": "r"'),
        json.dumps({"messages": [U, {**A, "tool_calls": [call]}]}),
    ]
    rows = read(name, "\n".join(texts) if name == "a.jsonl" else f"[{','.join(texts)}]")
    assert [type(row) for row in rows] == [Record, Reject, Reject]
    assert re.search("'content' .* twice in one object", rows[1].reason)
    assert re.search("`messages.1.: arguments of f`: .* 'x' .* twice in one object", rows[2].reason)


def test_a_second_list_of_rows_in_one_object_is_told_of(read):
    good = json.dumps(GOOD)
    for rest in ("", ', "version": "1", "labels": ["a"], "by": {"name": "x"}, "n": 1.5'):
        text = f'{{"data": [{good}, {good}]{rest}}} '
        assert [type(row) for row in read("a.json", text)] == [Record, Record]
        for junk in ("x", "\nx", '\n{"x'):
            assert [type(row) for row in read("a.json", text + junk)] == [Record, Record, Reject]
    rows = read("a.json", f'{{"train": [{good}], "version": 2, "test": [\n{good}], "n": 1, "dev": [{good}]}}')
    assert isinstance(rows[0], Record)
    reason = "a second list, '{}', which is not read: give it a file of its own"
    assert [row.reason for row in rows[1:]] == [reason.format("test"), reason.format("dev")]
    assert rows[1].raw == f"[\n{good}]"


def test_unknown_shape_names_the_columns_and_what_helps(opened):
    source = opened("a.jsonl", json.dumps({f"column{i}": i for i in range(20)}))
    (only,) = source.rows()
    assert source.format == "unknown"
    assert "`column0`, `column1`" in only.reason
    assert "`column12`" not in only.reason
    assert "--map prompt=COL,response=COL" in only.reason


def test_an_arrow_message_that_claims_a_body_beyond_all_memory_breaks_off_there(read):
    out = io.BytesIO()
    table = pa.table({"prompt": ["q"] * 7, "completion": ["a"] * 7})
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    messages = pa.ipc.MessageReader.open_stream(out.getvalue())
    next(messages)  # the schema
    length = struct.pack("<q", next(messages).body.size)
    data = out.getvalue()
    assert data.count(length) == 1
    rows = read("a.arrow", data.replace(length, struct.pack("<q", 1 << 60)))
    assert [row.reason for row in rows] == [
        "the Arrow data breaks off behind row 0: it asks for more memory than there is"
    ]


def test_the_text_of_a_parquet_row_with_bytes_that_are_no_text_is_the_row_with_these_escaped(read):
    def damaged(texts):
        made = pa.array(texts, pa.binary())
        return pa.StringArray.from_buffers(len(texts), *made.buffers()[1:])

    turns = pa.StructArray.from_arrays(
        [damaged([b"user", b"assistant"]), damaged([b"caf\xe9", b"a"])], ["role", "content"]
    )
    for column, shown in (
        (damaged([b"caf\xe9"]), '"caf\\xe9"'),
        (
            pa.ListArray.from_arrays([0, 2], turns),
            '[{"role": "user", "content": "caf\\xe9"}, {"role": "assistant", "content": "a"}]',
        ),
    ):
        out = io.BytesIO()
        pq.write_table(pa.table({"messages": column, "n": [7]}), out)
        (only,) = read("a.parquet", out.getvalue(), format="messages")
        assert "cannot be read" in only.reason
        assert (only.raw, only.altered) == (f'{{"messages": {shown}, "n": 7}}', "escaped")
