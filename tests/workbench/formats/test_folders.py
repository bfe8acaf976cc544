"""Many files as one source: folders, globs, what `datasets.save_to_disk` leaves behind."""

import gzip
import hashlib
import json
import os

import pytest

from workbench.errors import BadInput
from workbench.formats.read import Record, open_source


def line(prompt: str) -> str:
    return json.dumps({"prompt": prompt, "completion": "a"}) + "\n"


@pytest.fixture
def folder(tmp_path):
    files = {
        "b.jsonl": line("b0") + "{broken\n" + line("b2"),
        "a/c.csv": "prompt,completion\nc0,a\nc1,a\n",
        "a/empty.json": "[]",
        "z.json": f"[{line('z0')}]",
        "README.md": "# about",
        "dataset_info.json": "{}",
        ".hidden.jsonl": line("hidden"),
        ".cache/x.jsonl": line("hidden"),
    }
    for name, text in files.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    (tmp_path / "set/m.jsonl.gz").write_bytes(gzip.compress(line("m0").encode()))
    return tmp_path / "set"


def told(source):
    return [
        (row.row, json.loads(row.messages)[0]["content"] if isinstance(row, Record) else row.reason)
        for row in source.rows()
    ]


def test_a_folder_is_one_source_with_its_rows_numbered_through(folder):
    source = open_source(folder)
    broken = "not JSON: Expecting property name enclosed in double quotes at character 2"
    rows = [(0, "c0"), (1, "c1"), (2, "b0"), (3, broken), (4, "b2"), (5, "m0"), (6, "z0")]
    assert told(source) == rows
    assert told(source) == rows, "and again"
    assert [(span.name, span.first_row, span.rows) for span in source.spans()] == [
        ("a/c.csv", 0, 2),
        ("a/empty.json", 2, 0),
        ("b.jsonl", 2, 3),
        ("m.jsonl.gz", 5, 1),
        ("z.json", 6, 1),
    ]
    assert source.ignored == ("README.md",)
    assert source.container == "5 files (1 CSV; 2 JSON array; 1 JSON Lines; 1 JSON Lines, gzip)"
    assert source.done_bytes == source.total_bytes == sum(part.path.stat().st_size for part in source.parts)


def test_the_hash_of_a_folder_is_that_of_its_list_of_files_wherever_it_lies(folder, tmp_path):
    before = open_source(folder).content_hash
    names = ["a/c.csv", "a/empty.json", "b.jsonl", "m.jsonl.gz", "z.json"]
    listed = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert before == hashlib.sha256(listed.encode()).hexdigest()
    folder.rename(tmp_path / "moved")
    assert open_source(tmp_path / "moved").content_hash == before
    (tmp_path / "moved/z.json").rename(tmp_path / "moved/y.json")
    assert open_source(tmp_path / "moved").content_hash != before


def test_a_source_of_one_file_has_the_hash_of_the_file(folder):
    digest = hashlib.sha256((folder / "b.jsonl").read_bytes()).hexdigest()
    assert open_source(folder / "b.jsonl").content_hash == open_source(folder / "b*").content_hash == digest


def test_globs_take_each_file_once_and_folders_with_what_is_in_them(folder):
    assert [part.name for part in open_source(folder / "*.json*").parts] == ["b.jsonl", "m.jsonl.gz", "z.json"]
    assert [part.name for part in open_source(folder / "**").parts] == [p.name for p in open_source(folder).parts]
    assert [part.name for part in open_source(folder / "**/*.csv").parts] == ["a/c.csv"]
    (folder / "odd[1].jsonl").write_text(line("odd"))
    assert told(open_source(folder / "odd[1].jsonl")) == [(0, "odd")]


def test_files_of_different_shapes_are_each_read_as_what_they_are(folder):
    turns = {"conversations": [{"from": "human", "value": "s0"}, {"from": "gpt", "value": "a"}]}
    (folder / "s.jsonl").write_text(json.dumps(turns))
    source = open_source(folder)
    assert source.format == "prompt-completion + sharegpt"
    assert (6, "s0") in told(source)


def test_an_empty_file_among_others_is_told(folder):
    (folder / "aa.jsonl").write_text("")
    assert told(open_source(folder))[2] == (2, "the file is empty")
    (folder / "aa.jsonl").write_bytes(gzip.compress(b""))
    assert told(open_source(folder))[2] == (2, "the file is empty")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / "z.json").write_bytes(line("q").encode("utf-16")), "z.json: the file is UTF-16"),
        (lambda folder: (folder / "z.parquet").write_bytes(b"PAR1 and no end"), "z.parquet: the Parquet file is dam"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_named(folder, change, what):
    change(folder)
    with pytest.raises(BadInput, match=what):
        open_source(folder)


def test_nothing_to_read(folder, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/README.md").write_text("x")
    with pytest.raises(BadInput, match="no data files here"):
        open_source(tmp_path / "none")
    with pytest.raises(BadInput, match="no data files here"):
        open_source(tmp_path / "none/*")
    with pytest.raises(BadInput, match="no file matches"):
        open_source(tmp_path / "none/*.jsonl")
    (tmp_path / "none/a.json").write_text("[]")
    (tmp_path / "none/b.json").write_text("[]")
    with pytest.raises(BadInput, match="the files have no rows"):
        open_source(tmp_path / "none")


def test_a_change_of_one_file_is_noticed(folder):
    source = open_source(folder)
    rows = source.rows()
    next(rows)
    (folder / "z.json").write_text(f"[{line('other')}]")
    with pytest.raises(BadInput, match=r"z.json: the file changed while it was read"):
        list(rows)


def test_file_names_that_are_no_text(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "w") as file:
        file.write(line("q"))
    source = open_source(tmp_path)
    assert told(source) == [(0, "q")]
    assert [part.name for part in source.parts] == ["caf\\xe9.jsonl"]
    assert len(source.content_hash) == 64


@pytest.fixture
def saved(tmp_path):
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    rows = Dataset.from_list([{"prompt": f"q{i}", "completion": "a", "extra": {"n": i}} for i in range(7)])
    DatasetDict(train=rows, test=rows.select(range(2))).save_to_disk(
        tmp_path / "saved", num_shards={"train": 3, "test": 1}
    )
    return tmp_path / "saved"


def test_what_save_to_disk_wrote(saved):
    source = open_source(saved)
    assert [(span.name, span.rows) for span in (list(source.rows()), source.spans())[1]] == [
        ("test/data-00000-of-00001.arrow", 2),
        ("train/data-00000-of-00003.arrow", 3),
        ("train/data-00001-of-00003.arrow", 2),
        ("train/data-00002-of-00003.arrow", 2),
    ]
    assert [text for _, text in told(open_source(saved / "train"))] == [f"q{i}" for i in range(7)]
    assert next(iter(source.rows())).meta == {"extra": {"n": 0}}


def test_caches_beside_a_saved_data_set_are_not_its_rows(saved):
    (saved / "train/cache-1234.arrow").write_bytes((saved / "train/data-00000-of-00003.arrow").read_bytes())
    assert len(told(open_source(saved / "train"))) == 7


def test_a_saved_data_set_with_a_part_missing_is_refused(saved):
    (saved / "train/data-00001-of-00003.arrow").unlink()
    with pytest.raises(BadInput, match=r"data-00001-of-00003.arrow: there is no such file"):
        open_source(saved)
    (saved / "test").rename(saved.parent / "test")
    with pytest.raises(BadInput, match="the split 'test' is missing"):
        open_source(saved)
