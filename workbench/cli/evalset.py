"""`workbench evalset`: what versions are measured with, and never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.evalset_import import EvalImport

_LISTED_REJECTS = 10


@click.group("evalset")
def command() -> None:
    """Eval sets: prompts with reference answers that are never trained on."""


@command.command("import")
@click.argument("file", metavar="FILE")
@click.option("--name", required=True, metavar="E", help="What to call the eval set.")
@common.json_option
@click.pass_context
def import_(ctx: click.Context, file: str, name: str, as_json: bool) -> None:
    """Import a file as an eval set; the last assistant turn of each row is its reference.

    Columns named task or category become slices; rows with the same cluster count as one in the statistics.
    """
    from pathlib import Path

    with common.workspace(ctx) as workspace, common.progress_bar("reading", in_bytes=True) as progress:
        report = workspace.import_evalset(Path(file).expanduser(), name, progress)
    if as_json:
        rejected = [{"row": row, "reason": reason} for row, reason in report.rejected]
        common.print_json({**_data(report), "rejected": len(rejected), "rejects": rejected})
        return
    _print(report)
    if report.rejected:
        from workbench.text import clip

        out = common.out()
        out.print(f"{counted(len(report.rejected), 'row')} rejected:")
        for row, reason in report.rejected[:_LISTED_REJECTS]:
            out.print(f"  row {row}: {clip(reason, 200)}")
        if len(report.rejected) > _LISTED_REJECTS:
            common.note(f"The first {_LISTED_REJECTS} are listed; --json lists all.")


@command.command("ls")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List the eval sets."""
    with common.workspace(ctx) as workspace:
        found = workspace.evalsets()
    if as_json:
        listed = [{"name": e.name, "rows": e.rows, "manifest_hash": e.manifest_hash} for e in found]
        common.print_json({"evalsets": listed})
        return
    if not found:
        common.note("No eval sets yet. Bring one in with `workbench evalset import FILE --name E`.")
        return
    from workbench.report.terminal import table

    listed_table = table("eval set", "items", "manifest", "made (UTC)", right=("items",))
    for e in found:
        listed_table.add_row(e.name, f"{e.rows:,}", e.manifest_hash[:12], f"{e.created_at:%Y-%m-%d %H:%M}")
    common.out().print(listed_table)


@command.command("hold-out")
@click.argument("source", metavar="SOURCE|VERSION")
@click.option("--name", required=True, metavar="E", help="What to call the eval set.")
@click.option("--n", "n", required=True, type=click.IntRange(min=1), help="How many rows.")
@click.option("--seed", default=0, show_default=True, help="Another seed chooses other rows.")
@common.json_option
@click.pass_context
def hold_out(ctx: click.Context, source: str, name: str, n: int, seed: int, as_json: bool) -> None:
    """Make an eval set out of rows of a source. The rows stay in the source: train on versions frozen without them.

    A set held out of a raw source has the flaws of the raw source; prefer one that was written to measure with.
    """
    with common.workspace(ctx) as workspace:
        report = workspace.hold_out(source, name, n, seed)
    if as_json:
        common.print_json({**_data(report), "overlaps": report.overlaps})
        return
    _print(report)
    common.note(
        f"{report.overlaps:,} rows of {source} have these prompts, and a version with any of them cannot be compared "
        f"on {name}.\nMake one without them: workbench versions freeze {source} --without {name} --name V"
    )


def _data(report: EvalImport) -> dict[str, Any]:
    made = report.evalset
    return {"evalset": made.name, "rows": made.rows, "manifest_hash": made.manifest_hash, "new": report.new}


def _print(report: EvalImport) -> None:
    made = report.evalset
    there = "" if report.new else " It was there already, with these items."
    common.out().print(f"{made.name}: {counted(made.rows, 'item')}, manifest {made.manifest_hash[:12]}.{there}")
