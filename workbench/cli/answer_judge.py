"""A judge for the answers of an experiment: its options, consent before anything is trained, and asking it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import common
from workbench.cli.consent import with_consent

if TYPE_CHECKING:
    from workbench.consent import Agrees
    from workbench.errors import Problem
    from workbench.experiments import Experiment
    from workbench.preferences import AskedJudge
    from workbench.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])

_WHO = [
    click.option(
        "--judge",
        metavar="RUBRIC",
        help="Have a judge say whose answers are better, by a shipped rubric or a file: its win rate decides.",
    ),
    click.option("--judge-model", metavar="NAME", help="The judge: a model at the endpoint, or one of this machine."),
    click.option("--judge-url", metavar="URL", help="The judge's endpoint, such as http://localhost:8000/v1."),
    click.option("--judge-budget-calls", type=click.IntRange(min=1), metavar="N", help="Stop before more calls."),
]
_LEAVE = [
    click.option("--judge-key-variable", metavar="NAME", help="The variable with the key. Default: OPENAI_API_KEY."),
    click.option("--yes", is_flag=True, help="Do not ask before a judge is paid."),
]


def judge_options(command: F) -> F:
    """The options that say who judges, and by whose leave."""
    for option in reversed(_WHO):
        command = option(command)
    return leave_options(command)


def leave_options(command: F) -> F:
    """The options that say by whose leave a judge is asked."""
    for option in reversed(_LEAVE):
        command = option(command)
    return command


@dataclass(frozen=True)
class Leave:
    """What a person has said on the command line about asking a judge: `may_ask` whether he may be asked himself."""

    yes: bool = False
    key_variable: str | None = None
    may_ask: bool = False


def asked(ws: Workspace, options: dict[str, Any]) -> AskedJudge | None:
    """The judge that the options of `judge_options` name. Raises UsageProblem for what does not fit."""
    from workbench.errors import UsageProblem

    given = {
        "model": options["judge_model"],
        "base_url": options["judge_url"],
        "budget_calls": options["judge_budget_calls"],
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options["judge"] is None:
        if given:
            raise UsageProblem("a judge needs a rubric to judge by", do="Give --judge RUBRIC, such as helpfulness.")
        return None
    from workbench.answer_judging import asked_judge

    return asked_judge(ws, options["judge"], given)


def agree(ctx: click.Context, experiment: Experiment, leave: Leave) -> Agrees | None:
    """Get leave for all that the judge of a planned experiment will be asked; None where it has to be got later."""
    from workbench.answer_judging import agree_before

    if experiment.done:
        return None

    def ask(agrees: Agrees) -> str | None:
        with common.workspace(ctx) as ws:
            return agree_before(ws, experiment, agrees, leave.key_variable)

    if doubt := with_consent(ask, yes=leave.yes, may_ask=leave.may_ask):
        common.note(f"warning: {doubt}")
    return lambda _: True


def judge(
    ctx: click.Context,
    experiment: Experiment,
    result: dict[str, Any],
    leave: Leave,
    agreed: Agrees | None,
    *,
    again: bool = False,
) -> tuple[dict[str, Any], Problem | None]:
    """Have what is missing judged: the result then, and what stopped the judge.

    With `again` it is asked once more about pairs on which it gave nothing that could be used.
    """
    told = result.get("judge")
    if told is None or (told["state"] == "done" and not (again and told["failed"])):
        return result, None
    import json

    from workbench.answer_judging import judge_answers
    from workbench.errors import Problem
    from workbench.judging import Asking
    from workbench.store.experiments import find_experiment

    def run(agrees: Agrees) -> None:
        with common.workspace(ctx) as ws, common.progress_bar("judging") as progress:
            judge_answers(ws, experiment.id, Asking(agreed or agrees, leave.key_variable, progress))

    problem = None
    try:
        with_consent(run, yes=leave.yes, may_ask=leave.may_ask)
    except Problem as stopped:
        problem = stopped
    except click.Abort:
        common.note("the judge is not asked")
    with common.workspace(ctx) as ws:
        return json.loads(find_experiment(ws.store, experiment.id).result or "null"), problem
