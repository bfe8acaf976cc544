from __future__ import annotations

import json

import pytest

from workbench.workspace import Workspace

from .conftest import assert_intact


def _show(bench, name):
    return bench("versions", "show", name, "--json").json


def test_an_empty_workspace_says_how_to_begin(bench):
    assert "workbench import" in bench("versions", "ls").err
    assert bench("versions", "ls", "--json").json == {"sources": [], "versions": []}


def test_a_source_is_told_from_a_version_and_a_typing_error_from_a_command(curated):
    [source] = (one["name"] for one in curated("sources", "ls", "--json").json["sources"])
    for argv in (["versions", "show", source], ["versions", "rm", source]):
        assert f"'{source}' is a source, not a version" in curated(*argv).err
    assert "'curated' is a version, not a source" in curated("sources", "rm", "curated").err
    for argv in (["verzions", "ls"], ["versions", "shwo", "curated"]):
        called = curated(*argv)
        assert called.code == 2
        assert "Did you mean" in called.err


def test_help_says_what_each_command_does_to_the_end_of_the_sentence(bench):
    for argv in ([], ["versions"], ["experiments"]):
        assert "..." not in bench(*argv, "--help").out.partition("Commands:")[2]


def test_freezing_twice_gives_one_version(curated):
    first = curated("versions", "freeze", "raw", "--name", "all", "--json").json
    again = curated("versions", "freeze", "raw", "--name", "all", "--json").json
    assert (first["rows"], first["new"], again["new"]) == (999, True, False)
    assert first["manifest_hash"] == again["manifest_hash"]
    refused = curated("versions", "freeze", "curated", "--name", "all")
    assert refused.code == 2
    assert "other content" in refused.err


def test_show_tells_every_step_on_the_way(curated, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("steps:\n  - random-k: {k: 100, seed: 0}\n")
    curated("run", later, "--from", "curated", "--name", "small")
    shown = _show(curated, "small")
    assert (shown["parent"], shown["rows"], shown["sources"]) == ("curated", 100, {"raw": 100})
    assert [(stage["version"], stage["from"]) for stage in shown["stages"]] == [
        ("curated", ["raw"]),
        ("small", ["curated"]),
    ]
    for stage in shown["stages"]:
        assert stage["rows_in"] - sum(step["dropped"] for step in stage["steps"]) == stage["rows_out"]
    assert "random-k" in curated("versions", "show", "small").out


@pytest.mark.parametrize("file", ["out.jsonl", "out.json", "out.parquet"])
def test_a_lossless_export_imports_back_to_the_same_hash(curated, tmp_path, file):
    version = _show(curated, "curated")
    assert curated("versions", "export", "curated", "-o", tmp_path / file, "--json").json == {
        "rows": version["rows"],
        "format": "parquet" if file == "out.parquet" else "messages",
        "manifest_hash": version["manifest_hash"],
        "lost": [],
        "notes": [],
        "path": str(tmp_path / file),
        "card": str(tmp_path / f"{file}.card.md"),
    }
    assert curated("import", tmp_path / file, "--name", "back").code == 0
    frozen = curated("versions", "freeze", "back", "--name", "again", "--json").json
    assert frozen["manifest_hash"] == version["manifest_hash"]


def test_a_lossy_export_says_what_is_lost_also_in_its_card(bench, tmp_path):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": [*talk, {"role": "user", "content": "bye"}]}))
    bench("import", path)
    for format, says in [("alpaca", "Examples not written"), ("prompt-completion", "Turns left out")]:
        out = tmp_path / f"{format}.json"
        called = bench("versions", "export", "talk", "-o", out, "--format", format)
        assert called.code == 0
        assert f"lost: {says}" in called.err
        assert "lost" not in called.out
        assert says in (tmp_path / f"{format}.json.card.md").read_text()
        lost = bench("versions", "export", "talk", "-o", out, "--format", format, "--force", "--json")
        assert lost.err == ""
        assert any(line.startswith(says) for line in lost.json["lost"])


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["-o", "no/such/folder/out.jsonl"], 2, "no/such"),
        (["-o", "x", "--format", "yaml"], 2, "yaml"),
        (["-o", "x.csv"], 2, "End it in .jsonl"),
        (["-o", "x.parquet", "--format", "alpaca"], 2, "End it in .jsonl"),
        ([], 2, "one place"),
        (["-o", "x", "--to", "hf:a/b"], 2, "one place"),
        (["--to", "a/b"], 2, "hf:ORG/NAME"),
        (["--to", "hf:a/b", "--format", "alpaca"], 2, "Parquet"),
        (["--to", "hf:a/b"], 5, "HF_HUB_OFFLINE is set"),
        (["-o", "x", "--model", "./none"], 5, "no such folder"),
    ],
)
def test_an_export_that_cannot_be_says_so(curated, tmp_path, monkeypatch, options, code, says):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    called = curated("versions", "export", "curated", *options)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format", "card"), [("f.jsonl", "messages", "f.jsonl.card.md"), ("d", "datasets", "d")]
)
def test_an_export_replaces_only_what_it_is_told_to(curated, tmp_path, name, format, card):
    export = ["versions", "export", "curated", "-o", tmp_path / name, "--format", format]
    (tmp_path / card).mkdir() if format == "datasets" else (tmp_path / card).write_text("mine")
    assert curated(*export).code == (0 if format == "datasets" else 2)  # an empty folder is nobody's work
    if format == "datasets":
        (tmp_path / name / "mine").write_text("mine")
        assert curated(*export, "--force").code == 2
        assert (tmp_path / name / "mine").read_text() == "mine"
        (tmp_path / name / "mine").unlink()
    refused = curated(*export)
    assert refused.code == 2
    assert "--force" in refused.err
    assert curated(*export, "--force").code == 0
    assert not list(tmp_path.glob(".*"))


