"""Experiments of many arms: candidates and controls beside one baseline, from the question to every view of it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

from trainer.failures import note_failure
from workbench import experiments, outcomes
from workbench.cli import app
from workbench.comparing import listing, promises, told
from workbench.errors import Problem, UsageProblem
from workbench.experiment_command import command_line
from workbench.experiments import Experiment, Question
from workbench.report.verdict import render_result
from workbench.results import open_result
from workbench.store.experiments import find_experiment
from workbench.store.versions import check_removable
from workbench.verdict_history import history
from workbench.workspace import Workspace

from .planted import SUMMARY, ended, made_of, plant

MEANS = {
    "base": 3.0,
    "raw": 2.0,
    "good": 1.9,
    "same": 2.0,
    "bad": 2.2,
    "raw-random-k-12": 1.96,
    "raw-longest-k-12": 2.0,
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version `raw` of 20 rows, `good` of 12 of them, `same` and `bad` of 20 others, and an eval set of six items."""
    versions = {
        name: [(f"Question {i}?", f"{name} {'long ' * i}") for i in range(20)] for name in ("raw", "same", "bad")
    }
    home = made_of(tmp_path_factory.mktemp("arms"), versions)
    recipe = home.with_name("first.yaml")
    recipe.write_text("steps:\n  - length: {on: response, max_words: 12}\n")
    with closing(Workspace.open(home)) as ws:
        ws.run_recipe(recipe, ["raw"], "good")
    return home


@pytest.fixture
def ws(made_once: Path, open_copy: Callable[[Path], Workspace]) -> Workspace:
    return open_copy(made_once)


def ask(*candidates: str, **options: Any) -> Question:
    first, *more = candidates
    settings: dict[str, Any] = {"model": "./tiny", "trained_tokens": 2560, "seeds": 3} | options
    return Question("raw", first, tuple(more), **settings)


def made(ws: Workspace, question: Question) -> tuple[Experiment, list[str], dict[str, Any]]:
    """An experiment to its end, the runs that had to be made for it, and its JSON."""
    return ended(ws, question, MEANS.__getitem__)


def said(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["candidate"], one["baseline"]): one["verdict"] for one in result["comparisons"]}


def test_every_candidate_is_compared_with_the_baseline_and_the_json_of_two_stays_that_of_the_first(ws):
    experiment, runs, result = made(ws, ask("good", "same", "bad"))
    assert experiment.arms == {"baseline": "raw", "candidate": "good", "candidate2": "same", "candidate3": "bad"}
    assert len(runs) == 4 * 3 + 1
    assert said(result) == {
        ("good", "raw"): "better", ("same", "raw"): "no difference detected", ("bad", "raw"): "worse",
    }  # fmt: skip
    assert (result["baseline"], result["candidate"], result["verdict"]) == ("raw", "good", "better")
    assert result["metrics"] == result["comparisons"][0]["metrics"]
    assert [(arm["version"], arm["rank"]) for arm in result["arms"]][:2] == [
        ("raw", 2 + (result["arms"][2]["rank"] == 2)),
        ("good", 1),
    ]
    assert result["arms"][3]["rank"] == 4
    assert result["trained_tokens"].keys() == experiment.arms.keys()


def test_two_versions_alone_give_the_same_numbers_as_among_others_but_for_the_correction(ws):
    _, _, many = made(ws, ask("good", "same", "bad"))
    _, runs, two = made(ws, ask("good"))
    assert runs == [], "every run was there"
    one, alone = many["comparisons"][0], two["comparisons"][0]
    first, other = one["metrics"][0], alone["metrics"][0]
    assert {key: first[key] for key in ("delta", "ci", "p")} == {key: other[key] for key in ("delta", "ci", "p")}
    assert (one["p_alone"], alone["p_alone"]) == (other["p_decisive"], other["p_decisive"])
    assert first["p_decisive"] >= 2 * other["p_decisive"]
    assert first["mde"] > other["mde"]
    assert "corrected for 3 comparisons (Holm)" in one["sentences"][0]
    assert "Holm" not in alone["sentences"][0]
    assert {entry.p for entry in history(ws, "items").compared if entry.candidate == "good"} == {one["p_alone"]}
    assert len(history(ws, "items").compared) == 4


