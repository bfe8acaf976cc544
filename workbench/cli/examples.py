"""`workbench examples`: look at the rows of a source or version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.store.examples import ExampleRow

_ALSO_IN = 3  # rows of other sources named


@click.command("examples")
@click.argument("name", metavar="SOURCE|VERSION")
@click.option("--search", metavar="TEXT", help="Only rows whose prompt or response contains TEXT, in any case.")
@click.option("--sql", metavar="WHERE", help='Only rows that meet this SQL condition, e.g. "length(response) < 20".')
@click.option("--dropped", is_flag=True, help="The rows that fell on the way to this version, each with its reason.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, metavar="N")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N found.")
@click.option("--full", is_flag=True, help="Print whole turns.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    search: str | None,
    sql: str | None,
    dropped: bool,
    limit: int,
    offset: int,
    full: bool,
    as_json: bool,
) -> None:
    """Show rows of a source or version.

    A condition for --sql can name the columns pos, id, source, row, prompt, response, turns, messages, tools, meta
    and content_hash, and with --dropped also step, reason, detail, score and duplicate_of. It can only read.

    \b
    workbench examples alpaca --search "as an AI" --limit 3
    workbench examples alpaca --sql "turns > 2 AND length(response) < 40"
    workbench examples curated --dropped --sql "step = 'length'"
    """
    with common.workspace(ctx) as workspace:
        page = workspace.examples(
            name, which="dropped" if dropped else "kept", search=search, where=sql, limit=limit, offset=offset
        )
    if as_json:
        rows = [_example_data(row, dropped) for row in page.rows]
        common.print_json({"name": name, "total": page.total, "offset": offset, "examples": rows})
        return
    if not page.rows:
        common.note(_nothing(name, page.total, offset, bool(search or sql), dropped))
        return
    _print(page.rows, full)
    common.note(_shown(page.total, offset, len(page.rows)))


def _example_data(row: ExampleRow, dropped: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": row.id,
        "source": row.source,
        "row": row.row,
        "messages": row.messages,
        "tools": row.tools,
        "meta": row.meta,
        "also_in": [{"source": source, "row": number} for source, number in row.also_in],
    }
    if dropped:
        survivor = {"source": row.survivor[0], "row": row.survivor[1]} if row.survivor else None
        data |= {"step": row.step, "reason": row.reason, "detail": row.detail, "score": row.score}
        data |= {"duplicate_of": row.duplicate_of, "survivor": survivor}
    return data


def _print(rows: list[ExampleRow], full: bool) -> None:
    from rich.text import Text

    from workbench.report.terminal import conversation
    from workbench.text import clip

    out = common.out()
    for row in rows:
        heading = f"{row.source} row {row.row} · id {row.id} · {counted(row.turns, 'turn')}"
        if row.reason:
            heading += f" · dropped by {row.step}: {row.reason}"
            heading += f" ({clip(row.detail, 120)})" if row.detail else ""
            heading += _survivor(row)
        if row.also_in:
            named = ", ".join(f"{source}:{number}" for source, number in row.also_in[:_ALSO_IN])
            more = len(row.also_in) - _ALSO_IN
            heading += f" · also in {named}" + (f" and {more:,} more" if more > 0 else "")
        out.print(Text(heading, style="dim"))
        out.print(conversation(row.messages, full=full))


def _survivor(row: ExampleRow) -> str:
    """The row that a duplicate fell for, and how like it is."""
    if row.survivor is None:
        return ""
    alike = "" if row.score is None else f", {row.score:.3f} alike"
    return f", for {row.survivor[0]} row {row.survivor[1]} (id {row.duplicate_of}{alike})"


def _shown(total: int, offset: int, count: int) -> str:
    more = f"; go on with --offset {offset + count}" if offset + count < total else ""
    return f"{offset + 1:,} to {offset + count:,} of {counted(total, 'row')}{more}."


def _nothing(name: str, total: int, offset: int, asked: bool, dropped: bool) -> str:
    if total:
        return f"There are only {counted(total, 'row')}: --offset {offset} is behind the last."
    if asked:
        return f"No row of {name} meets that."
    return f"No row fell on the way to {name}." if dropped else f"{name} has no rows."
