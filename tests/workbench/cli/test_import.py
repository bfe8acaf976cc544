from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from trainer.conversation import content_hash
from workbench.workspace import Workspace

from .conftest import DATA, assert_intact


def test_every_row_of_a_real_file_is_imported_in_order_with_its_content(bench, root, alpaca):
    called = bench("import", alpaca, "--license", "CC-BY-NC-4.0", "--json")
    rows = json.loads(alpaca.read_text())
    assert called.code == 0
    expected = {"source": "alpaca_en", "rows": len(rows), "imported": len(rows), "rejected": 0, "format": "alpaca"}
    assert called.json | expected == called.json
    workspace = Workspace.open(root)
    messages = [text for batch in workspace.rows("alpaca_en") for text in batch.column("messages").to_pylist()]
    hashes = [text for batch in workspace.rows("alpaca_en") for text in batch.column("content_hash").to_pylist()]
    assert workspace.sources()[0].license == "CC-BY-NC-4.0"
    workspace.close()
    assert [json.loads(text)[-1]["content"] for text in messages] == [row["output"] for row in rows]
    assert hashes == [content_hash(text) for text in messages]


def test_the_same_bytes_again_add_nothing_and_are_called_by_their_first_name(bench, alpaca, tmp_path):
    bench("import", alpaca)
    copy = tmp_path / "copy.json"
    copy.write_bytes(alpaca.read_bytes())
    called = bench("import", copy, "--json")
    assert called.code == 0
    assert (called.json["source"], called.json["already_imported"], called.json["added"]) == ("alpaca_en", True, 0)
    assert called.json["rows"] == called.json["imported"] + called.json["rejected"] == 999
    assert [source["name"] for source in bench("versions", "ls", "--json").json["sources"]] == ["alpaca_en"]


def test_the_same_bytes_by_another_name_are_refused_with_the_name_that_they_have(bench, write_pairs):
    path = write_pairs(("a", "b"))
    bench("import", path, "--name", "first")
    called = bench("import", path, "--name", "second")
    assert (called.code, called.out) == (2, "")
    assert "source 'first' already" in called.err
    assert "workbench sources rm first" in called.err
    assert bench("sources", "rm", "first").code == 0
    assert bench("import", path, "--name", "second", "--json").json["source"] == "second"


def test_the_same_bytes_read_by_another_mapping_are_another_source(bench, write_pairs):
    path = write_pairs(("a", "b"), ("c", "d"))
    assert bench("import", path, "--name", "one").code == 0
    called = bench("import", path, "--name", "turned", "--map", "prompt=completion,response=prompt", "--json")
    assert (called.code, called.json["source"], called.json["already_imported"]) == (0, "turned", False)


def test_other_bytes_under_a_taken_name_are_refused_with_a_name_to_use(bench, write_pairs):
    bench("import", write_pairs(("a", "b")), "--name", "mine")
    called = bench("import", write_pairs(("c", "d"), name="more"), "--name", "mine")
    assert called.code == 2
    assert "--name mine-2" in called.err


def test_rows_with_content_that_an_earlier_source_had_are_counted(bench, write_pairs):
    bench("import", write_pairs(("a", "b"), ("c", "d"), name="first"))
    called = bench("import", write_pairs(("c", "d"), ("c", "d"), ("e", "f"), name="second"), "--json")
    assert called.json["duplicates_of_known"] == 2


def test_rejected_rows_are_kept_with_reason_and_text_and_can_be_read(bench, tmp_path):
    path = tmp_path / "mixed.jsonl"
    good = [{"prompt": f"q{n}", "completion": "a"} for n in range(3)]
    path.write_text("\n".join([json.dumps(good[0]), '{"prompt": "no answer"}', *map(json.dumps, good[1:]), "{broken"]))
    called = bench("import", path, "--json")
    assert (called.code, called.json["rows"], called.json["imported"], called.json["rejected"]) == (0, 5, 3, 2)
    listed = bench("rejects", "ls", "mixed", "--json").json
    assert [(reject["row"], reject["raw"].strip()) for reject in listed["rejects"]] == [
        (1, '{"prompt": "no answer"}'),
        (4, "{broken"),
    ]
    assert all(reject["reason"] for reject in listed["rejects"])
    assert "no answer" in bench("rejects", "ls", "mixed").out


def test_a_file_that_is_mostly_rejected_leaves_nothing_behind(bench, root, tmp_path):
    path = tmp_path / "bad.jsonl"
    rows = [{"prompt": "q", "completion": "a"}] + [{"prompt": "q"}] * 2
    path.write_text("\n".join(map(json.dumps, rows)))
    called = bench("import", path)
    assert called.code == 3
    assert "only 1 of 3 rows" in called.err
    assert "Nothing was kept" in called.err
    assert bench("versions", "ls", "--json").json["sources"] == []
    assert_intact(root)


