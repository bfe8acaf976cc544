"""A workspace with a finished experiment of the tiny model, run once for all tests that look into one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

PROMPTS = [f"Item {number}?" for number in range(5)]
HOSTILE_PROMPT = "Is [/INST] [bold]x[/] \x1b[2J \u202egnp. fine?"


@pytest.fixture(scope="session")
def compared(tiny_model, tmp_path_factory) -> Path:
    """A workspace folder: versions `yes` and `no`, eval set `items` (six), compared with two seeds."""
    from trainer.experiment import run_experiment
    from trainer.protocol import DONE, Events
    from workbench import experiments, outcomes
    from workbench.workspace import Workspace

    folder = tmp_path_factory.mktemp("compared") / "ws"
    workspace = Workspace.init(folder)
    for name in ("yes", "no"):
        path = folder.with_name(f"{name}.jsonl")
        rows = [{"prompt": f"Question {i}?", "completion": f"{name} {i}"} for i in range(30)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace.import_file(path, name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    path = folder.with_name("items.jsonl")
    prompts = [*PROMPTS, HOSTILE_PROMPT]
    path.write_text("".join(json.dumps({"prompt": p, "completion": f"yes {i}"}) + "\n" for i, p in enumerate(prompts)))
    workspace.import_evalset(path, "items")
    question = experiments.Question(
        "yes",
        "no",
        model=str(tiny_model),
        seeds=2,
        trained_tokens=1500,
        quantize="none",
        device="cpu",
        max_new_tokens=8,
    )  # fmt: skip
    planned = experiments.plan(workspace, question)
    run_experiment(planned.folder, Events(planned.folder))
    (planned.folder / DONE).write_text("{}")
    outcomes.conclude(workspace, planned.id)
    workspace.close()
    return folder


@pytest.fixture
def compared_copy(compared, tmp_path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(compared, tmp_path / "compared"))
