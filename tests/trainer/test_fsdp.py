"""What a CPU can tell of training by FSDP: the configurations, the storage of 4-bit weights, and the two stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from accelerate.commands.launch import _validate_launch_command, launch_command_parser  # noqa: E402
from accelerate.utils.launch import prepare_multi_gpu_env  # noqa: E402

from trainer.base import load_base  # noqa: E402
from trainer.errors import Stopped, UsageProblem  # noqa: E402
from trainer.experiment import run_experiment  # noqa: E402
from trainer.plan import Budget, ExperimentPlan, MergedArm, Run  # noqa: E402
from trainer.protocol import Events, read_events, read_plan  # noqa: E402
from trainer.quantize import bitsandbytes  # noqa: E402

from .test_experiment import folder, metrics, summary  # noqa: E402, F401

CONFIGS = Path(__file__).parents[2] / "docs" / "accelerate"


def launched(config: str) -> tuple[bool, dict[str, str]]:
    """Whether `accelerate launch` starts several processes by a configuration, and the environment they get."""
    parser = launch_command_parser()
    args, _, _ = _validate_launch_command(
        parser.parse_args(["--config_file", str(CONFIGS / config), "-m", "trainer", "runs/x"])
    )
    return args.multi_gpu or args.use_fsdp, prepare_multi_gpu_env(args)


@pytest.fixture
def split(monkeypatch) -> None:
    """As in a process that `accelerate launch` starts by fsdp_qlora.yaml."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")


def test_the_configurations_are_what_accelerate_takes():
    several, env = launched("ddp.yaml")
    assert several
    assert "ACCELERATE_USE_FSDP" not in env or env["ACCELERATE_USE_FSDP"] != "true"
    several, env = launched("fsdp_qlora.yaml")
    assert several
    told = {key: env[key] for key in env if key.startswith(("FSDP_", "ACCELERATE_USE_FSDP", "ACCELERATE_MIXED"))}
    expected = {
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "FSDP_VERSION": "1",
        "FSDP_USE_ORIG_PARAMS": "false",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
        "FSDP_SYNC_MODULE_STATES": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_OFFLOAD_PARAMS": "false",
        "FSDP_ACTIVATION_CHECKPOINTING": "false",
    }
    assert {key: str(told[key]).replace("True", "true").replace("False", "false") for key in expected} == expected


def storage(setting) -> set[torch.dtype]:
    base = load_base(setting.model_copy(update={"quantize": "nf4"}), packed=True)
    layers = [module for module in base.model.modules() if isinstance(module, bitsandbytes().nn.Linear4bit)]
    return {layer.weight.dtype for layer in layers}


def test_weights_in_4_bits_are_stored_in_the_type_of_the_others_where_fsdp_is_to_split_them(tiny_setting, monkeypatch):
    assert storage(tiny_setting) == {torch.uint8}
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert storage(tiny_setting) == {torch.float32}
    assert storage(tiny_setting.model_copy(update={"dtype": "bfloat16"})) == {torch.bfloat16}


def test_runs_that_were_split_are_measured_by_the_same_job_started_in_the_plain_way(folder, split, monkeypatch):  # noqa: F811
    alone, staged = folder("alone", seeds=(0,)), folder("staged", seeds=(0,))
    for job in (alone, staged):
        plan = read_plan(job, ExperimentPlan)
        summed = {"merged": {"sum": MergedArm(how="linear", of={"a": 0.5, "b": 0.5})}}
        plan = plan.model_copy(update=summed | {"runs": [*plan.runs, Run(id="sum-0", arm="sum", seed=0)]})
        (job / "plan.json").write_text(plan.model_dump_json())
    for _ in range(2):  # launched again, it trains nothing again
        with pytest.raises(Stopped, match="Every run is trained, and none is measured"):
            run_experiment(staged, Events(staged))
    begun = [event["run"] for event in read_events(staged)[0] if event["event"] == "train" and event["step"] == 1]
    assert begun == ["a-0", "b-0"]
    told = json.loads((staged / "results" / "a-0" / "trained.json").read_text())
    assert (told["steps"], told["sanity"]["gradient_reach"]) == (5, None)
    for no in ("summary.json", "metrics.parquet", "failed.json"):
        assert not list((staged / "results").glob(f"*/{no}"))
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    shutil.rmtree(staged / "results" / "b-0")  # made in the plain way, on the base that a-0 was measured on
    run_experiment(alone, Events(alone))
    run_experiment(staged, Events(staged))
    for run in ("a-0", "b-0", "sum-0"):
        assert summary(staged, run)["losses"] == summary(alone, run)["losses"]
        assert metrics(staged, run) == metrics(alone, run)


def test_minutes_cannot_be_measured_with_a_model_that_is_split(folder, split):  # noqa: F811
    job = folder(budget=Budget(minutes=1))
    with pytest.raises(UsageProblem, match="budget in minutes"):
        run_experiment(job, Events(job))
