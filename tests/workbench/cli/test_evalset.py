from __future__ import annotations

import json

import pytest

from workbench.workspace import Workspace


def _file(tmp_path, *rows, name="eval.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _talk(prompt, answer, **meta):
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], **meta}


def test_items_keep_order_reference_slice_and_cluster(bench, root, tmp_path):
    rows = [_talk("a", "1", task="math", cluster="x"), _talk("b", "2", category="qa", cluster="x"), _talk("c", "3")]
    called = bench("evalset", "import", _file(tmp_path, *rows), "--name", "gold", "--json")
    assert (called.code, called.json["rows"], called.json["rejected"]) == (0, 3, 0)
    workspace = Workspace.open(root)
    items = workspace.eval_rows("gold").to_pylist()
    workspace.close()
    assert [item["item"] for item in items] == [0, 1, 2]
    assert [json.loads(item["messages"])[-1]["content"] for item in items] == ["1", "2", "3"]
    assert [item["slice"] for item in items] == ["math", "qa", None]
    assert items[0]["cluster"] == items[1]["cluster"] != items[2]["cluster"]


def test_columns_can_be_named_and_rejects_are_counted_by_their_reason(bench, tmp_path):
    path = tmp_path / "fragen.csv"
    path.write_text("Frage;Antwort\nWas?;Das.\nWo?;\nWer?;\n")
    assert "--map prompt=COL,response=COL" in bench("evalset", "import", path, "--name", "e").err
    called = bench("evalset", "import", path, "--name", "e", "--map", "prompt=Frage,response=Antwort")
    assert "e: 1 item, manifest" in called.out
    assert "2 rows rejected:\n  2 from row 1: no reference: the last turn is empty" in called.out


def test_rows_without_a_reference_are_rejected_one_by_one(bench, tmp_path):
    ends_with_user = {"messages": [*_talk("a", "b")["messages"], {"role": "user", "content": "and?"}]}
    no_prompt = {"messages": [{"role": "assistant", "content": "hello"}]}
    rows = [_talk("good", "1"), ends_with_user, no_prompt, _talk("empty", " ")]
    path = _file(tmp_path, *rows)
    called = bench("evalset", "import", path, "--name", "gold", "--json")
    assert (called.json["rows"], [reject["row"] for reject in called.json["rejects"]]) == (1, [1, 2, 3])
    assert "no reference" in bench("evalset", "import", path, "--name", "gold").out


def test_a_file_without_references_is_bad_input(bench, tmp_path):
    called = bench("evalset", "import", _file(tmp_path, {"prompt": "write a haiku"}), "--name", "gold")
    assert called.code == 3
    assert "reference" in called.err
    assert bench("evalset", "ls", "--json").json == {"evalsets": []}


def test_an_eval_set_never_changes(bench, tmp_path):
    path = _file(tmp_path, _talk("a", "1"))
    first = bench("evalset", "import", path, "--name", "gold", "--json").json
    again = bench("evalset", "import", path, "--name", "gold", "--json").json
    assert (first["new"], again["new"], again["manifest_hash"]) == (True, False, first["manifest_hash"])
    for changed in (_talk("a", "2"), _talk("a", "1", cluster="x"), _talk("a", "1", task="math")):
        other = bench("evalset", "import", _file(tmp_path, changed, name="o.jsonl"), "--name", "gold")
        assert other.code == 2
    assert len(bench("evalset", "ls", "--json").json["evalsets"]) == 1


def test_hold_out_depends_on_seed_and_content_alone(imported, anywhere, tmp_path, alpaca, root):

    def chosen(name: str, *options: object) -> list[str]:
        called = imported("evalset", "hold-out", "raw", "--name", name, "--n", 30, *options, "--json")
        assert called.code == 0
        workspace = Workspace.open(root)
        messages = workspace.eval_rows(name)["messages"].to_pylist()
        workspace.close()
        return messages

    first = chosen("first")
    assert first == chosen("second", "--seed", 0)
    assert len(first) == len(set(first)) == 30
    assert first != chosen("third", "--seed", 1)
    assert imported("versions", "ls", "--json").json["sources"][0]["imported"] == 999
    # The same rows in another order, in another workspace: the same items.
    rows = json.loads(alpaca.read_text())
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps(rows[::-1]))
    Workspace.init(tmp_path / "other").close()
    anywhere("-w", tmp_path / "other", "import", turned, "--name", "raw")
    anywhere("-w", tmp_path / "other", "evalset", "hold-out", "raw", "--name", "first", "--n", 30)
    workspace = Workspace.open(tmp_path / "other")
    assert workspace.eval_rows("first")["messages"].to_pylist() == first
    workspace.close()


def test_a_version_frozen_without_an_eval_set_shares_no_prompt_and_says_why(bench, root, write_pairs):
    rows = [("What is 2 + 2?", "4"), ("what is  2 + 2?", "four"), ("Name a fruit.", "Pear"), ("Name a city.", "Bonn")]
    bench("import", write_pairs(*rows))
    held = bench("evalset", "hold-out", "pairs", "--name", "held", "--n", 3, "--json").json
    assert held["overlaps"] == 4  # both spellings of the one question
    assert (
        bench("evalset", "hold-out", "pairs", "--name", "four", "--n", 4).code == 2
    )  # they would be one question twice
    bench("evalset", "hold-out", "pairs", "--name", "one", "--n", 1)
    workspace = Workspace.open(root)
    [held_prompt] = [json.loads(text)[0]["content"] for text in workspace.eval_rows("one")["messages"].to_pylist()]
    expected = workspace.overlaps("pairs", "one")
    workspace.close()
    assert expected == (2 if "2" in held_prompt else 1)
    frozen = bench("versions", "freeze", "pairs", "--without", "one", "--name", "train", "--json").json
    assert frozen["rows"] == 4 - expected
    workspace = Workspace.open(root)
    assert workspace.overlaps("train", "one") == 0
    workspace.close()
    dropped = bench("examples", "train", "--dropped", "--json").json["examples"]
    assert [row["step"] for row in dropped] == ["without"] * expected
    assert all("of one" in row["detail"] for row in dropped)
    assert bench("versions", "freeze", "pairs", "--without", "held", "--name", "none").code == 3


@pytest.mark.parametrize("n", [5000, 0])
def test_more_rows_than_there_are_cannot_be_held_out(imported, n):
    called = imported("evalset", "hold-out", "raw", "--name", "e", "--n", n)
    assert called.code == 2
