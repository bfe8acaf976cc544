"""The loss of every token of a row under a model, or under an adapter that an experiment trained: asked of a job.

What was measured is kept in `cache/losses/` by what it depends on (ids, model, how it is held, adapter), so it is
computed once. A job that was left to itself keeps its folder under `runs/`, and the next one who asks finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.adapters import is_saved
from trainer.chat import window
from trainer.models import resolve_model
from trainer.plan import ExperimentPlan, ModelChoice, ModelSetting
from trainer.protocol import PLAN, write_atomic
from trainer.token_loss import LOSSES, SEQUENCES, TokenLossPlan
from workbench.errors import BadInput, ModelUnavailable, Stopped
from workbench.jobs import OnEvent, Wish, run_job
from workbench.store.experiments import experiments
from workbench.token_facts import Page
from workbench.tokens import Lens
from workbench.trained import choice_of
from workbench.workspace import Workspace

Losses = list[float | None]
"""Nats, one a token; None where there is none to know."""


@dataclass(frozen=True)
class Adapter:
    """What one run of an experiment trained, and the base that it lies on."""

    name: str
    folder: Path
    model: ModelSetting
    choice: ModelChoice


def adapters(ws: Workspace, model: str) -> list[Adapter]:
    """The adapters that experiments of this workspace trained on `model`, the newest experiment first."""
    found = []
    for row in reversed(experiments(ws.store)):
        noted = json.loads(row.plan)
        plan = ExperimentPlan.model_validate(noted["job"])
        folder = ws.runs_dir / row.id
        if plan.model.name != model or not (folder / "model.json").exists():
            continue
        for run in plan.runs:
            results = folder / "results" / run.id
            if (results / "summary.json").exists() and is_saved(results / "adapter"):
                name = f"{noted['arms'].get(run.arm, run.arm)}, seed {run.seed} ({row.name} {row.id})"
                found.append(Adapter(name, results / "adapter", plan.model, choice_of(folder, run.id)))
    return found


def heat(
    ws: Workspace,
    lens: Lens,
    pages: Sequence[Page],
    adapter: Adapter | None,
    on_event: OnEvent = lambda event: None,
    wish: Callable[[], Wish] = lambda: "watch",
) -> list[Losses]:
    """The losses of the tokens of each page that reach the trainer; of a dropped example, up to the limit.

    Slow: a job loads the model. Raises ModelUnavailable or BadInput as the job reports them, Stopped by `wish`.
    """
    source = resolve_model(lens.model, weights=False)
    most = min(lens.limit, window(lens.tokenizer, source.path) or lens.limit)
    ranges = [measured_range(page, most) for page in pages]
    sequences = [page.example.input_ids[start:stop] for page, (start, stop) in zip(pages, ranges, strict=True)]
    setting = adapter.model if adapter else ModelSetting(name=lens.model, revision=source.revision)
    choice = adapter.choice if adapter else None
    digest = adapter_digest(adapter.folder) if adapter else None
    asked = [sequences, setting.model_dump(), choice.model_dump() if choice else None, digest]
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    known = ws.cache_dir / "losses" / f"{key}.parquet"
    if not known.exists():
        job = ws.runs_dir / f"losses-{key[:16]}"
        if not (job / PLAN).exists():
            relative = os.path.relpath(adapter.folder, job) if adapter else None
            _write_job(job, TokenLossPlan(model=setting, choice=choice, adapter=relative), sequences)
        _run(job, on_event, wish)
        known.parent.mkdir(parents=True, exist_ok=True)
        (job / LOSSES).replace(known)
        shutil.rmtree(job)
    measured: list[Losses] = pq.read_table(known).column("losses").to_pylist()
    return [
        [None] * start + losses + [None] * (len(page.example.input_ids) - stop)
        for page, (start, stop), losses in zip(pages, ranges, measured, strict=True)
    ]


def mean_trained(page: Page, losses: Losses) -> float | None:
    """The mean loss of the page's trained tokens, in nats; None where none is known."""
    known = [loss for loss, trained in zip(losses, page.example.trained, strict=True) if trained and loss is not None]
    return sum(known) / len(known) if known else None


def measured_range(page: Page, most: int) -> tuple[int, int]:
    """The tokens of a page that are measured, at most `most`: those that are trained on, or would be if they fitted."""
    start, stop = page.left
    if start == stop:
        stop = len(page.example.input_ids)
    return start, min(stop, start + most)


def _run(job: Path, on_event: OnEvent, wish: Callable[[], Wish]) -> None:
    """Run the job. Its folder goes where nothing in it is of use: it was stopped, or what it was asked cannot be."""
    try:
        run_job("trainer", job, on_event, wish=wish)
    except Stopped:
        if wish() == "stop":
            shutil.rmtree(job)
        raise
    except (BadInput, ModelUnavailable):
        shutil.rmtree(job)
        raise


def _write_job(folder: Path, plan: TokenLossPlan, sequences: Sequence[Sequence[int]]) -> None:
    """The input first, the plan last: a folder with a plan is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    column = pa.array([list(ids) for ids in sequences], pa.list_(pa.int64()))
    pq.write_table(pa.table({"ids": column}), folder / SEQUENCES)
    write_atomic(folder / PLAN, plan.model_dump_json(indent=1))


def adapter_digest(folder: Path) -> str:
    """SHA-256 (hex) of an adapter's files: what it is, wherever it lies."""
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("adapter_*"), *folder.glob("model*.safetensors"))):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
