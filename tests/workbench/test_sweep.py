"""Sweeps over methods and settings: their arms, what is compared, what is taken over, the table and the refusals."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from trainer.plan import SHORT, ExperimentPlan
from workbench import experiments, outcomes
from workbench.arms import families_of
from workbench.cli import app
from workbench.cli import sweep as sweep_command
from workbench.comparing import promises, setup
from workbench.errors import UsageProblem
from workbench.experiment_command import command_line
from workbench.experiments import Experiment, Question
from workbench.forecast import PACE
from workbench.report.verdict import render_result
from workbench.store.experiments import find_experiment
from workbench.sweep import MOST_ARMS, Sweep
from workbench.workspace import Workspace

from .planted import SUMMARY, made_of, plant


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions `raw` and `good` of 20 rows each, and an eval set of six items."""
    versions = {name: [(f"Question {i}?", f"{name} {i}") for i in range(20)] for name in ("raw", "good")}
    return made_of(tmp_path_factory.mktemp("sweep"), versions)


@pytest.fixture
def ws(made_once: Path, open_copy: Callable[[Path], Workspace]) -> Workspace:
    return open_copy(made_once)


def ask(*candidates: str, sweep: Sweep, **options: Any) -> Question:
    first, *more = candidates or (None,)
    settings: dict[str, Any] = {"model": "./tiny", "trained_tokens": 2560, "seeds": 3} | options
    return Question("raw", first, tuple(more), sweep=sweep, **settings)


def made(
    ws: Workspace, question: Question, effects: dict[tuple[str, str], float], seconds: dict[str, float] | None = None
) -> tuple[Experiment, list[str], Any]:
    """A sweep to its end, whose arms have a mean NLL by version and setting; the runs made for it, and its JSON.

    `seconds` is how long runs of a setting trained, 5 where it is not told; each is measured in one.
    """
    experiment = experiments.plan(ws, question)
    noted = json.loads(find_experiment(ws.store, experiment.id).plan)
    # Results are planted by version: each arm gets a name of its own for that.
    named = {arm: (version, noted["sweep"]["labels"][arm]) for arm, version in experiment.arms.items()}
    by_arm = replace(experiment, arms={arm: arm for arm in experiment.arms})
    runs = plant(by_arm, lambda arm: 3.0 if arm == "base" else effects[named[arm]])
    for run in runs:
        path = experiment.folder / "results" / run / SUMMARY
        costs = {"tokens_per_second": 50.0, "peak_bytes": 3_000_000_000, "estimated_bytes": 2_500_000_000}
        told = json.loads(path.read_text()) | {"cost": costs | {"saved_bytes": 20_000_000}}
        if run != "base" and named[told["arm"]][1] == "full":
            told["sanity"]["trainable_share"] = 1.0
        trained = (seconds or {}).get(named[told["arm"]][1], 5.0) if run != "base" else 5.0
        path.write_text(json.dumps(told | {"seconds": trained, "wall_seconds": trained + 1}))
    outcomes.conclude(ws, experiment.id)
    return experiment, runs, json.loads(str(find_experiment(ws.store, experiment.id).result))


def test_arms_are_every_combination_and_alike_but_for_it(ws):
    sweep = Sweep(methods=("lora", "qlora", "full"), ranks=(8, 16), learning_rates=(1e-4, 1e-3))
    job = experiments.foresee(ws, ask(sweep=sweep)).plan
    assert [
        (own.training.method, own.quantize, own.training.lora_r, own.training.lora_alpha, own.training.learning_rate)
        for own in job.settings.values()
    ] == [
        *(("lora", held, r, 2 * r, rate) for held in ("none", "nf4") for r in (8, 16) for rate in (1e-4, 1e-3)),
        *(("full", "none", 16, 32, rate) for rate in (1e-4, 1e-3)),
    ]
    assert {run.seed for run in job.runs} == {0, 1, 2}, "under each setting the same rows come in the same order"
    assert len(job.runs) == 10 * 3
    rates = experiments.foresee(ws, ask(sweep=Sweep(methods=("lora", "full")))).plan.settings.values()
    assert [own.training.learning_rate for own in rates] == [
        SHORT.learning_rate,
        pytest.approx(SHORT.learning_rate / 10),
    ]


