"""Files as people have them: byte order marks, odd line breaks, wrapped arrays, big cells, damage in the middle."""

import csv
import datetime
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.errors import BadInput
from workbench.formats.read import Record, Reject, open_source
from workbench.formats.rows import RAW_LIMIT


def row(prompt: str, answer: str = "yes", **more: object) -> str:
    return json.dumps({"instruction": prompt, "output": answer, **more}, ensure_ascii=False)


def prompts(rows: list[Record | Reject]) -> list[str | None]:
    return [json.loads(r.messages)[0]["content"] if isinstance(r, Record) else None for r in rows]


def test_json_lines_end_at_line_feeds_only(read):
    text = "one\u2028two\u2029three\u0085four\x0cfive\x1esix"
    rows = read("a.jsonl", row(text) + "\n" + '{"instruction": "raw\u2028separator", "output": "x"}\n' + row("b"))
    assert prompts(rows) == [text, "raw\u2028separator", "b"]


def test_json_lines_with_byte_order_mark_crlf_and_blank_lines(read):
    data = b"\xef\xbb\xbf" + row("a").encode() + b"\r\n\r\n   \r\n" + row("b").encode() + b"\r\n"
    assert prompts(read("a.jsonl", data)) == ["a", "b"]


def test_carriage_returns_inside_text_survive(read):
    assert prompts(read("a.jsonl", row("a\r\nb\rc"))) == ["a\r\nb\rc"]


def test_container_is_told_by_content_before_name(read, tmp_path):
    assert prompts(read("lines.json", row("a") + "\n" + row("b"))) == ["a", "b"]
    assert prompts(read("array.jsonl", f"[{row('a')}]")) == ["a"]
    assert prompts(read("array.csv", f"[{row('a')}]")) == ["a"]
    assert prompts(read("array.txt", f" \n[{row('a')}]")) == ["a"]
    pq.write_table(pa.table({"prompt": ["p"], "completion": ["c"]}), tmp_path / "table.json")
    assert open_source(tmp_path / "table.json").format == "prompt-completion"


def test_json_array_rows_may_be_longer_than_the_window(read):
    long = "é😀\\u0061" + "z" * 700_000
    data = f"[{row(long)},{row('b')},{row(long)}]"
    assert prompts(read("a.json", data)) == [long, "b", long]


def test_json_array_is_the_same_wherever_the_window_ends(read, monkeypatch):
    data = json.dumps(
        [{"instruction": f'q{i} "\\ \U0001f600', "output": "a", "n": -1.5e-7, "t": True, "x": [{}]} for i in range(9)]
    )
    for chunk in range(1, 40):
        monkeypatch.setattr("workbench.formats.json_rows._CHUNK", chunk)
        rows = read("a.json", data)
        assert len(rows) == 9
        assert all(isinstance(r, Record) and r.meta == {"n": -1.5e-7, "t": True, "x": [{}]} for r in rows)


def test_numbers_come_as_they_are(read):
    (only,) = read("a.json", "[" + row("a", big=2**80, small=0.1, half=1.0)[:-1] + "}]")
    assert only.meta == {"big": 2**80, "small": 0.1, "half": 1.0}
    assert [type(value) for value in only.meta.values()] == [int, float, float]


@pytest.mark.parametrize(
    "data",
    [
        f'{{"data": [{row("a")}, {row("b")}]}}',
        f'{{"version": "1.0", "count": 2, "data": [\n{row("a")},\n{row("b")}\n], "more": {{}}}}',
        f"{row('a')}\n{row('b')}".replace("{", "{\n ").replace(", ", ",\n "),
        f"[{row('a')} {row('b')}]",
        f"[{row('a')},{row('b')},]",
    ],
    ids=["wrapped", "wrapped behind other entries", "pretty-printed one after the other", "no comma", "comma too many"],
)
def test_other_ways_to_write_two_rows(read, data):
    assert prompts(read("a.json", data)) == ["a", "b"]


def test_one_pretty_printed_row(read):
    assert prompts(read("a.json", json.dumps(json.loads(row("a")), indent=2))) == ["a"]


def test_json_lines_whose_rows_hold_a_data_list_stay_json_lines(read):
    line = '{"data": [{"n": 1}], "instruction": "a", "output": "b"}'
    assert [r.meta for r in read("a.jsonl", f"{line}\n{line}\n")] == [{"data": [{"n": 1}]}] * 2


