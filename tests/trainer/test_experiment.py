from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from peft import PeftModel  # noqa: E402

from trainer import budget as budgets  # noqa: E402
from trainer import finetune, runs  # noqa: E402
from trainer.arms import Arm, read_arm, validation_rows, without  # noqa: E402
from trainer.budget import budget_in_minutes, round_down  # noqa: E402
from trainer.chat import MaskPolicy, TokenCache  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.errors import Stopped, UsageProblem  # noqa: E402
from trainer.experiment import run_experiment  # noqa: E402
from trainer.plan import MIN_STEPS, Budget, Evaluation, ExperimentPlan, MergedArm, Run, TrainingSetting  # noqa: E402
from trainer.protocol import Events, read_events  # noqa: E402
from trainer.schedule import TrainRow  # noqa: E402

from ..waiting import until  # noqa: E402

TRAINING = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=40, micro_tokens=128, max_length=200)

TOKENS = Budget(trained_tokens=200)


def parquet(path: Path, conversations) -> None:
    rows = []
    for messages in conversations:
        text = canonical_json(messages)
        rows.append({"content_hash": content_hash(text), "messages": text, "tools": None})
    schema = pa.schema([("content_hash", pa.string()), ("messages", pa.string()), ("tools", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def chat(question: str, answer: str):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture
def folder(tmp_path, tiny_setting):
    """A run folder with two arms, two seeds and a handful of eval items."""

    def make(name="job", budget=TOKENS, seeds=(0, 1), *, stretch=False) -> Path:
        out = tmp_path / name
        out.mkdir()
        parquet(out / "a.parquet", [chat(f"{i}?", f"yes {i}") for i in range(40)])
        parquet(out / "b.parquet", [chat(f"{i}?", f"yes {i}") for i in range(20)] + [chat("x", "no " * 6)] * 20)
        items = [chat(f"eval {i}", f"yes {i}") for i in range(5)]
        table = [
            {"item": i, "messages": canonical_json(m), "tools": None, "cluster": str(i)} for i, m in enumerate(items)
        ]
        pq.write_table(pa.Table.from_pylist(table), out / "eval.parquet")
        plan = ExperimentPlan(
            model=tiny_setting,
            training=TRAINING,
            budget=budget,
            arms={"a": "a.parquet", "b": "b.parquet"},
            runs=[Run(id=f"{arm}-{seed}", arm=arm, seed=seed) for seed in seeds for arm in ("a", "b")],
            evaluation=Evaluation(max_new_tokens=4),
            stretch=stretch,
        )
        (out / "plan.json").write_text(plan.model_dump_json())
        return out

    return make


def metrics(folder: Path, run: str) -> list[dict]:
    return pq.read_table(folder / "results" / run / "metrics.parquet").to_pylist()


def summary(folder: Path, run: str) -> dict:
    return json.loads((folder / "results" / run / "summary.json").read_text())


def test_every_run_is_trained_alike_and_measured_on_every_item(folder):
    job = folder()
    run_experiment(job, Events(job))
    for run in ("a-0", "b-0", "a-1", "b-1"):
        told = summary(job, run)
        assert told["steps"] == 5
        assert abs(told["trained_tokens"] - 200) < 20
        assert told["sanity"]["gradient_reach"] == 1.0
        assert {m["metric"] for m in metrics(job, run)} == {
            "response_nll", "prompt_gain", "stop_rate", "repetition", "answer_tokens", "has_list", "has_code",
            "has_heading", "regurgitation", "regurgitation_control",
        }  # fmt: skip
        assert {m["item"] for m in metrics(job, run)} == set(range(5))
        assert (job / "results" / run / "adapter" / "adapter_model.safetensors").exists()
        assert not (job / "results" / run / "checkpoints").exists()
    assert metrics(job, "a-0") != metrics(job, "b-0")
    assert metrics(job, "a-0") != metrics(job, "a-1")


def test_the_same_arm_and_seed_gives_the_same_numbers_whatever_ran_before(folder):
    first, second = folder("first"), folder("second", seeds=(1,))
    run_experiment(first, Events(first))
    # As it is left where a run was taken over and its results were lost: the weights are one file for both.
    kept, ours = (job / "results" / "a-1" / "adapter" / "adapter_model.safetensors" for job in (first, second))
    ours.parent.mkdir(parents=True)
    os.link(kept, ours)
    run_experiment(second, Events(second))
    assert not kept.samefile(ours), "trained into the file of another experiment"
    for run in ("a-1", "b-1"):
        assert metrics(first, run) == metrics(second, run)
    assert metrics(first, "base") == metrics(second, "base")


def test_a_budget_in_minutes_is_measured_and_kept_on_resume(folder):
    job = folder(budget=Budget(minutes=0.2), seeds=(0,), stretch=True)  # a busy machine takes longer
    run_experiment(job, Events(job))
    budget = json.loads((job / "budget.json").read_text())
    assert budget["steps"] >= 8
    assert budget["trained_tokens_per_second"] > 0
    assert summary(job, "a-0")["steps"] == summary(job, "b-0")["steps"] == budget["steps"]
    assert not (job / "results" / ".speed").exists()


def test_a_budget_in_minutes_counts_evaluations_at_the_speed_of_a_model_with_an_adapter(
    tiny, tmp_path, tiny_setting, monkeypatch
):
    """Answers of the demo's model take 1.6 times as long with an adapter; plans that left it out ran over."""
    arm = read_arm_of(tiny, tmp_path, [chat(f"{i}?", f"yes {i}") for i in range(40)])

    now = 0.0
    monkeypatch.setattr(budgets, "time", SimpleNamespace(monotonic=lambda: now))

    def sample(model) -> None:
        nonlocal now
        now += 0.03 if any(module.disable_adapters for module in lora_layers(model)) else 0.12

    plan = ExperimentPlan(
        model=tiny_setting, training=TRAINING, budget=Budget(minutes=1), arms={"a": "a.parquet"},
        runs=[Run(id="a-0", arm="a", seed=0)],
    )  # fmt: skip
    budget = budget_in_minutes(plan, tiny, [arm], [], 10.0, sample, 0.0, tmp_path / "scratch", 1)
    assert budget.seconds_per_evaluation == 40


def test_a_budget_in_minutes_counts_what_watches_a_run_and_what_an_adapter_makes_forget(folder, monkeypatch):
    """Runs of the demo took 86 s where 67 s were foreseen: for want of these, and by a sample of the shortest items."""
    job = folder(budget=Budget(minutes=5), seeds=(0,))
    plan = json.loads((job / "plan.json").read_text())
    plan["evaluation"]["general"] = "0" * 64
    (job / "plan.json").write_text(json.dumps(plan))
    (job / "general.txt").write_text("Some ordinary prose, which nobody trains on. " * 4)
    looked, watched, events = [], [], Events(job)
    forget, watch, emit = runs.forgetting, finetune.mean_loss, events.emit

    def forgetting(base, model, windows):
        looked.append(isinstance(model, PeftModel))
        return forget(base, model, windows)

    def watching(base, model, select, rows, micro_tokens):
        watched.append(len(rows))
        return watch(base, model, select, rows, micro_tokens)

    def emitted(event, **fields):
        emit(event, **fields)
        if event == "budget":
            raise Stopped("seen enough")

    monkeypatch.setattr(runs, "forgetting", forgetting)
    monkeypatch.setattr(finetune, "mean_loss", watching)
    monkeypatch.setattr(events, "emit", emitted)
    with pytest.raises(Stopped):
        run_experiment(job, events)
    assert looked == [False, True, False], "the base, then both ways to measure what an adapter costs"
    assert watched == [2, 2], "before and after the steps that measure, as in a run"


def test_a_stop_is_heeded_in_the_middle_of_an_answer(folder, monkeypatch):
    job = folder(seeds=(0,))
    plan = json.loads((job / "plan.json").read_text())
    plan["evaluation"]["max_new_tokens"] = 30
    (job / "plan.json").write_text(json.dumps(plan))
    answer, written = runs.generate, []

    def answering(*given, on_tokens=lambda _: None, **options):
        def on_token(tokens):
            if (job / "budget.json").exists():  # not the base's, which any signal ends
                written.append(tokens)
                os.kill(os.getpid(), signal.SIGTERM)
            on_tokens(tokens)

        return answer(*given, on_tokens=on_token, **options)

    monkeypatch.setattr(runs, "generate", answering)
    with pytest.raises(Stopped):
        run_experiment(job, Events(job))
    assert len(written) <= 2, "of 30 tokens"
    assert list((job / "results" / "a-0" / "checkpoints").iterdir()), "it goes on with its evaluation"


def test_minutes_that_are_gone_before_the_first_run_are_refused_before_it(folder):
    job = folder(budget=Budget(minutes=1), seeds=(0,))
    events = Events(job)
    events.began -= 600  # as if its libraries had taken so long to load
    with pytest.raises(UsageProblem, match="1 minutes are too few for 2 runs here"):
        run_experiment(job, events)
    assert {path.name for path in (job / "results").iterdir() if path.is_dir()} == {"base"}
    assert not (job / "budget.json").exists()


SPENT = 50.0


@pytest.fixture
def bought(tiny, tmp_path, tiny_setting, monkeypatch):
    """What minutes buy six runs at 100 trained tokens a second, where each costs 2 s besides and 30 s of measuring."""
    monkeypatch.setattr(budgets, "_measure_speed", lambda *_: (100.0, 2.0, 1.5))

    def buy(minutes: float, rows: int = 4000, *, merged: int = 0, stretch: bool = False):
        arm = Arm([TrainRow(str(i), range(101), range(101)) for i in range(rows)], {})
        plan = ExperimentPlan(
            model=tiny_setting, training=TRAINING, budget=Budget(minutes=minutes), arms={"a": "a.parquet"},
            merged={"m": MergedArm(how="linear", of={"a": -1.0})}, stretch=stretch,
            runs=[Run(id=str(n), arm="a" if n < 6 else "m", seed=n) for n in range(6 + merged)],
        )  # fmt: skip
        turns = len(plan.runs)
        return budget_in_minutes(plan, tiny, [arm], [], 20.0, lambda _: None, SPENT, tmp_path / "scratch", turns)

    return buy


@pytest.mark.parametrize("minutes", [5, 6, 8, 10, 30, 120])
def test_minutes_that_are_asked_for_are_what_all_runs_take(bought, minutes):
    budget = bought(minutes)
    whole = SPENT + 6 * budget.seconds_per_run
    assert 0.65 * minutes * 60 < whole <= minutes * 60
    assert not budget.stretched
    assert not budget.capped


@pytest.mark.parametrize("minutes", [0.1, 1.5])
def test_minutes_that_measuring_alone_takes_are_refused_before_any_step(bought, minutes, monkeypatch):
    monkeypatch.setattr(budgets, "_measure_speed", None)
    with pytest.raises(UsageProblem, match="too few for 6 runs here: measuring them takes 3 without training"):
        bought(minutes)


@pytest.mark.parametrize("minutes", [3, 3.5])
def test_minutes_that_do_not_buy_the_fewest_steps_are_refused_with_those_that_do(bought, minutes):
    with pytest.raises(UsageProblem) as refused:
        bought(minutes)
    told = str(refused.value)
    assert f"{minutes:g} minutes are too few for 6 runs" in told
    assert "8 steps of 40 trained tokens or more" in told
    assert "about 5 s, and 30 s to measure" in told
    [enough] = re.findall(r"the least is about ([\d.]+)\.", told)
    assert bought(float(enough)).steps >= MIN_STEPS
    with pytest.raises(UsageProblem):
        bought(float(enough) * 0.75)


def test_where_a_plan_may_be_stretched_the_fewest_steps_are_made_and_it_is_told(bought):
    budget = bought(1.5, stretch=True)
    assert budget.steps == MIN_STEPS
    assert budget.stretched
    assert not bought(30, stretch=True).stretched


def test_minutes_are_spent_on_merged_runs_as_far_as_these_are_measured(bought):
    budget = bought(30, merged=6)
    whole = SPENT + 6 * budget.seconds_per_run + 6 * budget.seconds_per_evaluation
    assert 0.65 * 30 * 60 < whole <= 30 * 60
    assert budget.steps > bought(15).steps


def test_few_rows_end_a_run_before_the_minutes_do(bought):
    budget = bought(30, rows=20)
    assert budget.trained_tokens <= 3 * 20 * 100
    assert budget.capped
    assert not budget.stretched


def lora_layers(model):
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def test_sigterm_stops_with_a_word_and_exit_code_6(folder, fork_job):
    job = folder()
    process = fork_job("trainer", job)

    def trains() -> bool:
        assert process.poll() is None, (job / "log.txt").read_text()[-2000:]
        return any(event["event"] == "train" for event in read_events(job)[0])

    until(trains)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 6
    events, _ = read_events(job)
    assert events[-1]["event"] == "stopped"


def test_a_model_that_cannot_be_had_is_reported_in_words(folder, fork_job):
    job = folder()
    plan = json.loads((job / "plan.json").read_text())
    plan["model"]["name"] = "no-such-org/no-such-model"
    (job / "plan.json").write_text(json.dumps(plan))
    assert fork_job("trainer", job).wait() == 5
    events, _ = read_events(job)
    assert events[-1]["event"] == "error"
    assert "no-such-org/no-such-model" in str(events[-1]["where"])


def test_over_long_and_unusable_rows_are_left_out_and_counted(tiny, tmp_path):
    parquet(
        tmp_path / "a.parquet",
        [chat("?", "fine"), chat("?", "long " * 100), [{"role": "user", "content": "?"}, {"role": "assistant",
         "content": "x", "train": False}]],
    )  # fmt: skip
    arm = read_arm(tiny, tmp_path / "a.parquet", MaskPolicy(), 200)
    assert len(arm.rows) == 1
    assert arm.left_out == {"longer than max_length": 1, "zero-trained": 1}
    cut = read_arm(tiny, tmp_path / "a.parquet", MaskPolicy(), 200, "keep-start")
    assert cut.left_out == {"cut to max_length": 1, "zero-trained": 1}
    assert [len(row.input_ids) for row in cut.rows][1] == 200


def test_rows_tokenised_before_are_taken_from_the_cache(tiny, tmp_path, monkeypatch):
    parquet(tmp_path / "a.parquet", [chat("?", "fine"), chat("again?", "fine")])
    cache = TokenCache(tmp_path / "cache")
    fresh, kept = (read_arm(tiny, tmp_path / "a.parquet", MaskPolicy(), 200, cache=cache) for _ in range(2))
    assert kept.rows == fresh.rows
    monkeypatch.setattr(type(tiny.tokenizer), "apply_chat_template", None)
    assert read_arm(tiny, tmp_path / "a.parquet", MaskPolicy(), 200, cache=TokenCache(tmp_path / "cache")) == fresh


def test_validation_rows_are_trained_by_none_and_depend_on_their_own_arm_alone(tiny, tmp_path):
    arm = read_arm_of(tiny, tmp_path, [chat(f"{i}?", f"yes {i}") for i in range(60)])
    validation = validation_rows(arm)
    assert len(validation) == 3
    left = without(arm, validation)
    assert {row.key for row in left.rows} == {row.key for row in arm.rows} - {row.key for row in validation}
    assert left.left_out == {"held out to watch training": 3}
    assert validation_rows(read_arm_of(tiny, tmp_path, [chat("else", "no")])) == []


def test_equal_rows_are_told_apart_so_that_none_is_lost(tiny, tmp_path):
    arm = read_arm_of(tiny, tmp_path, [chat("same", "row")] * 3)
    assert len({row.key for row in arm.rows}) == 3


@pytest.mark.parametrize(("steps", "expected"), [(0.5, 0), (7, 6), (29, 25), (31, 30), (99, 80), (1234, 1200)])
def test_steps_are_rounded_so_that_like_machines_agree(steps, expected):
    assert round_down(steps) == expected


def read_arm_of(tiny, tmp_path, conversations):
    parquet(tmp_path / "c.parquet", conversations)
    return read_arm(tiny, tmp_path / "c.parquet", MaskPolicy(), 200)
