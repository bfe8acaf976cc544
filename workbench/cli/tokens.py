"""`workbench tokens`: what a model's tokenizer makes of the rows, and which tokens would be trained."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from workbench.cli import common

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.chat import MaskPolicy, Tokenised, Turns
    from workbench.tokens import Row, Rows

_SHOWN = 3  # rows printed where --limit does not say


@click.command("tokens")
@click.argument("target", metavar="VERSION|SOURCE|FILE")
@click.option("--model", metavar="NAME|DIR", help="Whose tokenizer and chat template to use. Default: the workspace's.")
@click.option("--row", type=click.IntRange(min=0), metavar="N", help="Only this row, counted from 0.")
@click.option("--audit", is_flag=True, help="Count tokens and issues over all rows instead of showing a few.")
@click.option(
    "--policy",
    type=click.Choice(["all", "last", "full"]),
    default="all",
    show_default=True,
    help="Train all assistant turns, the last one only, or every token.",
)
@click.option("--date", metavar="YYYY-MM-DD", help="The day that the chat template sees. Default: today.")
@click.option(
    "--template-arg", "template_args", multiple=True, metavar="K=V", help="An argument for the chat template."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option("--max-length", type=click.IntRange(min=1), metavar="N", help="Also count rows longer than N tokens.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    model: str | None,
    row: int | None,
    audit: bool,
    policy: str,
    date: str | None,
    template_args: tuple[str, ...],
    limit: int | None,
    max_length: int | None,
    as_json: bool,
) -> None:
    """Show the tokens of rows, and which of them are trained.

    Trained is what the model must write itself: by default the assistant turns, each with its stop token. Rows
    are shown as the model's own chat template writes them.

    \b
    workbench tokens curated --model HuggingFaceTB/SmolLM2-135M-Instruct --row 7
    workbench tokens rows.jsonl --model ./my-model --audit
    """
    from pathlib import Path

    from trainer.models import DEFAULT_MODEL, load_tokenizer
    from workbench import tokens

    def show(rows: Rows, model: str) -> None:
        tokenizer = load_tokenizer(model)
        chosen = tokens.mask_policy(model, cast("Turns", policy), date, template_args)
        _run(rows, tokenizer, chosen, row, audit, limit, max_length, as_json)

    if tokens.is_file(target):
        show(tokens.FileRows(Path(target).expanduser()), model or DEFAULT_MODEL)
    else:
        with common.workspace(ctx) as workspace:
            show(tokens.WorkspaceRows(workspace, target), model or workspace.config.model or DEFAULT_MODEL)


def _run(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    policy: MaskPolicy,
    row: int | None,
    audit: bool,
    limit: int | None,
    max_length: int | None,
    as_json: bool,
) -> None:
    from workbench import tokens

    if row is not None:
        found = tokens.one_row(rows, row)
        done = tokens.tokenise_row(tokenizer, found, policy)
        if as_json:
            common.print_json(tokens.row_data(found, done))
        else:
            _print_rows([(found, done)])
    elif audit or as_json:
        _audit(rows, tokenizer, policy, limit, max_length, as_json)
    else:
        shown = tokens.first_rows(rows, limit or _SHOWN)
        _print_rows([(found, tokens.tokenise_row(tokenizer, found, policy)) for found in shown])
        _note_rejected(rows)


def _audit(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    policy: MaskPolicy,
    limit: int | None,
    max_length: int | None,
    as_json: bool,
) -> None:
    from trainer.chat import audit
    from workbench import tokens
    from workbench.report.tokens import render_audit

    with common.progress_bar("tokenising") as progress:
        result = audit(
            ((row.id, row.messages, row.tools) for row in tokens.first_rows(rows, limit)),
            tokenizer,
            policy,
            max_length=max_length,
            on_row=lambda done: progress(done, limit, "tokenising"),
        )
    if as_json:
        common.print_json({**result.as_dict(), "rejected": rows.rejected})
        return
    common.out().print(render_audit(result, ids="rows" if isinstance(rows, tokens.FileRows) else "examples"), end="")
    _note_rejected(rows)


def _print_rows(rows: list[tuple[Row, Tokenised]]) -> None:
    from trainer.chat import Audit
    from workbench.report.tokens import issue_line, legend, render_audit, render_heading, render_tokens

    console = common.out()
    plain = not sys.stdout.isatty()
    width = 80 if plain else console.width
    summary = Audit()
    for row, done in rows:
        for number, example in enumerate(done.examples, start=1):
            console.print(render_heading(example, row.position, number, len(done.examples)))
            console.print(render_tokens(example, width, brackets=plain), end="")
        if not done.examples:
            console.print(f"row {row.position} · nothing to train")
        for issue in done.issues:
            console.print(issue_line(issue.kind, issue.turn, issue.detail, width))
        console.print()
        summary.add(row.position, done)
    console.print(legend(brackets=plain))
    if len(rows) > 1:
        console.print(render_audit(summary), end="")


def _note_rejected(rows: Rows) -> None:
    if rows.rejected:
        common.note(f"Left out as no conversations: {rows.rejected:,} of the file's rows. `workbench import` says why.")