def test_counts_of_one_are_said_as_such_and_reasons_that_are_not_listed_are_counted(bench, tmp_path):
    path = tmp_path / "few.jsonl"
    good = json.dumps({"prompt": "q", "completion": "a"})
    kinds = ["{", "[1]", "null", '{"prompt": 1, "completion": "a"}', '{"prompt": "q", "completion": 1}']
    path.write_text("\n".join([*[good] * 6, *kinds]))
    said = bench("import", path).out

    assert "  2 rows for other reasons" in said
    assert "..." not in said
    assert "5 rejects" in bench("rejects", "ls", "few").err
    one = tmp_path / "one.jsonl"
    one.write_text(good + "\n" + "{")
    said = bench("import", one)
    assert "one: 1 of 2 rows imported" in said.out
    assert "1 to 1 of 1 reject." in bench("rejects", "ls", "one").err
    bench("versions", "freeze", "one", "--name", "v")
    assert "v: 1 row, manifest" in bench("versions", "show", "v").out


def test_only_where_the_shape_is_what_is_wrong_is_a_mapping_advised(bench, tmp_path):
    path = tmp_path / "cut.json"
    path.write_text('[{"instruction": "a", "output": "b')
    called = bench("import", path, "--format", "alpaca")
    assert (called.code, "breaks off" in called.err) == (3, True)
    assert "none of 1 row can" in called.err
    assert "(1 row)" in called.err
    assert "--map" not in called.err
    path.write_text('[{"q": 1}, {"q": 2}]')
    assert "or say how to read it with --map or --format" in bench("import", path).err


def test_reasons_that_differ_by_a_number_are_one_and_another_encoding_is_told(bench, tmp_path):
    path = tmp_path / "qa.csv"
    path.write_bytes(b"prompt,completion\nq,\xe4\nqu,\xf6\nque,a\nr,a\n")
    for argv in (["--preview"], []):
        called = bench("import", *argv, path)
        assert "2 from row 0: character … of the row is not UTF-8" in called.out
        assert "iconv" in called.err
    assert "not all of it UTF-8" in bench("import", "--preview", path).out
    [reason] = bench("rejects", "ls", "qa", "--json").json["reasons"]
    assert reason == {"reason": "character … of the row is not UTF-8", "rows": 2, "first": 0}


