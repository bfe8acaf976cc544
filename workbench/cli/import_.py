"""`workbench import`: bring in a file as a source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from workbench.cli import common
from workbench.errors import UsageProblem

if TYPE_CHECKING:
    from workbench.importing import ImportReport


@click.command("import")
@click.argument("path", metavar="PATH")
@click.option("--name", metavar="S", help="What to call the source. Default: the file's name.")
@click.option("--format", metavar="F", help="The shape of the rows, where it should not be told from them.")
@click.option("--map", "mapping", metavar="prompt=COL,response=COL", help="The columns to read; system=COL too.")
@click.option("--license", metavar="L", help="Under which licence the data may be used, for the record.")
@click.option("--grow", is_flag=True, help="Add to the source of this name only the rows that the file has got since.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    name: str | None,
    format: str | None,
    mapping: str | None,
    license: str | None,
    grow: bool,
    as_json: bool,
) -> None:
    """Import a file of conversations: JSON, JSON Lines, CSV or Parquet.

    Alpaca, ShareGPT, messages and prompt/completion rows are recognised. Every row is imported or rejected with a
    reason; the same bytes imported again add nothing.

    \b
    workbench import alpaca.json --name alpaca --license CC-BY-NC-4.0
    workbench import qa.csv --map prompt=question,response=answer
    """
    from pathlib import Path

    with common.workspace(ctx) as workspace, common.progress_bar("reading") as progress:
        report = workspace.import_file(
            Path(path).expanduser(),
            name=name,
            format=format,
            mapping=parse_mapping(mapping) if mapping else None,
            license=license,
            grow=grow,
            progress=progress,
        )
    if as_json:
        common.print_json(
            {
                "source": report.source,
                "rows": report.rows,
                "imported": report.imported,
                "rejected": report.rejected,
                "format": report.format,
                "duplicates_of_known": report.duplicates_of_known,
                "added": report.added,
                "fixed": report.fixed,
                "already_imported": report.already,
                "reject_reasons": [
                    {"reason": reason, "rows": rows, "first_row": first} for reason, rows, first in report.reasons
                ],
            }
        )
        return
    _print(report)


def parse_mapping(text: str) -> dict[str, str]:
    """`prompt=COL,response=COL` as a dict; a column's name may hold commas. Raises UsageProblem."""
    mapping = {}
    for part in re.split(r",(?=\s*\w+=)", text):
        key, equals, column = part.strip().partition("=")
        if not equals or not column:
            raise UsageProblem(f"--map cannot be read at {part!r}", do="Write it as prompt=COLUMN,response=COLUMN.")
        mapping[key] = column
    return mapping


def _print(report: ImportReport) -> None:
    from workbench.text import clip

    out = common.out()
    if report.already:
        out.print(f"These bytes are already source {report.source}: nothing was added.")
        return
    if report.added == report.rows:
        out.print(f"{report.source}: {report.imported:,} of {report.rows:,} rows imported as {report.format}.")
    else:
        fixed = f" {report.fixed:,} rejected rows are corrected in it and came in too." if report.fixed else ""
        out.print(f"{report.source}: {report.added:,} new rows, now {report.rows:,}.{fixed}")
    if report.rejected:
        out.print(f"{report.rejected:,} rows are rejected:")
        for reason, rows, first in report.reasons:
            out.print(f"  {rows:,} from row {first}: {clip(reason, 200)}")
        common.note(f"All of them, and how to correct them: workbench rejects ls {report.source}")
    if report.duplicates_of_known:
        out.print(f"{report.duplicates_of_known:,} examples have content that another source already had.")
        common.note(f"Which ones: workbench sources show {report.source}")
    common.note(f"Next: workbench run RECIPE --from {report.source} --name VERSION")
