"""`workbench import`: bring in files or a data set as a source, or look at what would come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from workbench.cli import common
from workbench.errors import Stopped, UsageProblem

if TYPE_CHECKING:
    from workbench.importing import ImportReport, Noted
    from workbench.preview import Preview

_PREVIEWED = 3
_SHOWN_REASONS = 5
_SHOWN_FILES = 5


class _Import(click.Command):
    """Lets `--preview` stand without its number, also right before the path."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        for at, arg in enumerate(args):
            if arg == "--preview" and not (at + 1 < len(args) and args[at + 1].isdigit()):
                given[at] = f"--preview={_PREVIEWED}"
        return super().parse_args(ctx, given)


@click.command("import", cls=_Import)
@click.argument("targets", metavar="PATH|hf:NAME", nargs=-1, required=True)
@click.option("--name", metavar="S", help="What to call the source. Default: the file's name.")
@click.option("--format", metavar="F", help="The shape of the rows, where it should not be told from them.")
@click.option("--map", "mapping", metavar="prompt=COL,response=COL", help="The columns to read; system=COL too.")
@click.option(
    "--trees",
    type=click.Choice(["best", "all"]),
    default="best",
    show_default=True,
    help="Of a tree of replies, the best-ranked path or all of them.",
)
@click.option("--license", metavar="L", help="Under which licence the data may be used, for the record.")
@click.option("--grow", is_flag=True, help="Add to the source of this name only the rows that the file has got since.")
@click.option(
    "--preview",
    type=click.IntRange(min=0),
    metavar="[N]",
    help=f"Only show what was understood, with the first N conversations and rejects (default {_PREVIEWED}).",
)
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    targets: tuple[str, ...],
    name: str | None,
    format: str | None,
    mapping: str | None,
    trees: Literal["best", "all"],
    license: str | None,
    grow: bool,
    preview: int | None,
    as_json: bool,
) -> None:
    """Import conversations: a file, a folder, a glob, or a data set of the Hugging Face hub.

    Files are JSON, JSON Lines, CSV, Parquet or Arrow, also packed (.gz, .zst); what a folder or glob holds becomes
    one source. The usual shapes of rows are recognised; --preview shows as what. Every row is imported, or rejected
    with a reason; the same bytes imported again add nothing.

    \b
    workbench import --preview alpaca.json
    workbench import alpaca.json --name alpaca --license CC-BY-NC-4.0
    workbench import qa.csv --map prompt=question,response=answer
    workbench import "chats/*.jsonl.gz" --name chats
    workbench import hf:org/name/config:train
    workbench import log.jsonl --grow
    """
    from workbench.importing import parse_mapping

    target, *others = targets
    if others:
        raise UsageProblem(
            f"one source at a time, and {len(targets)} files are named",
            where=others[0],
            do='Put a glob in quotes ("chats/*.jsonl"), or name their folder: its files become one source.',
        )
    columns = parse_mapping(mapping) if mapping else None
    if preview is not None:
        if grow:
            raise UsageProblem("--preview shows a file by itself", do="Leave out --grow.")
        from workbench.preview import preview as look

        seen = look(target, format=format, mapping=columns, trees=trees, shown=preview)
        if as_json:
            common.print_json(_preview_data(seen))
        else:
            _print_preview(seen)
        if not seen.usable:
            ctx.exit(3)
        return
    try:
        with common.workspace(ctx) as workspace, common.progress_bar("reading", in_bytes=True) as progress:
            report = workspace.import_file(
                target,
                name=name,
                format=format,
                mapping=columns,
                trees=trees,
                license=license,
                grow=grow,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise Stopped("Stopped; nothing was kept", do="The same command starts again.") from None
    if as_json:
        common.print_json(_report_data(report))
    else:
        _print(report)


def _reasons_data(reasons: list[tuple[str, int, int]]) -> list[dict[str, Any]]:
    return [{"reason": reason, "rows": rows, "first_row": first} for reason, rows, first in reasons]


def _report_data(report: ImportReport) -> dict[str, Any]:
    return {
        "source": report.source,
        "rows": report.rows,
        "imported": report.imported,
        "rejected": report.rejected,
        "examples": report.examples,
        "format": report.format,
        "duplicates_of_known": report.duplicates_of_known,
        "added": report.added,
        "fixed": report.fixed,
        "already_imported": report.already,
        "reject_reasons": _reasons_data(report.reasons),
        "mostly_rejected": [
            {"file": file, "rows": rows, "rejected": rejected} for file, rows, rejected in report.mostly_rejected
        ],
        "empty_turns": report.noted.empty_turns,
        "other_weights": report.noted.other_weights,
        "lost_keys": dict(report.noted.lost_keys),
        "passed_over": list(report.passed_over),
    }


def _print(report: ImportReport) -> None:
    from workbench.importing import RECODE, is_encoding
    from workbench.text import counted, safe_text

    out = common.out()
    if report.already:
        out.print(f"These bytes are already source {report.source}: nothing was added.")
        return
    if report.added == report.rows:
        examples = f", {report.examples:,} examples" if report.examples != report.imported else ""
        rows = counted(report.rows, "row")
        out.print(f"{report.source}: {report.imported:,} of {rows} imported as {report.format}{examples}.")
    else:
        fixed = f" Rejected rows that are corrected in it and came in too: {report.fixed:,}." if report.fixed else ""
        out.print(f"{report.source}: {counted(report.added, 'new row')}, now {report.rows:,}.{fixed}")
    if report.rejected:
        _print_reasons(report.rejected, report.reasons)
        for file, of, rejected in report.mostly_rejected[:_SHOWN_FILES]:
            common.note(f"Mostly rejected: {safe_text(file)} ({rejected:,} of {counted(of, 'row')})")
        if (more := len(report.mostly_rejected) - _SHOWN_FILES) > 0:
            common.note(f"Mostly rejected: {counted(more, 'more file')}")
        common.note(f"All of them, and how to correct them: workbench rejects ls {report.source}")
        if any(is_encoding(reason) for reason, _, _ in report.reasons):
            common.note(RECODE)
    if report.passed_over:
        others = len(report.passed_over) - _SHOWN_FILES
        rest = f" and {others:,} more" if others > 0 else ""
        common.note(f"Files not read: {safe_text(', '.join(report.passed_over[:_SHOWN_FILES]))}{rest}.")
    _print_noted(report.noted)
    if report.duplicates_of_known:
        out.print(f"Examples with content that another source already had: {report.duplicates_of_known:,}.")
        common.note(f"Which sources: workbench sources show {report.source}")
    common.note(f"Next: workbench run safe-default --from {report.source} --name VERSION, or a recipe of your own")


def _print_noted(noted: Noted) -> None:
    from workbench.text import clip, counted

    if noted.empty_turns:
        common.note(
            f"Kept as they are, with an assistant turn that is empty: {counted(noted.empty_turns, 'example')}. "
            "A recipe's step `audit: {drop: [empty-turn]}` drops them."
        )
    if noted.other_weights:
        common.note(
            f"With a weight other than 0 and 1 on an assistant turn: {counted(noted.other_weights, 'example')}. "
            "It is kept and does nothing: such turns are trained like any other."
        )
    if noted.lost_keys:
        most = noted.lost_keys.most_common(_SHOWN_REASONS)
        keys = ", ".join(f"{clip(key, 40)} ({counted(rows, 'example')})" for key, rows in most)
        common.note(f"Parts of turns are joined, and what else they say is not kept: {keys}.")


def _print_reasons(rejected: int, reasons: list[tuple[str, int, int]]) -> None:
    from workbench.text import clip, counted

    out = common.out()
    out.print(f"rejected rows: {rejected:,}")
    for reason, rows, first in reasons[:_SHOWN_REASONS]:
        out.print(f"  {rows:,} from row {first}: {clip(reason, 300)}")
    if rest := rejected - sum(rows for _, rows, _ in reasons[:_SHOWN_REASONS]):
        out.print(f"  {counted(rest, 'row')} for other reasons")


def _preview_data(seen: Preview) -> dict[str, Any]:
    import json

    return {
        "target": seen.target,
        "container": seen.container,
        "encoding": seen.encoding,
        "format": seen.format,
        "files": seen.files,
        "ignored": list(seen.ignored),
        "bytes": seen.bytes,
        "columns": seen.columns,
        "usable": seen.usable,
        "sample": {
            "rows": seen.rows,
            "imported": seen.imported,
            "examples": seen.examples,
            "rejected": seen.rejected,
            "complete": seen.complete,
        },
        "reject_reasons": _reasons_data(seen.reasons),
        "examples": [
            {
                "row": record.row,
                "part": record.part,
                "messages": json.loads(record.messages),
                "tools": json.loads(record.tools or "null"),
                "meta": record.meta,
            }
            for record in seen.first
        ],
        "rejects": [{"row": row.row, "reason": row.reason, "raw": row.raw} for row in seen.first_rejects],
    }


def _print_preview(seen: Preview) -> None:
    import json

    from rich.filesize import decimal
    from rich.text import Text

    from workbench.formats.shapes import EXPECTED, UNKNOWN
    from workbench.importing import RECODE, is_encoding
    from workbench.report.terminal import conversation
    from workbench.text import clip, counted, safe_text

    out = common.out()
    kind = ", ".join(filter(None, [seen.container, seen.encoding, decimal(seen.bytes)]))
    out.print(f"{safe_text(seen.target)}: {kind}")
    for name in seen.ignored[:_SHOWN_REASONS]:
        out.print(f"  passed over {safe_text(name)}")
    if len(seen.ignored) > _SHOWN_REASONS:
        out.print(f"  passed over {counted(len(seen.ignored) - _SHOWN_REASONS, 'more file')}")
    known = f"{seen.format} rows" if seen.format != UNKNOWN else f"rows of no known shape; expected {EXPECTED}"
    out.print(f"  read as     {known}")
    uses: dict[str, list[str]] = {}
    for column, use in seen.columns.items():
        uses.setdefault(use, []).append(clip(column, 40))
    for use in sorted(uses, key=("metadata", "not read").count):
        out.print(f"  {use:<10}  {'' if use == 'not read' else 'from '}{', '.join(uses[use])}")
    rows = f"{'all' if seen.complete else 'first'} {counted(seen.rows, 'row')}"
    examples = f" as {counted(seen.examples, 'conversation')}" if seen.examples != seen.imported else ""
    out.print(f"  {rows}: {seen.imported:,} can be imported{examples}, {seen.rejected:,} rejected")
    if seen.rejected:
        _print_reasons(seen.rejected, seen.reasons)
        if any(is_encoding(reason) for reason, _, _ in seen.reasons):
            common.note(RECODE)
    for record in seen.first:
        part = f", conversation {record.part + 1}" if record.part else ""
        out.print()
        out.print(Text(f"row {record.row}{part}", style="dim"))
        out.print(conversation(json.loads(record.messages), full=False), end="")
        if record.tools:
            out.print(f"  {'tools':<10}{clip(record.tools, 240)}")
        if record.meta:
            out.print(f"  {'metadata':<10}{clip(json.dumps(record.meta, ensure_ascii=False), 240)}")
    for row in seen.first_rejects:
        out.print()
        out.print(Text(f"row {row.row} rejected: {clip(row.reason, 300)}", style="dim"))
        out.print(f"  {clip(row.raw, 240)}")
    todo = "Import it without --preview." if seen.usable else "More than half is rejected: it would not be imported."
    common.note(f"Nothing was written. {todo}")
