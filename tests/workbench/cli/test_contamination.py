"""Eval prompts in rows: the step in a run, and the report that shows them side by side."""

from __future__ import annotations

import json

import pytest

PROMPT = "A farmer has seventeen sheep and sells all but nine of them at the market. How many sheep are left now?"


@pytest.fixture
def loaded(bench, tmp_path):
    """The command in a workspace with the source `mine`, whose row 4 holds item 1 of the eval set `gold`."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
        return path

    rows = [(f"Name {i} birds that live near water.", f"Bird {i}.") for i in range(9)]
    rows[4] = (f"[/INST] Here is a riddle: {PROMPT.upper()}", "Nine.")
    bench("import", write("rows.jsonl", rows), "--name", "mine")
    bench("evalset", "import", write("gold.jsonl", [("Sing a song.", "La."), (PROMPT, "Nine.")]), "--name", "gold")
    return bench


def test_a_recipe_drops_rows_with_eval_prompts_and_says_of_which_item(loaded, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - decontaminate: {against: [gold]}\n")
    done = loaded("run", recipe, "--from", "mine", "--name", "clean", "--json")
    assert (done.json["rows_in"], done.json["rows_out"]) == (9, 8)
    assert done.json["steps"][0]["reasons"] == {"eval prompt": 1}
    (step,) = loaded("run", recipe, "--from", "mine", "--name", "x", "--dry-run", "--overlap", "--json").json[
        "overlap"
    ]["steps"]
    assert step["alone"] == 1
    again = loaded("run", recipe, "--from", "mine", "--name", "clean", "--json")
    assert again.json["manifest_hash"] == done.json["manifest_hash"]
    assert "100% of item 1 of gold" in " ".join(loaded("examples", "clean", "--dropped").out.split())
    recipe.write_text("steps:\n  - decontaminate: {against: [golf]}\n")
    wrong = loaded("run", recipe, "--from", "mine", "--name", "cleaner")
    assert wrong.code == 2
    assert "gold" in wrong.err


def test_the_report_shows_both_texts_and_drops_nothing(loaded):
    shown = loaded("evalset", "overlap", "mine", "--evalset", "gold")
    assert shown.code == 0, shown.err
    words = " ".join(shown.out.split())
    assert "item 1 of gold" in words
    assert "row 4 of mine holds 100% of it" in words
    assert "[/INST]" in words
    assert "1 row of mine would fall" in shown.err
    (held,) = loaded("evalset", "overlap", "mine", "--evalset", "gold", "--json").json["held"]
    assert (held["row"], held["item"], held["share"]) == (4, 1, 1.0)
    assert held["shared"].startswith("a farmer has seventeen sheep")
    none = loaded("evalset", "overlap", "mine", "--evalset", "gold", "--on", "response")
    assert (none.code, none.out) == (0, "")
    assert "No row of mine holds more than 50%" in none.err
