"""An ablation to follow, whose jobs are as if they ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.protocol import DONE, Events
from workbench import experiments
from workbench.ablation import prepare
from workbench.ablation_runs import AblationRuns, ListedAblation
from workbench.comparing import Jobs
from workbench.experiments import Question
from workbench.store import experiments as rows
from workbench.workspace import Workspace

from .planted import plant

RECIPE = """steps:
  - exact: {on: both}
  - length: {on: response, min_words: 2}
  - length: {on: prompt, max_words: 100}
"""
MEANS = {"base": 3.0, "rows-r": 2.0, "rows-r-without-exact": 2.3, "rows-r-without-length-2": 2.0}


def to_ablate(folder: Path, model: Path) -> Workspace:
    """A workspace with source `rows` (20 sound, 5 short, 3 twice), and `r.yaml`, whose last step does nothing."""
    (folder / "tiny").symlink_to(model)
    (folder / "r.yaml").write_text(RECIPE)
    data = [{"prompt": f"Question {i}?", "completion": f"answer {i}" if i < 20 else "yes"} for i in range(25)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data + data[:3]))
    items = [{"prompt": f"Item {i}?", "completion": f"answer {i}"} for i in range(6)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    workspace = Workspace.init(folder / "ws")
    workspace.import_file(folder / "rows.jsonl", name="rows")
    workspace.import_evalset(folder / "items.jsonl", "items")
    return workspace


def plant_job(ws: Workspace, id: str) -> None:
    """What the job of an experiment would leave."""
    plant(experiments.find(ws, id), MEANS.__getitem__)
    (ws.runs_dir / id / DONE).write_text("{}")


class Faked:
    """Jobs that never run: `started` were begun, `running` are as if they ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[str] = []
        self.running: set[str] = set()
        monkeypatch.setattr(Jobs, "start", self._start)
        monkeypatch.setattr(Jobs, "stop", self._stop)
        monkeypatch.setattr(Jobs, "_is_running", lambda jobs, id: id in self.running)

    @property
    def _start(self) -> Any:
        def start(jobs: Jobs, id: str) -> None:
            self.started.append(id)
            self.running.add(id)
            rows.set_state(jobs._ws.store, id, "running")

        return start

    @property
    def _stop(self) -> Any:
        def stop(jobs: Jobs, id: str) -> None:
            jobs._stopping.add(id)
            self.running.discard(id)

        return stop


class Followed:
    """An ablation of two steps that change rows, with seeds 0 and 1."""

    def __init__(self, ws: Workspace, faked: Faked, evalset: str = "items") -> None:
        self.ws, self.faked, self.jobs = ws, faked, Jobs(ws)
        self.runs = AblationRuns(ws, self.jobs)
        self.ablation = prepare(ws, "r.yaml", ["rows"], mode="leave-one-out")
        self.question = Question("", None, model="./tiny", trained_tokens=2560, seeds=2, evalset=evalset)

    def begin(self) -> str:
        return self.runs.begin("r.yaml", ["rows"], self.ablation, self.question)

    def look(self) -> ListedAblation:
        [listed] = self.runs.look(self.jobs.look())
        return listed

    def end(self, *, well: bool = True) -> None:
        """The job that was begun last has ended."""
        id = self.faked.started[-1]
        self.faked.running.discard(id)
        if not well:
            Events(self.ws.runs_dir / id).emit(
                "error", what="the rows are odd", where="arm baseline", do="Look.", exit_code=3
            )
        else:
            plant_job(self.ws, id)
