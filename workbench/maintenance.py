"""Keeping a workspace in order: what is wrong or left behind, what can be repaired, what space can be given back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal as size_text

from filters.step import Progress
from trainer.models import cache_dir
from trainer.protocol import DONE, LOCK, PLAN
from workbench.diagnosis import Finding, tree_size
from workbench.jobs import is_running
from workbench.store.compact import compact
from workbench.store.experiments import experiments
from workbench.store.integrity import check, orphans, remove_orphans
from workbench.text import counted
from workbench.workspace import DATABASE, Workspace

_ABANDONED = 24 * 3600  # seconds after which scratch in the cache that all workspaces share counts as left behind
_SPILLED = f"{DATABASE}.tmp"  # where DuckDB puts what does not fit into memory
_REPAIR = "`workbench doctor --repair` removes {}"


@dataclass(frozen=True)
class Repair:
    """Something that can be put in order: `what` would be done, and `run`, which does it and says what it did.

    `by_choice`: somebody may still want it, so it is never done unasked.
    """

    what: str
    run: Callable[[], str]
    by_choice: bool = False


@dataclass(frozen=True)
class Vacuumed:
    """Sizes in bytes: the database before and after, and what went from the caches (None: not asked for)."""

    root: Path
    before: int
    after: int
    cache: int | None
    models: int | None

    @property
    def freed(self) -> int:
        """Bytes given back in all."""
        return self.before - self.after + (self.cache or 0) + (self.models or 0)


def findings(ws: Workspace, progress: Progress | None = None) -> list[Finding]:
    """What the workspace holds, whether it says what it should, and what killed processes left in it."""
    size = size_text((ws.root / DATABASE).stat().st_size)
    found = [Finding("workspace", DATABASE, "ok", f"{size}; `workbench vacuum` gives back the room of deleted rows")]
    halves = _half_files(ws.root)
    if halves:
        detail = f"{len(halves)} ({size_text(sum(map(tree_size, halves)))}), left by killed processes; "
        found.append(Finding("workspace", "half files", "note", detail + _REPAIR.format("them")))
    found += [Finding("workspace", f"run folder {f.name}", "note", _state(f)) for f in _stray_runs(ws)]
    for looked in check(ws.store, progress):
        found.append(Finding("workspace", looked.what, "bad" if looked.problem else "ok", looked.problem or ""))
    return found


def repairs(ws: Workspace) -> list[Repair]:
    """What can be repaired in a workspace without touching anything that a person made."""
    found = []
    halves = _half_files(ws.root)  # before any query of our own could put something there
    if count := orphans(ws.store):
        found.append(Repair(f"Remove rows that belong to nothing: {count:,}", lambda: _remove_orphans(ws)))
    if halves:
        size = size_text(sum(map(tree_size, halves)))
        what = f"Remove {counted(len(halves), 'half file')} ({size}) that killed processes left"
        found.append(Repair(what, lambda: f"{counted(_remove(halves), 'half file')} removed"))
    for folder in _stray_runs(ws):
        what = f"Remove run folder {folder.name} ({_state(folder)})"
        if not _busy(folder):
            found.append(Repair(what, _removal(folder), by_choice=True))
    return found


def vacuum(folder: Path | str | None, *, cache: bool, models: bool) -> Vacuumed:
    """Write a workspace's database anew without the room of deleted rows; `folder` as `Workspace.open` takes it.

    With `cache` its cache is emptied, with `models` the models that were unpacked for all workspaces: both come
    again when they are needed. Raises WorkspaceUnusable where the workspace is in use or damaged.
    """
    workspace = Workspace.open(folder)  # nobody else is in it, and it is of this release
    try:
        cache_freed = _empty(workspace.cache_dir) if cache else None
    finally:
        workspace.close()
    models_freed = _empty(cache_dir() / "models") if models else None
    before, after = compact(workspace.root / DATABASE)
    return Vacuumed(workspace.root, before, after, cache_freed, models_freed)


def _remove_orphans(ws: Workspace) -> str:
    keep = ws.root / f"removed-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    return f"rows that belonged to nothing removed: {remove_orphans(ws.store, keep):,}; they are in {keep}"


def _half_files(root: Path) -> list[Path]:
    """What writers had begun when they were killed; each would have been renamed into its place at its end."""
    found = [path for path in (root / _SPILLED, *root.glob(".*.part"), *root.glob(".*.part.wal")) if path.exists()]
    for folder in _folders(root / "runs"):
        if not _busy(folder):
            found += folder.rglob("*.part")
    found += (root / "cache").rglob("*.part")
    old = time.time() - _ABANDONED
    found += (path for path in (cache_dir() / "models").glob("*/.part-*") if path.stat().st_mtime < old)
    return sorted(found)


def _stray_runs(ws: Workspace) -> list[Path]:
    known = {experiment.id for experiment in experiments(ws.store)}
    return [folder for folder in _folders(ws.root / "runs") if folder.name not in known]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink())


def _state(folder: Path) -> str:
    if _busy(folder):
        return "a job of no experiment that runs now"
    if not (folder / PLAN).exists():
        return f"{size_text(tree_size(folder))}, without a plan: no job can run in it"
    ended = "ended" if (folder / DONE).exists() else "did not end: the command that began it goes on with it"
    return f"{size_text(tree_size(folder))}, of no experiment, {ended}"


def _busy(folder: Path) -> bool:
    return (folder / LOCK).exists() and is_running(folder)


def _removal(folder: Path) -> Callable[[], str]:
    def run() -> str:
        if _busy(folder):  # since it was asked about
            return f"run folder {folder.name} kept: a job runs in it"
        _remove([folder])
        return f"run folder {folder.name} removed"

    return run


def _remove(paths: list[Path]) -> int:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(paths)


def _empty(folder: Path) -> int:
    """Remove what is in a folder; returns its size in bytes."""
    if not folder.is_dir():
        return 0
    size = tree_size(folder)
    _remove(list(folder.iterdir()))
    return size
