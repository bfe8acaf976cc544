"""What can be imported besides one plain file, what a preview says of it, and imports that do not come to their end."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager

import pytest

from workbench.cli import common
from workbench.importing import name_for

from .conftest import DATA, assert_intact


def rows(*numbers: int) -> str:
    return "".join(json.dumps({"prompt": f"question {n}", "completion": f"answer {n}"}) + "\n" for n in numbers)


@pytest.fixture
def folder(tmp_path):
    """A folder of three data files, one of them packed and one broken in its last row, and a file that is no data."""
    made = tmp_path / "chats"
    made.mkdir()
    (made / "a.jsonl").write_text(rows(0, 1))
    (made / "b.jsonl.gz").write_bytes(gzip.compress(rows(2, 3, 4).encode()))
    (made / "c.jsonl").write_text(rows(5) + '{"prompt": "no answer"}\n')
    (made / "notes.md").write_text("# notes")
    return made


def prompts(bench, name):
    shown = bench("examples", name, "--limit", "100", "--json").json["examples"]
    return [(row["row"], row["messages"][0]["content"]) for row in shown]


def test_a_folder_is_one_source_whose_rows_know_their_files(bench, root, folder):
    called = bench("import", folder, "--json")
    expected = {"source": "chats", "rows": 7, "imported": 6, "rejected": 1, "format": "prompt-completion"}
    assert called.json | expected == called.json
    assert prompts(bench, "chats") == [(n, f"question {n}") for n in range(6)]
    files = bench("sources", "show", "chats", "--json").json["files"]
    assert [(file["path"].rsplit("/")[-1], file["first_row"], file["rows"]) for file in files] == [
        ("a.jsonl", 0, 2),
        ("b.jsonl.gz", 2, 3),
        ("c.jsonl", 5, 2),
    ]
    assert bench("import", f"{folder}/*.jsonl*", "--json").json["already_imported"] is True
    assert_intact(root)


def test_a_folder_grows_by_a_file_behind_the_others(bench, root, folder):
    bench("import", folder)
    (folder / "d.jsonl").write_text(rows(7, 8))
    assert bench("import", folder, "--grow", "--json").json["added"] == 2
    assert prompts(bench, "chats")[-2:] == [(7, "question 7"), (8, "question 8")]
    assert len(bench("sources", "show", "chats", "--json").json["files"]) == 4
    (folder / "aa.jsonl").write_text(rows(9))  # before the others: every row behind it would get another number
    called = bench("import", folder, "--grow")
    assert called.code == 3
    assert "row 2 is not what was imported" in called.err
    assert_intact(root)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("alpaca_en.json", "alpaca_en"),
        ("/data/my chats.v2.jsonl.gz", "my-chats.v2"),
        ("/data/part-*.jsonl", "part"),
        ("/nowhere/chats/*.jsonl.zst", "chats"),
        ("/nowhere/chats/**/*.json", "chats"),
        ("hf:org/name", "name"),
        ("hf:org/name/config:train", "name-config-train"),
        ("hf:./saved/set:train", "saved-set-train"),
        ("...json", "source"),
    ],
)
def test_a_source_that_nobody_named_is_called_as_what_it_came_from(target, name):
    assert name_for(target) == name


def test_a_preview_says_what_was_understood_and_needs_no_workspace(anywhere, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    seen = anywhere("import", "--preview", "1", folder, "--json")
    assert seen.code == 0
    assert seen.json["container"] == "3 files (2 JSON Lines; 1 JSON Lines, gzip)"
    assert (seen.json["encoding"], seen.json["format"]) == ("UTF-8", "prompt-completion")
    assert seen.json["columns"] == {"prompt": "user", "completion": "assistant"}
    assert seen.json["sample"] == {"rows": 7, "imported": 6, "examples": 6, "rejected": 1, "complete": True}
    assert [row["messages"][0]["content"] for row in seen.json["examples"]] == ["question 0"]
    assert [row["row"] for row in seen.json["rejects"]] == [6]
    assert seen.json["ignored"] == ["notes.md"]
    said = anywhere("import", "--preview", folder)  # the path right behind it is not its number
    assert "question 2" in said.out
    assert "question 3" not in said.out
    assert "assistant   from completion" in said.out
    assert "Nothing was written" in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_preview_tells_the_columns_of_real_rows_by_what_became_of_them(anywhere):
    if not DATA.exists():
        pytest.skip(f"{DATA} is not here")
    columns = {
        "alpaca/alpaca_en.json": {"instruction": "user", "input": "user", "output": "assistant"},
        "sharegpt/glaive_toolcall_en.json": {"conversations": "turns", "tools": "tools"},
        "preference/dpo_en.json": {"conversations": "turns", "chosen": "turns", "rejected": "metadata"},
    }
    for path, expected in columns.items():
        assert anywhere("import", DATA / path, "--preview", "--json").json["columns"] == expected


def test_a_preview_is_of_the_first_rows_and_says_so(anywhere, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("\ufeff" + rows(*range(1200)))
    seen = anywhere("import", path, "--preview", "0", "--json").json
    assert (seen["sample"]["rows"], seen["sample"]["complete"], seen["examples"]) == (1000, False, [])
    assert seen["encoding"] == "UTF-8 with a byte order mark"
    assert "first 1,000 rows" in anywhere("import", path, "--preview").out


@pytest.mark.parametrize(
    ("text", "saw", "expected"),
    [
        ('{"foo": 1}\n' * 3, "JSON Lines, of no known shape", "`messages`; `conversations`"),
        (
            rows(1) + '{"prompt": "q", "extra": 1}\n' * 2,
            "JSON Lines, read as prompt-completion",
            "no column `completion`",
        ),
    ],
)
def test_a_file_that_is_mostly_rejected_is_told_what_was_seen_and_what_was_expected(
    bench, anywhere, root, tmp_path, text, saw, expected
):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    called = bench("import", path)
    assert called.code == 3
    assert saw in called.err
    assert expected in called.err
    assert f"workbench import --preview {path}" in called.err
    assert "Nothing was kept" in called.err
    assert bench("sources", "ls", "--json").json["sources"] == []
    assert_intact(root)
    previewed = anywhere("import", "--preview", path, "--json")
    assert (previewed.code, previewed.json["usable"]) == (3, False)


@pytest.fixture
def meanwhile(monkeypatch):
    """meanwhile(act): calls `act` once, in the middle of the reading of the next import."""

    def arrange(act):
        acted = []

        @contextmanager
        def bar(title, **options):
            def update(done, total, what):
                if done > total / 2 and not acted:
                    acted.append(True)
                    act()

            yield update

        monkeypatch.setattr(common, "progress_bar", bar)

    return arrange


@pytest.fixture
def long(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(rows(*range(9000)))
    return path


def ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize("grow", [False, True])
def test_ctrl_c_leaves_nothing_behind(bench, root, long, meanwhile, grow):
    if grow:
        bench("import", long)
        long.write_text(rows(*range(14_000)))
    meanwhile(ctrl_c)
    called = bench("import", long, *(["--grow"] if grow else []))
    assert (called.code, called.out) == (6, "")
    assert "nothing was kept" in called.err
    assert [source["rows"] for source in bench("sources", "ls", "--json").json["sources"]] == ([9000] if grow else [])
    assert_intact(root)
    assert bench("import", long, "--grow", "--json").json["added"] == (5000 if grow else 9000)
    assert_intact(root)


def test_a_file_that_changes_while_it_is_read_is_refused(bench, root, long, meanwhile):
    meanwhile(lambda: long.write_text(rows(*range(1, 9001))))
    called = bench("import", long)
    assert (called.code, called.out) == (3, "")
    assert "changed while it was read" in called.err
    assert bench("sources", "ls", "--json").json["sources"] == []
    assert_intact(root)


def test_a_glob_that_the_shell_has_spread_is_refused_with_what_to_type_instead(bench, folder):
    called = bench("import", *sorted(folder.glob("*.json*")))
    assert called.code == 2
    assert "3 files are named" in called.err
    assert "in quotes" in called.err
