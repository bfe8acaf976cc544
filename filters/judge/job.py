"""The judging job: a run folder with rows becomes the same folder with their scores (`filters.scoring`)."""

from __future__ import annotations

from pathlib import Path

from filters.judge.plan import Endpoint, JudgePlan, LocalModel
from filters.judge.rubric import Rubric
from filters.scoring import score_folder
from trainer.errors import BadInput
from trainer.protocol import PLAN, Events, deferred_stop, read_plan

WHAT = "judging"


def judge_folder(folder: Path, events: Events) -> None:
    """Judge the rows of the run folder as its plan says.

    Raises BadInput where the folder's files do not fit, ModelUnavailable where the judge cannot be had, Stopped where
    the user or the budget ends it. Events of an endpoint: `usage` with what was spent, `budget` where that ended it.
    """
    plan = read_plan(folder, JudgePlan)
    if isinstance(plan.backend, Endpoint):
        _ask(folder, events, _rubric(plan, folder), plan.backend, plan.compares)
        return
    from filters.judge.local import LocalJudge, RewardJudge

    if isinstance(plan.backend, LocalModel):
        rubric, local = _rubric(plan, folder), LocalJudge(plan.backend)
        score_folder(folder, events, lambda rows: local.score(rubric, rows, compares=plan.compares), WHAT)
    else:
        score_folder(folder, events, RewardJudge(plan.backend).score, WHAT)


def _ask(folder: Path, events: Events, rubric: Rubric, endpoint: Endpoint, compares: bool) -> None:
    from filters.judge.calls import endpoint_scores
    from filters.judge.endpoint import Asker
    from filters.judge.spending import BudgetReached

    asker = Asker(endpoint)
    try:
        # Calls under way when a stop comes in are waited for: they are paid for.
        with deferred_stop() as wants_stop:
            score_folder(
                folder, events, lambda rows: endpoint_scores(asker, rubric, rows, wants_stop, compares=compares), WHAT
            )
    except BudgetReached as reached:
        events.emit("budget", what=reached.what, do=reached.do)
        raise
    finally:
        events.emit("usage", **asker.spending.usage.as_dict())


def _rubric(plan: JudgePlan, folder: Path) -> Rubric:
    if plan.rubric is None:
        raise BadInput("the plan has no rubric", where=str(folder / PLAN), do="Only a reward model judges without.")
    return plan.rubric
