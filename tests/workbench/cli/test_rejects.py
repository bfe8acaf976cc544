"""The whole circle of broken rows: rejected, listed, written out, corrected, taken in."""

from __future__ import annotations

import json

import pytest

from workbench.formats.rows import RAW_LIMIT
from workbench.workspace import Workspace

from .conftest import DATA, assert_intact

CONVERSATIONS = DATA / "messages" / "conversations.jsonl"


@pytest.fixture
def whole():
    """The lines of a real file of conversations."""
    if not CONVERSATIONS.exists():
        pytest.skip(f"{CONVERSATIONS} is not here")
    return CONVERSATIONS.read_text().splitlines()


@pytest.fixture
def broken(whole, tmp_path):
    """The real file with five rows broken in five ways."""
    lines = [line.encode() for line in whole]
    lines[3] = lines[3][:70]
    lines[7] = lines[7].replace(b'"user"', b'"narrator"')
    lines[11] = b'{"messages": []}'
    lines[15] = lines[15].replace(b'"role"', b"role", 1)
    lines[20] = lines[20][:60] + b"\xe9" + lines[20][60:]
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def stored(root, name):
    workspace = Workspace.open(root)
    try:
        return [json.loads(text) for batch in workspace.rows(name) for text in batch.column("messages").to_pylist()]
    finally:
        workspace.close()


def test_rejects_are_written_out_corrected_and_taken_in_at_their_rows(bench, root, whole, broken, tmp_path):
    assert bench("import", broken, "--json").json["rejected"] == 5
    frozen = bench("versions", "freeze", "broken", "--name", "before", "--json").json
    out = tmp_path / "out.jsonl"
    assert bench("rejects", "export", "broken", "-o", out, "--json").json == {
        "path": str(out), "rows": 5, "parsed": 2, "cut": [], "escaped": [20],
    }  # fmt: skip
    entries = {entry["row"]: entry for entry in map(json.loads, out.read_text().splitlines())}
    assert all(entry["reason"] for entry in entries.values())
    assert sorted(row for row in entries if "value" in entries[row]) == [7, 11]
    entries[3]["value"] = json.loads(whole[3])  # beside the raw text
    entries[7]["value"]["messages"][0]["role"] = "user"
    entries[15]["raw"] = entries[15]["raw"].replace("role", '"role"', 1)
    entries[20]["raw"] = entries[20].pop("text").replace("\\xe9", "")
    out.write_text("".join(json.dumps(entry) + "\n" for entry in entries.values()))

    fixed = bench("rejects", "import", "broken", out, "--json")
    assert (fixed.code, fixed.json["fixed"], fixed.json["rejected"]) == (0, 4, 1)
    assert [left["row"] for left in fixed.json["still_rejected"]] == [11]
    expected = [json.loads(line)["messages"] for number, line in enumerate(whole) if number != 11]
    assert stored(root, "broken") == expected
    rows = bench("examples", "broken", "--limit", "200", "--json").json["examples"]
    assert [row["id"] for row in rows] == [row["row"] + 1 for row in rows]  # long lists are read by ranges of ids
    shown = bench("sources", "show", "broken", "--json").json
    assert (shown["rows"], shown["imported"], shown["rejected"], shown["fixed"]) == (128, 127, 1, 4)
    assert [reject["row"] for reject in bench("rejects", "ls", "broken", "--json").json["rejects"]] == [11]
    assert bench("versions", "show", "before", "--json").json["manifest_hash"] == frozen["manifest_hash"]
    assert_intact(root)

    again = bench("rejects", "import", "broken", out, "--json")
    assert (again.code, again.json["fixed"], again.json["fixed_before"]) == (0, 0, 4)
    assert stored(root, "broken") == expected
    assert bench("import", broken, "--json").json["already_imported"] is True
    assert_intact(root)


def test_a_corrected_row_is_read_as_its_source_was(bench, root, tmp_path):
    path = tmp_path / "qa.csv"
    path.write_text("q,a,topic\none,1,x\ntwo\nthree,3,x\n")
    bench("import", path, "--map", "prompt=q,response=a")
    fix = tmp_path / "fix.json"  # one array instead of lines: what editors make of them
    fix.write_text(json.dumps([{"row": 1, "value": {"q": "two", "a": "2", "topic": "y"}}], indent=2))
    assert bench("rejects", "import", "qa", fix, "--json").json["fixed"] == 1
    assert [turns[1]["content"] for turns in stored(root, "qa")] == ["1", "2", "3"]
    rows = bench("examples", "qa", "--json").json["examples"]
    assert [(row["row"], row["meta"]) for row in rows] == [
        (0, {"topic": "x"}),
        (1, {"topic": "y"}),
        (2, {"topic": "x"}),
    ]
    assert_intact(root)


