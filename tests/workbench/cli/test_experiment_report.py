"""`experiments report`, `history` and `rerun` on the command line."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from workbench.cli import app
from workbench.store.experiments import find_experiment
from workbench.workspace import Workspace


@pytest.fixture
def repeated(compared_copy):
    """The compared workspace with two more results like its own on the same eval set, of p 0.02 and 0.6."""
    ws = Workspace.open(compared_copy)
    row = find_experiment(ws.store, "yes vs no")
    result = json.loads(row.result)
    [compared] = result["comparisons"]
    [primary] = [metric for metric in compared["metrics"] if metric["name"] == compared["primary"]]
    with ws.store.transaction() as cursor:
        for id, p, verdict in (("bbb", 0.04, "worse"), ("ccc", 0.6, "no difference detected")):
            primary["p_decisive"] = compared["p_alone"] = p
            compared["verdict"] = result["verdict"] = verdict
            cursor.execute(
                "INSERT INTO experiments (id, name, plan, state, result, created_at) VALUES (?, ?, ?, 'done', ?, ?)",
                [id, "yes vs no", row.plan, json.dumps(result), row.created_at.replace(year=2999)],
            )
    ws.close()
    return compared_copy


def test_a_report_is_written_once_and_replaced_when_asked(anywhere, compared_copy, tmp_path):
    out = tmp_path / "r.html"
    made = anywhere("-w", compared_copy, "experiments", "report", "yes vs no", "-o", out, "--json")
    assert (made.code, made.json["report"], made.json["bytes"]) == (0, str(out), out.stat().st_size)
    again = anywhere("-w", compared_copy, "experiments", "report", "yes vs no", "-o", out)
    assert (again.code, "--force" in again.err) == (2, True)
    before = out.read_bytes()
    assert anywhere("-w", compared_copy, "experiments", "report", "yes vs no", "-o", out, "--force").code == 0
    assert out.read_bytes() == before


def test_history_tells_how_often_an_eval_set_was_asked(anywhere, repeated):
    told = anywhere("-w", repeated, "experiments", "history", "items", "--json").json
    assert [one["verdict"] for one in told["comparisons"]] == ["worse", "worse", "no difference detected"]
    assert told["chance_of_a_false_difference"] == pytest.approx(1 - 0.95**3)
    first, second, third = (one["p_adjusted"] for one in told["comparisons"])
    assert (second, third) == (pytest.approx(0.08), pytest.approx(0.6))  # Holm: 2 x 0.04, and 0.6 itself
    assert first < 0.05
    seen = anywhere("-w", repeated, "experiments", "history", "items")
    assert "1 - 0.95^3 = 14%" in seen.err
    assert "2 found a difference" in seen.err
    assert "1 of them still does" in seen.err
    assert "never looked at" in seen.err


def test_history_of_one_comparison_warns_of_nothing(anywhere, compared_copy):
    seen = anywhere("-w", compared_copy, "experiments", "history", "items")
    assert (seen.code, seen.err) == (0, "")
    wrong = anywhere("-w", compared_copy, "experiments", "history", "items", "--model", "other")
    assert (wrong.code, "There are comparisons of" in wrong.err) == (2, True)
    assert anywhere("-w", compared_copy, "experiments", "history", "nowhere").code == 2


def test_a_question_asked_again_is_not_run_again(anywhere, compared_copy):
    ws = Workspace.open(compared_copy)
    row = find_experiment(ws.store, "yes vs no")
    ws.close()
    again = anywhere("-w", compared_copy, "experiments", "rerun", "yes vs no", "--json")
    assert (again.code, again.json) == (0, json.loads(row.result))
    assert "was run before" in again.err


def test_every_command_of_the_documented_workflow_is_one(tmp_path, monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "reports.md").read_text(encoding="utf-8")
    workflow = YAML(typ="safe").load(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])
    steps = workflow["jobs"]["compare"]["steps"]
    lines = [line for step in steps for line in step.get("run", "").splitlines() if line.startswith("workbench")]
    assert any(line.endswith("--gate") for line in lines)
    for name in ("data/train.jsonl", "data/gold.jsonl", "recipes/main.yaml", "recipes/candidate.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line)[1:]
        words = words[2:] if words[0] == "-w" else words
        found: click.Command = app
        while isinstance(found, click.Group):
            name = words.pop(0)
            found = found.get_command(click.Context(found), name) or pytest.fail(f"there is no {name}: {line}")
        found.make_context(line, words)  # raises for what it does not take
