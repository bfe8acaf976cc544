"""`workbench evalset`: what versions are measured with, and never trained on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from trainer.conversation import Side
    from workbench.evalset_import import EvalImport

_REASONS = 5


@click.group("evalset", cls=common.Group)
def command() -> None:
    """Eval sets: prompts with reference answers that are never trained on."""


@command.command("import")
@click.argument("file", metavar="FILE")
@click.option("--name", required=True, metavar="E", help="What to call the eval set.")
@click.option("--map", "mapping", metavar="prompt=COL,response=COL", help="The columns to read; system=COL too.")
@common.json_option
@click.pass_context
def import_(ctx: click.Context, file: str, name: str, mapping: str | None, as_json: bool) -> None:
    """Import a file as an eval set; the last assistant turn of each row is its reference.

    Columns named task or category become slices; rows with the same cluster count as one in the statistics.
    Prompts that carry IFEval's instruction_id_list and kwargs need no reference.
    """
    from pathlib import Path

    from workbench.importing import parse_mapping

    columns = parse_mapping(mapping) if mapping else None
    with common.workspace(ctx) as workspace, common.progress_bar("reading", in_bytes=True) as progress:
        report = workspace.import_evalset(Path(file).expanduser(), name, progress, columns)
    if as_json:
        rejected = [{"row": row, "reason": reason} for row, reason in report.rejected]
        common.print_json({**_data(report), "rejected": len(rejected), "rejects": rejected})
        return
    _print(report)
    if report.rejected:
        _print_rejected(report.rejected)


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


@command.command("overlap")
@click.argument("name", metavar="SOURCE|VERSION")
@click.option("--evalset", required=True, metavar="E", help="Whose prompts to look for.")
@click.option("--on", type=click.Choice(["prompt", "response", "both"]), default="both", show_default=True)
@click.option("--ngram", type=click.IntRange(2, 64), default=8, show_default=True, help="Words of a shared run.")
@click.option(
    "--share", type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True,
    help="More than this share of a prompt's words in shared runs.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="Rows shown.")
@common.json_option
@click.pass_context
def overlap(
    ctx: click.Context, name: str, evalset: str, on: Side, ngram: int, share: float, limit: int, as_json: bool
) -> None:
    """Show the rows that hold prompts of an eval set, side by side with them. Nothing is dropped.

    The step `decontaminate` drops them, by the same parameters. Runs that many rows share count less.
    """
    from workbench.contamination import held_prompts

    with common.workspace(ctx) as workspace, common.progress_bar("comparing") as progress:
        found = held_prompts(workspace, name, evalset, on=on, ngram=ngram, share=share, progress=progress)
    if as_json:
        common.print_json({"name": name, "evalset": evalset, "rows": len(found), "held": [asdict(h) for h in found]})
        return
    if not found:
        common.note(f"No row of {name} holds more than {share:.0%} of a prompt of {evalset}.")
        return
    from workbench.report.overlap import side_by_side

    out = common.out()
    for one in found[:limit]:
        titles = (f"item {one.item} of {evalset}", f"row {one.row} of {one.source} holds {one.share:.0%} of it")
        out.print(side_by_side(titles, (one.prompt, one.text), one.shared))
    if len(found) > limit:
        common.note(f"{limit} of {counted(len(found), 'row')}; --limit shows more, --json all.")
    common.note(
        f"{counted(len(found), 'row')} of {name} would fall. In a recipe: `- decontaminate: {{against: [{evalset}]}}`."
    )


def _print_rejected(rejected: list[tuple[int, str]]) -> None:
    from collections import Counter

    from workbench.text import clip

    out = common.out()
    first = {reason: row for row, reason in reversed(rejected)}
    reasons = Counter(reason for _, reason in rejected).most_common()
    out.print(f"{counted(len(rejected), 'row')} rejected:")
    for reason, rows in reasons[:_REASONS]:
        out.print(f"  {rows:,} from row {first[reason]}: {clip(reason, 300)}")
    if rest := sum(rows for _, rows in reasons[_REASONS:]):
        out.print(f"  {counted(rest, 'row')} for other reasons; --json lists all")


def _data(report: EvalImport) -> dict[str, Any]:
    made = report.evalset
    return {"evalset": made.name, "rows": made.rows, "manifest_hash": made.manifest_hash, "new": report.new}


def _print(report: EvalImport) -> None:
    made = report.evalset
    there = "" if report.new else " It was there already, with these items."
    common.out().print(f"{made.name}: {counted(made.rows, 'item')}, manifest {made.manifest_hash[:12]}.{there}")
