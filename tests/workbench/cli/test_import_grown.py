"""The same file again when it has grown: only what is new comes in, and what was there must be as it was."""

from __future__ import annotations

import json

import pytest

from workbench.workspace import Workspace

from .conftest import assert_intact


def pair(number: int, **meta: object) -> str:
    return json.dumps({"prompt": f"question {number}", "completion": f"answer {number}", **meta})


@pytest.fixture
def log(tmp_path):
    """log(*lines): the file `log.jsonl` with these lines."""
    path = tmp_path / "log.jsonl"

    def write(*lines: str):
        path.write_text("".join(line + "\n" for line in lines))
        return path

    return write


def prompts(root, name):
    workspace = Workspace.open(root)
    try:
        texts = [text for batch in workspace.rows(name) for text in batch.column("messages").to_pylist()]
        return [json.loads(text)[0]["content"] for text in texts]
    finally:
        workspace.close()


def test_only_the_new_rows_are_added_and_versions_stay(bench, root, log):
    assert bench("import", log(*map(pair, range(3))), "--grow", "--json").json["added"] == 3
    frozen = bench("versions", "freeze", "log", "--name", "before", "--json").json
    path = log(*map(pair, range(5)), '{"prompt": "no answer"}')
    grown = bench("import", path, "--grow", "--license", "MIT", "--json")
    assert grown.code == 0
    expected = {"source": "log", "rows": 6, "imported": 5, "rejected": 1, "added": 3, "fixed": 0}
    assert grown.json | expected == grown.json
    assert grown.json["duplicates_of_known"] == 0
    assert prompts(root, "log") == [f"question {n}" for n in range(5)]
    assert prompts(root, "before") == [f"question {n}" for n in range(3)]
    assert bench("versions", "show", "before", "--json").json["manifest_hash"] == frozen["manifest_hash"]
    shown = bench("sources", "show", "log", "--json").json
    assert [(file["first_row"], file["rows"]) for file in shown["files"]] == [(0, 3), (3, 3)]
    assert shown["license"] == "MIT"
    assert bench("import", path, "--grow", "--json").json["already_imported"] is True
    assert bench("import", path, "--json").json["already_imported"] is True
    assert "3 new rows, now 9" in bench("import", log(*map(pair, range(5)), "{", *map(pair, range(6, 9))), "--grow").out
    assert_intact(root)


def test_without_the_option_a_grown_file_is_refused_and_the_option_named(bench, log):
    bench("import", log(pair(0)))
    called = bench("import", log(pair(0), pair(1)))
    assert (called.code, called.out) == (2, "")
    assert "--grow" in called.err
    assert "--name log-2" in called.err


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([pair(0), pair(9), pair(2), pair(3)], "row 1 is not what was imported"),
        ([pair(0), pair(1, tag="new"), pair(2), pair(3)], "row 1 is not what was imported"),
        ([pair(1), pair(2), pair(3)], "row 0 is not what was imported"),
        ([pair(0), "{", pair(2), pair(3)], "row 1 is not what was imported"),
        ([pair(0), pair(1)], "the file ends behind row 1, and row 2 was imported"),
    ],
)
def test_a_file_whose_earlier_rows_changed_is_refused_and_nothing_kept(bench, root, log, lines, says):
    bench("import", log(*map(pair, range(3))))
    called = bench("import", log(*lines), "--grow")
    assert (called.code, called.out) == (3, "")
    assert says in called.err
    assert "Nothing was kept" in called.err
    assert prompts(root, "log") == [f"question {n}" for n in range(3)]
    assert_intact(root)


def test_rejects_that_are_corrected_in_the_file_come_in_at_their_rows(bench, root, log):
    bench("import", log(pair(0), '{"prompt": "half', pair(2), "{", pair(4)))
    grown = bench("import", log(pair(0), pair(1), pair(2), "{{", pair(4), pair(5)), "--grow", "--json")
    assert (grown.json["added"], grown.json["fixed"], grown.json["rejected"]) == (1, 1, 1)
    assert prompts(root, "log") == [f"question {n}" for n in (0, 1, 2, 4, 5)]
    [left] = bench("rejects", "ls", "log", "--json").json["rejects"]
    assert (left["row"], left["raw"].strip()) == (3, "{{")
    assert_intact(root)


def test_rows_corrected_by_hand_stay_as_they_were_corrected(bench, root, log, tmp_path):
    bench("import", log(pair(0), "{", pair(2)))
    fix = tmp_path / "fix.jsonl"
    fix.write_text(json.dumps({"row": 1, "value": json.loads(pair(7))}))
    bench("rejects", "import", "log", fix)
    grown = bench("import", log(pair(0), "{", pair(2), pair(3)), "--grow", "--json").json
    assert (grown["added"], grown["rejected"]) == (1, 0)
    assert prompts(root, "log") == [f"question {n}" for n in (0, 7, 2, 3)]
    assert_intact(root)


def test_new_rows_are_read_as_the_first_were(bench, log):
    lines = [json.dumps({"q": n, "a": f"{n}"}) for n in "abc"]
    bench("import", log(*lines[:2]), "--map", "prompt=q,response=a")
    assert bench("import", log(*lines), "--grow", "--json").json["added"] == 1
    called = bench("import", log(*lines, lines[0]), "--grow", "--map", "prompt=a,response=q")
    assert called.code == 2
    assert "the same way" in called.err