def test_diff_counts_copies_and_gives_the_written_reason_for_each(curated):
    shown = _show(curated, "curated")
    found = curated("versions", "diff", "raw", "curated", "--limit", 999, "--json").json
    dropped = sum(step["dropped"] for step in shown["stages"][0]["steps"])
    assert (found["added"], found["removed"], found["common"]) == (0, dropped, shown["rows"])
    assert found["by_reason"] == {
        (reason if reason.startswith(f"{step['name']}:") else f"{step['name']}: {reason}"): count
        for step in shown["stages"][0]["steps"]
        for reason, count in step["reasons"].items()
    }
    assert len(found["examples"]) == dropped
    back = curated("versions", "diff", "curated", "raw", "--json").json
    assert (back["added"], back["removed"]) == (dropped, 0)
    same = curated("versions", "diff", "curated", "curated", "--json").json
    assert (same["added"], same["removed"], same["common"]) == (0, 0, shown["rows"])


def test_reasons_reach_through_all_stages_and_rows_of_elsewhere_are_told_apart(curated, tmp_path, write_pairs):
    curated("import", write_pairs(("only here", "yes"), name="elsewhere"))
    later = tmp_path / "later.yaml"
    later.write_text("steps:\n  - random-k: {k: 100, seed: 0}\n")
    both = tmp_path / "both.yaml"
    both.write_text("steps:\n  - length: {on: response, max_words: 100000}\n")
    curated("run", both, "--from", "raw,elsewhere", "--name", "everything")
    curated("run", later, "--from", "curated", "--name", "small")
    reasons = curated("versions", "diff", "everything", "small", "--json").json["by_reason"]
    assert reasons["not among the rows it was made from"] == 1
    assert {reason.split(":")[0] for reason in reasons} >= {"exact", "random-k"}
    assert sum(reasons.values()) == 900
    text = curated("versions", "diff", "everything", "small")
    assert "exact: " in text.out
    assert "more with --limit" in text.err


def test_the_same_content_from_another_import_is_common(curated, tmp_path):
    curated("versions", "export", "curated", "-o", tmp_path / "copy.jsonl")
    curated("import", tmp_path / "copy.jsonl", "--name", "copy")
    found = curated("versions", "diff", "copy", "curated", "--json").json
    assert (found["added"], found["removed"]) == (0, 0)


def test_of_two_copies_the_one_that_went_is_named(bench, write_pairs, tmp_path):
    bench("import", write_pairs(("same", "yes"), name="one"))
    bench("import", write_pairs(("same", "yes"), ("other", "no"), name="two"))
    every = tmp_path / "every.yaml"
    every.write_text("steps:\n  - length: {on: response, max_words: 100}\n")
    bench("run", every, "--from", "one,two", "--name", "both")
    bench("versions", "freeze", "two", "--name", "second")
    found = bench("versions", "diff", "both", "second", "--json").json
    assert (found["removed"], found["common"]) == (1, 2)
    assert [row["source"] for row in found["examples"]] == ["one"]


def test_rm_keeps_what_others_need(curated, root, tmp_path):
    curated("versions", "freeze", "curated", "--name", "child")
    refused = curated("versions", "rm", "curated")
    assert refused.code == 2
    assert "child" in refused.err
    workspace = Workspace.open(root)
    child = workspace.store.version("child")
    with workspace.store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO runs (id, experiment_id, version_id, state) VALUES ('r', 'exp-1', ?, 'done')", [child.id]
        )
    workspace.close()
    refused = curated("versions", "rm", "child")
    assert refused.code == 2
    assert "exp-1" in refused.err
    workspace = Workspace.open(root)
    with workspace.store.transaction() as cursor:
        cursor.execute("DELETE FROM runs")
    workspace.close()
    assert curated("versions", "rm", "child").code == 0
    assert curated("versions", "rm", "curated", "--json").json == {"removed": "curated"}
    assert curated("versions", "rm", "curated").code == 2
    workspace = Workspace.open(root)
    left = {table: workspace.store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("decisions", "steps")}
    workspace.close()
    assert left == {"decisions": 0, "steps": 0}
    assert_intact(root)
