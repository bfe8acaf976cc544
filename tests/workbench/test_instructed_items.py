"""Eval items that carry instructions a program can check, from the file to the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.plan import ExperimentPlan
from workbench import experiments, outcomes, results
from workbench.errors import BadInput
from workbench.store import experiments as table
from workbench.workspace import Workspace

KINDS = [["punctuation:no_comma"], ["startend:quotation", "punctuation:no_comma"]] * 5


@pytest.fixture
def ws(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(tiny_model)
    workspace = Workspace.init(tmp_path / "ws")
    for name in ("a", "b"):
        rows = [{"prompt": f"Question {i}?", "completion": f"{name} {i}"} for i in range(5)]
        write(Path(f"{name}.jsonl"), rows)
        workspace.import_file(Path(f"{name}.jsonl"), name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    told = [
        {"prompt": f"Name {n} things.", "instruction_id_list": ids, "kwargs": [{"num_words": None} for _ in ids]}
        for n, ids in enumerate(KINDS)
    ]
    write(Path("told.jsonl"), told)
    workspace.import_evalset(Path("told.jsonl"), "told")
    yield workspace
    workspace.close()


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def question(a: str = "a", b: str = "b") -> experiments.Question:
    return experiments.Question(a, b, model="./tiny", trained_tokens=100, seeds=2)


def measure(folder: Path, job: ExperimentPlan) -> None:
    """Results as a job writes them: each seed of the candidate follows one instruction more than the baseline."""
    (folder / "budget.json").write_text("{}")
    for id, arm, seed in [*((run.id, run.arm, run.seed) for run in job.runs), *([("base", "base", 0)] * job.base)]:
        out = folder / "results" / id
        out.mkdir(parents=True)
        metrics = []
        for item, kinds in enumerate(KINDS):
            share = min(1.0, (item % 3 + seed % 2 + (arm == "candidate")) / 4)
            tokens = 20.0 if arm == "candidate" else 10.0 + item % 2 + seed % 2
            values = {"instructions_strict": share, "stop_rate": 1.0, "answer_tokens": tokens, "has_list": 0.0}
            values |= {} if arm == "base" else {"regurgitation": 0.25, "regurgitation_control": 0.125}
            for name, value in values.items():
                weight = float(len(kinds)) if name.startswith("instr") else 1.0
                metrics.append({"item": item, "metric": name, "value": value, "weight": weight})
        answers = [{"item": i, "text": f"{id} says {i}", "finish": "stop", "tokens": 3} for i in range(len(KINDS))]
        pq.write_table(pa.Table.from_pylist(metrics), out / "metrics.parquet")
        pq.write_table(pa.Table.from_pylist(answers), out / "generations.parquet")
        told = {"revision": "r", "held": "dense", "dtype": "float32", "trained_tokens": 100, "left_out": {}, "steps": 1}
        (out / "summary.json").write_text(json.dumps(told | {"evaluation_seconds": 1.0}))


def test_prompts_with_instructions_need_no_answer(ws):
    items = ws.eval_rows("told").to_pylist()
    assert json.loads(items[1]["messages"]) == [{"role": "user", "content": "Name 1 things."}]
    assert [entry["id"] for entry in json.loads(items[1]["instructions"])] == KINDS[1]
    assert not ws.import_evalset(Path("told.jsonl"), "told").new


def test_an_instruction_that_cannot_be_checked_rejects_its_row_and_a_prompt_alone_still_needs_an_answer(ws):
    good = {"prompt": "Hi.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    bad = {"prompt": "Ho.", "instruction_id_list": ["punctuation:no_colon"], "kwargs": [{}]}
    answered = {"prompt": "Hu.", "completion": "Hu, hu."}
    write(Path("mixed.jsonl"), [good, bad, {"prompt": "Ha."}, answered])
    report = ws.import_evalset(Path("mixed.jsonl"), "mixed")
    assert report.evalset.rows == 2
    assert [row for row, _ in report.rejected] == [1, 2]
    assert "unknown instruction 'punctuation:no_colon'" in report.rejected[0][1]
    with pytest.raises(BadInput, match="a prompt without an answer"):
        ws.import_file(Path("told.jsonl"), name="to-train-on")


def test_instructions_decide_where_there_is_no_reference_and_length_is_told_without_a_word(ws):
    planned = experiments.plan(ws, question())
    measure(planned.folder, planned.plan)
    found = outcomes.conclude(ws, planned.id).as_json()
    roles = {metric["name"]: metric["role"] for metric in found["metrics"]}
    assert roles == {"instructions_strict": "primary", "stop_rate": "guardrail", "regurgitation": "report"}
    assert found["primary"] == "instructions_strict"
    assert found["metrics"][0]["delta"] == pytest.approx(0.25)
    assert found["means"]["candidate"]["regurgitation_control"] == 0.125
    [length, lists] = found["shifts"]
    assert (length["name"], length["base"], length["candidate"]) == ("answer_tokens", 10.5, 20.0)
    assert length["delta"] == pytest.approx(9.0)
    assert lists["delta"] == 0
    assert "verdict" not in length
    shown = results.open_result(ws, planned.id)
    assert shown.metrics[0].name == "instructions_strict"
    asked = results.item_answers(ws, shown, 1)
    assert (asked.asked[-1]["content"], asked.reference) == ("Name 1 things.", "")


def test_a_base_that_was_measured_before_hands_its_answers_to_the_next_job(ws):
    first = experiments.plan(ws, question())
    assert first.plan.base_answers is None
    measure(first.folder, first.plan)
    outcomes.conclude(ws, first.id)
    second = experiments.plan(ws, question("b", "a"))
    assert not second.plan.base
    given = pq.read_table(second.folder / str(second.plan.base_answers)).to_pylist()
    assert given[2] == {"item": 2, "text": "base says 2"}
    assert len(given) == len(table.answers(ws.store, [f"{first.id}/base"]))
