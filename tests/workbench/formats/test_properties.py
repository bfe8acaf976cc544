"""What holds for every file: text is stored as it stands, rows stay apart, nothing but a Problem comes out."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.conversation import canonical_json, content_hash
from workbench.errors import Problem
from workbench.formats.read import Record, Reject, open_source
from workbench.formats.rows import RAW_LIMIT
from workbench.formats.write import write_examples

quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# What line readers, CSV, JSON and terminals stumble over, beside whatever else Unicode has.
_TRAPS = ["\u2028", "\u0085", "\x0c", "\x0b", "\x1e", "\r", "\n", "\x00", "\ufeff", "\u202e", '"', "\\", "[", "{", "😀"]
text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(_TRAPS), max_size=12)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(text, json_values, max_size=3)

# Turns as people write them: roles in any words, content as text or parts, calls in any form.
calls = st.builds(lambda name, arguments: {"name": name, "arguments": arguments}, text, json_objects)
call_forms = calls | calls.map(json.dumps) | calls.map(lambda call: {"id": "c1", "type": "function", "function": call})
contents = text | st.lists(
    text.map(lambda part: {"type": "text", "text": part}) | text.map(lambda part: {"type": "reasoning", "value": part}),
    min_size=1,
    max_size=3,
)
weights = st.fixed_dictionaries(
    {},
    optional={
        "train": st.booleans() | st.none(),
        "weight": st.sampled_from([0, 1, 0.5]),
        "loss_weight": st.sampled_from([0.0, 1.0]),
    },
)
assistant = st.builds(
    lambda role, content, more, weight: {"role": role, "content": content, **more, **weight},
    st.sampled_from(["assistant", "gpt", "bard"]),
    contents,
    st.fixed_dictionaries(
        {}, optional={"reasoning_content": text, "tool_calls": st.lists(call_forms, max_size=2), "note": json_values}
    ),
    weights,
)
other = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    st.sampled_from(["system", "developer", "user", "human", "tool", "observation"]),
    contents,
    st.fixed_dictionaries({}, optional={"name": text, "tool_call_id": text, "from": json_values}),
)
conversations = st.builds(lambda turns, last: [*turns, last], st.lists(other | assistant, max_size=3), assistant)
schemas = st.lists(
    st.builds(lambda name, more: {"name": name, "parameters": more}, text, json_objects), min_size=1, max_size=2
)
tools = st.fixed_dictionaries({}, optional={"tools": schemas | schemas.map(json.dumps), "meta": json_objects})
rows_of_any_shape = st.builds(
    lambda rest, row, more: {**rest, **more, **row},
    json_objects,
    st.one_of(
        conversations.map(lambda turns: {"messages": turns}),
        conversations.map(lambda turns: {"conversations": json.dumps(turns)}),
        st.fixed_dictionaries({"instruction": text, "input": text | st.none(), "output": text}),
        st.fixed_dictionaries({"prompt": text, "completion": text}),
        st.fixed_dictionaries({"prompt": text, "chosen": text, "rejected": json_values}),
    ),
    tools,
)


def records(path: Path) -> list[Record]:
    rows = list(open_source(path).rows())
    assert [row for row in rows if isinstance(row, Reject)] == []
    return rows


def batch_of(rows: list[Record]) -> Iterator[pa.RecordBatch]:
    columns = {
        "messages": [row.messages for row in rows],
        "tools": [row.tools for row in rows],
        "meta": [canonical_json(row.meta) if row.meta else None for row in rows],
    }
    yield pa.record_batch({name: pa.array(column, pa.string()) for name, column in columns.items()})


@pytest.mark.parametrize(
    ("format", "name"), [("messages", "out.jsonl"), ("messages", "out.json"), ("parquet", "out.parquet")]
)
@settings(quick, max_examples=80)
@given(row=rows_of_any_shape)
def test_what_was_imported_survives_export_and_import_byte_for_byte(tmp_path, row, format, name):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    first = records(source)
    write_examples(batch_of(first), tmp_path / name, format)
    assert records(tmp_path / name) == first


@settings(quick, max_examples=60)
@given(pairs=st.lists(st.tuples(text, text, text), min_size=1, max_size=4))
def test_every_container_stores_the_text_as_it_stands(tmp_path, pairs):
    names = ("prompt", "completion", "note")
    rows = [dict(zip(names, pair, strict=True)) for pair in pairs]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(lines).encode())
    (tmp_path / "a.json").write_bytes(json.dumps(rows, indent=1).encode())
    (tmp_path / "wrapped.json").write_bytes(b'\xef\xbb\xbf{"data": [' + ",".join(lines).encode() + b"]}")
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *pairs])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        found = records(path)
        assert [[turn["content"] for turn in json.loads(row.messages)] for row in found] == [
            [p, c] for p, c, _ in pairs
        ]
        assert [row.meta for row in found] == [{"note": note} for *_, note in pairs]


GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
junk = (st.binary(max_size=30) | text.map(str.encode) | json_values.map(lambda value: json.dumps(value).encode())).map(
    lambda line: line.replace(b"\n", b" ")
)


@settings(quick, max_examples=100)
@given(lines=st.lists(st.none() | junk, max_size=6))
def test_a_bad_line_costs_itself_only(tmp_path, lines):
    good = json.dumps(GOOD).encode()
    written = [good if line is None else line for line in [None, *lines, None]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(written))
    rows = list(open_source(path, format="messages").rows())
    there = [line for line in written if line.strip()]
    assert [row.row for row in rows] == list(range(len(there)))
    for row, line in zip(rows, there, strict=True):
        if line == good:
            assert isinstance(row, Record)
        elif isinstance(row, Reject):
            assert row.raw == (line + (b"" if row is rows[-1] else b"\n")).decode("utf-8", "backslashreplace")


_NAMES = ["a", "a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.json.gz", "a.jsonl.zst"]
_HEADS = [
    b"",
    b"[",
    b"[{",
    b'{"',
    b'{"messages":[{',
    b"PAR1",
    b"ARROW1\0\0",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xef\xbb\xbf",
]
_TOKENS = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\n", b" ", b"\\", b"\r", b"\0", b"\xff", b"\xed\xa0\x80",
    b"\xe2\x80\xa8", b"null", b"true", b"NaN", b"-1e999", b'"\\ud800"', b'"messages"', b'"role"', b'"content"',
    b'"prompt"', b'"completion"', b'"chosen"', b'"rejected"', b'"replies"', b'"instances"', b'"tools"', b'"meta"',
    b'"data"', b'"train"', b'"assistant"',
]  # fmt: skip


@settings(quick, max_examples=250)
@given(
    name=st.sampled_from(_NAMES),
    head=st.sampled_from(_HEADS),
    body=st.binary(max_size=60) | st.lists(st.sampled_from(_TOKENS), max_size=40).map(b"".join),
)
def test_no_bytes_crash_the_importer(tmp_path, name, head, body):
    path = tmp_path / name
    path.write_bytes(head + body)
    try:
        rows = list(open_source(path).rows())
    except Problem as problem:
        str(problem).encode("utf-8")
        return
    numbers = [row.row for row in rows if isinstance(row, Reject) or row.part == 0]
    assert numbers == list(range(len(numbers)))
    for row in rows:
        if isinstance(row, Reject):
            assert row.reason
            assert len(row.raw) <= RAW_LIMIT
            (row.reason + row.raw).encode("utf-8")
        else:
            assert row.messages == canonical_json(json.loads(row.messages))
            assert row.content_hash == content_hash(row.messages, row.tools)
            canonical_json(row.meta).encode("utf-8")


def test_the_fuzz_run_finds_nothing_and_goes_on_where_it_was(tmp_path):
    script = Path(__file__).parents[3] / "benchmarks" / "fuzz_import.py"
    command = [sys.executable, str(script), "--state", str(tmp_path / "state.json"), "--count"]
    for count in ("60", "120"):
        done = subprocess.run([*command, count], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(f"{count} inputs in ")
    assert sum(json.loads((tmp_path / "state.json").read_text())["outcomes"].values()) == 120
