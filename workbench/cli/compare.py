"""`workbench compare`: train two versions and say whether the difference is real."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import common

if TYPE_CHECKING:
    from workbench.experiments import Experiment, Question

F = TypeVar("F", bound=Callable[..., Any])

WORSE_EXIT = 7


def setting_options(command: F) -> F:
    """The options that `compare` and `train` share."""
    options = [
        click.option("--model", metavar="NAME|DIR", help="The model to start from. Default: SmolLM2-135M-Instruct."),
        click.option("--evalset", metavar="E", help="The eval set to measure on. Default: the only one there is."),
        click.option("--seeds", type=int, metavar="N", help="Seeds of each arm. Default: 3."),
        click.option("--trained-tokens", type=click.IntRange(min=1), metavar="N", help="Trained tokens of each run."),
        click.option(
            "--minutes", type=float, metavar="M", help="Time for all runs together; measured first. Default: 10."
        ),
        click.option(
            "--quantize",
            type=click.Choice(["nf4", "none", "auto"]),
            default="auto",
            show_default=True,
            help="Hold the base in 4 bits (QLoRA); auto does where memory needs it.",
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option(
            "--preset",
            type=click.Choice(["short", "standard"]),
            help="Learning rate and step size. Default: by the budget.",
        ),
        click.option(
            "--template",
            metavar="NAME|FILE",
            help="For models without a chat template: chatml, alpaca, vicuna, llama-2, zephyr, or a file with Jinja.",
        ),
        click.option(
            "--max-new-tokens", type=click.IntRange(min=1), default=96, show_default=True, help="Length of answers."
        ),
        click.option("--early-stop", is_flag=True, help="End a run whose validation loss rises twice in a row."),
    ]
    command = common.mask_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def question(baseline: str, candidate: str | None, options: dict[str, Any]) -> Question:
    """The options of a command as a question."""
    from trainer.chat.plain_formats import template_source
    from trainer.plan import SHORT, STANDARD, STANDARD_FROM, PolicySetting
    from workbench.experiments import DEFAULT_SEEDS, Question
    from workbench.tokens import template_args

    training = {"short": SHORT, "standard": STANDARD, None: None}[options["preset"]]
    wishes = {
        "early_stop": options["early_stop"] or None,
        "max_length": options["max_length"],
        "truncate": options["truncate"] if options["truncate"] != SHORT.truncate else None,
    }
    if changed := {name: wish for name, wish in wishes.items() if wish is not None}:
        by_budget = STANDARD if (options["trained_tokens"] or 0) >= STANDARD_FROM else SHORT
        training = (training or by_budget).model_copy(update=changed)
    return Question(
        baseline=baseline,
        candidate=candidate,
        evalset=options["evalset"],
        model=options["model"],
        quantize=options["quantize"],
        device=options["device"],
        seeds=DEFAULT_SEEDS if options["seeds"] is None else options["seeds"],
        trained_tokens=options["trained_tokens"],
        minutes=options["minutes"],
        training=training,
        policy=PolicySetting(
            turns=options["policy"],
            tool_calls=options["tool_calls"],
            reasoning=options["reasoning"],
            special=options["special"],
            date=options["date"],
            template_args=template_args(options["template_args"]),
            template=template_source(options["template"]) if options["template"] else None,
        ),
        max_new_tokens=options["max_new_tokens"],
    )


@click.command("compare")
@click.argument("baseline")
@click.argument("candidate")
@setting_options
@click.option("--gate", is_flag=True, help=f"Exit with {WORSE_EXIT} where the candidate is worse: for CI.")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context, /, baseline: str, candidate: str, gate: bool, answers: int, as_json: bool, **options: Any
) -> None:
    """Train versions BASELINE and CANDIDATE alike and say whether CANDIDATE is better.

    Both are trained on equally many tokens with the same seeds, measured on the same prompts, and compared in
    pairs. The same question asked again shows the result that is there; ctrl-c stops, the same command resumes.
    """
    with common.workspace(ctx) as ws:
        from workbench import experiments

        experiment = experiments.plan(ws, question(baseline, candidate, options))
    result = carry_out(ctx, experiment, as_json=as_json, answers=answers)
    if gate and result["verdict"] == "worse":
        sys.exit(WORSE_EXIT)


def carry_out(ctx: click.Context, experiment: Experiment, *, as_json: bool, answers: int) -> dict[str, Any]:
    """Run or resume a planned experiment, print its result, and return it as the JSON of `compare`."""
    result = carried_out(ctx, experiment)
    if as_json:
        common.print_json(result)
        return result
    sides: list[Any] = []
    if answers:
        from workbench import outcomes

        with common.workspace(ctx) as ws:
            sides = outcomes.answers_side_by_side(ws, experiment.id)
    print_result(result, sides, answers)
    return result


def carried_out(ctx: click.Context, experiment: Experiment) -> dict[str, Any]:
    """Run or resume a planned experiment and return its result as the JSON of `compare`; progress is on stderr."""
    from workbench import experiments, outcomes
    from workbench.errors import Problem, Stopped, WorkspaceUnusable
    from workbench.report.live import telling
    from workbench.store.experiments import find_experiment

    describe(experiment)
    if not experiment.done:
        with common.workspace(ctx) as ws:
            experiments.note_state(ws, experiment.id, "running")
        try:
            with telling(len(experiment.plan.runs) - len(experiment.taken)) as tell:
                experiments.run(experiment, tell)
        except Problem as problem:
            # What the job said matters more than that the workspace may be in use by now.
            with contextlib.suppress(WorkspaceUnusable), common.workspace(ctx) as ws:
                experiments.note_state(ws, experiment.id, "stopped" if isinstance(problem, Stopped) else "failed")
            raise
    with common.workspace(ctx) as ws:
        if not experiment.done:
            outcomes.conclude(ws, experiment.id)
        return stored_result(find_experiment(ws.store, experiment.id).result or "null")


def describe(experiment: Experiment) -> None:
    """What will be done, before it is done, on stderr."""
    from workbench.comparing import promises

    if experiment.done:
        common.note(f"experiment {experiment.id} ({experiment.name}) was run before; this is its result")
        return
    head, *rest = promises(experiment)
    common.note(f"experiment {experiment.id}: {head}")
    for sentence in rest:
        common.note(sentence)


def print_result(result: dict[str, Any], sides: list[Any], answers: int) -> None:
    """A result for people, on stdout."""
    from workbench.report.verdict import render_result, render_sides

    console = common.out()
    console.print(render_result(result))
    if sides:
        console.print()
        console.print(render_sides(sides, result_arms(result), answers))


def result_arms(result: dict[str, Any]) -> dict[str, str]:
    """The arms of a result with the names of their versions."""
    arms = {"baseline": result["baseline"]}
    return arms | ({"candidate": result["candidate"]} if result["candidate"] else {})


def stored_result(text: str) -> dict[str, Any]:
    """A result as the table `experiments` has it."""
    result: dict[str, Any] = json.loads(text)
    return result
