from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.verdict import DEFAULT_METRICS
from workbench import outcomes, results
from workbench.errors import NotFound, UsageProblem
from workbench.report.verdict import left_out
from workbench.store import experiments as table
from workbench.workspace import Workspace


@pytest.fixture
def ws(compared_copy):
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


def test_a_finished_experiment_opens_with_its_verdict_and_every_item(ws):
    shown = results.open_result(ws, "yes vs no")
    assert shown.arms == {"base": "base", "baseline": "yes", "candidate": "no"}
    assert {arm: list(runs) for arm, runs in shown.runs.items()} == {
        "base": [0], "baseline": [0, 1], "candidate": [0, 1],
    }  # fmt: skip
    assert shown.metrics[0].name == "response_nll"
    assert [item.prompt for item in shown.items][:2] == ["Item 0?", "Item 1?"]
    assert json.loads(table.find_experiment(ws.store, shown.id).result or "") == shown.result


def test_the_means_of_items_are_those_that_the_verdict_was_made_of(ws):
    shown = results.open_result(ws, "yes vs no")
    for metric in shown.result["metrics"]:
        if metric["name"].startswith("general_"):
            continue
        changes = [item.change(metric["name"]) for item in shown.items]
        assert np.mean(changes) == pytest.approx(metric["delta"])
    folder = ws.runs_dir / shown.id / "results"
    read = [pq.read_table(folder / f"candidate-{seed}" / "metrics.parquet").to_pylist() for seed in (0, 1)]
    of_item_2 = [row["value"] for rows in read for row in rows if (row["item"], row["metric"]) == (2, "prompt_gain")]
    assert shown.items[2].values["prompt_gain"]["candidate"] == pytest.approx(np.mean(of_item_2))


def test_an_item_is_won_by_the_direction_of_its_metric():
    def item(baseline: float, candidate: float) -> results.Item:
        values = {"baseline": baseline, "candidate": candidate}
        return results.Item(0, "?", None, None, {"response_nll": values, "prompt_gain": values})

    nll, gain = (next(s for s in DEFAULT_METRICS if s.name == name) for name in ("response_nll", "prompt_gain"))
    assert (item(2.0, 1.0).won(nll), item(2.0, 1.0).won(gain)) == ("better", "worse")
    assert item(1.0, 1.0).won(nll) == "equal"
    assert results.Item(0, "?", None, None).won(nll) is None


def test_what_was_left_out_of_training_is_told_by_arm_and_reason():
    counted = {"baseline": {"zero-trained": 3, "cut to max_length": 1200}, "candidate": {}}
    assert left_out({"left_out": counted}) == "rows left out or cut: baseline 3 zero-trained, 1,200 cut to max_length"
    assert left_out({"left_out": {"baseline": {}}}) == ""


def test_wins_losses_and_ties_add_up(ws):
    shown = results.open_result(ws, "yes vs no")
    for spec in shown.metrics:
        assert sum(shown.tally(spec).values()) == len(shown.items)
    assert shown.tally(shown.metrics[0]) == {"better": 0, "worse": 6, "equal": 0}


def test_answers_of_an_item_come_by_arm_and_seed(ws):
    shown = results.open_result(ws, "yes vs no")
    folder = ws.runs_dir / shown.id / "results"
    for seed in (0, 1):
        found = results.item_answers(ws, shown, 3, seed)
        assert (found.asked[0]["content"], found.reference) == ("Item 3?", "yes 3")
        assert [answer.arm for answer in found.answers] == ["base", "baseline", "candidate"]
        for answer, run in zip(found.answers, ("base", f"baseline-{seed}", f"candidate-{seed}"), strict=True):
            stored = pq.read_table(folder / run / "generations.parquet").to_pylist()
            assert (answer.text, answer.finish) == next((r["text"], r["finish"]) for r in stored if r["item"] == 3)
    with pytest.raises(NotFound, match="0 to 5"):
        results.item_answers(ws, shown, 6)


def test_an_endless_answer_is_read_as_far_as_it_is_shown(ws):
    shown = results.open_result(ws, "yes vs no")
    found = table.RunRow(shown.runs["candidate"][0], shown.id, "candidate", None, 0, "s", "done", "{}")
    text = "漢" * 1_000_000
    answers = pa.table({"item": [0], "text": [text], "finish": ["length"]})
    table.save_run(ws.store, found, pa.table({"item": [0], "metric": ["response_nll"], "value": [1.0],
                                              "weight": [1.0]}), answers)  # fmt: skip
    answer = results.item_answers(ws, shown, 0).answers[-1]
    assert (answer.arm, len(answer.text), answer.length) == ("candidate", results.MOST, 1_000_000)


def test_without_a_result_the_state_is_told_and_what_goes_on(ws):
    id = results.open_result(ws, "yes vs no").id
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET result = NULL, state = 'stopped'")
    assert results.open_result(ws, id).result["verdict"], "a job that was measured to its end is concluded now"
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET result = NULL, state = 'stopped'")
    (ws.runs_dir / id / "results" / "candidate-1" / "summary.json").unlink()
    with pytest.raises(UsageProblem, match=r"no result yet \(stopped\)") as caught:
        outcomes.finished(ws, id)
    assert "resume" in caught.value.do