def test_controls_are_made_from_the_baseline_once_and_can_be_made_again_by_their_recipe(ws):
    experiment, runs, result = made(ws, ask("good", controls=("random-k", "longest-k")))
    assert experiment.arms == {
        "baseline": "raw", "candidate": "good", "random-k": "raw-random-k-12", "longest-k": "raw-longest-k-12",
    }  # fmt: skip
    assert "random-k-0" in runs
    raw = {row["content_hash"] for batch in ws.rows("raw") for row in batch.to_pylist()}
    for arm in ("random-k", "longest-k"):
        rows = pq.read_table(experiment.folder / f"{arm}.parquet").to_pylist()
        assert len(rows) == 12
        assert {row["content_hash"] for row in rows} <= raw
    longest = [row["messages"].count("long") for row in rows]
    assert min(longest) == 8, "the answers are 0 to 19 words longer than the shortest"
    shown = ws.show_version("raw-random-k-12")
    assert [step.name for stage in shown.stages for step in stage.steps][-1] == "random-k"
    assert said(result) == {
        ("good", "raw"): "better", ("good", "raw-random-k-12"): "better", ("good", "raw-longest-k-12"): "better",
    }  # fmt: skip
    sentence = next(s for s in result["sentences"] if "raw-random-k-12" in s)
    assert sentence.startswith(
        "Against the control raw-random-k-12: choosing these rows beats drawing as many at random"
    )
    before = len(ws.versions())
    again, runs, _ = made(ws, ask("good", controls=("random-k",)))
    assert (runs, len(ws.versions())) == ([], before)
    assert again.name == "raw vs good (random-k)"


def test_a_candidate_that_a_random_choice_equals_is_said_to_beat_nothing(ws, monkeypatch):
    monkeypatch.setitem(MEANS, "raw-random-k-12", MEANS["good"])
    _, _, result = made(ws, ask("good", controls=("random-k",)))
    assert result["verdict"] == "better"
    assert any("not shown to differ from as many rows drawn at random" in s for s in result["sentences"])
    monkeypatch.setitem(MEANS, "raw-random-k-12", 1.5)
    shutil.rmtree(ws.runs_dir)
    _, _, result = made(ws, ask("good", controls=("random-k",), trained_tokens=2816))
    assert any("as many rows drawn at random do better" in s for s in result["sentences"])


def test_all_of_the_baseline_is_an_arm_of_its_own_by_other_seeds(ws):
    experiment, _, result = made(ws, ask("good", controls=("full",)))
    assert experiment.plan.whole == ["full"]
    seeds = {arm: [run.seed for run in experiment.plan.runs if run.arm == arm] for arm in experiment.arms}
    assert seeds == {"baseline": [0, 1, 2], "candidate": [0, 1, 2], "full": [3, 4, 5]}
    assert [arm["label"] for arm in result["arms"]] == ["raw", "good", "all of raw"]
    more = experiments.foresee(ws, ask("good", seeds=6))
    assert sorted(more.taken) == [f"{arm}-{seed}" for arm in ("baseline", "candidate") for seed in range(3)]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (ask("same", controls=("random-k",)), "no candidate has fewer"),
        (ask("good", controls=("randomk",)), "there is no control 'randomk'"),
        (ask("good", controls=("full",), trained_tokens=None, minutes=5.0), "cannot share a budget in minutes"),
        (ask("good", controls=("full",), trained_tokens=None, epochs=1), "its own control"),
        (ask("good", epochs=1), "no other budget"),
    ],
)
def test_what_cannot_be_planned_is_said_before_anything_is_made(ws, question, says):
    before = len(ws.versions())
    with pytest.raises(UsageProblem, match=says):
        experiments.plan(ws, question)
    assert (len(ws.versions()), listing(ws)) == (before, [])


