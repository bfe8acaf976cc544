"""A run that an earlier experiment made need not be made again: which ones there are, and how they are taken over.

Runs are the same where their keys are: data, seed, model and its revision, every setting, the eval set and the metrics
(see `workbench.experiments`). They were made by the same libraries, too, and held in the same arithmetic, or a verdict
would tell of those. What is taken over lies in the run folder like a run of the experiment's own, so either experiment
can be deleted without the other.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.environment import libraries
from trainer.plan import ModelChoice, ResolvedBudget
from trainer.protocol import write_atomic
from workbench.store import experiments as rows
from workbench.workspace import Workspace

_SUMMARY = "summary.json"
_MEASURED = ("metrics.parquet", "generations.parquet")
_DECIDED = ("model.json", "budget.json")
_Kind = tuple[str, str]


@dataclass(frozen=True)
class EarlierRun:
    """A run that is there: the experiment that has it, and its id there."""

    experiment: str
    run: str


def find(ws: Workspace, keys: Mapping[str, str], own: str) -> dict[str, EarlierRun]:
    """For each planned run the same one of an earlier experiment, where there is one. `keys` are by run id.

    They all were held and budgeted alike; where there are several kinds, those that spare the most runs, then the
    newest. `own` is the experiment that asks.
    """
    found: dict[_Kind, dict[str, EarlierRun]] = {}
    for experiment in reversed(rows.experiments(ws.store)):
        known: dict[str, str] = json.loads(experiment.plan).get("runs", {})
        if experiment.id == own or not set(known.values()) & set(keys.values()):
            continue
        folder = ws.runs_dir / experiment.id
        kind = _kind(folder, json.loads(experiment.plan)["job"])
        if kind is None:
            continue
        by_key = {key: run for run, key in known.items() if _is_whole(folder / "results" / run)}
        for run, key in keys.items():
            if key in by_key:
                found.setdefault(kind, {}).setdefault(run, EarlierRun(experiment.id, by_key[key]))
    return max(found.values(), key=len, default={})


def take_over(ws: Workspace, taken: Mapping[str, EarlierRun], arms: Mapping[str, str], folder: Path) -> None:
    """Put the results of earlier runs into the run folder of a new experiment. `arms` are by run id.

    One that is gone by now is left out, and is made like any other.
    """
    for run, earlier in taken.items():
        source = ws.runs_dir / earlier.experiment
        results, own = source / "results" / earlier.run, folder / "results" / run
        if _decided(source) is None or not _is_whole(results):
            continue
        for name in _DECIDED:
            if not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        for name in _MEASURED:
            shutil.copyfile(results / name, own / name)
        # One file does for both: weights that are saved again are a new file.
        shutil.copytree(results / "adapter", own / "adapter", copy_function=link)
        summary = json.loads((results / _SUMMARY).read_text(encoding="utf-8"))
        origin = summary.get("taken_over_from", f"{earlier.experiment}/{earlier.run}")
        summary |= {"arm": arms[run], "taken_over_from": origin}
        write_atomic(own / _SUMMARY, json.dumps(summary, allow_nan=False))  # last: this makes the run complete


def _kind(folder: Path, job: dict[str, Any]) -> _Kind | None:
    """How the runs in a folder were held and budgeted, as far as their keys leave that open; None if not known."""
    decided = _decided(folder)
    if decided is None:
        return None
    held, budget = decided
    free = () if job["model"]["quantize"] == "auto" else ("held",)
    bought = f"{budget.steps} of {budget.training.tokens_per_step}, {budget.training.preset}"
    return held.model_dump_json(exclude=set(free)), bought if job["budget"]["minutes"] else ""


def _decided(folder: Path) -> tuple[ModelChoice, ResolvedBudget] | None:
    """What the first minute of an experiment decided; None where that is not there."""
    try:
        held = ModelChoice.model_validate_json((folder / "model.json").read_bytes())
        budget = ResolvedBudget.model_validate_json((folder / "budget.json").read_bytes())
    except (OSError, ValueError):
        return None
    return held, budget


def _is_whole(results: Path) -> bool:
    """Whether a run's results are all there, and made by the libraries that are installed now."""
    if not (results / "adapter").is_dir() or not all((results / name).is_file() for name in _MEASURED):
        return False
    try:
        summary: dict[str, Any] = json.loads((results / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made_by: dict[str, str] = summary.get("environment", {})
    return all(made_by.get(library) == version for library, version in libraries().items())


def link(source: str, to: str) -> str:
    """Give a file another name, or copy it where that cannot be; for `shutil.copytree`."""
    try:
        os.link(source, to)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, to)
    return to
