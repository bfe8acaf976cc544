"""`workbench run`: make a version with a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.curation import RunReport


@click.command("run")
@click.argument("recipe", metavar="RECIPE")
@click.option("--from", "from_", required=True, metavar="NAME[,..]", help="Sources and versions to take rows from.")
@click.option("--name", required=True, metavar="VERSION", help="What to call the version.")
@click.option("--dry-run", is_flag=True, help="Say what each step would drop; make no version.")
@click.option("--allow-wipeout", is_flag=True, help="Let steps drop more than their max_drop, or a whole group.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context, recipe: str, from_: str, name: str, dry_run: bool, allow_wipeout: bool, as_json: bool
) -> None:
    """Run a recipe over rows and freeze what is left as a version.

    RECIPE is a YAML file or the name of a recipe that ships with the workbench. Every drop is kept with its reason.
    A run that was stopped goes on where it was.

    \b
    workbench run recipe.yaml --from alpaca --name curated
    """
    with common.workspace(ctx) as workspace, common.progress_bar("running") as progress:
        report = workspace.run_recipe(
            recipe,
            [part.strip() for part in from_.split(",") if part.strip()],
            name,
            dry_run=dry_run,
            allow_wipeout=allow_wipeout,
            progress=progress,
        )
    if as_json:
        common.print_json(run_data(report))
        return
    _print(report, name)


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


def _print(report: RunReport, name: str) -> None:
    from workbench.report.terminal import steps_table

    out = common.out()
    if report.resumed:
        common.note(f"Took over {report.resumed} finished steps of a run that was stopped.")
    out.print(steps_table([step.as_dict() for step in report.steps]))
    kept = f"{report.rows_out:,} of {counted(report.rows_in, 'row')}"
    if report.version is None:
        out.print(f"Dry run: {kept} would be left. Nothing was written.")
        return
    there = "" if report.new else " (was there already, with this content)"
    out.print(f"{report.version}: {kept}, manifest {report.manifest_hash[:12]}{there}.")
    common.note(f"Why rows left: workbench examples {name} --dropped")