def test_rejects_of_an_older_workspace_can_be_corrected_too(bench, root, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "completion": "1"}\n{"prompt": "b"}\n{"prompt": "c", "completion": "3"}\n')
    bench("import", path)
    workspace = Workspace.open(root)
    with workspace.store.transaction() as cursor:
        cursor.execute("UPDATE rejects SET example_id = NULL")  # no id was kept free then
    workspace.close()
    fix = tmp_path / "fix.jsonl"
    fix.write_text('{"row": 1, "value": {"prompt": "b", "completion": "2"}}')
    bench("rejects", "import", "p", fix)
    assert [turns[0]["content"] for turns in stored(root, "p")] == ["a", "b", "c"]
    assert_intact(root)


def test_text_that_a_value_would_lose_something_of_stays_text(bench, tmp_path):
    good = '{"prompt": "q", "completion": "a"}'
    twice = '{"prompt": "a", "prompt": "b"}'
    number = '{"prompt": "q", "completion": NaN}'
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join([good, twice, good, number, good]))
    bench("import", path)
    out = tmp_path / "out.jsonl"
    bench("rejects", "export", "p", "-o", out)
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert [entry["raw"].strip() for entry in entries] == [twice, number]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"row": 0, "value": {}}', "row 0 is not among the rejects"),
        ('{"row": 1, "value": {}}\n{"row": 1, "value": {}}', "row 1 comes twice"),
        ('{"value": {}}', "no row number"),
        ('{"row": true, "value": {}}', "no row number"),
        ('{"row": 1}', "neither a value nor a raw text"),
        ('{"row": 1, "raw": 5}', "neither a value nor a raw text"),
        ('{"row": 1, "value": {}}\n{"row": 1,', "entry 2"),
    ],
)
def test_a_file_of_corrections_that_cannot_be_meant_changes_nothing(bench, root, tmp_path, line, says):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "q", "completion": "a"}\n{"prompt": "q"}\n')
    bench("import", path)
    fix = tmp_path / "fix.jsonl"
    fix.write_text(line)
    called = bench("rejects", "import", "p", fix)
    assert (called.code, called.out) == (3, "")
    assert says in called.err
    assert "Nothing was kept" in called.err
    assert bench("rejects", "ls", "p", "--json").json["total"] == 1
    assert_intact(root)