EMPTY = {
    "a.jsonl": json.dumps({"instruction": "q", "output": ""}),
    "b.json": json.dumps([{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": " \n"}]}]),
    "c.csv": "prompt,completion\nq,\n",
    "d.jsonl": json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": []}]}),
    "e.jsonl": json.dumps({"instruction": "q", "instances": [{"input": "x", "output": ""}]}),
    "f.jsonl": json.dumps({"prompt": "q", "chosen": "", "rejected": "no"}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_answer_is_kept_and_counted_in_every_shape_and_container(bench, tmp_path, name):
    (tmp_path / name).write_text(EMPTY[name])
    called = bench("import", tmp_path / name, "--json").json
    assert (called["imported"], called["rejected"], called["empty_turns"]) == (1, 0, 1)


def test_a_turn_that_only_thinks_or_calls_is_not_empty(bench, tmp_path):
    call = {"function": {"name": "f", "arguments": {}}}
    user = {"role": "user", "content": ""}
    rows = [
        [user, {"role": "assistant", "content": "", **part}] for part in ({"tool_calls": [call]}, {"thinking": "h"})
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in rows))
    assert bench("import", path, "--json").json["empty_turns"] == 0
    path.write_text(path.read_text() + "\n" + json.dumps({"messages": [user, {"role": "assistant", "content": ""}]}))
    assert "with an assistant turn that is empty: 1 example. A recipe" in bench("import", path, "--grow").err


def test_weights_and_keys_that_training_will_not_see_are_told(bench, tmp_path):
    user = {"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]}
    rows = [[user, {"role": "assistant", "content": answer, "weight": 0.5}] for answer in "ab"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in rows))
    called = bench("import", path)
    assert "With a weight other than 0 and 1 on an assistant turn: 2 examples." in called.err
    assert "what else they say is not kept: cache_control (2 examples)." in called.err
    with path.open("a") as file:
        file.write("\n" + json.dumps({"messages": rows[0]}))
    grown = bench("import", path, "--grow", "--json").json
    assert (grown["other_weights"], grown["lost_keys"]) == (1, {"cache_control": 1})


def test_files_that_were_not_read_are_named(bench, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"prompt": "q", "completion": "a"}))
    (folder / "b.csv").write_text("prompt,completion\nr,a\n")
    assert bench("import", f"hf:{folder}", "--json").json["passed_over"] == ["b.csv"]
    for n in range(7):
        (folder / f"notes-{n}.txt").write_text("x")
    called = bench("import", folder, "--name", "all")
    assert "all: 2 of 2 rows" in called.out
    assert "Files not read: notes-0.txt, notes-1.txt, notes-2.txt, notes-3.txt, notes-4.txt and 2 more." in called.err


def test_a_file_whose_name_is_no_text_is_imported_by_itself_and_in_a_folder(bench, root, write_pairs, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    text = write_pairs(("a", "b"), ("c", "d")).read_text() + "{broken\n"
    name = folder / os.fsdecode(b"caf\xe9.jsonl")
    name.write_text(text)
    assert bench("import", name, "--name", "one").code == 0
    (folder / "b.jsonl").write_text(text)
    assert bench("import", folder, "--json").json["imported"] == 4
    assert "caf\\xe9.jsonl, row 2" in bench("rejects", "ls", "odd").out
    assert bench("sources", "show", "one").code == 0
    assert bench("import", name, "--name", "one", "--json").json["already_imported"] is True
    assert_intact(root)


def test_a_file_of_many_that_is_mostly_rejected_is_told_by_name(bench, tmp_path):
    good, bad = json.dumps({"prompt": "q", "completion": "a"}) + "\n", "{broken\n"
    folder = tmp_path / "many"
    folder.mkdir()
    files = {"a": good * 4 + bad, "b": bad * 3, "c": good + bad, "d": good + bad * 2}
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    told = [
        {"file": str(folder / "b.jsonl"), "rows": 3, "rejected": 3},
        {"file": str(folder / "d.jsonl"), "rows": 3, "rejected": 2},
    ]
    with (folder / "a.jsonl").open("a") as file:
        file.write(good * 6)
    called = bench("import", folder)
    assert called.code == 0
    assert f"Mostly rejected: {folder}/b.jsonl (3 of 3 rows)\n" in called.err
    assert f"Mostly rejected: {folder}/d.jsonl (2 of 3 rows)\n" in called.err
    assert called.err.count("Mostly rejected") == 2
    (folder / "e.jsonl").write_text(good)
    assert bench("import", folder, "--grow", "--json").json["mostly_rejected"] == told
    # Of a source of one file the counts say so.
    (tmp_path / "one.jsonl").write_text(good + bad)
    assert bench("import", tmp_path / "one.jsonl", "--json").json["mostly_rejected"] == []


def test_half_rejected_is_still_an_import(bench, tmp_path):
    path = tmp_path / "half.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"prompt": "q", "completion": "a"}, {"prompt": "q"}])))
    assert bench("import", path, "--json").json["rejected"] == 1


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["missing.json"], 2, "no such file"),
        (["nothing"], 3, "no data files"),
        (["*.parquet"], 3, "no file matches"),
        (["hf:data"], 2, "names no data set"),
        (["empty.json"], 3, "empty.json"),
        (["pairs.jsonl", "--name", "a,b"], 2, "cannot be a name"),
        (["pairs.jsonl", "--map", "prompt"], 2, "--map"),
        (["pairs.jsonl", "--format", "alpacca"], 2, "alpacca"),
    ],
)
def test_what_cannot_be_imported_gets_one_sentence_and_its_exit_code(
    bench, tmp_path, monkeypatch, write_pairs, argv, code, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.json").touch()
    (tmp_path / "nothing").mkdir()
    write_pairs(("a", "b"))
    called = bench("import", *argv)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert "Traceback" not in called.err


def test_a_mapping_may_name_columns_with_commas_and_spaces(bench, tmp_path):
    path = tmp_path / "qa.csv"
    path.write_text('"Question, asked",Answer given\nq,a\n')
    called = bench("import", path, "--map", "prompt=Question, asked,response=Answer given", "--json")
    assert (called.code, called.json["imported"]) == (0, 1)


def test_every_shared_file_is_imported_row_by_row_or_refused_with_a_reason(bench, root):
    files = [path for path in sorted(DATA.glob("*/*")) if path.suffix in {".json", ".jsonl", ".csv"}]
    if not files:
        pytest.skip(f"{DATA} is not here")
    codes: Counter[int] = Counter()
    for path in files:
        called = bench("import", path, "--json")
        codes[called.code] += 1
        if called.code == 0:
            assert called.json["rows"] == called.json["imported"] + called.json["rejected"] > 0
        else:
            assert called.code == 3
            assert "expected" in called.err or "--map" in called.err
    assert codes[0] >= 10
    assert_intact(root)
