from __future__ import annotations

import json

import pytest

from trainer.conversation import side_text
from workbench.workspace import Workspace


def _rows(called) -> list[int]:
    return [example["row"] for example in called.json["examples"]]


def test_pages_follow_the_order_of_the_file(imported):
    first = imported("examples", "raw", "--limit", 3, "--json")
    assert (first.json["total"], _rows(first)) == (999, [0, 1, 2])
    assert _rows(imported("examples", "raw", "--limit", 2, "--offset", 997, "--json")) == [997, 998]
    behind = imported("examples", "raw", "--offset", 2000)
    assert (behind.code, behind.out) == (0, "")
    assert "only 999" in behind.err


def test_search_finds_what_python_finds_in_prompt_and_response(imported, root):
    workspace = Workspace.open(root)
    texts = [m for batch in workspace.rows("raw") for m in batch.column("messages").to_pylist()]
    workspace.close()
    messages = [json.loads(text) for text in texts]
    expected = [
        row
        for row, turns in enumerate(messages)
        if "FRANCE".lower() in f"{side_text(turns, 'prompt')}\n{side_text(turns, 'response')}".lower()
    ]
    found = imported("examples", "raw", "--search", "FRANCE", "--limit", 500, "--json")
    assert expected
    assert _rows(found) == expected
    assert imported("examples", "raw", "--search", "%", "--json").json["total"] < 999  # no wildcard


def test_a_condition_sees_the_same_sides_as_the_steps_do(imported, root):
    longer = imported("examples", "raw", "--sql", "length(response) > 1500", "--limit", 999, "--json")
    workspace = Workspace.open(root)
    texts = [m for batch in workspace.rows("raw") for m in batch.column("messages").to_pylist()]
    workspace.close()
    assert _rows(longer) == [
        row for row, text in enumerate(texts) if len(side_text(json.loads(text), "response")) > 1500
    ]
    assert longer.json["total"] > 0


def test_content_parts_are_text_to_a_condition_too(bench, tmp_path):
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello\n"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": 'hi "you"\n\ttab'}]
    path = tmp_path / "parts.jsonl"
    path.write_text(json.dumps({"messages": talk, "task": "greeting"}) + "\n")
    bench("import", path)
    conditions = ("prompt LIKE 'Say hello%'", "response = 'hi \"you\"' || chr(10) || chr(9) || 'tab'", "turns = 2")
    for condition in (*conditions, "meta->>'task' = 'greeting'", "tools IS NULL", "source = 'parts' AND row = 0 -- x"):
        assert bench("examples", "parts", "--sql", condition, "--json").json["total"] == 1, condition


@pytest.mark.parametrize(
    "condition",
    [
        "true); DROP TABLE examples; SELECT (1",
        "true); COMMIT; DROP TABLE examples; SELECT (1",
        "id IN (DELETE FROM examples RETURNING id)",
        "id IN (SELECT id FROM read_csv('/etc/passwd'))",
        "prompt =",
        "no_such_column = 1",
        "lenght(prompt) = 1",
    ],
)
def test_a_condition_can_only_read_and_its_mistakes_are_explained(imported, condition):
    called = imported("examples", "raw", "--sql", condition)
    assert (called.code, called.out) == (2, "")
    assert "--sql" in called.err
    assert ("Did you mean" in called.err) == ("lenght" in condition)
    assert imported("examples", "raw", "--json").json["total"] == 999


def test_dropped_rows_are_shown_with_step_reason_and_survivor(curated):
    [report] = curated("versions", "show", "curated", "--json").json["stages"]
    dropped = curated("examples", "curated", "--dropped", "--limit", 999, "--json").json
    assert dropped["total"] == report["rows_in"] - report["rows_out"]
    exact = [example for example in dropped["examples"] if example["step"] == "exact"]
    assert len(exact) == report["steps"][0]["dropped"] > 0
    assert all(example["reason"] and example["duplicate_of"] is not None for example in exact)
    only = curated("examples", "curated", "--dropped", "--sql", "step = 'length'", "--json").json
    assert only["total"] == report["steps"][1]["dropped"]
    shown = curated("examples", "curated", "--dropped", "--limit", 1).out
    assert "dropped by exact" in shown


def test_nothing_in_a_row_reaches_the_terminal_as_a_command(bench, write_pairs):
    nasty = "[/INST] [bold red]x[/] \x1b[31mred\x1b[0m \u202eback \x07"
    bench("import", write_pairs((nasty, f"{nasty}\nsecond line")))
    for options in ([], ["--full"]):
        out = bench("examples", "pairs", *options).out
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert "[/INST] [bold red]x[/]" in out
        assert "␛[31mred" in out


def test_a_wrong_name_brings_the_right_one(imported):
    called = imported("examples", "rwa")
    assert called.code == 2
    assert "Did you mean raw?" in called.err
