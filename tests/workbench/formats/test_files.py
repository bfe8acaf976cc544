"""Files as they lie on a disk: packed, cut, damaged, changed while they are read, or not what their name says."""

import gzip
import json
import os
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

from workbench.errors import BadInput
from workbench.formats.files import InputFile
from workbench.formats.read import Record, Reject, open_source

ROWS = [{"prompt": f"q{i} é😀", "completion": f"answer {i}\n" * 20} for i in range(3000)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACK = {"gz": gzip.compress, "zst": zstd}


def prompts(rows):
    return [json.loads(row.messages)[0]["content"] if isinstance(row, Record) else None for row in rows]


ALL = [row["prompt"] for row in ROWS]


def csv_bytes() -> bytes:
    quoted = [f'"{row["prompt"]}","{row["completion"]}"\r\n' for row in ROWS]
    return ("prompt,completion\r\n" + "".join(quoted)).encode()


def arrow_bytes(make) -> bytes:
    table = pa.Table.from_pylist(ROWS)
    sink = pa.BufferOutputStream()
    with make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return sink.getvalue().to_pybytes()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=800)
    return sink.getvalue().to_pybytes()


CONTAINERS = {
    "a.jsonl": lambda: LINES,
    "a.json": lambda: json.dumps(ROWS).encode(),
    "a.csv": csv_bytes,
    "a.tsv": lambda: csv_bytes().replace(b'","', b'"\t"').replace(b"prompt,", b"prompt\t"),
    "a.parquet": parquet_bytes,
    "file.arrow": lambda: arrow_bytes(pa.ipc.new_file),
    "stream.arrow": lambda: arrow_bytes(pa.ipc.new_stream),
}


@pytest.mark.parametrize("packing", ["", "gz", "zst"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_plain_and_packed_gives_the_same_rows(opened, name, packing):
    data = CONTAINERS[name]()
    source = opened(f"{name}.{packing}" if packing else name, PACK[packing](data) if packing else data)
    seen = []
    rows = []
    for row in source.rows():
        rows.append(row)
        seen.append(source.done_bytes)
    assert prompts(rows) == ALL
    assert json.loads(rows[7].messages)[1]["content"] == ROWS[7]["completion"]
    assert seen == sorted(seen)
    assert seen[-1] == source.total_bytes, "the progress comes to its end"
    assert source.container.endswith({"": "", "gz": ", gzip", "zst": ", zstd"}[packing])


def test_feather_of_pyarrow_with_its_own_compression(tmp_path):
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), tmp_path / "a.feather", compression="zstd")
    assert prompts(open_source(tmp_path / "a.feather").rows()) == ALL


