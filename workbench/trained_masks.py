"""The mask audit of what an experiment trained: its versions under the model, policy and limit of its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainer.chat import Audit, window
from trainer.models import resolve_model
from workbench.errors import ModelUnavailable
from workbench.tokens import AuditReport, WorkspaceRows, audit_rows, lens

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.plan import ExperimentPlan
    from workbench.workspace import Workspace

__all__ = ["Audit", "trained_masks"]


def trained_masks(
    ws: Workspace,
    version: str,
    job: ExperimentPlan,
    settings: dict[str, Any],
    progress: Callable[[int, int | None, str], None] | None = None,
) -> AuditReport:
    """The audit of a version as an experiment trained it; `settings` are those of its result.

    Raises ModelUnavailable where the tokenizer cannot be had, or the model's name stands for another revision by now.
    """
    training = settings["training"]
    model = resolve_model(job.model.name, weights=False)
    if job.model.revision and model.revision != job.model.revision:
        raise ModelUnavailable(f"{job.model.name} is another revision now than the one that was trained")
    made = lens(
        job.model.name, **job.policy.model_dump(), max_length=training["max_length"], truncate=training["truncate"]
    )
    limit = min(training["max_length"], window(made.tokenizer, model.path) or training["max_length"])
    return audit_rows(replace(made, limit=limit), WorkspaceRows(ws, version), progress=progress)