@pytest.mark.parametrize("cut", [1, 10, 16, 30, 31, 40])
def test_array_that_breaks_off_gives_the_rows_before_and_one_reject(read, cut):
    whole = f"[{row('a')},{row('b')},{row('the last one')}]"
    rows = read("a.json", whole[:-cut])
    last = 3 if cut == 1 else 2
    assert prompts(rows) == [*["a", "b", "the last one"][:last], None]
    assert "breaks off" in rows[-1].reason


def test_a_broken_row_in_an_array_costs_itself_only(read):
    bad = '{"instruction": "x" "output": "a } ] \\" , b"}'
    rows = read("a.json", f"[{row('a')},{bad},{row('b')},nonsense,{row('c')}]")
    assert prompts(rows) == ["a", None, "b", None, "c"]
    assert rows[1] == Reject(1, "not JSON: Expecting ',' delimiter at character 21", bad)
    assert rows[3].raw == "nonsense"


def test_broken_row_is_skipped_wherever_the_window_ends(read, monkeypatch):
    escapes = '\\\\\\" } ] ' * 40
    bad = '{"instruction": "x" "output": "' + escapes + '", "more": [{"a": []}, "]"]}'
    for chunk in range(1, 60):
        monkeypatch.setattr("workbench.formats.json_rows._CHUNK", chunk)
        rows = read("a.json", f"[{row('a')}, {bad}, {row('b')}]")
        assert prompts(rows) == ["a", None, "b"], chunk
        assert rows[1].raw == bad


def test_a_number_is_one_row_wherever_the_window_ends(read, monkeypatch):
    for chunk in range(1, 20):
        monkeypatch.setattr("workbench.formats.json_rows._CHUNK", chunk)
        assert [r.raw for r in read("a.json", "[12345, -1.5e+10 ,7]")] == ["12345", "-1.5e+10", "7"]


def test_a_stray_bracket_between_rows_is_a_reject_and_reading_goes_on(read):
    rows = read("a.json", f"[{row('a')}}}, {row('b')}]")
    assert prompts(rows) == ["a", None, "b"]
    assert rows[1].raw == "}"


def test_row_without_an_end_says_that_nothing_behind_it_was_read(read):
    rows = read("a.json", f'[{row("a")},{{"instruction": "no quote, "output": "b"}},{row("c")},{row("d")}]')
    assert prompts(rows) == ["a", None]
    assert "nothing behind it was read" in rows[1].reason


def test_text_behind_an_array_is_reported(read):
    rows = read("a.json", f"[{row('a')}]\n[{row('b')}]")
    assert prompts(rows) == ["a", None]
    assert rows[1].reason == "there is text behind the end of the array"


def test_csv_with_byte_order_mark_quotes_line_breaks_and_big_cells(read):
    big = "word " * 60_000
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["instruction", "input", "output", "category"])
    writer.writerow(['say "hi",\nplease\u2028now', "", "hi\r\n", "small talk"])
    writer.writerow(["long", big, big, ""])
    rows = read("a.csv", b"\xef\xbb\xbf" + file.getvalue().encode() + b"\r\n")
    assert prompts(rows) == ['say "hi",\nplease\u2028now', f"long\n\n{big}"]
    assert json.loads(rows[0].messages)[1]["content"] == "hi\r\n"
    assert rows[0].meta == {"category": "small talk"}


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", ",")])
def test_csv_separator_is_told_from_the_header(read, name, separator):
    assert prompts(read(name, f"question{separator}answer\nwhat, then?{separator}x\n".replace("what,", "what"))) == [
        "what then?"
    ]


def test_csv_rows_that_do_not_fit_the_header_are_rejected_one_by_one(read):
    rows = read("a.csv", 'question,answer\na,b\nc\nd,e,f\n"x"y,z\ng,h\n"open,i\n')
    assert [r.reason if isinstance(r, Reject) else "" for r in rows] == [
        "",
        "the row has 1 cells where the header has 2",
        "the row has 3 cells where the header has 2",
        "not CSV: ',' expected after '\"'",
        "",
        "not CSV: unexpected end of data",
    ]
    assert rows[2].raw == "d,e,f\n"


def test_csv_cells_may_hold_json(read):
    file = io.StringIO()
    writer = csv.writer(file)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    writer.writerows([["messages", "tools", "meta"], [json.dumps(messages), '[{"name": "f"}]', '{"id": 1}']])
    (only,) = read("a.csv", file.getvalue())
    assert json.loads(only.messages) == messages
    assert json.loads(only.tools) == [{"type": "function", "function": {"name": "f"}}]
    assert only.meta == {"id": 1}


