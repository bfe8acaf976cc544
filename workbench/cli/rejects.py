"""`workbench rejects`: the rows that could not be imported: list, write out, correct, take in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from workbench.cli import common

if TYPE_CHECKING:
    from workbench.rejects import FixedRejects
    from workbench.store.rejects import RejectRow

_REASONS = 10
_SHOWN = 200  # characters of a row
_STILL = 10


@click.group("rejects", cls=common.Group)
def command() -> None:
    """Rows that could not be imported: why, and how to correct them.

    \b
    workbench rejects ls chats
    workbench rejects export chats -o broken.jsonl
    (correct broken.jsonl in an editor)
    workbench rejects import chats broken.jsonl
    """


@command.command("ls")
@click.argument("source", metavar="SOURCE")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, metavar="N")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N.")
@click.option("--full", is_flag=True, help="Print the whole text of each row.")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, source: str, limit: int, offset: int, full: bool, as_json: bool) -> None:
    """List the reasons, and the rejected rows with their text."""
    from dataclasses import asdict

    from workbench.text import counted

    with common.workspace(ctx) as workspace:
        chars = None if full or as_json else _SHOWN + 1
        total, rows = workspace.rejects(source, limit=limit, offset=offset, chars=chars)
        reasons = workspace.reject_reasons(source)
    if as_json:
        common.print_json(
            {
                "source": source,
                "total": total,
                "offset": offset,
                "reasons": [{"reason": reason, "rows": count, "first": first} for reason, count, first in reasons],
                "rejects": [asdict(row) for row in rows],
            }
        )
        return
    if not rows:
        gone = f"There {'is' if total == 1 else 'are'} only {counted(total, 'reject')}: --offset {offset} is behind it."
        common.note(gone if total else f"Every row of {source} was imported.")
        return
    _print(reasons, rows, full)
    more = f"; go on with --offset {offset + len(rows)}" if offset + len(rows) < total else ""
    common.note(f"{offset + 1:,} to {offset + len(rows):,} of {counted(total, 'reject')}{more}.")
    common.note(f"To correct them: workbench rejects export {source} -o FILE.jsonl")


def _print(reasons: list[tuple[str, int, int]], rows: list[RejectRow], full: bool) -> None:
    from workbench.rejects import altered
    from workbench.report.terminal import table
    from workbench.text import clip, clip_start, counted, safe_text

    out = common.out()
    listed = table("rows", "first", "reason", right=("rows", "first"))
    for reason, count, first in reasons[:_REASONS]:
        listed.add_row(f"{count:,}", str(first), clip(reason, 300))
    out.print(listed)
    if len(reasons) > _REASONS:
        out.print(f"and {counted(len(reasons) - _REASONS, 'more reason')}")
    out.print()
    for row in rows:
        stands = f" ({clip_start(row.file, 60)}, row {row.file_row})" if row.file is not None else ""
        out.print(f"row {row.row}{stands}: {clip(row.reason, 300)}")
        out.print(f"  {safe_text(row.raw) if full else clip(row.raw, _SHOWN)}")
        if row.altered:
            out.print(f"  ({altered(row)})")


@command.command("export")
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--out", required=True, metavar="FILE", help="The file to write (JSON Lines).")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@common.json_option
@click.pass_context
def export(ctx: click.Context, source: str, out: str, force: bool, as_json: bool) -> None:
    """Write the rejected rows to a file that can be corrected by hand.

    One line a row, with its number, the reason, and the row: as "value" where its text is JSON, else as "raw" text.
    Correct the value or the text (or write a "value" instead), delete the lines that you leave, and give the file to
    `workbench rejects import`. Where the text is not as it is in the file (longer than what is kept, or with bytes that
    are not UTF-8), "altered" says so and "text" shows it: such a row needs a "value", or its whole text as "raw".
    """
    from dataclasses import asdict
    from pathlib import Path

    from workbench.text import counted

    with common.workspace(ctx) as workspace:
        report = workspace.export_rejects(source, Path(out).expanduser(), force=force)
    if as_json:
        common.print_json({"path": out, **asdict(report)})
        return
    common.out().print(f"{out}: {counted(report.rows, 'reject')} of {source}; as values: {report.parsed:,}.")
    if report.cut:
        common.note(f"Longer than what is kept of a reject, so their text is cut: row {_some(report.cut)}.")
    if report.escaped:
        common.note(f"With bytes that are not UTF-8, which stand there as \\xNN: row {_some(report.escaped)}.")
    if report.cut or report.escaped:
        common.note('Their text is no `raw` that could be taken in: take them from the file, and write a "value".')
    if report.rows:
        common.note(f"When it is corrected: workbench rejects import {source} {out}")


def _some(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else "")


@command.command("import")
@click.argument("source", metavar="SOURCE")
@click.argument("file", metavar="FILE")
@common.json_option
@click.pass_context
def import_(ctx: click.Context, source: str, file: str, as_json: bool) -> None:
    """Take corrected rows into their source, at their row numbers.

    What is still wrong stays a reject. Versions that were frozen before stay as they are. Exit code 3 where no row
    could be taken in.
    """
    from pathlib import Path

    with common.workspace(ctx) as workspace, common.progress_bar("reading") as progress:
        report = workspace.import_fixes(source, Path(file).expanduser(), progress)
    if as_json:
        common.print_json(
            {
                "source": source,
                "fixed": report.fixed,
                "fixed_before": report.before,
                "still_rejected": [{"row": row, "reason": reason} for row, reason in report.still],
                "rejected": report.rejected,
            }
        )
    else:
        _print_fixed(source, report)
    if report.still and not report.fixed and not report.before:
        ctx.exit(3)


def _print_fixed(source: str, report: FixedRejects) -> None:
    from workbench.text import clip, counted

    out = common.out()
    before = f" {report.before:,} had come in before." if report.before else ""
    out.print(f"{source}: {counted(report.fixed, 'corrected row')} came in.{before} Rejects left: {report.rejected:,}.")
    if report.still:
        out.print(f"Still wrong in the file: {counted(len(report.still), 'row')}:")
        for row, reason in report.still[:_STILL]:
            out.print(f"  row {row}: {clip(reason, 200)}")
        if len(report.still) > _STILL:
            out.print(f"  and {len(report.still) - _STILL:,} more")
