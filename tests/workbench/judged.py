"""Experiments whose answers are judged by a scripted server: what their jobs leave behind, and what the server says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.environment import libraries
from workbench import experiments
from workbench.workspace import Workspace

_SERVER = Path(__file__).parents[1] / "filters/judge/conftest.py"
ITEMS = 30
GOOD, BAD = "A fine answer", "A poor answer"


def scripted_server():
    """The class of the scripted server that judges are tested with."""
    if "judge_conftest" not in sys.modules:
        spec = importlib.util.spec_from_file_location("judge_conftest", _SERVER)
        sys.modules["judge_conftest"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["judge_conftest"])
    return sys.modules["judge_conftest"].ScriptedServer


def prefers_good(prompt: str, nth: int) -> str:
    shown = re.findall(rf"{GOOD}|{BAD}", prompt)
    return "Better: A" if shown == [GOOD, BAD] else "Better: B"


def to_judge(folder: Path) -> Workspace:
    """A workspace in `folder` with the versions `a` and `b`, and an eval set."""
    workspace = Workspace.init(folder / "ws")
    for name in ("a", "b"):
        path = folder / f"{name}.jsonl"
        path.write_text(
            "".join(json.dumps({"prompt": f"Q {i}?", "completion": f"{name} {i}"}) + "\n" for i in range(9))
        )
        workspace.import_file(path, name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Item {i}?", "completion": "yes"}) + "\n" for i in range(ITEMS)))
    workspace.import_evalset(path, "items")
    return workspace


def measure(experiment: experiments.Experiment) -> None:
    """Leave in the run folder what its job would: the candidate answers well, the baseline poorly."""
    folder = experiment.folder
    budget = {
        "training": {"preset": "short", "learning_rate": 1e-3, "tokens_per_step": 256}, "steps": 2, "dtype": "float32",
        "trained_tokens_per_second": None, "seconds_per_run": None, "seconds_per_evaluation": None,
    }  # fmt: skip
    (folder / "budget.json").write_text(json.dumps(budget))
    (folder / "model.json").write_text('{"revision": "r", "dtype": "float32", "held": "dense"}')
    for run in [*(run.id for run in experiment.plan.runs), "base"]:
        out = folder / "results" / run
        (out / "adapter").mkdir(parents=True)
        (out / "adapter" / "adapter_model.safetensors").write_bytes(b"")
        nll = [2.0 + i / 10 + (0.01 * len(run) if run[-1] == "1" else 0) for i in range(ITEMS)]
        text = GOOD if run.startswith("candidate") else BAD
        metrics = [{"item": i, "metric": "response_nll", "value": nll[i], "weight": 1.0} for i in range(ITEMS)]
        metrics += [{"item": i, "metric": "answer_tokens", "value": 3.0, "weight": 1.0} for i in range(ITEMS)]
        pq.write_table(pa.Table.from_pylist(metrics), out / "metrics.parquet")
        answers = [{"item": i, "text": f"{text} {i}", "finish": "stop", "tokens": 3} for i in range(ITEMS)]
        pq.write_table(pa.Table.from_pylist(answers), out / "generations.parquet")
        summary = {
            "steps": 2, "trained_tokens": 300, "seconds": 1.0, "evaluation_seconds": 1.0, "losses": [2.0],
            "left_out": {}, "revision": "r", "held": "dense", "dtype": "float32", "environment": libraries(),
        }  # fmt: skip
        (out / "summary.json").write_text(json.dumps(summary))
