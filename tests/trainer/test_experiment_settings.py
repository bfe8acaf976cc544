"""Arms with training settings of their own: each is trained by its own, on the base as it wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer import runs  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.experiment import run_experiment  # noqa: E402
from trainer.plan import ArmSetting, Budget, Evaluation, ExperimentPlan, Run  # noqa: E402
from trainer.protocol import PLAN, Events  # noqa: E402

ARMS = ("lora", "qlora", "full", "twice")
kept_norms: list[bool] = []
"""Whether DoRA kept its norms, for each time that answers were written."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_setting) -> Path:
    """A job of four arms on the same rows, made to its end."""
    from peft.tuners.lora import dora

    from trainer.plan import TrainingSetting

    folder = tmp_path_factory.mktemp("settings")
    usual = TrainingSetting(preset="test", learning_rate=3e-3, tokens_per_step=60, micro_tokens=128)

    def row(prompt: str, answer: str) -> dict[str, str]:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return {"messages": json.dumps(turns), "tools": "null"}

    rows = [{"content_hash": f"{i:064x}"} | row(f"Say {i}.", f"{i} " * (2 + i % 5)) for i in range(12)]
    for arm in ARMS:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{arm}.parquet")
    items = [{"item": i, "cluster": str(i)} | row(f"Say {i}0.", f"{i}0 ") for i in range(3)]
    pq.write_table(pa.Table.from_pylist(items), folder / "eval.parquet")
    settings = {
        "lora": ArmSetting(training=usual),
        "qlora": ArmSetting(training=usual.model_copy(update={"lora_r": 4}), quantize="nf4"),
        "full": ArmSetting(training=usual.model_copy(update={"method": "full"})),
        "twice": ArmSetting(training=usual, epochs=2),
    }
    plan = ExperimentPlan(
        model=tiny_setting,
        training=usual,
        budget=Budget(epochs=1),
        arms={arm: f"{arm}.parquet" for arm in ARMS},
        settings=settings,
        runs=[Run(id=f"{arm}-0", arm=arm, seed=0) for arm in ARMS],
        evaluation=Evaluation(max_new_tokens=4),
    )
    (folder / PLAN).write_text(plan.model_dump_json())
    answered = runs.generate

    def generate(*args: Any, **options: Any) -> Any:
        kept_norms.append(dora.ENABLE_DORA_CACHING)
        return answered(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "generate", generate)
        run_experiment(folder, Events(folder))
    return folder


def test_a_config_that_cannot_be_trained_is_told_before_anything_is(folder, tmp_path):
    plan = ExperimentPlan.model_validate_json((folder / PLAN).read_bytes())
    wrong = plan.settings["twice"].training.model_copy(update={"method": "peft", "peft": {"peft_type": "NO_SUCH"}})
    settings = {"lora": plan.settings["lora"], "twice": ArmSetting(training=wrong)}
    left = [run for run in plan.runs if run.arm in settings]
    arms = {arm: plan.arms[arm] for arm in settings}
    for name in (*arms.values(), "eval.parquet"):
        (tmp_path / name).symlink_to(folder / name)
    planned = plan.model_copy(update={"settings": settings, "arms": arms, "runs": left, "base": False})
    (tmp_path / PLAN).write_text(planned.model_dump_json())
    with pytest.raises(BadInput, match="PEFT has no method 'NO_SUCH'"):
        run_experiment(tmp_path, Events(tmp_path))
    assert not (tmp_path / "results" / "lora-0").exists()


def summary(folder: Path, run: str) -> dict:
    return json.loads((folder / "results" / run / "summary.json").read_text())


def test_every_arm_is_trained_by_its_own_setting_on_the_base_as_it_wants_it(folder):
    told = {arm: summary(folder, f"{arm}-0") for arm in ARMS}
    assert {arm: each["held"] for arm, each in told.items()} == dict.fromkeys(ARMS, "dense") | {"qlora": "nf4-rounded"}
    assert summary(folder, "base")["held"] == "dense"
    saved = {arm: folder / "results" / f"{arm}-0" / "adapter" for arm in ARMS}
    assert json.loads((saved["qlora"] / "adapter_config.json").read_text())["r"] == 4
    assert json.loads((saved["lora"] / "adapter_config.json").read_text())["r"] == 16
    assert (saved["full"] / "config.json").exists()
    assert told["twice"]["steps"] == 2 * told["lora"]["steps"]
    assert all(each["sanity"]["step0_difference"] < 1e-6 for each in told.values())


def test_answers_are_written_with_norms_that_dora_keeps_and_training_does_without(folder):
    assert kept_norms == [True] * (1 + len(ARMS))
    from peft.tuners.lora import dora

    assert not dora.ENABLE_DORA_CACHING


def test_what_each_arm_took_is_told(folder):
    for arm in ARMS:
        cost = summary(folder, f"{arm}-0")["cost"]
        assert cost["tokens_per_second"] > 0
        assert cost["peak_bytes"] > cost["saved_bytes"] > 0
        assert cost["estimated_bytes"] > 0
    assert summary(folder, "full-0")["cost"]["saved_bytes"] > summary(folder, "lora-0")["cost"]["saved_bytes"]
