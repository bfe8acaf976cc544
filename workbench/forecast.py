"""How long an experiment will take, told by earlier ones."""

from __future__ import annotations

import json

from trainer.plan import ExperimentPlan
from workbench.store import experiments as rows
from workbench.workspace import Workspace


def expected_seconds(ws: Workspace, job: ExperimentPlan, n_items: int) -> float | None:
    """How long a job will take, in seconds: its budget of minutes, else at the pace of earlier runs of its model.

    None where the model was not trained here before. The time to load it is not counted.
    """
    if not job.budget.trained_tokens:
        return (job.budget.minutes or 0) * 60
    tokens = training = evaluation = items = 0.0
    model, answers = job.model.model_dump(), job.evaluation.model_dump()
    sizes = {evalset.name: evalset.rows for evalset in ws.evalsets()}
    for plan, told in rows.finished_runs(ws.store):
        noted, summary = json.loads(plan), json.loads(told)
        if noted["job"]["model"] != model or "wall_seconds" not in summary:
            continue
        tokens += summary["trained_tokens"]
        training += summary["seconds"]
        if noted["job"]["evaluation"] == answers:
            evaluation += summary["wall_seconds"] - summary["seconds"]
            items += sizes[noted["evalset"]]
    if not tokens or not items:
        return None
    of_an_evaluation = evaluation / items * n_items
    of_a_run = job.budget.trained_tokens * training / tokens + of_an_evaluation
    return of_a_run * len(job.runs) + (of_an_evaluation if job.base else 0.0)
