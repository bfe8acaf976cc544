"""`workbench compare`: train two versions and say whether the difference is real."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import answer_judge, common
from workbench.cli.answer_judge import Leave
from workbench.report.pairs import arms, comparisons

if TYPE_CHECKING:
    from workbench.experiments import Experiment, Question

F = TypeVar("F", bound=Callable[..., Any])

WORSE_EXIT = 7


def _checked_devices(_ctx: click.Context, _option: click.Parameter, devices: str | None) -> str | None:
    """Refuse a list that is none before anything is done."""
    from trainer.devices import parse_devices

    if devices is not None:
        parse_devices(devices)
    return devices


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
        click.option(
            "--devices",
            metavar="LIST",
            callback=_checked_devices,
            help="Make runs side by side: numbers of GPUs as in 0,1; auto for all of them; cpu,cpu for two workers.",
        ),
        click.option(
            "--export",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Train nothing here: write a folder to run on another machine. See `experiments export`.",
        ),
    ]
    command = common.mask_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def question(baseline: str, candidates: Sequence[str], options: dict[str, Any]) -> Question:
    """The options of a command as a question. Without candidates the baseline is trained alone."""
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
        candidate=candidates[0] if candidates else None,
        more=tuple(candidates[1:]),
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
@click.argument("candidates", metavar="CANDIDATE...", nargs=-1, required=True)
@setting_options
@answer_judge.judge_options
@click.option(
    "--control",
    "controls",
    metavar="KIND[,..]",
    default="",
    help="Train arms made from BASELINE, too: random-k and longest-k, as many rows as a candidate has; full, all rows.",
)
@click.option(
    "--merge",
    "merges",
    multiple=True,
    metavar="HOW:V+V[:W,W]",
    help="Measure an arm made of the adapters of others, too, times the weights: linear, ties, dare-linear, dare-ties; "
    "ties=0.3 sets the density. May be repeated.",
)
@click.option(
    "--match",
    type=click.Choice(["trained-tokens", "epochs"]),
    default="trained-tokens",
    show_default=True,
    help="What is equal in all arms: trained tokens, or passes over their own rows.",
)
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes, with --match epochs. Default: 1.")
@click.option("--gate", is_flag=True, help=f"Exit with {WORSE_EXIT} where a candidate is worse than BASELINE: for CI.")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    baseline: str,
    candidates: tuple[str, ...],
    controls: str,
    merges: tuple[str, ...],
    match: str,
    epochs: int | None,
    gate: bool,
    answers: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Train versions BASELINE and CANDIDATE alike and say whether CANDIDATE is better.

    All are trained on equally many tokens with the same seeds, measured on the same prompts, and compared in
    pairs. Several candidates are each compared with BASELINE. The same question asked again shows the result that is
    there; ctrl-c stops, the same command resumes.

    \b
    workbench compare raw curated --control random-k --trained-tokens 8000
    workbench compare main one two three --evalset gold --minutes 60
    workbench compare both code chat --merge ties:code+chat --merge linear:code+chat:0.5,0.5
    """
    from dataclasses import replace

    from workbench.errors import UsageProblem

    if epochs is not None and match != "epochs":
        raise UsageProblem("--epochs counts passes with --match epochs only", do="Add --match epochs.")
    asked = replace(
        question(baseline, candidates, options),
        controls=tuple(kind.strip() for kind in controls.split(",") if kind.strip()),
        merges=merges,
        epochs=(epochs or 1) if match == "epochs" else None,
    )
    leave = Leave(options["yes"], options["judge_key_variable"], may_ask=not as_json)
    with common.workspace(ctx) as ws:
        from workbench import experiments

        experiment = experiments.plan(ws, replace(asked, judge=answer_judge.asked(ws, options)))
    if options["export"]:
        export(experiment, options["export"], options["devices"], as_json=as_json)
        return
    if options["devices"]:
        from workbench.side_by_side import on_devices

        experiment = on_devices(experiment, options["devices"])
    result = carry_out(ctx, experiment, as_json=as_json, answers=answers, leave=leave)
    if gate:
        _close_gate(experiment, result)