def test_settings_of_one_version_are_compared_with_the_first_and_told_in_one_table(ws):
    sweep = Sweep(methods=("lora", "dora", "full"))
    means = {("raw", "lora"): 2.0, ("raw", "dora"): 2.0, ("raw", "full"): 1.8}
    experiment, _, result = made(ws, ask(sweep=sweep), means)
    assert experiment.name == "raw by lora, dora, full"
    assert {(one["candidate"], one["baseline"]): one["verdict"] for one in result["comparisons"]} == {
        ("dora", "lora"): "no difference detected",
        ("full", "lora"): "better",
    }
    assert "corrected for 2 comparisons (Holm)" in result["comparisons"][0]["sentences"][0]
    assert result["sweep"] == {"data": []}
    told = io.StringIO()
    Console(file=told, width=80).print(render_result(result))
    table = told.getvalue().splitlines()
    [row] = [line for line in table if line.startswith("full  ")]
    assert row.split()[2] == f"{result['comparisons'][1]['metrics'][0]['delta']:+.3f}"
    assert row.split()[-4:] == ["2.50", "3.00", "50", "20.0"]
    assert max(map(len, table)) <= 80
    notes = " ".join(told.getvalue().split())
    assert "gradients reach 100% of what is trained, 1.0% to 100.0% of all parameters" in notes
    assert "(float32, r)" in notes


def test_the_data_effect_is_told_under_every_setting_and_whether_it_holds(ws):
    sweep = Sweep(learning_rates=(1e-4, 1e-3))
    low, high = "lora lr=0.0001", "lora lr=0.001"
    held = {("raw", low): 2.0, ("good", low): 1.9, ("raw", high): 1.8, ("good", high): 1.7}
    experiment, _, result = made(ws, ask("good", sweep=sweep), held)
    noted = json.loads(find_experiment(ws.store, experiment.id).plan)
    assert families_of(noted) == [
        [("candidate", "baseline"), ("candidate3", "candidate2")],
        [("candidate2", "baseline")],
    ]
    [data] = result["sweep"]["data"]
    assert [(one["setting"], one["verdict"]) for one in data["effects"]] == [(low, "better"), (high, "better")]
    assert data["sentences"] == [
        "good is better than raw under all 2 settings.",
        f"No setting is shown to change how much the data does, against {low}.",
    ]
    assert (result["candidate"], result["baseline"], result["verdict"]) == (f"good, {low}", "raw", "better")


def test_an_effect_that_turns_around_with_the_learning_rate_is_told_as_that(ws):
    sweep = Sweep(learning_rates=(1e-4, 1e-3))
    low, high = "lora lr=0.0001", "lora lr=0.001"
    turned = {("raw", low): 2.0, ("good", low): 1.9, ("raw", high): 1.8, ("good", high): 1.9}
    _, _, result = made(ws, ask("good", sweep=sweep), turned)
    [data] = result["sweep"]["data"]
    assert data["sentences"][0].startswith(f"good against raw turns around: better under {low}; worse under {high}.")
    [change] = data["changes"]
    assert change["delta"] == pytest.approx(0.2, abs=0.03)
    assert change["ci"][0] < change["delta"] < change["ci"][1]
    assert change["p"] < 0.05
    assert f"against {low} it differs under {high}" in data["sentences"][1]


