"""How long an experiment will take and how much disk, told by earlier ones."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainer.plan import MIN_STEPS, SHORT, Budget, ExperimentPlan, Run
from workbench.diagnosis import tree_size
from workbench.fitting import bytes_of_models
from workbench.store import experiments as rows
from workbench.workspace import Workspace


def expected_seconds(
    ws: Workspace, job: ExperimentPlan, n_items: int, n_trained: int, n_merged: int = 0
) -> float | None:
    """How long a job will take, in seconds: its budget of minutes, else at the pace of earlier runs of its model.

    `n_trained` of its runs are still to be trained and evaluated, and `n_merged` to be evaluated. Evaluations are taken
    to cost as many seconds as answers may have tokens. None where the model was not trained here before, and where arms
    are trained on all of their rows, which are counted in tokens by the job. The time to load the model is not counted.
    """
    if job.budget.epochs or job.whole:
        return None
    if not job.budget.trained_tokens:
        return (job.budget.minutes or 0) * 60 * (n_trained + n_merged) / len(job.runs)
    trained = training = answered = evaluation = 0.0
    sizes = {evalset.name: evalset.rows for evalset in ws.evalsets()}
    for plan, told in rows.finished_runs(ws.store):
        noted, summary = json.loads(plan), json.loads(told)
        model = noted["job"]["model"] | ({"quantize": job.model.quantize} if job.settings else {})
        if model != job.model.model_dump() or "wall_seconds" not in summary or "made_of" in summary:
            continue
        trained += summary["trained_tokens"]
        training += summary["seconds"]
        answered += sizes[noted["evalset"]] * noted["job"]["evaluation"]["max_new_tokens"]
        evaluation += summary["wall_seconds"] - summary["seconds"]
    if not trained or not answered:
        return None
    of_an_evaluation = evaluation / answered * n_items * job.evaluation.max_new_tokens
    of_training = job.budget.trained_tokens * training / trained
    return of_training * n_trained + of_an_evaluation * (n_trained + n_merged + job.base)


def least_seconds(ws: Workspace, job: ExperimentPlan, n_items: int) -> float | None:
    """How long a job takes with the fewest steps worth comparing, by earlier runs of its model; None without them."""
    tokens = MIN_STEPS * (job.training or SHORT).tokens_per_step
    shortest = job.model_copy(update={"budget": Budget(trained_tokens=tokens)})
    return expected_seconds(ws, shortest, n_items, len(job.runs))


def expected_bytes(ws: Workspace, job: ExperimentPlan, left: Sequence[Run]) -> int | None:
    """How much disk new runs of a job will fill, by the results of the newest run of its model; None without.

    What training needs meanwhile for its checkpoint, some three adapters, is counted once. A merged adapter is as large
    as those that it is made of together; a whole model is counted by its size.
    """
    for experiment in reversed(rows.experiments(ws.store)):
        earlier = json.loads(experiment.plan)["job"]
        if earlier["model"]["name"] != job.model.name:
            continue
        for run in earlier["runs"]:
            results = ws.runs_dir / experiment.id / "results" / run["id"]
            if run["arm"] not in earlier.get("merged", {}) and (results / "summary.json").exists():
                adapters = sum(len(job.merged[run.arm].of) - 1 for run in left if run.arm in job.merged)
                of_checkpoint = 3 if any(run.arm not in job.merged for run in left) else 0
                of_adapters = tree_size(results) * len(left) + tree_size(results / "adapter") * (
                    adapters + of_checkpoint
                )
                return of_adapters + bytes_of_models(job, left)
    return None