def _close_gate(experiment: Experiment, result: dict[str, Any]) -> None:
    """End with `WORSE_EXIT` where a candidate is worse. Raises Problem where one could not be compared."""
    from workbench.arms import CANDIDATE
    from workbench.errors import Problem

    compared, failed = comparisons(result), result.get("failed", {})
    if any(one["verdict"] == "worse" for one in compared):
        sys.exit(WORSE_EXIT)
    candidates = {arm for arm in experiment.arms if arm.startswith(CANDIDATE)} | experiment.plan.merged.keys()
    for run in experiment.plan.runs:
        if run.arm in candidates - {one["arm"] for one in compared}:
            raise Problem(
                f"it could not be compared, so the gate stays closed: {failed.get(run.id, 'a run failed')}",
                where=experiment.labels[run.arm],
                do=f"`workbench experiments resume {experiment.id}` makes its runs again.",
            )


def carry_out(
    ctx: click.Context,
    experiment: Experiment,
    *,
    as_json: bool,
    answers: int,
    leave: Leave | None = None,
    judge_again: bool = False,
) -> dict[str, Any]:
    """Run or resume a planned experiment, print its result, and return it as the JSON of `compare`.

    What stops the judge, where it has one, is raised when the result without it is printed. With `judge_again` it is
    asked once more about pairs that it failed on.
    """
    leave = leave or Leave(may_ask=not as_json)
    agreed = answer_judge.agree(ctx, experiment, leave)
    carried = carried_out(ctx, experiment)
    result, stopped = answer_judge.judge(ctx, experiment, carried, leave, agreed, again=judge_again)
    if as_json:
        common.print_json(result)
    else:
        sides: list[Any] = []
        if answers:
            from workbench import outcomes

            with common.workspace(ctx) as ws:
                sides = outcomes.answers_side_by_side(ws, experiment.id)
        print_result(result, sides, answers)
    if stopped:
        raise stopped
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
            left = [run for run in experiment.plan.runs if run.id not in experiment.taken]
            with telling(len(left), sum(run.arm in experiment.plan.merged for run in left)) as tell:
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


def export(experiment: Experiment, out: Path, devices: str | None = None, *, as_json: bool) -> None:
    """Write the job of a planned experiment to a folder for another machine, and say how to go on."""
    from workbench.elsewhere import pack
    from workbench.text import safe_text

    packed = pack(experiment.folder, out)
    command = packed.command + (f" --devices {devices}" if devices else "")
    if as_json:
        common.print_json({"experiment": experiment.id, "folder": str(out), "command": command})
        return
    folder, model = safe_text(str(out)), safe_text(experiment.plan.model.name)
    common.out().print(f"{folder}: experiment {experiment.id} ({safe_text(experiment.name)}), to be run elsewhere")
    common.note(f"there, in the folder: pip install -r requirements.txt, then {command}")
    common.note(f"the model must be known there as {model}")
    if packed.began:
        common.note("runs that were made here come along; the others are made by the same arithmetic and budget")
    common.note(f"back here: workbench experiments resume {experiment.id} --from {folder}")


def describe(experiment: Experiment) -> None:
    """What will be done, before it is done, on stderr."""
    from workbench.comparing import promises

    if experiment.done:
        now = "its judge goes on" if experiment.judge_waits else "this is its result"
        common.note(f"experiment {experiment.id} ({experiment.name}) was run before; {now}")
        return
    head, *rest = promises(experiment)
    common.note(f"experiment {experiment.id}: {head}")
    for sentence in rest:
        common.note(sentence)


def print_result(result: dict[str, Any], sides: list[Any], answers: int) -> None:
    """A result for people, on stdout."""
    from workbench.report.slices import render_slices
    from workbench.report.verdict import render_result, render_sides

    console = common.out()
    console.print(render_result(result))
    if slices := render_slices(result):
        console.print()
        console.print(slices)
    if sides:
        console.print()
        console.print(render_sides(sides, arms(result), answers))


def stored_result(text: str) -> dict[str, Any]:
    """A result as the table `experiments` has it."""
    result: dict[str, Any] = json.loads(text)
    return result