def test_a_control_is_not_made_of_rows_that_somebody_dropped_since(ws):
    ws.draft("raw").drop([next(iter(ws.examples("raw").rows)).id], "by hand")
    with pytest.raises(UsageProblem, match="not frozen"):
        experiments.plan(ws, ask("good", controls=("random-k",)))


def test_to_foresee_makes_no_version_and_tells_arms_and_runs(ws):
    before = len(ws.versions())
    question = ask("good", "bad", controls=("random-k",))
    ahead = experiments.foresee(ws, question)
    assert len(ws.versions()) == before
    head, arms, *_ = promises(ahead)
    assert head.startswith("raw vs good vs bad (random-k) · 12 runs · 2,560 trained tokens a run")
    assert arms == (
        "4 arms: baseline raw (20 rows), candidate good (12 rows), candidate2 bad (20 rows), "
        "random-k raw-random-k-12 (12 rows)"
    )
    assert experiments.plan(ws, question).id == ahead.id


def test_what_is_found_among_several_candidates_is_larger_and_is_told_before(ws):
    made(ws, ask("good"))
    alone, many = (experiments.foresee(ws, ask(*names)) for names in (("same",), ("same", "bad", "good")))
    assert alone.mde is not None
    assert many.mde is not None
    assert many.mde > alone.mde * 1.1
    assert any("for each of 3 candidates together" in promise for promise in promises(many))


def test_equal_data_in_several_arms_gets_other_seeds_in_each(ws):
    planned = experiments.plan(ws, ask("raw", "good", "raw", seeds=2))
    assert [run.id for run in planned.plan.runs] == [
        "baseline-0", "candidate-2", "candidate2-0", "candidate3-4",
        "baseline-1", "candidate-3", "candidate2-1", "candidate3-5",
    ]  # fmt: skip


def test_minutes_are_shared_by_all_arms_so_their_runs_are_others(ws):
    minutes: dict[str, Any] = {"trained_tokens": None, "minutes": 6.0}
    made(ws, ask("good", **minutes))
    assert experiments.foresee(ws, ask("good", "bad", **minutes)).taken == {}
    made(ws, ask("good", "bad", **minutes))
    assert len(experiments.foresee(ws, ask("good", "same", **minutes)).taken) == 6


def test_epochs_are_another_question_whose_verdict_says_so(ws):
    experiment, _, result = made(ws, ask("good", "bad", trained_tokens=None, epochs=2))
    assert experiment.plan.budget.epochs == 2
    assert (
        "2 epochs of each version's own rows"
        in promises(experiments.foresee(ws, ask("same", trained_tokens=None, epochs=2)))[0]
    )
    assert result["scope"] == "any seed of this setting, each version trained for 2 epochs of its own rows"
    assert any("may be one of size, not of content" in sentence for sentence in result["sentences"])
    assert listing(ws)[0].budget == "2 epochs"
    assert experiments.asked(find_experiment(ws.store, experiment.id)).epochs == 2


def test_a_question_of_many_arms_can_be_asked_again_from_what_was_noted(ws):
    question = ask("good", "bad", controls=("longest-k", "random-k"))
    planned = experiments.plan(ws, question)
    again = experiments.asked(find_experiment(ws.store, planned.id))
    assert (again.candidates, again.controls) == (("good", "bad"), ("longest-k", "random-k"))
    assert experiments.plan(ws, again).id == planned.id
    words = command_line(again)[0].split()
    assert words[1:7] == ["compare", "raw", "good", "bad", "--control", "longest-k,random-k"]
    words = command_line(ask("good", trained_tokens=None, epochs=2))[0].split()
    assert words[words.index("--match") :][:4] == ["--match", "epochs", "--epochs", "2"]
    for version in ("raw", "bad", "raw-random-k-12"):
        with pytest.raises(UsageProblem, match="trained on"):
            check_removable(ws.store, version)


