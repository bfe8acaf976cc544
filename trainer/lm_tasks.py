"""The tasks job: tasks of lm-eval (EleutherAI's evaluation harness) on the base model and on saved adapters.

    plan.json                  in
    results/<run>.json         TaskScores of the base or of one adapter; complete when it is there

The model is held as it was in training, and lm-eval's own model class asks it. A job that was stopped keeps the runs
that are complete.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.adapters import with_adapters
from trainer.base import Base, load_chosen, with_policy
from trainer.chat import with_template
from trainer.chat.render import frozen_dates
from trainer.disk import disk_problem
from trainer.errors import BadInput, ModelUnavailable, Problem
from trainer.memory import memory_problem
from trainer.plan import BASE, ModelChoice, ModelSetting, PolicySetting
from trainer.protocol import LOG, Events, read_plan, write_atomic

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

RESULTS = "results"

_RESAMPLES = 1000  # for the standard errors that have no formula: within 2-3% of what lm-eval's 100,000 say


class TasksPlan(BaseModel):
    """`plan.json` of the job. `adapters` are folders, seen from that of the job, by the name of their run.

    `limit` asks the first items of each task alone; `chat` puts every prompt into the chat template of the experiment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lm-eval"] = "lm-eval"
    model: ModelSetting
    chosen: ModelChoice
    policy: PolicySetting
    adapters: dict[str, str]
    tasks: list[str] = Field(min_length=1)
    tasks_dir: str | None = None
    limit: int | None = Field(default=None, gt=0)
    chat: bool = False
    batch_size: int = Field(default=1, gt=0)


class TaskScore(BaseModel):
    """One number of one task or group of tasks, over `items` of its items (None where lm-eval does not say).

    `stderr` is lm-eval's standard error of the value over these items; None where it has none.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    metric: str
    filter: str
    value: float | None
    stderr: float | None
    items: int | None
    higher_is_better: bool | None


class TaskScores(BaseModel):
    """What one model scored, and lm-eval's versions of the tasks."""

    model_config = ConfigDict(frozen=True)

    scores: list[TaskScore]
    versions: dict[str, str]


def score_tasks(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises Problem kinds; see the module's text for the files."""
    plan = read_plan(folder, TasksPlan)
    out = folder / RESULTS
    out.mkdir(exist_ok=True)
    missing = [run for run in (BASE, *plan.adapters) if not (out / f"{run}.json").exists()]
    if not missing:
        return
    events.emit("stage", what="loading the tasks")
    manager = _manager(plan, folder)
    events.emit("stage", what="loading the model")
    base, _ = with_policy(load_chosen(plan.model, plan.chosen), plan.policy)
    wearing = with_adapters(base, {run: folder / plan.adapters[run] for run in missing if run != BASE})
    for run in missing:
        events.emit("stage", what=f"{run}: {', '.join(plan.tasks)}", run=run)
        with wearing(None if run == BASE else run) as model:
            scores = _scores(base, model, plan, manager, folder)
        write_atomic(out / f"{run}.json", scores.model_dump_json(indent=1))


def _manager(plan: TasksPlan, folder: Path) -> TaskManager:
    """lm-eval's index of tasks, which are all there, with their data. Raises BadInput, ModelUnavailable."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=plan.tasks_dir)
    for task in plan.tasks:
        if task not in manager.task_index:
            near = difflib.get_close_matches(task, manager.task_index, n=3)
            raise BadInput(
                "lm-eval knows no such task",
                where=f"task {task}",
                do=f"Near it: {', '.join(near)}." if near else "`lm-eval ls tasks` lists them; --tasks-dir adds yours.",
            )
        try:
            manager.load([task])
        except OSError as error:
            raise ModelUnavailable(
                f"its data could not be had ({_first_line(error)})",
                where=f"task {task}",
                do="Most tasks read it from the hub: check the network. One in --tasks-dir can name a local file.",
            ) from error
        except Exception as error:
            raise _told(error, f"task {task}", folder) from error
    return manager


def _scores(base: Base, model: Any, plan: TasksPlan, manager: TaskManager, folder: Path) -> TaskScores:
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    # Its bootstrap forks this process, and the forks inherit the handler for SIGTERM. The pool ends them with that
    # signal, and can wait for ever.
    os.environ["DISABLE_MULTIPROC"] = "1"
    tokenizer = base.tokenizer
    if plan.chat and plan.policy.date:
        day = datetime.date.fromisoformat(plan.policy.date)
        tokenizer = with_template(tokenizer, frozen_dates(tokenizer.get_chat_template(), day))
    asked = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=plan.batch_size,
        mixed_precision_dtype=torch.bfloat16 if base.dtype == "bfloat16" else None,  # as `Base.autocast`
        softmax_dtype=torch.float32,  # as in our own losses: in bfloat16 a log-probability of -5 is known to 0.02
        chat_template_args=plan.policy.template_args,
    )
    try:
        found = simple_evaluate(
            asked,
            tasks=list(plan.tasks),
            task_manager=manager,
            limit=plan.limit,
            bootstrap_iters=_RESAMPLES,
            apply_chat_template=plan.chat,
            log_samples=False,
        )
    except Exception as error:
        raise _told(error, f"tasks {', '.join(plan.tasks)}", folder) from error
    return TaskScores(
        scores=_read(dict(found)), versions={task: str(version) for task, version in found["versions"].items()}
    )


def _read(found: dict[str, Any]) -> list[TaskScore]:
    """The numbers in what lm-eval returns: keys `metric,filter`, beside `metric_stderr,filter` and words."""
    scores = []
    for task, numbers in found["results"].items():
        for key, value in numbers.items():
            metric, comma, filter_ = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            scores.append(
                TaskScore(
                    task=task,
                    metric=metric,
                    filter=filter_,
                    value=_finite(value),
                    stderr=_finite(numbers.get(f"{metric}_stderr,{filter_}")),
                    items=found["n-samples"].get(task, {}).get("effective"),
                    higher_is_better=found["higher_is_better"].get(task, {}).get(metric),
                )
            )
    return scores


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _told(error: Exception, where: str, folder: Path) -> Exception:
    """What stopped lm-eval: a task's own code and data run in it, so that the error need not be ours."""
    if isinstance(error, Problem) or disk_problem(error) or memory_problem(error):
        return error
    return BadInput(
        f"lm-eval stopped with {type(error).__name__}: {_first_line(error)}",
        where=where,
        do=f"{folder.name}/{LOG} has the traceback.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
