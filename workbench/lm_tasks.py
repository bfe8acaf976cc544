"""Tasks of lm-eval on the base model and the saved adapters of an experiment. No part of its verdict.

All that decides the scores names the folder of the job, which keeps those of every run: none is scored twice.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.lm_tasks import RESULTS, TaskScores, TasksPlan
from trainer.plan import BASE, ExperimentPlan
from trainer.protocol import DONE, PLAN, write_atomic
from workbench.errors import ModelUnavailable, NotFound
from workbench.jobs import OnEvent, Wish, is_running, run_job
from workbench.outcomes import compared_runs, finished
from workbench.store.experiments import ExperimentRow
from workbench.trained import one_choice, saved_folder
from workbench.workspace import Workspace

FOLDER = "lm-eval"
"""Folder in that of the experiment which holds a folder for every set of tasks."""


@dataclass(frozen=True)
class Scored:
    """A model and its scores: the run `run` of `arm`, which trained `version`. The base has no seed."""

    arm: str
    version: str
    run: str
    seed: int | None
    found: TaskScores


@dataclass(frozen=True)
class LmTasks:
    """What lm-eval of that version found, base first; `folder` holds it as JSON."""

    experiment: str
    lm_eval: str
    folder: Path
    models: list[Scored]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `experiments lm-eval`."""
        return {
            "experiment": self.experiment,
            "lm_eval": self.lm_eval,
            "in_verdict": False,
            "folder": str(self.folder),
            "models": [
                {"arm": one.arm, "version": one.version, "run": one.run, "seed": one.seed, **one.found.model_dump()}
                for one in self.models
            ],
        }


def lm_tasks(
    ws: Workspace,
    experiment: str,
    tasks: Sequence[str],
    *,
    arms: Sequence[str] = (),
    all_seeds: bool = False,
    tasks_dir: Path | None = None,
    limit: int | None = None,
    chat: bool = False,
    batch_size: int = 1,
    on_event: OnEvent = lambda event: None,
    wish: Callable[[], Wish] = lambda: "watch",
) -> LmTasks:
    """Score the base and the adapters of a finished experiment: all arms or those of `arms`, first seed or all.

    Slow: a job loads the model. Raises ModelUnavailable without lm-eval; NotFound; UsageProblem where an adapter is
    gone; what the job reports; Stopped by `wish`.
    """
    version = _installed()
    row = finished(ws, experiment)
    chosen = _chosen(ws, row, arms, all_seeds=all_seeds)
    home = ws.runs_dir / row.id
    for one in chosen[1:]:
        saved_folder(home, one.run)
    job = ExperimentPlan.model_validate(json.loads(row.plan)["job"])
    plan = TasksPlan(
        model=job.model,
        chosen=one_choice(home, [one.run for one in chosen[1:]]),
        policy=job.policy,
        adapters={},
        tasks=sorted(set(tasks)),
        tasks_dir=str(tasks_dir.resolve()) if tasks_dir else None,
        limit=limit,
        chat=chat,
        batch_size=batch_size,
    )
    asked = f"{version} {_digest(tasks_dir)} {plan.model_dump_json()}"
    folder = home / FOLDER / hashlib.sha256(asked.encode()).hexdigest()[:16]
    wanted = {one.run: folder / RESULTS / f"{one.run}.json" for one in chosen}
    folder.mkdir(parents=True, exist_ok=True)
    # The job that runs may have been begun for other adapters: ours follows.
    while missing := [run for run, path in wanted.items() if not path.exists()]:
        if not is_running(folder):
            adapters = {run: f"../../results/{run}/adapter" for run in missing if run != BASE}
            write_atomic(folder / PLAN, plan.model_copy(update={"adapters": adapters}).model_dump_json(indent=1))
            (folder / DONE).unlink(missing_ok=True)
        run_job("trainer", folder, on_event, wish=wish)
    models = [
        Scored(one.arm, one.version, one.run, one.seed, TaskScores.model_validate_json(wanted[one.run].read_bytes()))
        for one in chosen
    ]
    return LmTasks(row.id, version, folder, models)


@dataclass(frozen=True)
class _Chosen:
    arm: str
    version: str
    run: str
    seed: int | None


def _chosen(ws: Workspace, row: ExperimentRow, arms: Sequence[str], *, all_seeds: bool) -> list[_Chosen]:
    versions = json.loads(row.plan)["arms"]
    runs = compared_runs(ws, row)
    known = [arm for arm in runs if arm != BASE]
    chosen = [_Chosen(BASE, BASE, BASE, None)]
    if unknown := [name for name in arms if not any(name in (arm, versions[arm]) for arm in known)]:
        told = ", ".join(f"{arm} ({versions[arm]})" for arm in known)
        raise NotFound(f"no arm {unknown[0]!r}", where=f"experiment {row.id}", do=f"It has {told}.")
    for arm in known:
        if arms and arm not in arms and versions[arm] not in arms:
            continue
        found = [_Chosen(arm, versions[arm], id.removeprefix(f"{row.id}/"), seed) for seed, id in runs[arm].items()]
        chosen += found if all_seeds else found[:1]
    return chosen


def _installed() -> str:
    """The version of lm-eval. Raises ModelUnavailable where it is not installed."""
    try:
        return importlib.metadata.version("lm_eval")
    except importlib.metadata.PackageNotFoundError:
        raise ModelUnavailable(
            "lm-eval, which runs the tasks, is not installed",
            where="package lm-eval",
            do='Install it with `pip install "sft-workbench[lm-eval]"`.',
        ) from None


def _digest(folder: Path | None) -> str:
    """SHA-256 (hex) of the names and contents of a folder's files, hidden ones left out; empty without a folder."""
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            digest.update(f"{name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