def test_lists_and_results_show_every_candidate(ws):
    experiment, _, result = made(ws, ask("good", "same", "bad", controls=("random-k",)))
    [listed] = listing(ws)
    assert listed.verdict_told == "1 better, 1 no difference, 1 worse"
    assert told(listed) == "Against raw: good better, same no difference detected, bad worse."
    stream = io.StringIO()
    Console(file=stream, width=80).print(render_result(result))
    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    for text in ("good against raw: better", "bad against raw: worse", "control random-k", "not trained"):
        assert text in shown, text
    places = [line.split()[:2] for line in shown.splitlines() if line[:1].isdigit()]
    assert places[0] == ["1", "good"]
    second = open_result(ws, experiment.id, 2)
    assert (second.arms["candidate"], second.result["verdict"]) == ("bad", "worse")
    assert list(second.runs["candidate"].values()) == [f"{experiment.id}/candidate3-{seed}" for seed in range(3)]
    item = second.items[0]
    assert item.change("response_nll") == pytest.approx(0.2, abs=0.05)
    control = open_result(ws, experiment.id, 3)
    assert control.arms == {"base": "base", "baseline": "raw-random-k-12", "candidate": "good"}
    assert control.comparisons[3] == "good against raw-random-k-12"


def test_an_arm_without_a_finished_run_does_not_hide_that_others_are_there(ws):
    experiment = experiments.plan(ws, ask("good", "bad"))
    plant(experiment, MEANS.__getitem__)
    shutil.rmtree(experiment.folder / "results" / "candidate2-1")
    assert not outcomes.is_measured(ws, experiment.id)
    assert plant(experiment, MEANS.__getitem__) == ["candidate2-1"]
    assert outcomes.is_measured(ws, experiment.id)


def test_the_gate_closes_where_any_candidate_is_worse_whatever_controls_say(ws):
    for names in (("good", "bad"), ("good", "same")):
        made(ws, ask(*names, controls=("random-k",)))
    root = str(ws.root)
    ws.close()

    def gate(*candidates: str) -> tuple[int, dict[str, Any]]:
        setting = ("--model", "./tiny", "--trained-tokens", "2560", "--control", "random-k", "--gate", "--json")
        ended = CliRunner().invoke(app, ["-w", root, "compare", "raw", *candidates, *setting])
        return ended.exit_code, json.loads(ended.stdout)

    code, result = gate("good", "bad")
    assert (code, result["verdict"], result["comparisons"][1]["verdict"]) == (7, "better", "worse")
    code, result = gate("good", "same")
    assert (code, len(result["comparisons"])) == (0, 3)


def test_the_gate_stays_closed_where_a_candidate_could_not_be_compared(ws):
    experiment = experiments.plan(ws, ask("good", "same"))
    plant(experiment, MEANS.__getitem__)
    for run in experiment.plan.runs:
        if run.arm == "candidate2":
            (experiment.folder / "results" / run.id / SUMMARY).unlink()
            note_failure(experiment.folder / "results" / run.id, Problem("the loss of step 3 is nan", do="Train less."))
    outcomes.conclude(ws, experiment.id)
    root = str(ws.root)
    ws.close()
    command = ["-w", root, "compare", "raw", "good", "same", "--model", "./tiny", "--trained-tokens", "2560", "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    closed = CliRunner().invoke(app, [*command, "--gate"])
    assert isinstance(closed.exception, Problem)
    assert str(closed.exception).startswith("same: it could not be compared, so the gate stays closed: the loss of")
    assert json.loads(closed.stdout)["verdict"] == "better", "and what could be compared is told"


def test_arms_that_were_not_trained_alike_are_told(ws):
    experiment = experiments.plan(ws, ask("good"))
    plant(experiment, MEANS.__getitem__)
    for run, tokens in (("candidate-0", 1000), ("candidate-1", 2560), ("candidate-2", 1000)):
        path = experiment.folder / "results" / run / SUMMARY
        path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_tokens": tokens}))
    found = outcomes.conclude(ws, experiment.id).as_json()
    told = (
        "raw was trained on 2,560 tokens a run and good on 1,520: a difference may be one of training, not of content."
    )
    assert told in found["sentences"]
    _, _, alike = made(ws, ask("same", controls=("full",)))
    assert not any("was trained on" in sentence for sentence in alike["sentences"])
