"""How long an experiment will take, told by earlier ones."""

from __future__ import annotations

import json

from trainer.plan import ExperimentPlan
from workbench.store import experiments as rows
from workbench.workspace import Workspace


def expected_seconds(ws: Workspace, job: ExperimentPlan, n_items: int) -> float | None:
    """How long a job will take, in seconds: its budget of minutes, else at the pace of earlier runs of its model.

    Evaluations are taken to cost as many seconds as answers may have tokens. None where the model was not trained
    here before. The time to load it is not counted.
    """
    if not job.budget.trained_tokens:
        return (job.budget.minutes or 0) * 60
    trained = training = answered = evaluation = 0.0
    sizes = {evalset.name: evalset.rows for evalset in ws.evalsets()}
    for plan, told in rows.finished_runs(ws.store):
        noted, summary = json.loads(plan), json.loads(told)
        if noted["job"]["model"] != job.model.model_dump() or "wall_seconds" not in summary:
            continue
        trained += summary["trained_tokens"]
        training += summary["seconds"]
        answered += sizes[noted["evalset"]] * noted["job"]["evaluation"]["max_new_tokens"]
        evaluation += summary["wall_seconds"] - summary["seconds"]
    if not trained or not answered:
        return None
    of_an_evaluation = evaluation / answered * n_items * job.evaluation.max_new_tokens
    of_a_run = job.budget.trained_tokens * training / trained + of_an_evaluation
    return of_a_run * len(job.runs) + (of_an_evaluation if job.base else 0.0)
