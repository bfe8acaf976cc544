"""`workbench run`: make a version with a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.cli.consent import with_consent
from workbench.text import counted

if TYPE_CHECKING:
    from filters.overlap import Overlap
    from workbench.consent import Agrees
    from workbench.curation import RunReport
    from workbench.scoring import EngineName


@click.command("run")
@click.argument("recipe", metavar="RECIPE")
@click.option("--from", "from_", required=True, metavar="NAME[,..]", help="Sources and versions to take rows from.")
@click.option("--name", metavar="VERSION", help="What to call the version. Needless with --dry-run.")
@click.option("--dry-run", is_flag=True, help="Say what each step would drop; make no version.")
@click.option("--allow-wipeout", is_flag=True, help="Let steps drop more than their max_drop, or a whole group.")
@click.option("--yes", is_flag=True, help="Let judges at endpoints be asked, which may cost money.")
@click.option("--overlap", is_flag=True, help="Say what each step would drop by itself, and what only it drops.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where rules and minhash are worked on; the version is the same (docs/scaling.md).",
)
@click.option("--ray-address", metavar="ADDRESS", help="A Ray that runs already. Default: one on this machine.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    recipe: str,
    from_: str,
    name: str | None,
    dry_run: bool,
    allow_wipeout: bool,
    yes: bool,
    overlap: bool,
    engine: EngineName,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Run a recipe over rows and freeze what is left as a version.

    RECIPE is a YAML file or the name of a recipe that ships with the workbench. Every drop is kept with its reason.
    A run that was stopped goes on where it was.

    Before a judge at an endpoint is asked, calls, tokens and cost are told, and it needs consent: --yes, a budget in
    its step, or yes on the terminal. --dry-run asks it too, or it could not say what would fall.

    With --overlap every filter and deduplicator also judges all rows, not only those that the steps before it left:
    a step that drops nothing which another would not drop can go. Run the same line again to have it of a version
    that is there already.

    \b
    workbench run recipe.yaml --from alpaca --name curated
    """
    from filters.registry import refused_steps
    from workbench.scoring import chosen_engine

    if name is None and not dry_run:
        raise click.UsageError("Missing option '--name', or --dry-run to make no version.")
    version = name or "dry-run"
    for sentence in refused_steps():
        common.note(f"Note: {sentence}.")
    inputs = [part.strip() for part in from_.split(",") if part.strip()]

    def run(agrees: Agrees) -> tuple[RunReport, Overlap | None]:
        with (
            common.workspace(ctx) as workspace,
            common.progress_bar("running") as progress,
            chosen_engine(engine, workspace.runs_dir, progress, ray_address) as elsewhere,
        ):
            report = workspace.run_recipe(
                recipe,
                inputs,
                version,
                dry_run=dry_run,
                allow_wipeout=allow_wipeout,
                progress=progress,
                agrees=agrees,
                engine=elsewhere,
            )
            return report, workspace.recipe_overlap(recipe, inputs, progress) if overlap else None

    report, found = with_consent(run, yes=yes, may_ask=not as_json)
    if as_json:
        common.print_json(run_data(report) | ({"overlap": found.as_dict()} if found else {}))
        return
    _print(report)
    if found:
        _print_overlap(found)


def run_data(report: RunReport) -> dict[str, Any]:
    """The report as the JSON that other programs rely on."""
    return {
        "version": report.version,
        "rows_in": report.rows_in,
        "rows_out": report.rows_out,
        "manifest_hash": report.manifest_hash,
        "steps": [step.as_dict() for step in report.steps],
        "new": report.new,
        "resumed_steps": report.resumed,
    }


def _print(report: RunReport) -> None:
    from workbench.report.terminal import steps_table

    out = common.out()
    if report.resumed:
        common.note(f"Took over {counted(report.resumed, 'finished step')} of a run that was stopped.")
    out.print(steps_table([step.as_dict() for step in report.steps]))
    kept = f"{report.rows_out:,} of {counted(report.rows_in, 'row')}"
    if report.version is None:
        out.print(f"Dry run: {kept} would be left. Nothing was written.")
        return
    there = "" if report.new else " (was there already, with this content)"
    out.print(f"{report.version}: {kept}, manifest {report.manifest_hash[:12]}{there}.")
    common.note(f"Why rows left: workbench examples {report.version} --dropped")


def _print_overlap(found: Overlap) -> None:
    from workbench.report.terminal import overlap_table

    out = common.out()
    out.print()
    out.print(f"Each step by itself, on all {counted(found.rows, 'row')}; any of them drops {found.dropped:,}:")
    out.print(overlap_table([step.as_dict() for step in found.steps]))
    if any(step.unjudged for step in found.steps):
        common.note("Unjudged: rows that a step cannot judge, or that a model would have to score first.")
    if found.left_out:
        common.note(f"Left out, because they drop down to a number of rows: {', '.join(found.left_out)}.")
