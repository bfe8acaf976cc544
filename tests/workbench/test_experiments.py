"""What a question becomes before and after its job: plans, seeds, the noise floor; and how results are shown."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from trainer.plan import SHORT, PolicySetting
from trainer.statistics import estimate_noise_floor
from workbench import experiments, measurements, outcomes
from workbench.errors import NotFound, Problem, UsageProblem
from workbench.experiments import Question
from workbench.report.live import _Bars, _Lines, budget_sentence, telling
from workbench.report.verdict import Side, render_result, render_sides
from workbench.store import experiments as table
from workbench.workspace import Workspace

ITEMS = 6


@pytest.fixture
def ws(tmp_path):
    """A workspace with versions `a`, `b` and `copy-of-a` (the same rows in it) and the eval set `items`."""
    workspace = Workspace.init(tmp_path / "ws")
    for name, answer in (("a", "yes"), ("b", "no")):
        path = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": f"Question {i}?", "completion": f"{answer} {i}"} for i in range(20)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace.import_file(path, name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    workspace.freeze("a-rows", "copy-of-a")
    path = tmp_path / "items.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Item {i}?", "completion": f"yes {i}"}) + "\n" for i in range(ITEMS))
    )
    workspace.import_evalset(path, "items")
    yield workspace
    workspace.close()


@pytest.fixture(autouse=True)
def models(tiny_model, tmp_path, monkeypatch):
    """Two models by the names `./tiny` and `./tiny-2`, as seen from the working folder."""
    for name in ("tiny", "tiny-2"):
        (tmp_path / name).symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)


def ask(a: str = "a", b: str | None = "b", **options: Any) -> Question:
    return Question(a, b, **({"model": "./tiny", "trained_tokens": 300, "seeds": 2} | options))


def seeds_of(planned: experiments.Experiment) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for run in planned.plan.runs:
        found.setdefault(run.arm, []).append(run.seed)
    return found


def test_a_plan_freezes_the_rows_in_order_and_every_arm_gets_the_same_seeds(ws):
    planned = experiments.plan(ws, ask(seeds=3))
    assert seeds_of(planned) == {"baseline": [0, 1, 2], "candidate": [0, 1, 2]}
    for arm, version in planned.arms.items():
        frozen = pq.read_table(planned.folder / planned.plan.arms[arm])
        rows = pa.Table.from_batches(ws.rows(version))
        for column in ("content_hash", "messages", "tools"):
            assert frozen.column(column).to_pylist() == rows.column(column).to_pylist()
    items = pq.read_table(planned.folder / "eval.parquet")
    assert items.column("item").to_pylist() == list(range(ITEMS))
    assert (planned.done, planned.mde, planned.plan.base) == (False, None, True)


def test_the_same_question_is_the_same_experiment_and_its_folder_is_left_alone(ws):
    first = experiments.plan(ws, ask())
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = experiments.plan(ws, ask())
    assert again.id == first.id
    assert {path.name: path.stat().st_mtime_ns for path in again.folder.iterdir()} == before
    assert len(table.experiments(ws.store)) == 1
    assert experiments.find(ws, first.id[:5]).id == experiments.find(ws, "a vs b").id == first.id
    with pytest.raises(NotFound):
        experiments.find(ws, "b vs a")


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": 3},
        {"trained_tokens": 301},
        {"trained_tokens": None, "minutes": 5.0},
        {"model": "./tiny-2"},
        {"quantize": "nf4"},
        {"training": SHORT},
        {"policy": PolicySetting(turns="last")},
        {"max_new_tokens": 5},
        {"b": "a"},
        {"a": "b", "b": "a"},
    ],
    ids=lambda other: "-".join(other),
)
def test_whatever_changes_a_number_makes_another_experiment(ws, other):
    assert experiments.plan(ws, ask(**other)).id != experiments.plan(ws, ask()).id


def test_the_day_is_part_of_the_question_only_where_the_template_asks_for_it(ws, tiny_model, tmp_path):
    days = [PolicySetting(date=None), PolicySetting(date="2020-01-01"), PolicySetting(date="2020-01-02")]
    planned = [experiments.plan(ws, ask(policy=policy)) for policy in days]
    assert len({experiment.id for experiment in planned}) == 1
    assert planned[0].plan.policy.date is None
    shutil.copytree(tiny_model, tmp_path / "dated")
    template = tmp_path / "dated" / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }}" + template.read_text())
    planned = [experiments.plan(ws, ask(policy=policy, model="./dated")) for policy in days]
    assert len({experiment.id for experiment in planned}) == 3
    assert [experiment.plan.policy.date for experiment in planned[1:]] == ["2020-01-01", "2020-01-02"]
    assert planned[0].plan.policy.date is not None, "today is frozen in the plan"


@pytest.mark.parametrize("candidate", ["a", "copy-of-a"])
def test_the_same_data_in_both_arms_gets_other_seeds(ws, candidate):
    assert seeds_of(experiments.plan(ws, ask("a", candidate))) == {"baseline": [0, 1], "candidate": [2, 3]}


def test_one_seed_needs_a_run_for_the_noise_and_a_version_alone_does_not(ws):
    assert seeds_of(experiments.plan(ws, ask(seeds=1))) == {"baseline": [0, 1000], "candidate": [0]}
    alone = experiments.plan(ws, ask("a", None, seeds=1))
    assert (seeds_of(alone), alone.name) == ({"baseline": [0]}, "a")


def measured(ws: Workspace, setting: str, seed_values: dict[int, float], *, version: str = "a", experiment: str = "x"):
    """Store finished runs of a version: NLLs that vary by item, plus one value for each seed."""
    found = ws.store.version(version)
    assert found is not None
    tables = []
    for seed, value in seed_values.items():
        nll = np.random.default_rng(seed).normal(2 + value, 0.01, ITEMS)
        rows = {"item": list(range(ITEMS)), "metric": ["response_nll"] * ITEMS, "value": nll, "weight": [5.0] * ITEMS}
        answers = {"item": list(range(ITEMS)), "text": ["yes"] * ITEMS, "finish": ["stop"] * ITEMS}
        run = table.RunRow(
            f"{experiment}/{version}-{seed}", experiment, "baseline", found.id, seed, setting, "done", "{}"
        )
        table.save_run(ws.store, run, pa.table(rows), pa.table(answers))
        tables.append(nll)
    return np.array(tables)


def setting_of(planned: experiments.Experiment, ws: Workspace) -> str:
    return str(json.loads(table.find_experiment(ws.store, planned.id).plan)["setting"])


def test_noise_is_estimated_from_all_runs_of_the_setting_and_each_run_counts_once(ws):
    setting = setting_of(experiments.plan(ws, ask()), ws)
    [items] = ws.evalsets()
    assert measurements.noise_floors(ws, setting, items) == {}
    runs = measured(ws, setting, {0: 0.0, 1: 0.3})
    floor = measurements.noise_floors(ws, setting, items)["response_nll"]
    expected = estimate_noise_floor(runs)
    assert (floor.sd, floor.df) == (pytest.approx(expected.sd), 1)
    # The baseline of the next comparisons is the same two runs again: no news about noise.
    for experiment in ("y", "z"):
        measured(ws, setting, {0: 0.0, 1: 0.3}, experiment=experiment)
    assert measurements.noise_floors(ws, setting, items)["response_nll"] == floor
    # Another version's pair is news; two versions are never taken for one.
    measured(ws, setting, {0: 5.0, 1: 5.1}, version="b")
    pooled = measurements.noise_floors(ws, setting, items)["response_nll"]
    assert pooled.df == 2
    assert pooled.sd < floor.sd


def test_a_metric_that_a_run_of_an_earlier_release_lacks_has_its_noise_from_the_others(ws):
    setting = setting_of(experiments.plan(ws, ask()), ws)
    measured(ws, setting, {0: 0.0, 1: 0.3, 2: 0.1})
    table.save_metric(ws.store, "stop_rate", {f"x/a-{seed}": np.ones(ITEMS) for seed in (1, 2)})
    [items] = ws.evalsets()
    floors = measurements.noise_floors(ws, setting, items)
    assert (floors["response_nll"].df, floors["stop_rate"].df) == (2, 1)
    table.save_metric(ws.store, "stop_rate", {"x/a-1": np.full(ITEMS, np.nan)})
    assert "stop_rate" not in measurements.noise_floors(ws, setting, items)


def test_with_noise_known_one_seed_needs_no_further_run_and_the_smallest_effect_is_told_before(ws):
    setting = setting_of(experiments.plan(ws, ask(seeds=1)), ws)
    measured(ws, setting, {0: 0.0, 1: 0.1, 2: 0.05})
    planned = experiments.plan(ws, ask("b", "a", seeds=1))
    assert seeds_of(planned) == {"baseline": [0], "candidate": [0]}
    assert planned.mde is not None
    assert 0.1 < planned.mde < 1
    other_setting = experiments.plan(ws, ask("b", "a", seeds=1, trained_tokens=600))
    assert seeds_of(other_setting)["baseline"] == [0, 1000]
    # What minutes buy depends on the machine's mood: earlier runs of that length say nothing.
    minutes = experiments.plan(ws, ask("b", "a", seeds=1, trained_tokens=None, minutes=5.0))
    assert seeds_of(minutes)["baseline"] == [0, 1000]


def test_a_job_without_results_is_named_with_what_goes_on(ws):
    planned = experiments.plan(ws, ask())
    with pytest.raises(Problem, match="no result yet") as caught:
        outcomes.conclude(ws, planned.id)
    assert "experiments resume" in caught.value.do
    assert table.find_experiment(ws.store, planned.id).result is None


def test_a_folder_that_was_lost_is_written_again(ws):
    planned = experiments.plan(ws, ask())
    for path in planned.folder.iterdir():
        path.unlink()
    again = experiments.plan(ws, ask())
    assert (again.id, again.plan) == (planned.id, planned.plan)
    assert (again.folder / "plan.json").exists()


def test_a_finished_experiment_whose_folder_is_gone_keeps_its_result(ws):
    planned = experiments.plan(ws, ask())
    table.save_result(ws.store, planned.id, "{}")
    shutil.rmtree(planned.folder)
    again = experiments.plan(ws, ask())
    assert (again.id, again.done) == (planned.id, True)
    assert not planned.folder.exists()


def test_a_version_that_an_unfinished_experiment_needs_is_not_removed(ws):
    planned = experiments.plan(ws, ask())
    with pytest.raises(UsageProblem, match="trained on"):
        ws.remove_version(planned.arms["candidate"])


# --- how results are shown ---

HOSTILE = "[/INST] [bold]x[/] \x1b[31m\x07\u202e ⟦日本⟧ \ud800 [link=http://a]"


def metric(name: str, role: str, verdict: str, **other: Any) -> dict[str, Any]:
    return {
        "name": name, "role": role, "higher_is_better": False, "baseline": 12.3456, "candidate": -10.2341,
        "delta": -0.1234, "ci": [-0.2345, 0.3456], "p": 0.1, "mde": 0.4567, "verdict": verdict,
    } | other  # fmt: skip


def result(text: str) -> dict[str, Any]:
    return {
        "experiment": "af124c549a", "baseline": text, "candidate": text, "seeds": 1,
        "trained_tokens": {"baseline": 8_000, "candidate": 8_001}, "scope": "these two runs", "verdict": "mixed",
        "primary": "response_nll", "sentences": [text], "means": {"base": {"response_nll": 5.678}, "baseline": {},
        "candidate": {}}, "settings": {"model": text, "held": "dense", "dtype": "float32", "evalset": text},
        "metrics": [
            metric("response_nll", "primary", "no difference detected"),
            metric("prompt_gain", "guardrail", "worse", ci=[None, None], mde=None),
            metric(text, "report", "better"),
        ],
    }  # fmt: skip


def printed(what: Any, width: int, *, markup: bool) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=markup, highlight=False, emoji=markup).print(what)
    return stream.getvalue()


def is_harmless(text: str) -> bool:
    return not any(char in text for char in "\x1b\x07\u202e\ud800")


@pytest.mark.parametrize("markup", [True, False])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_text_of_the_data_is_read_as_markup_or_obeyed(width, markup):
    shown = printed(render_result(result(HOSTILE)), width, markup=markup)
    sides = [Side(i, HOSTILE, HOSTILE * 20, {"candidate": (HOSTILE, "length"), "base": ("", "stop")}) for i in range(9)]
    shown += printed(render_sides(sides, {"baseline": HOSTILE, "candidate": HOSTILE}, 4), width, markup=markup)
    assert is_harmless(shown)
    assert "[/INST] [bold]x[/]" in shown
    assert shown.count("prompt  ") == 4


def test_at_80_columns_every_number_is_whole():
    shown = printed(render_result(result("curated")), 80, markup=False)
    assert max(map(len, shown.splitlines())) <= 80
    for number in ("5.678", "12.346", "-10.234", "-0.123", "-0.234 …", "+0.346", "0.457", "unknown"):
        assert number in shown, number
    assert "curated against curated: mixed" in shown
    assert "no difference" in shown


def test_a_training_without_a_verdict_shows_before_and_after():
    alone = result("v") | {
        "verdict": None, "candidate": None, "metrics": [], "sentences": [],
        "means": {"base": {"response_nll": 5.5}, "baseline": {"response_nll": 4.25, "stop_rate": 1.0}},
    }  # fmt: skip
    lines = printed(render_result(alone), 80, markup=False).splitlines()
    assert lines[0].split() == ["metric", "base", "baseline"]
    assert lines[1].split() == ["response", "NLL", "5.500", "4.250"]
    assert any(line.split() == ["stop", "rate", "-", "1.000"] for line in lines)


EVENTS: list[dict[str, Any]] = [
    {"event": "started", "pid": 1},
    {"event": "stage", "what": "loading [/the] model"},
    {"event": "arm", "arm": "baseline", "rows": 1200, "trained_tokens": 5000, "left_out": {"zero-trained": 3}},
    {"event": "budget", "steps": 20, "trained_tokens": 5120,
     "training": {"tokens_per_step": 256, "preset": "short", "learning_rate": 0.001},
     "dtype": "float32", "seconds_per_run": 120.0, "seconds_per_evaluation": 30.0, "stretched": False},
    {"event": "evaluate", "run": "base", "what": "own answers", "done": 1, "total": 8},
    {"event": "run-done", "run": "base"},
    {"event": "train", "run": "baseline-0", "step": 1, "steps": 20, "loss": 2.5, "tokens_per_second": None},
    {"event": "train", "run": "baseline-0", "step": 2, "steps": 20, "loss": 2.25, "tokens_per_second": 60.4},
    {"event": "run-done", "run": "baseline-0", "seconds": 100.0},
    {"event": "something a later release says"},
    {"event": "done"},
]  # fmt: skip


@pytest.mark.parametrize("shown_by", [_Bars, _Lines])
def test_progress_tells_plan_rows_and_runs_on_stderr_alone(shown_by: Callable[[int], Any], capsys):
    teller = shown_by(2)
    for event in EVENTS:
        teller.tell(event)
    teller.close()
    out, err = capsys.readouterr()
    assert out == ""
    told = " ".join(err.split())
    assert "baseline: 1,200 rows, 5,000 trained tokens; left out: 3 zero-trained" in told
    assert "each of 2 runs: 20 steps of 256, 5,120 trained tokens" in told
    assert "about 2.0 min a run, 4.0 min in all" in told


def test_what_the_budget_came_to_is_told_with_why_it_is_not_what_was_asked_for():
    budget = next(event for event in EVENTS if event["event"] == "budget")
    assert budget_sentence(budget, 2).endswith("4.0 min in all")
    assert budget_sentence(budget, 2, 3).endswith("5.5 min in all; 3 more are merged, and measured only")
    assert "longer than was asked for, but fewer steps teach" in budget_sentence(budget | {"stretched": True}, 2)
    assert "over 3 passes over the rows" in budget_sentence(budget | {"capped": True}, 2)
    assert "learning rate 0.0002 or 0.001, " in budget_sentence(budget | {"rates": [2e-4, 1e-3]}, 2)


@pytest.mark.parametrize("shown_by", [_Bars, _Lines])
@pytest.mark.parametrize(("seconds", "said"), [(700.0, "11.7 min"), (60.0, "60 s"), (150.0, "")])
def test_a_first_run_that_takes_what_nobody_foresaw_is_told_once_with_what_all_will_take(
    shown_by, seconds, said, capsys
):
    teller = shown_by(3)
    done = [{"event": "run-done", "run": run, "seconds": seconds} for run in ("resumed-0", "baseline-0", "baseline-0")]
    for event in [*EVENTS[:-3], *done]:
        teller.tell(event)
    teller.close()
    told = " ".join(capsys.readouterr().err.split())
    whole = f"baseline-0 took {said}, and 2.0 min were foreseen by the first steps: 3 runs take about"
    assert told.count("were foreseen") == told.count(whole) == bool(said), "of the run that it began itself"


def test_without_a_terminal_progress_is_lines_that_do_not_repeat(capsys):
    with telling(2) as tell:
        for event in EVENTS:
            tell(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "  baseline-0: done in 1.7 min (1 of 2)"
    assert sum("step" in line and "loss" in line for line in lines) <= 1
