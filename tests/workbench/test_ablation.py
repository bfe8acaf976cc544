"""What each step of a recipe is worth: versions with and without it, one baseline for all, a row for each step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from workbench import experiments, outcomes
from workbench.ablation import Ablation, prepare, questions, runs_of, worth
from workbench.errors import UsageProblem
from workbench.experiments import Question
from workbench.report.ablation import ablation_table, meaning
from workbench.series import family
from workbench.workspace import Workspace

from .ablated import to_ablate
from .planted import plant

RECIPE = """# what a person wrote
steps:
  - exact: {on: both}
  - length: {on: response, min_words: 2}  # the short ones
  - length: {on: prompt, max_words: 100}
"""


@pytest.fixture
def ws(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with source `rows` (20 sound, 5 short, 3 twice) and a recipe whose last step does nothing."""
    workspace = to_ablate(tmp_path, tiny_model)
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    yield workspace
    workspace.close()


def sides(ablation: Ablation) -> dict[str, tuple[str, int, bool]]:
    return {v.step: (v.side.version, v.side.rows, v.same) for v in ablation.variants}


def ask(**options: Any) -> Question:
    return Question("rows-r", None, **({"model": "./tiny", "trained_tokens": 2560, "seeds": 2} | options))


def test_each_step_is_left_out_once_and_a_dry_run_counts_the_same_without_a_version(ws):
    ahead = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out", dry_run=True)
    assert ws.versions() == []
    ablation = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out")
    assert ahead == ablation
    assert (ablation.baseline.version, ablation.baseline.rows) == ("rows-r", 20)
    assert sides(ablation) == {
        "exact": ("rows-r-without-exact", 23, False),
        "length-2": ("rows-r-without-length-2", 25, False),
        "length-3": ("rows-r-without-length-3", 20, True),
    }
    assert prepare(ws, "r.yaml", ["rows"], mode="leave-one-out") == ablation, "again, all is there"
    assert len(ws.versions()) == 4


def test_each_step_alone_is_held_against_the_rows_as_they_are(ws):
    ahead = prepare(ws, "r.yaml", ["rows"], mode="add-one", dry_run=True)
    ablation = prepare(ws, "r.yaml", ["rows"], mode="add-one")
    assert ahead == ablation
    assert (ablation.baseline.version, ablation.baseline.rows) == ("rows-r-as-is", 28)
    assert sides(ablation) == {
        "exact": ("rows-r-only-exact", 25, False),
        "length-2": ("rows-r-only-length-2", 23, False),
        "length-3": ("rows-r-only-length-3", 28, True),
    }
    with pytest.raises(UsageProblem, match="one source or version"):
        prepare(ws, "r.yaml", ["rows", "rows-r-as-is"], mode="add-one")


def test_only_the_steps_that_are_asked_about(ws):
    some = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out", steps=["exact", "3"], dry_run=True)
    assert [variant.step for variant in some.variants] == ["exact", "length-3"]
    with pytest.raises(UsageProblem, match="no step 'minhash'") as caught:
        prepare(ws, "r.yaml", ["rows"], mode="leave-one-out", steps=["minhash"], dry_run=True)
    assert caught.value.do == "It has 1 exact, 2 length, 3 length."


def test_the_baseline_is_trained_once_and_every_step_gets_its_row(ws):
    ablation = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out")
    means = {"base": 3.0, "rows-r": 2.0, "rows-r-without-exact": 2.3, "rows-r-without-length-2": 2.0}
    made, results = [], []
    for question in questions(ablation, ask()):
        experiment = experiments.plan(ws, question)
        made += plant(experiment, means.__getitem__)
        results.append(outcomes.conclude(ws, experiment.id).as_json())
    assert sorted(made) == ["base", "baseline-0", "baseline-1", *["candidate-0"] * 2, *["candidate-1"] * 2]
    assert runs_of(ablation, 2) == 6
    compared = {one.candidate: {"state": "done"} | one.as_dict() for one in family(results)}
    steps = worth(ablation, compared, {"rows-r-without-exact": 1234})
    assert [step["state"] for step in steps] == ["done", "done", "same rows"]
    assert [step["rows_more"] for step in steps] == [3, 5, 0]
    assert (steps[0]["verdict"], steps[0]["delta"]) == ("worse", pytest.approx(0.3, abs=0.02))
    assert steps[1]["verdict"] == "no difference detected"
    shown = io.StringIO()
    console = Console(file=shown, width=80, highlight=False)
    console.print(ablation_table(steps))
    assert "1,234" in shown.getvalue()
    assert "it changes no row" in " ".join(shown.getvalue().split())
    assert max(map(len, shown.getvalue().splitlines())) <= 80
    told = meaning("leave-one-out", "rows-r", steps)
    assert "Without it the model is worse, so it earns its place: exact." in told
    assert "Not shown to do anything here: length-2." in told


def test_minutes_are_for_all_comparisons_together(ws):
    ablation = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out", dry_run=True)
    asked = questions(ablation, ask(trained_tokens=None, minutes=30.0))
    # The first makes four of the six runs; the second takes over what they bought.
    assert [one.minutes for one in asked] == [pytest.approx(20.0)] * 2
    assert [one.minutes for one in questions(ablation, ask())] == [None, None]
