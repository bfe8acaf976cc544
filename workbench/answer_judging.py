"""Having the answers of an experiment judged: by whom, what it would take, and what became of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from workbench import outcomes
from workbench.consent import Agrees, Calls, ConsentNeeded, Keys, Tally, calls_of
from workbench.errors import Problem, UsageProblem
from workbench.judging import Asking, judge_step
from workbench.preferences import AskedJudge, judge_of, match_ups, to_ask
from workbench.store.experiments import find_experiment

if TYPE_CHECKING:
    from workbench.experiments import Experiment
    from workbench.workspace import Workspace

_ANSWER = 3.0  # seconds that a server has to take a connection


def asked_judge(ws: Workspace, rubric: str, given: dict[str, Any]) -> AskedJudge:
    """The judge that options name: parameters of the step `judge`, and for the rest the settings.

    Raises UsageProblem for what does not fit.
    """
    path = Path(rubric).expanduser()
    step = judge_step(ws, {"rubric": str(path.resolve()) if path.is_file() else rubric} | given)
    scorer = step.comparer()
    params = step.params.model_dump(mode="json", exclude_unset=True)
    return AskedJudge(params, scorer.name, scorer.fingerprint)


def agree_before(ws: Workspace, experiment: Experiment, agrees: Agrees, key_variable: str | None = None) -> str | None:
    """Ask for leave before anything is trained: at the end of it there may be nobody to ask.

    Raises ConsentNeeded, and ModelUnavailable where the client for endpoints is missing. Returns a sentence where
    nobody answers there now: that may change until the judge is asked. A judge on this machine needs none of it.
    """
    calls = expected_calls(ws, experiment, key_variable)
    if calls is None or not calls.calls:
        return None
    from filters.judge.endpoint import require_client

    require_client()
    if not agrees(calls):
        raise ConsentNeeded(calls)
    if _takes_connections(calls.base_url):
        return None
    return (
        f"nobody answers at {calls.base_url} now: the judge is asked when all runs are measured, and must be there then"
    )


def _takes_connections(url: str) -> bool:
    """Whether a server does at an address; behind a proxy that is not known, and taken to be so."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, parts.port or {"https": 443}.get(parts.scheme, 80)), _ANSWER).close()
    except OSError:
        return False
    return True


def expected_calls(ws: Workspace, experiment: Experiment, key_variable: str | None = None) -> Calls | None:
    """The most that judging all answers would ask of an endpoint; None where there is none to ask."""
    from filters.judge.plan import Endpoint, JudgePlan
    from filters.judge.question import comparison
    from trainer.conversation import split_reference
    from workbench.arms import is_noise, pairs_of

    noted = json.loads(find_experiment(ws.store, experiment.id).plan)
    judge = judge_of(noted)
    if judge is None:
        return None
    step = judge_step(ws, judge.params)
    scorer = step.comparer()
    plan = JudgePlan.model_validate(scorer.plan)
    if not isinstance(plan.backend, Endpoint):
        return None
    longest = "x" * 4 * experiment.plan.evaluation.max_new_tokens  # of most texts a token is shorter
    tally = Tally(plan)
    for item in ws.eval_rows(noted["evalset"]).to_pylist():
        tally.add(comparison(split_reference(json.loads(item["messages"]))[0], longest, longest))
    again = any(is_noise(run.id) for run in experiment.plan.runs)
    times = 2 * (noted["seeds"] * len(pairs_of(noted)) + again)
    tally.calls *= times
    tally.prompt_tokens *= times
    tally.reply_tokens *= times
    keys = Keys.of(ws.config, step.params.base_url, variable=key_variable)
    return calls_of(scorer, plan.backend, tally, keys)


def judge_answers(ws: Workspace, id: str, asking: Asking) -> None:
    """Have what is missing judged, and make the result again, whether that came to its end or not.

    Raises what stopped it, after the result was made without: Stopped, ModelUnavailable, ConsentNeeded.
    """
    row = find_experiment(ws.store, id)
    noted = json.loads(row.plan)
    judge = judge_of(noted)
    if judge is None:
        raise UsageProblem(
            "this experiment has no judge",
            where=f"experiment {id}",
            do="Compare the versions again with --judge: runs that are there are not made again.",
        )
    step = judge_step(ws, judge.params)
    scorer = step.comparer()
    try:
        if (scorer.name, scorer.fingerprint) != (judge.scorer, judge.fingerprint):
            raise UsageProblem(
                "the judge or its rubric is not the one that this experiment began with",
                where=f"experiment {id}",
                do="Bring the old one back, or compare again with --judge.",
            )
        asking.compute(ws, step, scorer, to_ask(match_ups(ws, noted, outcomes.answering_runs(ws, row))))
    except Problem as problem:
        outcomes.conclude(ws, id, problem)
        raise
    outcomes.conclude(ws, id)
