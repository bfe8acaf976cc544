"""`workbench tokens`: what a model's tokenizer makes of the rows, and which tokens would be trained."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import click

from workbench.cli import common

if TYPE_CHECKING:
    from trainer.chat import Truncation, Turns
    from trainer.chat.example import Special
    from workbench.tokens import Lens, Rows, Seen

_SHOWN = 3  # rows printed where --limit does not say


@click.command("tokens")
@click.argument("target", metavar="VERSION|SOURCE|FILE")
@click.option("--model", metavar="NAME|DIR", help="Whose tokenizer and chat template to use. Default: the workspace's.")
@click.option("--row", type=click.IntRange(min=0), metavar="N", help="Only this row, counted from 0.")
@click.option("--audit", is_flag=True, help="Count tokens and issues over all rows instead of showing a few.")
@click.option("--compare", metavar="NAME|DIR", help="Set another model beside: all rows, or with --row that one.")
@common.mask_options
@click.option(
    "--template",
    metavar="NAME|FILE",
    help="Write conversations in this way instead of the model's own: chatml, alpaca, vicuna, llama-2, zephyr, or a "
    "file with a Jinja template.",
)
@click.option("--add-tokens", is_flag=True, help="Add the special tokens that --template needs to the tokenizer.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    model: str | None,
    row: int | None,
    audit: bool,
    compare: str | None,
    policy: str,
    tool_calls: bool,
    reasoning: bool,
    special: str,
    template: str | None,
    add_tokens: bool,
    date: str | None,
    template_args: tuple[str, ...],
    limit: int | None,
    max_length: int | None,
    truncate: str,
    as_json: bool,
) -> None:
    """Show the tokens of rows, and which of them are trained.

    Trained is what the model must write itself: by default the assistant turns, each with its stop token. Rows
    are shown as the model's own chat template writes them.

    \b
    workbench tokens curated --model HuggingFaceTB/SmolLM2-135M-Instruct --row 7
    workbench tokens rows.jsonl --model ./my-model --audit
    workbench tokens rows.jsonl --model ./my-model --compare ./other-model
    """
    from pathlib import Path

    from trainer.models import DEFAULT_MODEL
    from workbench import tokens

    if row is not None and audit:
        raise click.UsageError("--row shows one row and --audit counts all: give one of them.")

    def show(rows: Rows, chosen: str) -> None:
        lenses = [
            tokens.lens(
                name,
                turns=cast("Turns", policy),
                date=date,
                template_args=tokens.template_args(template_args),
                tool_calls=tool_calls,
                reasoning=reasoning,
                special=cast("Special", special),
                template=template,
                add_tokens=add_tokens,
                max_length=max_length,
                truncate=cast("Truncation", truncate),
            )
            for name in ([chosen] if compare is None else [chosen, compare])
        ]
        if row is not None:
            _one_row(rows, lenses, row, as_json)
        elif audit or as_json or compare:
            _audit(rows, lenses, limit, as_json)
        else:
            _few_rows(rows, lenses[0], limit or _SHOWN)

    if tokens.is_file(target):
        show(tokens.FileRows(Path(target).expanduser()), model or DEFAULT_MODEL)
    else:
        with common.workspace(ctx) as workspace:
            show(tokens.WorkspaceRows(workspace, target), model or workspace.config.model or DEFAULT_MODEL)


def _one_row(rows: Rows, lenses: list[Lens], number: int, as_json: bool) -> None:
    from workbench import tokens

    found = [[tokens.see(lens, row, tags=True) for lens in lenses] for row in tokens.rows_at(rows, number)]
    if as_json:
        data = [_row_json(seen, lenses) for seen in found]
        common.print_json(data[0] if len(data) == 1 else {**data[0], "also": data[1:]})
    elif len(lenses) == 1:
        for (seen,) in found:
            _print_row(seen, lenses[0])
        _print_legend(any(seen.cut_away for (seen,) in found))
    else:
        for both in found:
            _print_row_comparison(both, lenses)


def _row_json(seen: list[Seen], lenses: list[Lens]) -> dict[str, Any]:
    from workbench import tokens

    data = tokens.row_data(seen[0], lenses[0])
    return data if len(seen) == 1 else {**data, "compare": tokens.row_data(seen[1], lenses[1])}


def _few_rows(rows: Rows, lens: Lens, limit: int) -> None:
    from workbench import tokens
    from workbench.report.audit import render_sums

    summary = tokens.new_audit(lens)
    any_cut = False
    for row in tokens.first_rows(rows, limit):
        seen = tokens.see(lens, row)
        _print_row(seen, lens)
        summary.add(row.position, seen.done, seen.fitted)
        any_cut = any_cut or seen.cut_away
    _print_legend(any_cut)
    if summary.rows > 1:
        common.out().print(render_sums(summary), end="")
    _note_rejected(rows)


def _audit(rows: Rows, lenses: list[Lens], limit: int | None, as_json: bool) -> None:
    from trainer.chat import differing_rows
    from workbench import tokens
    from workbench.report import audit as report

    reports = []
    for lens in lenses:
        with common.progress_bar("tokenising") as progress:
            reports.append(tokens.audit_rows(lens, rows, limit, progress))
    first = reports[0]
    differing = differing_rows(first.audit, reports[1].audit) if len(reports) > 1 else []
    if as_json:
        data = tokens.audit_data(first)
        if len(reports) > 1:
            ids = [first.ids(row) for row in differing]
            data |= {"compare": tokens.audit_data(reports[1]), "differ": {"rows": differing, "ids": ids}}
        common.print_json({**data, "rejected": rows.rejected})
        return
    out = common.out()
    if len(reports) == 1:
        named = first.ids if isinstance(rows, tokens.WorkspaceRows) else None
        out.print(report.render_audit(first.audit, limit_is=first.lens.limit_is, ids=named), end="")
    else:
        out.print(report.comparison(tokens.labels(lenses), [one.audit for one in reports]))
        out.print(report.differing_line(differing, first.audit.rows))
    _note_rejected(rows)
    if first.audit.suspect or differing:
        common.note("Look at one: the same command with --row N.")


def _print_row(seen: Seen, lens: Lens) -> None:
    from workbench.report import tokens as report

    console = common.out()
    plain = not sys.stdout.isatty()
    width = 80 if plain else console.width
    parts = list(seen.parts())
    for number, (cut, examples) in enumerate(parts, start=1):
        dropped = cut is not None and not cut.kept
        for example in examples:
            console.print(report.render_heading(example, seen.row.position, number, len(parts), dropped=dropped))
            border = None
            if cut is not None:
                console.print(report.cut_sentence(cut, lens.limit))
                border = report.cut_border(cut, lens.limit)
            console.print(report.render_tokens(example, width, brackets=plain, border=border), end="")
    if not parts:
        console.print(f"row {seen.row.position} · nothing to train")
    for line in report.issue_lines(seen.issues, width):
        console.print(line)
    console.print()


def _print_row_comparison(seen: list[Seen], lenses: list[Lens]) -> None:
    from workbench import tokens
    from workbench.report import audit as report
    from workbench.report.tokens import issue_lines

    out = common.out()
    audits = []
    for one, lens in zip(seen, lenses, strict=True):
        audit = tokens.new_audit(lens)
        audit.add(one.row.position, one.done, one.fitted)
        audits.append(audit)
    names = tokens.labels(lenses)
    out.print(f"row {seen[0].row.position}")
    out.print(report.comparison(names, audits))
    for name, one in zip(names, seen, strict=True):
        out.print()
        out.print(f"{name}: {'no issues' if not one.issues else ''}".rstrip())
        for line in issue_lines(one.issues, 80 if not sys.stdout.isatty() else out.width):
            out.print(line)


def _print_legend(cut: bool) -> None:
    from workbench.report.tokens import legend

    common.out().print(legend(brackets=not sys.stdout.isatty(), cut=cut))


def _note_rejected(rows: Rows) -> None:
    if rows.rejected:
        common.note(f"Left out as no conversations: {rows.rejected:,} of the file's rows. `workbench import` says why.")
