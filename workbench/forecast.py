"""How long an experiment will take and how much disk, told by earlier ones."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from trainer.adapters import is_whole_model
from trainer.plan import MIN_STEPS, SHORT, Budget, ExperimentPlan, Method, Run
from workbench.diagnosis import tree_size
from workbench.fitting import bytes_of_models
from workbench.store import experiments as rows
from workbench.workspace import Workspace

PACE: dict[Method, float] = {"lora": 1.0, "dora": 1.7, "full": 1.5, "peft": 1.0}
"""How many times as long as LoRA a method takes to train, where no earlier run tells: measured (docs/methods.md), but
for those that a PEFT config names, which are taken to be as fast. To be evaluated all are taken to need as long."""


def method_of(job: ExperimentPlan, arm: str) -> Method:
    """What an arm of a job trains."""
    own = job.settings.get(arm)
    return (own.training if own else job.training or SHORT).method


def methods_of(job: ExperimentPlan, runs: Iterable[Run]) -> Counter[Method]:
    """How many of `runs` train what; those that are merged train nothing."""
    return Counter(method_of(job, run.arm) for run in runs if run.arm not in job.merged)


def expected_seconds(
    ws: Workspace, job: ExperimentPlan, n_items: int, trained: Mapping[Method, int], n_merged: int = 0
) -> float | None:
    """How long a job will take, in seconds: its budget of minutes, else at the pace of earlier runs of its model.

    So many of its runs are still to be `trained` by each method and evaluated, and `n_merged` to be evaluated. Methods
    that the model was not trained by here are reckoned with by `PACE`. Evaluations are taken to cost as many seconds as
    answers may have tokens. None where the model was not trained here before, and where arms are trained on all of
    their rows, which are counted in tokens by the job. The time to load the model is not counted.
    """
    if job.budget.epochs or job.whole:
        return None
    runs = sum(trained.values()) + n_merged
    if not job.budget.trained_tokens:
        return (job.budget.minutes or 0) * 60 * runs / len(job.runs)
    training, answering = _paces(ws, job)
    if not training or not answering:
        return None
    of_an_evaluation = n_items * job.evaluation.max_new_tokens
    alike = dict.fromkeys(PACE, 1.0)
    seconds = _pace(answering, "lora", alike) * of_an_evaluation * (n_merged + job.base)
    for method, count in trained.items():
        seconds += _pace(training, method, PACE) * job.budget.trained_tokens * count
        seconds += _pace(answering, method, alike) * of_an_evaluation * count
    return seconds


def unknown_methods(ws: Workspace, job: ExperimentPlan, trained: Iterable[Method]) -> list[Method]:
    """Of the methods by which runs are to be trained, those whose pace is reckoned from that of others."""
    known, _ = _paces(ws, job)
    return [method for method in trained if known and method not in known]


def _paces(ws: Workspace, job: ExperimentPlan) -> tuple[dict[Method, float], dict[Method, float]]:
    """By method, seconds of earlier runs of a job's model for each trained token, and for each token answers had."""
    tokens: Counter[Method] = Counter()
    training: dict[Method, float] = defaultdict(float)
    answers: Counter[Method] = Counter()
    answering: dict[Method, float] = defaultdict(float)
    sizes = {evalset.name: evalset.rows for evalset in ws.evalsets()}
    for plan, told in rows.finished_runs(ws.store):
        noted, summary = json.loads(plan), json.loads(told)
        if "wall_seconds" not in summary or "made_of" in summary:
            continue
        earlier = noted["job"]
        own = earlier.get("settings", {}).get(summary["arm"])
        held = job.model.quantize if job.settings else own["quantize"] if own else earlier["model"]["quantize"]
        if earlier["model"] | {"quantize": held} != job.model.model_dump():
            continue
        method = (own["training"] if own else earlier["training"] or {}).get("method", "lora")
        tokens[method] += summary["trained_tokens"]
        training[method] += summary["seconds"]
        answers[method] += sizes[noted["evalset"]] * earlier["evaluation"]["max_new_tokens"]
        answering[method] += summary["wall_seconds"] - summary["seconds"]
    return (
        {method: training[method] / count for method, count in tokens.items() if count},
        {method: answering[method] / count for method, count in answers.items() if count},
    )


def _pace(known: Mapping[Method, float], method: Method, slower: Mapping[Method, float]) -> float:
    """The pace of a method: its own where it is known, else by that of LoRA, else by that of the others."""
    if method in known:
        return known[method]
    as_lora = known.get("lora") or statistics.mean(pace / slower[other] for other, pace in known.items())
    return slower[method] * as_lora


def least_seconds(ws: Workspace, job: ExperimentPlan, n_items: int) -> float | None:
    """How long a job takes with the fewest steps worth comparing, by earlier runs of its model; None without them."""
    tokens = MIN_STEPS * (job.training or SHORT).tokens_per_step
    shortest = job.model_copy(update={"budget": Budget(trained_tokens=tokens)})
    trained = methods_of(job, job.runs)
    return expected_seconds(ws, shortest, n_items, trained, len(job.runs) - trained.total())


def expected_bytes(ws: Workspace, job: ExperimentPlan, left: Sequence[Run]) -> int | None:
    """How much disk new runs of a job will fill, by the newest run that trained an adapter of its model; None without.

    What training needs meanwhile for its checkpoint, some three adapters, is counted once. A merged adapter is as large
    as those that it is made of together; a whole model is counted by its size.
    """
    for experiment in reversed(rows.experiments(ws.store)):
        earlier = json.loads(experiment.plan)["job"]
        if earlier["model"]["name"] != job.model.name:
            continue
        for run in earlier["runs"]:
            results = ws.runs_dir / experiment.id / "results" / run["id"]
            made = run["arm"] not in earlier.get("merged", {}) and (results / "summary.json").exists()
            if made and not is_whole_model(results / "adapter"):
                adapters = sum(len(job.merged[run.arm].of) - 1 for run in left if run.arm in job.merged)
                of_checkpoint = 3 if any(run.arm not in job.merged for run in left) else 0
                of_adapters = tree_size(results) * len(left) + tree_size(results / "adapter") * (
                    adapters + of_checkpoint
                )
                return of_adapters + bytes_of_models(job, left)
    return None