def test_packed_files_made_of_several_pieces(read):
    half = len(LINES) // 2
    for pack, name in ((gzip.compress, "a.jsonl.gz"), (zstd, "a.jsonl.zst")):
        assert prompts(read(name, pack(LINES[:half]) + pack(b"") + pack(LINES[half:]))) == ALL
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    assert prompts(read("b.jsonl.zst", skipped + zstd(LINES[:half]) + skipped + zstd(LINES[half:]))) == ALL


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_packed_files_are_the_same_wherever_reading_stops(read, monkeypatch, chunk):
    monkeypatch.setattr("workbench.formats.files._PACKED_CHUNK", chunk)
    line = b'{"prompt": "q", "completion": "a"}\n'
    for pack, name in ((gzip.compress, "a.jsonl.gz"), (zstd, "a.jsonl.zst")):
        assert prompts(read(name, pack(line) + pack(line * 2) + b"\0" * 20)) == ["q"] * 3
        rows = read(name, pack(line) + b"PK rubbish")
        assert prompts(rows) == ["q", None]
        assert "behind the end of the" in rows[1].reason


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "stream.arrow"])
def test_a_packed_file_that_was_cut_gives_the_rows_before_and_says_so(opened, name, packing):
    data = PACK[packing](CONTAINERS[name]())
    rows = list(opened(f"{name}.{packing}", data[: len(data) * 2 // 3]).rows())
    good = prompts(row for row in rows if isinstance(row, Record))
    assert good == ALL[: len(good)]
    assert [row.row for row in rows] == list(range(len(rows)))
    rejects = rows[len(good) :]
    assert all(isinstance(row, Reject) for row in rejects)
    assert rejects[-1].reason == f"the {'gzip' if packing == 'gz' else 'zstd'} data breaks off: the file was cut"
    assert packing == "zst" or len(good) > 1000, "gzip gives all that was packed before the cut"


def test_a_gzip_file_that_fails_its_checksum_keeps_its_rows_and_says_so(read):
    data = bytearray(gzip.compress(LINES))
    data[-8] ^= 1
    rows = read("a.jsonl.gz", bytes(data))
    assert prompts(rows) == [*ALL, None]
    assert rows[-1].reason == "the gzip data is damaged (Error -3 while decompressing data: incorrect data check)"


def test_a_packed_bomb_takes_little_memory(tmp_path):
    bomb = tmp_path / "a.jsonl.zst"
    good = b'{"prompt": "q", "completion": "a"}\n'
    packer = zstandard.ZstdCompressor().compressobj()
    with bomb.open("wb") as file:
        file.write(zstd(good))
        for _ in range(32):
            file.write(packer.compress(b"\0" * 5_000_000))  # one line of 160 MB
        file.write(packer.flush())
        file.write(zstd(b"\n" + good))
    code = (
        "import sys; from workbench.formats.read import open_source\n"
        "for row in open_source(sys.argv[1]).rows(): print(type(row).__name__, getattr(row, 'reason', ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bomb)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (700_000_000, 700_000_000)),
    )
    assert done.stdout.splitlines() == [
        "Record ",
        "Reject the row is longer than 134,217,728 characters",
        "Record ",
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_row_that_is_too_long_costs_itself_only(read, monkeypatch, name):
    monkeypatch.setattr("workbench.formats.json_rows.ROW_LIMIT", 400_000)
    good, long = {"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "]}\\ " * 200_000}
    rows = [good, long, good]
    text = json.dumps(rows) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in rows)
    assert prompts(read(name, text)) == ["q", None, "q"]


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_that_was_cut_gives_the_rows_before_and_says_so(read, make):
    data = arrow_bytes(make)
    rows = read("a.arrow", data[: len(data) // 2])
    assert prompts(rows) == [*ALL[:1400], None]
    assert rows[-1].reason.startswith("the Arrow data breaks off behind row 1400")


def test_an_arrow_file_without_its_footer_says_so(read):
    rows = read("a.arrow", arrow_bytes(pa.ipc.new_file)[:-3])
    assert prompts(rows) == [*ALL, None]
    assert rows[-1].reason == "the Arrow file breaks off behind row 3000: its end is missing"


def test_what_is_damaged_in_a_parquet_file_costs_its_row_group_only(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=1000, compression="gzip")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    source = open_source(path)
    rows = list(source.rows())
    assert prompts(rows) == [*ALL[:1000], None, *ALL[2000:]]
    assert rows[1000].reason.startswith("rows 1000 to 1999 of the Parquet file are damaged: ")
    assert source.done_bytes == source.total_bytes


def test_arrow_text_that_is_not_utf8_costs_its_own_row_only(tmp_path):
    texts = pa.array([b"q", b"caf\xe9", b"q"]).view(pa.string())
    pq.write_table(pa.table({"prompt": texts, "completion": ["a"] * 3}), tmp_path / "a.parquet")
    rows = list(open_source(tmp_path / "a.parquet").rows())
    assert prompts(rows) == ["q", None, "q"]
    assert "a value cannot be read: 'utf-8' codec" in rows[1].reason


def test_columns_of_json_come_as_what_they_say(tmp_path):
    call = {"function": {"name": "f", "arguments": {"x": None, "y": [1, {}]}}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    table = pa.table(
        {"messages": pa.array([json.dumps(turns)], pa.json_()), "more": pa.array(["[1, null]"], pa.json_())}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (only,) = open_source(tmp_path / "a.parquet").rows()
    assert json.loads(only.messages)[1]["tool_calls"][0]["function"] == call["function"]
    assert only.meta == {"more": [1, None]}


@pytest.mark.parametrize(
    ("name", "data", "what", "do"),
    [
        ("a.jsonl", LINES[:60].decode().encode("utf-16"), "the file is UTF-16, not UTF-8 text", "iconv -f UTF-16"),
        ("a.jsonl", LINES[:60].decode().encode("utf-16-be"), "the file is UTF-16, not UTF-8 text", "iconv"),
        ("a.csv", "prompt,completion\n".encode("utf-16-le"), "the file is UTF-16, not UTF-8 text", "iconv"),
        ("a.jsonl", LINES[:60].decode().encode("utf-32"), "the file is UTF-32, not UTF-8 text", "iconv -f UTF-32"),
        ("a.jsonl", LINES[:60].decode().encode("utf-32-be"), "the file is UTF-32, not UTF-8 text", "iconv"),
        (
            "a.jsonl.gz",
            gzip.compress(b"\0" * 257 + b"ustar" + b"\0" * 300, mtime=0),
            "a tar archive",
            "import the folder",
        ),
        ("a.feather", b"FEA1....", "Feather of version 1", "Unpack it first"),
    ],
)
def test_what_a_file_is_instead_is_said_plainly(opened, name, data, what, do):
    with pytest.raises(BadInput, match=what) as caught:
        opened(name, data)
    assert do in caught.value.do


def test_nuls_are_text_in_a_row_and_cost_a_row_outside_of_one(read):
    rows = read(
        "a.jsonl", b'{"prompt": "a\0b", "completion": "c"}\n\0\0\0\0\n{"prompt": "\\u0000", "completion": "c"}\n'
    )
    assert prompts(rows) == ["a\0b", None, "\0"]


@pytest.mark.parametrize("how", ["append", "overwrite", "replace", "shorten"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, how):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    source = open_source(path)
    assert source.content_hash
    rows = source.rows()
    next(rows)
    if how == "append":
        with path.open("ab") as file:
            file.write(LINES[:60])
    elif how == "overwrite":
        path.write_bytes(LINES.replace(b"answer 2999", b"answer 2998"))
    elif how == "shorten":
        os.truncate(path, len(LINES) - 100)
    else:
        (tmp_path / "b").write_bytes(LINES[:1000])
        (tmp_path / "b").replace(path)
    with pytest.raises(BadInput, match="the file changed while it was read") as caught:
        list(rows)
    assert caught.value.where == str(path)


def test_a_touched_file_with_the_same_bytes_has_not_changed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    source = open_source(path)
    assert source.content_hash
    rows = source.rows()
    next(rows)
    path.chmod(0o600)
    os.utime(path)
    assert len(list(rows)) == len(ROWS) - 1


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(BadInput, match="this is not a file"):
        InputFile(tmp_path / "pipe.jsonl")


def test_memory_does_not_grow_with_the_file(tmp_path):
    for name, start, glue, end in (("a.jsonl", b"", b"\n", b"\n"), ("a.json", b"[", b",", b"]")):
        with (tmp_path / name).open("wb") as file:
            file.write(start)
            row = json.dumps({"prompt": "q é😀", "completion": "x" * 5000}, ensure_ascii=False).encode()
            for _ in range(50):
                file.write(glue.join([row] * 200) + glue)
            file.write(row + end)
    code = (
        "import sys, resource; from workbench.formats.read import open_source\n"
        "def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n"
        "    rows = open_source(name).rows()\n"
        "    for _, row in zip(range(2000), rows): pass\n"
        "    before = most()\n"
        "    print(sum(1 for _ in rows), (most() - before) // 1024)"
    )
    paths = [str(tmp_path / name) for name in ("a.jsonl", "a.json")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        rows, grown = map(int, line.split())
        assert rows == 8001
        assert grown < 10, "megabytes more for 40 MB more of the file"