def test_a_correction_that_is_none_says_what_is_wrong_and_exits_3(bench, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "q", "completion": "a"}\n{"prompt": "q"\n')
    bench("import", path)
    fix = tmp_path / "fix.jsonl"
    fix.write_text(json.dumps({"row": 1, "raw": '{"prompt": "q", "completion": 5'}))
    called = bench("rejects", "import", "p", fix)
    assert called.code == 3
    assert "row 1: the raw text: not JSON" in called.out


def test_an_export_of_rejects_replaces_nothing_unasked(bench, tmp_path, write_pairs):
    bench("import", write_pairs(("a", "b")))
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    called = bench("rejects", "export", "pairs", "-o", out)
    assert (called.code, out.read_text()) == (2, "mine")
    assert bench("rejects", "export", "pairs", "-o", out, "--force", "--json").json["rows"] == 0
    assert "Every row of pairs was imported" in bench("rejects", "ls", "pairs").err


def test_half_a_character_goes_out_as_its_escape_and_can_be_mended(bench, root, tmp_path):
    path = tmp_path / "half.jsonl"
    pair = '{{"instruction":"q","output":"{}"}}'.format
    path.write_text("\n".join([pair("y\\ud800z"), pair("a"), pair("b")]))
    assert bench("import", path, "--json").json["rejected"] == 1
    out = tmp_path / "out.jsonl"
    assert bench("rejects", "export", "half", "-o", out).code == 0
    [line] = out.read_text().splitlines()
    assert json.loads(line)["raw"].strip() == pair("y\\ud800z")
    out.write_text(line.replace("\\\\ud800", "!"))
    assert bench("rejects", "import", "half", out, "--json").json["fixed"] == 1
    assert [messages[-1]["content"] for messages in stored(root, "half")] == ["y!z", "a", "b"]


LONG = 10_000_000


def test_a_reject_of_ten_megabytes_is_kept_whole_and_can_be_mended(bench, root, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(pair("a", "b") + pair("q", "x" * LONG)[:-2] + "\n" + pair("c", "d"))
    bench("import", path)
    out = tmp_path / "out.jsonl"
    assert bench("rejects", "export", "long", "-o", out, "--json").json["cut"] == []
    entry = json.loads(out.read_text())
    entry["raw"] = entry["raw"].rstrip() + "}"
    out.write_text(json.dumps(entry))
    assert bench("rejects", "import", "long", out, "--json").json["fixed"] == 1
    assert stored(root, "long")[1][1]["content"] == "x" * LONG


def pair(prompt: str, completion: str) -> str:
    return json.dumps({"prompt": prompt, "completion": completion}) + "\n"


def test_a_text_that_is_not_as_the_file_has_it_is_told_and_never_taken_in_as_it_is(bench, root, tmp_path):
    path = tmp_path / "p.jsonl"
    # With the bad byte written as \\xff, the second row would be JSON: a text that nobody wrote.
    bad = [b'{"prompt": "caf\xe9", "completion": "1"}\n', b'{"prompt": "caf\\\xff", "completion": "2"}\n']
    cut = b'{"prompt": "q", "completion": nothing "' + b"x" * RAW_LIMIT + b'"}\n'
    path.write_bytes(b"".join([*bad, *[pair("q", "a").encode()] * 3, cut]))
    assert bench("import", path).code == 0
    listed = bench("rejects", "ls", "p")
    assert [row["altered"] for row in bench("rejects", "ls", "p", "--json").json["rejects"]] == [
        "escaped", "escaped", "cut",
    ]  # fmt: skip
    assert listed.out.count("bytes that are not UTF-8 stand here as \\xNN") == 2
    assert listed.out.count("only the first 16,777,216 characters of the row are here") == 1

    out = tmp_path / "out.jsonl"
    exported = bench("rejects", "export", "p", "-o", out)
    assert "row 0, 1." in exported.err
    assert "text is cut: row 5." in exported.err
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{"value", "raw"} & entry.keys() for entry in entries] == [set()] * 3
    assert [entry["altered"].split(":")[0] for entry in entries] == ["escaped", "escaped", "cut"]
    untouched = bench("rejects", "import", "p", out, "--json")
    assert (untouched.code, untouched.json["fixed"], untouched.json["rejected"]) == (3, 0, 3)
    assert "not as the file has it" in untouched.json["still_rejected"][2]["reason"]
    entries[0]["raw"] = pair("café", "1")
    entries[2]["value"] = json.loads(pair("q", "3"))
    out.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert bench("rejects", "import", "p", out, "--json").json["fixed"] == 2
    assert [turns[0]["content"] for turns in stored(root, "p")] == ["café", "q", "q", "q", "q"]
    assert_intact(root)


def test_rejects_of_several_files_say_in_which_they_stand(bench, root, tmp_path):
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.jsonl").write_text(pair("q", "a") + pair("q", "b") + '{"prompt": 7}\n' + pair("q", name))
    bench("import", folder)
    where = [(2, str(folder / "a.jsonl"), 2), (6, str(folder / "b.jsonl"), 2)]
    rejects = bench("rejects", "ls", "several", "--json").json["rejects"]
    assert [(row["row"], row["file"], row["file_row"]) for row in rejects] == where
    assert "b.jsonl, row 2): " in bench("rejects", "ls", "several", "--offset", "1").out
    out = tmp_path / "out.jsonl"
    bench("rejects", "export", "several", "-o", out)
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(entry["row"], entry["file"], entry["file_row"]) for entry in entries] == where
    entries[1]["value"] = json.loads(pair("mended", "b"))
    out.write_text(json.dumps(entries[1]))
    assert bench("rejects", "import", "several", out, "--json").json["fixed"] == 1
    # One file needs no name: its rows are those of the source.
    bench("import", folder / "a.jsonl", "--name", "one")
    assert bench("rejects", "ls", "one", "--json").json["rejects"][0]["file"] is None
    assert_intact(root)


def test_only_as_much_of_a_row_is_read_as_is_shown(bench, root, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text('{"prompt": "q", "completion": "a"}\n{"broken": "' + "x" * 5000 + "\n")
    bench("import", path, "--name", "long")
    workspace = Workspace.open(root)
    (_, [short]), (_, [whole]) = workspace.rejects("long", chars=201), workspace.rejects("long")
    workspace.close()
    assert (len(short.raw), len(whole.raw)) == (201, 5013)
    assert "…" in bench("rejects", "ls", "long").out
    assert "x" * 5000 in bench("rejects", "ls", "long", "--full").out.replace("\n", "")
