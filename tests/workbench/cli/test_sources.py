"""Where rows came from: sources, their licences, what they share, and what may be removed."""

from __future__ import annotations

import json

import pytest

from .conftest import assert_intact


@pytest.fixture
def two(bench, write_pairs):
    """Sources `one` and `two` that share the contents of `b` and `c`; `two` has `c` twice."""
    bench("import", write_pairs(("a", "1"), ("b", "2"), ("c", "3"), name="one"), "--license", "MIT")
    bench("import", write_pairs(("c", "3"), ("c", "3"), ("b", "2"), ("d", "4"), name="two"), "--license", "CC-BY-4.0")
    return bench


def test_content_that_two_sources_have_is_shown_with_both_origins(two):
    overlaps = {name: two("sources", "show", name, "--json").json["overlaps"] for name in ("one", "two")}
    assert overlaps == {"one": [{"source": "two", "rows": 2}], "two": [{"source": "one", "rows": 3}]}
    rows = two("examples", "one", "--json").json["examples"]
    seen = [[(origin["source"], origin["row"]) for origin in row["also_in"]] for row in rows]
    assert seen == [[], [("two", 2)], [("two", 0), ("two", 1)]]
    assert "one row 2 · id 3 · 2 turns · also in two:0, two:1" in two("examples", "one").out


def test_licence_and_origin_stay_with_the_rows_of_a_version(two, recipe, tmp_path):
    two("run", recipe, "--from", "one,two", "--name", "both", "--allow-wipeout")
    two("versions", "freeze", "one", "--name", "first")
    two("versions", "freeze", "first", "--name", "second")
    [origin] = two("versions", "show", "second", "--json").json["origins"]
    assert origin == {"source": "one", "rows": 3, "license": "MIT", "path": str(tmp_path / "one.jsonl")}
    out = two("versions", "show", "second").out
    assert "MIT" in out
    assert "one.jsonl" in out


def test_sources_are_listed_with_licence_origin_and_counts(two, tmp_path):
    listed = two("sources", "ls", "--json").json["sources"]
    assert [(source["name"], source["license"], source["rows"]) for source in listed] == [
        ("one", "MIT", 3),
        ("two", "CC-BY-4.0", 4),
    ]
    assert listed[0]["path"] == str(tmp_path / "one.jsonl")
    assert "CC-BY-4.0" in two("sources", "ls").out


def test_a_source_is_removed_unless_a_version_came_from_it(two, root):
    two("versions", "freeze", "one", "--name", "v")
    called = two("sources", "rm", "one")
    assert called.code == 2
    assert "workbench versions rm v" in called.err
    assert two("sources", "rm", "two", "--json").json == {"removed": "two"}
    assert [source["name"] for source in two("sources", "ls", "--json").json["sources"]] == ["one"]
    assert two("sources", "show", "one", "--json").json["overlaps"] == []
    two("versions", "rm", "v")
    assert two("sources", "rm", "one").code == 0
    assert "No sources yet" in two("sources", "ls").err
    assert_intact(root)


def test_rows_of_a_tree_are_counted_as_rows_and_as_examples(bench, root, tmp_path):
    def turn(role, text, *replies, rank=0):
        return {"role": role, "text": text, "rank": rank, "replies": list(replies)}

    tree = turn("prompter", "q", turn("assistant", "a"), turn("assistant", "b", rank=1))
    path = tmp_path / "trees.jsonl"
    path.write_text(json.dumps({"prompt": tree}) + "\n" + json.dumps({"prompt": {}}) + "\n")
    called = bench("import", path, "--trees", "all", "--json").json
    assert (called["rows"], called["imported"], called["rejected"], called["format"]) == (2, 1, 1, "tree-all")
    assert called["examples"] == 2
    shown = bench("sources", "show", "trees", "--json").json
    assert (shown["imported"], shown["examples"]) == (1, 2)
    assert "1 as 2 examples" in bench("sources", "show", "trees").out
    assert bench("versions", "freeze", "trees", "--name", "v", "--json").json["rows"] == 2
    assert_intact(root)