def test_csv_header_must_be_clear(read):
    with pytest.raises(BadInput, match="two columns are named 'answer'"):
        read("a.csv", "question,answer,answer\n1,2,3\n")


def test_parquet_nulls_in_structs_count_as_absent(tmp_path):
    arguments = [{"city": "Oslo"}, {"days": 3}]  # Arrow makes both structs (city, days) and fills up with nulls
    messages = [
        [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": a}}]},
        ]
        for a in arguments
    ]
    when = datetime.datetime(2024, 5, 1, 12, 30)
    table = pa.table({"messages": messages, "when": [when, None], "blob": [b"\xff", b""], "lang": ["en", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = open_source(tmp_path / "a.parquet").rows()
    calls = [json.loads(r.messages)[1]["tool_calls"][0]["function"]["arguments"] for r in (first, second)]
    assert calls == arguments
    assert json.loads(first.messages)[0] == {"role": "user", "content": "weather?"}
    assert first.meta == {"when": "2024-05-01T12:30:00", "blob": "/w==", "lang": "en"}
    assert second.meta == {"when": None, "blob": "", "lang": None}


def test_parquet_rows_are_rejected_with_their_values(tmp_path):
    pq.write_table(pa.table({"prompt": ["p", "q"], "completion": ["c", None]}), tmp_path / "a.parquet")
    rows = list(open_source(tmp_path / "a.parquet").rows())
    assert rows[1] == Reject(1, "`completion` is null, not text", '{"prompt": "q", "completion": null}')


def test_damaged_parquet_is_bad_input(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["p"], "completion": ["c"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match="Parquet file is damaged"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.json", b"\xef\xbb\xbf \n\n", "the file is empty"),
        ("a.json", b"[]", "the file has no rows"),
        ("a.csv", b"question,answer\n", "the file has no rows"),
        ("a.txt", b"hello", "cannot tell what this file is"),
        ("a.json", b"hello", "cannot tell what this file is"),
        ("a.json.gz", b"\x1f\x8b\x08\x00abc", "the gzip data breaks off"),
        ("a.json.gz", gzip.compress(gzip.compress(b"[1]", mtime=0), mtime=0), "packed twice, at last with gzip"),
        ("a.json", b"PK\x03\x04abc", "a zip archive"),
        ("a.json", '[{"a": 1}]'.encode("utf-16"), "not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_read_get_one_helpful_message(opened, tmp_path, name, data, what):
    with pytest.raises(BadInput, match=what) as caught:
        opened(name, data)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.do.endswith(".")


def test_parquet_without_rows_is_bad_input(tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="no rows"):
        open_source(tmp_path / "a.parquet")


def test_no_file(tmp_path: Path):
    with pytest.raises(BadInput, match="no such file"):
        open_source(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_raw_text_of_a_reject_is_whole_up_to_a_bound_and_where_it_is_not_that_is_told(read, name):
    (only,) = read("a.jsonl", long := '{"instruction": "é' + "x" * 1_000_000)
    assert (only.raw, only.altered) == (long, None)
    opening = "[" if name == "a.json" else ""
    (only,) = read(name, opening + '{"x": nothing, "y": "' + "é" * RAW_LIMIT)
    assert (len(only.raw), only.altered) == (RAW_LIMIT, "cut")
    (only,) = read(name, opening.encode() + b'{"x": nothing, "y": "\xff' + b"x" * RAW_LIMIT)
    assert (len(only.raw), only.altered) == (RAW_LIMIT, "cut, escaped")
    assert only.raw.startswith('{"x": nothing, "y": "\\xffxxx')


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_progress_ends_at_the_size_of_the_file_and_rows_can_be_read_again(opened, name):
    if name == "a.csv":
        data = "question,answer\n" + "q,a\n" * 50_000
    else:
        lines = [row(f"q{i}") for i in range(20_000)]
        data = "\n".join(lines) if name == "a.jsonl" else "[" + ",".join(lines) + "]"
    source = opened(name, data)
    seen = [source.done_bytes for _ in source.rows()]
    assert seen == sorted(seen)
    assert seen[0] < source.total_bytes == seen[-1] == len(data)
    assert sum(1 for _ in source.rows()) == len(seen)
