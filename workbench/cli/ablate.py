"""`workbench ablate`: what each step of a recipe is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.cli.compare import carried_out, question, setting_options
from workbench.cli.consent import with_consent
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.ablation import Ablation, Mode
    from workbench.consent import Agrees
    from workbench.experiments import Question


@click.command("ablate")
@click.argument("recipe", metavar="RECIPE")
@click.option("--from", "from_", required=True, metavar="NAME[,..]", help="Sources and versions to take rows from.")
@click.option(
    "--mode",
    type=click.Choice(["leave-one-out", "add-one"]),
    default="leave-one-out",
    show_default=True,
    help="Compare the full recipe with each step left out, or the rows as they are with each step alone.",
)
@click.option("--steps", metavar="STEP[,..]", help="Only these steps: names, or positions from 1. Default: all.")
@click.option(
    "--name", metavar="NAME", help="What the names of the versions begin with. Default: by --from and RECIPE."
)
@click.option("--dry-run", is_flag=True, help="Count rows and runs; make no version, train nothing.")
@click.option("--allow-wipeout", is_flag=True, help="Let steps drop more than their max_drop, or a whole group.")
@click.option("--yes", is_flag=True, help="Let judges at endpoints be asked, which may cost money.")
@setting_options
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    recipe: str,
    from_: str,
    mode: Mode,
    steps: str | None,
    name: str | None,
    dry_run: bool,
    allow_wipeout: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train with and without each step of RECIPE and say what each step did.

    Makes a version by the full recipe and one without each step, and compares each of those with the full one on
    equally many trained tokens. The full recipe is trained once for all. A step that changes nothing is not trained.
    Stopped, the same line goes on where it was.

    \b
    workbench ablate recipe.yaml --from alpaca --evalset gold --trained-tokens 8000
    """
    from workbench.ablation import prepare, runs_of
    from workbench.errors import UsageProblem

    if options["export"]:
        raise UsageProblem(
            "the comparisons of an ablation are made one after another, and no folder holds them all",
            where="--export",
            do="Make the versions with `workbench run`, and give --export to `workbench compare`.",
        )
    asked = question("", (), options)
    inputs = [part.strip() for part in from_.split(",") if part.strip()]

    def versions(agrees: Agrees) -> Ablation:
        with common.workspace(ctx) as ws, common.progress_bar("making versions") as progress:
            return prepare(
                ws,
                recipe,
                inputs,
                mode=mode,
                steps=[part.strip() for part in (steps or "").split(",") if part.strip()],
                name=name,
                dry_run=dry_run,
                allow_wipeout=allow_wipeout,
                agrees=agrees,
                progress=progress,
            )

    ablation = with_consent(versions, yes=yes, may_ask=not as_json)
    same = [variant.step for variant in ablation.variants if variant.same]
    common.note(
        f"{counted(len(ablation.to_compare), 'comparison')} with {ablation.baseline.version} "
        f"({counted(ablation.baseline.rows, 'row')}), {counted(runs_of(ablation, asked.seeds), 'run')} in all"
    )
    if same:
        common.note(f"not trained, because the rows are the same with and without: {', '.join(same)}")
    compared, tokens = ({}, {}) if dry_run else _compare(ctx, recipe, inputs, ablation, asked, options["devices"])
    _print(ablation, compared, tokens, as_json=as_json)
    if not dry_run:
        _raise_first_failure(compared)


def _compare(
    ctx: click.Context, recipe: str, inputs: list[str], ablation: Ablation, asked: Question, devices: str | None
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Carry the comparisons out one after another; what fails is told and the rest goes on.

    Raises Stopped, UsageProblem, and SharedPrompts where it is the baseline that shares them.
    """
    from dataclasses import replace

    from workbench import experiments
    from workbench.ablation import Came, keep, note, questions, trained_tokens
    from workbench.errors import NotFound, Problem, SharedPrompts, Stopped, UsageProblem
    from workbench.series import family
    from workbench.side_by_side import on_devices

    compared: dict[str, dict[str, Any]] = {}
    tokens: dict[str, int] = {}
    results = []
    with common.workspace(ctx) as ws:
        kept = keep(ws, recipe, inputs, ablation, asked)
    for one in questions(ablation, replace(asked, baseline=ablation.baseline.version)):
        version = str(one.candidate)
        try:
            with common.workspace(ctx) as ws:
                experiment = experiments.plan(ws, one)
                note(ws, kept.id, version, Came(experiment.id))
            if devices:
                experiment = on_devices(experiment, devices)
            results.append(carried_out(ctx, experiment))
        except Stopped:
            raise
        except Problem as problem:
            if isinstance(problem, UsageProblem) and not isinstance(problem, NotFound):
                raise  # too few minutes, for example: the next question would be as wrong
            if isinstance(problem, SharedPrompts) and problem.where == ablation.baseline.version:
                raise
            state = "refused" if isinstance(problem, SharedPrompts) else "failed"
            compared[version] = {"state": state, "why": problem.what}
            if state == "refused":
                with common.workspace(ctx) as ws:
                    note(ws, kept.id, version, Came(None, "refused", problem.what))
            common.note(str(problem))
            continue
        with common.workspace(ctx) as ws:
            counted_tokens = trained_tokens(ws, experiment.id)
        tokens |= {experiment.arms[arm]: n for arm, n in counted_tokens.items()}
    compared |= {one.candidate: {"state": "done"} | one.as_dict() for one in family(results)}
    return compared, tokens


def _raise_first_failure(compared: dict[str, dict[str, Any]]) -> None:
    from workbench.errors import Problem

    for version, came in compared.items():
        if came["state"] == "failed":
            raise Problem(came["why"], where=version, do="The same line again goes on where it was.")


def _print(ablation: Ablation, compared: dict[str, dict[str, Any]], tokens: dict[str, int], *, as_json: bool) -> None:
    from workbench.ablation import worth

    steps = worth(ablation, compared, tokens)
    if as_json:
        baseline = {"version": ablation.baseline.version, "rows": ablation.baseline.rows}
        baseline |= {"trained_tokens": tokens.get(ablation.baseline.version)}
        common.print_json({"mode": ablation.mode, "baseline": baseline, "steps": steps})
        return
    from workbench.report.ablation import ablation_table, meaning

    out = common.out()
    out.print(ablation_table(steps))
    for sentence in meaning(ablation.mode, ablation.baseline.version, steps):
        out.print(sentence)
