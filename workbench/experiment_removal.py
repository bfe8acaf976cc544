"""Deleting an experiment: what goes with it, and why it cannot go while something runs in its folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.protocol import PLAN, holding
from workbench.diagnosis import tree_size
from workbench.errors import Problem, UsageProblem
from workbench.jobs import is_running
from workbench.store.experiments import delete_experiment, find_experiment, users
from workbench.workspace import Workspace


@dataclass(frozen=True)
class Removal:
    """What goes with an experiment: `size` bytes of its run folder, `freed` the versions that no other one uses."""

    id: str
    name: str
    size: int
    freed: tuple[str, ...]


def foresee_removal(ws: Workspace, name: str) -> Removal:
    """What would go with the experiment of that id, the start of one, or that name.

    Raises NotFound; UsageProblem while its job or a question to its models runs.
    """
    row = find_experiment(ws.store, name)
    folder = ws.runs_dir / row.id
    with _at_rest(folder, row.name):
        used = users(ws.store)
        noted = json.loads(row.plan)
        merged = noted["job"].get("merged", {})
        versions = dict.fromkeys(version for arm, version in noted.get("arms", {}).items() if arm not in merged)
        freed = tuple(version for version in versions if used[version] == [row.id])
        return Removal(row.id, row.name, _freed_by(folder), freed)


def remove_experiment(ws: Workspace, name: str) -> Removal:
    """Delete an experiment: its runs, all that was measured, its answers, and its run folder with the adapters.

    Returns what went. Raises as `foresee_removal`, and Problem where the folder cannot be deleted: by then the
    experiment is gone, and `workbench doctor` shows the folder.
    """
    removal = foresee_removal(ws, name)
    folder = ws.runs_dir / removal.id
    with _at_rest(folder, removal.name):  # held, so that no job begins meanwhile
        delete_experiment(ws.store, removal.id)
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            raise Problem(
                f"{removal.name} is deleted, but not all of its run folder ({error.strerror or error})",
                where=str(folder),
                do="Nothing needs that folder any more: delete it by hand.",
            ) from error
    return removal


def _freed_by(folder: Path) -> int:
    """Bytes that deleting a run folder frees: an adapter that another experiment took over is kept by that one."""
    return tree_size(folder) - sum(path.stat().st_size for path in folder.rglob("*") if _is_kept(path))


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.stat().st_nlink > 1


@contextlib.contextmanager
def _at_rest(folder: Path, name: str) -> Iterator[None]:
    """Hold the run folder for the block. Raises UsageProblem where something runs in it."""
    if not folder.is_dir():
        yield
        return
    if any(is_running(question.parent) for question in folder.glob(f"*/*/{PLAN}")):
        raise UsageProblem(f"a question to the models of {name} is being answered", do="Wait for it, or call it off.")
    runs = UsageProblem(f"the job of {name} runs", do="Stop it first; then it can be deleted.")
    if is_running(folder):
        raise runs
    with holding(folder) as free:
        if not free:  # begun just now
            raise runs
        yield