def test_an_effect_on_items_of_one_cluster_is_told_without_an_interval(ws, tmp_path):
    rows = [{"prompt": f"Item {i}?", "completion": "yes", "cluster": "one"} for i in range(6)]
    (tmp_path / "alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ws.import_evalset(tmp_path / "alike.jsonl", "alike")
    sweep = Sweep(learning_rates=(1e-4, 1e-3))
    labels = ("lora lr=0.0001", "lora lr=0.001")
    means = {(version, label): 2.0 for version in ("raw", "good") for label in labels}
    _, _, result = made(ws, ask("good", sweep=sweep, evalset="alike"), means)
    [data] = result["sweep"]["data"]
    assert data["changes"][0]["ci"] == [None, None]
    assert [one["verdict"] for one in data["effects"]] == ["no difference detected"] * 2


def test_epochs_are_told_of_each_arm(ws):
    sweep, named = Sweep(epochs=(1, 3)), ("lora 1 epoch", "lora 3 epochs")
    question = ask(sweep=sweep, trained_tokens=None)
    experiment, _, result = made(ws, question, {("raw", label): 2.0 for label in named})
    assert "6 runs · 1 epoch or 3 epochs of each version's own rows" in promises(experiment)[0]
    assert result["scope"].endswith("trained for 3 epochs against 1 epoch of its own rows")
    assert any("may be one of how long was trained" in sentence for sentence in result["sentences"])
    question = ask(sweep=Sweep(methods=("lora", "dora"), epochs=(2,)), trained_tokens=None)
    _, _, result = made(ws, question, {("raw", "lora"): 2.0, ("raw", "dora"): 2.0})
    assert result["scope"].endswith("each version trained for 2 epochs of its own rows")
    assert not any("may be one of" in sentence for sentence in result["sentences"]), "both saw the same"


def test_time_is_told_by_the_pace_of_each_method(ws):
    means = {("raw", name): 2.0 for name in ("lora", "dora")}
    made(ws, ask(sweep=Sweep(methods=("lora", "dora"))), means, {"dora": 20.0})

    def seconds(sweep: Sweep) -> float | None:
        return experiments.foresee(ws, ask(sweep=sweep)).seconds

    assert seconds(Sweep(methods=("dora",), ranks=(8, 32))) == pytest.approx(6 * 21)
    assert seconds(Sweep(ranks=(8, 32))) == pytest.approx(6 * 6)
    mixed = experiments.foresee(ws, ask(sweep=Sweep(methods=("lora", "full"))))
    assert mixed.seconds == pytest.approx(3 * (5 * PACE["full"] + 1)), "runs by lora are there"
    [guessed] = [sentence for sentence in promises(mixed) if "not trained by" in sentence]
    assert guessed == f"it was not trained by full here yet: taken to need {PACE['full']:g} times as long as by lora"
    alone = Question("raw", "good", model="./tiny", trained_tokens=5120, seeds=2, quantize="none")
    compared = experiments.foresee(ws, alone)
    assert compared.seconds == pytest.approx(4 * (10 + 1)), "what other methods took is no matter"
    assert not any("not trained by" in sentence for sentence in promises(compared))


def test_disk_is_told_by_runs_of_adapters_and_the_size_of_the_model(ws, tiny_model):
    means = {("raw", name): 2.0 for name in ("lora", "full")}
    experiment, _, _ = made(ws, ask(sweep=Sweep(methods=("full", "lora"))), means)
    for seed in range(3):
        whole = experiment.folder / "results" / f"baseline-{seed}" / "adapter"
        (whole / "config.json").write_text("{}")
        (whole / "model.safetensors").write_bytes(bytes(1_000_000))
    assert experiments.foresee(ws, ask(sweep=Sweep(ranks=(8, 32)))).disk < 1_000_000
    size = (tiny_model / "model.safetensors").stat().st_size
    rates = Sweep(methods=("full",), learning_rates=(1e-5, 2e-5))
    assert experiments.foresee(ws, ask(sweep=rates)).disk > 0.9 * size * (6 + 3)


def test_runs_of_another_sweep_and_of_a_comparison_by_the_same_setting_are_not_made_again(ws):
    means = {("raw", name): 2.0 for name in ("lora", "dora", "full", "lora r=8", "lora r=16")}
    made(ws, ask(sweep=Sweep(methods=("full", "lora"))), means)
    experiment, runs, _ = made(ws, ask(sweep=Sweep(methods=("lora", "dora", "full"))), means)
    assert {run.rpartition("-")[0] for run in runs} == {"candidate"}, "the first was the other's second"
    assert "6 runs taken over" in " ".join(promises(experiment))
    _, runs, _ = made(ws, ask(sweep=Sweep(ranks=(16, 8))), means)
    assert {run.rpartition("-")[0] for run in runs} == {"candidate"}
    alone = experiments.plan(
        ws, Question("raw", None, model="./tiny", trained_tokens=2560, seeds=3, quantize="none", training=SHORT)
    )
    assert len(alone.taken) == 3


def test_a_sweep_can_be_asked_again_by_its_own_command(ws):
    sweep = Sweep(methods=("lora", "ia3"), learning_rates=(1e-4, 1e-3), peft={"ia3": {"peft_type": "IA3"}})
    question = ask("good", sweep=sweep)
    experiment = experiments.plan(ws, question)
    again = experiments.asked(find_experiment(ws.store, experiment.id))
    assert again.sweep == sweep
    assert experiments.plan(ws, again).id == experiment.id
    assert setup(ws, "raw", "good").question.sweep is None, "a comparison asked after it is none"
    command, notes = command_line(again)
    assert command.startswith(
        "workbench sweep raw good --method lora --learning-rate 0.0001,0.001 --peft-config ia3.json"
    )
    assert any('{"peft_type": "IA3"}' in note for note in notes)
    Path("ia3.json").write_text('{"peft_type": "IA3"}')
    ws.close()
    run = CliRunner().invoke(app, ["-w", "ws", *shlex.split(command)[1:], "--export", "there"])
    assert run.exit_code == 0, run.output
    [plan] = Path("there").rglob("plan.json")
    asked = ExperimentPlan.model_validate_json(plan.read_bytes())
    assert asked.settings == experiment.plan.settings


def test_devices_are_heeded_where_it_is_run_and_told_where_it_is_not(ws, monkeypatch):
    ws.close()
    begun = []
    monkeypatch.setattr(sweep_command, "carry_out", lambda ctx, experiment, **_: begun.append(experiment))
    words = shlex.split("-w ws sweep raw --rank 8,16 --trained-tokens 2560 --seeds 2 --model ./tiny --devices cpu,cpu")
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert json.loads((begun[0].folder / "devices.json").read_text()) == ["cpu", "cpu"]
    run = CliRunner().invoke(app, [*words, "--export", "there", "--json"])
    assert json.loads(run.stdout)["command"].endswith("--devices cpu,cpu")


def test_a_config_is_not_taken_for_the_method_of_its_name_nor_for_another_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path("lora.json"), Path("ia3.json"), Path("other/ia3.json")):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"peft_type": "IA3"}')
    words = ["sweep", "raw", "--method", "dora,lora", "--trained-tokens", "2560", "--peft-config", "lora.json"]
    told = str(CliRunner().invoke(app, words).exception)
    assert told.startswith("lora.json: ")
    assert "a method that is there without a file is called 'lora', too" in told
    words[-1:] = ["ia3.json", "--peft-config", "other/ia3.json"]
    assert "another file is called 'ia3', too" in str(CliRunner().invoke(app, words).exception)


@pytest.mark.parametrize(
    ("sweep", "options", "why"),
    [
        (Sweep(), {}, "one setting is no sweep"),
        (Sweep(methods=("full",), ranks=(8, 16)), {}, "mean nothing to full"),
        (Sweep(ranks=(8, 16)), {"candidate": "raw"}, "each version once"),
        (Sweep(methods=("lora", "prefix")), {}, "no method 'prefix'"),
        (Sweep(ranks=tuple(range(1, MOST_ARMS + 2))), {}, f"{MOST_ARMS} are allowed"),
        (Sweep(ranks=(8, 16)), {"seeds": 1}, "2 or more in a sweep"),
        (Sweep(ranks=(8, 16)), {"trained_tokens": None}, "needs a budget for each run"),
        (Sweep(epochs=(1, 2)), {}, "on all of its rows"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(ws, sweep, options, why):
    with pytest.raises(UsageProblem, match=why):
        experiments.foresee(ws, replace(ask(sweep=sweep), **options))
