"""`workbench sources`: what was imported from where, and what it shares with other sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common

if TYPE_CHECKING:
    from workbench.provenance import SourceReport
    from workbench.store.sources import Source


_SHOWN = 5  # reasons
_NUMBERS = ("rows", "imported", "rejected")


@click.group("sources", cls=common.Group)
def command() -> None:
    """Imported files and data sets: origin, licence, counts, and rows that others have too."""


@command.command("ls")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List sources."""
    with common.workspace(ctx) as workspace:
        sources = workspace.sources()
    if as_json:
        common.print_json({"sources": [_source_data(source) for source in sources]})
        return
    if not sources:
        common.note("No sources yet. Bring in a file with `workbench import FILE`.")
        return
    from workbench.report.terminal import table
    from workbench.text import clip, clip_start

    listed = table("source", "rows", "imported", "rejected", "format", "licence", "from", right=_NUMBERS)
    for source in sources:
        numbers = [f"{number:,}" for number in (source.rows, source.imported, source.rejected)]
        licence = clip(source.license or "not stated", 30)
        listed.add_row(source.name, *numbers, source.format, licence, clip_start(source.path, 40))
    common.out().print(listed)


@command.command("show")
@click.argument("name", metavar="SOURCE")
@common.json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show a source: its files, rows, rejects by reason, and the other sources that have the same content."""
    with common.workspace(ctx) as workspace:
        report = workspace.show_source(name)
    if as_json:
        common.print_json(_report_data(report))
        return
    _print(report)


def _source_data(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "rows": source.rows,
        "imported": source.imported,
        "rejected": source.rejected,
        "format": source.format,
        "license": source.license,
        "path": source.path,
        "file_hash": source.file_hash,
        "mapping": source.mapping,
        "imported_at": f"{source.created_at.isoformat()}Z",
    }


def _report_data(report: SourceReport) -> dict[str, Any]:
    return {
        **_source_data(report.source),
        "examples": report.examples,
        "fixed": report.fixed,
        "reasons": [{"reason": reason, "rows": rows, "first": first} for reason, rows, first in report.reasons],
        "files": [
            {
                "path": file.path,
                "file_hash": file.file_hash,
                "file_row": file.file_row,
                "first_row": file.first_row,
                "rows": file.rows,
            }
            for file in report.files
        ],
        "overlaps": [{"source": source, "rows": rows} for source, rows in report.overlaps],
        "versions": report.versions,
    }


def _print(report: SourceReport) -> None:
    from workbench.report.terminal import table
    from workbench.text import clip, clip_start, counted, safe_text

    out = common.out()
    source = report.source
    read_as = ", ".join([source.format, *(f"{key}={safe_text(column)}" for key, column in source.mapping.items())])
    out.print(
        f"{source.name}: {counted(source.rows, 'row')} read as {read_as} on {source.created_at:%Y-%m-%d %H:%M} UTC"
    )
    out.print(f"  from      {safe_text(source.path)}")
    out.print(f"  licence   {safe_text(source.license or 'not stated')}")
    examples = f" as {report.examples:,} examples" if report.examples != source.imported else ""
    fixed = f", {report.fixed:,} of them after a correction" if report.fixed else ""
    out.print(f"  imported  {source.imported:,}{examples}{fixed}")
    out.print(f"  rejected  {source.rejected:,}")
    for reason, rows, first in report.reasons[:_SHOWN]:
        out.print(f"    {rows:,} from row {first}: {clip(reason, 200)}")
    if rest := source.rejected - sum(rows for _, rows, _ in report.reasons[:_SHOWN]):
        out.print(f"    {counted(rest, 'row')} for other reasons")
    if report.versions:
        out.print(f"  versions  {', '.join(report.versions)}")
    if len(report.files) > 1:
        out.print()
        listed = table("file", "rows", "from row", "SHA-256", right=("rows", "from row"))
        for file in report.files:
            listed.add_row(clip_start(file.path, 60), f"{file.rows:,}", f"{file.first_row:,}", file.file_hash[:12])
        out.print(listed)
    if report.overlaps:
        out.print()
        listed = table("rows with the same content in", "rows", right=("rows",))
        for other, rows in report.overlaps:
            listed.add_row(other, f"{rows:,}")
        out.print(listed)
    else:
        common.note("No other source has content of this one.")
    if source.rejected:
        common.note(f"The rejected rows: workbench rejects ls {source.name}")


@command.command("rm")
@click.argument("name", metavar="SOURCE")
@common.json_option
@click.pass_context
def rm(ctx: click.Context, name: str, as_json: bool) -> None:
    """Remove a source with its rows, as long as no version was made out of it. The file itself stays."""
    with common.workspace(ctx) as workspace:
        workspace.remove_source(name)
    if as_json:
        common.print_json({"removed": name})
        return
    common.out().print(f"{name} is removed.")
