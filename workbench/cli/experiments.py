"""`workbench experiments`: what was compared in this workspace, and how it ended."""

from __future__ import annotations

from typing import Any

import click

from workbench.cli import common
from workbench.cli.compare import carry_out, print_result, stored_result


@click.group("experiments")
def command() -> None:
    """List, show, resume and delete experiments."""


@command.command("ls")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List experiments, oldest first."""
    with common.workspace(ctx) as ws:
        from workbench.comparing import listing

        rows = listing(ws)
    found: list[dict[str, Any]] = [
        {
            "id": row.id,
            "name": row.name,
            "state": row.state,
            "verdict": row.verdict,
            "created_at": row.created_at.isoformat(timespec="seconds"),
        }
        for row in rows
    ]
    if as_json:
        common.print_json({"experiments": found})
        return
    if not found:
        common.note("no experiments yet; `workbench compare BASELINE CANDIDATE` makes one")
        return
    from rich.table import Table

    from workbench.text import safe_text

    table = Table("id", "versions", "state", "verdict", "made (UTC)", box=None, pad_edge=False)
    for row in found:
        table.add_row(row["id"], safe_text(row["name"]), row["state"], row["verdict"] or "-", row["created_at"])
    common.out().print(table)


@command.command("show")
@click.argument("experiment")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def show(ctx: click.Context, experiment: str, answers: int, as_json: bool) -> None:
    """Show the result of EXPERIMENT: its id, the start of one, or `A vs B`."""
    with common.workspace(ctx) as ws:
        from workbench import outcomes

        row = outcomes.finished(ws, experiment)
        sides = outcomes.answers_side_by_side(ws, row.id) if answers and not as_json else []
    result = stored_result(row.result or "null")
    if as_json:
        common.print_json(result)
    else:
        print_result(result, sides, answers)


@command.command("resume")
@click.argument("experiment")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def resume(ctx: click.Context, experiment: str, answers: int, as_json: bool) -> None:
    """Go on with EXPERIMENT where it was, or attach to it where it still runs."""
    with common.workspace(ctx) as ws:
        from workbench import experiments

        found = experiments.find(ws, experiment)
    carry_out(ctx, found, as_json=as_json, answers=answers)


@command.command("rm")
@click.argument("experiment")
@common.json_option
@click.pass_context
def rm(ctx: click.Context, experiment: str, as_json: bool) -> None:
    """Delete EXPERIMENT: its runs, numbers and answers, and its run folder with the adapters.

    Versions and eval sets stay. One whose job runs cannot be deleted: stop it first.
    """
    with common.workspace(ctx) as ws:
        from workbench.experiment_removal import remove_experiment

        gone = remove_experiment(ws, experiment)
    if as_json:
        common.print_json({"removed": gone.id, "bytes": gone.size})
        return
    from rich.filesize import decimal as size_text

    from workbench.text import safe_text

    common.out().print(f"{gone.id} ({safe_text(gone.name)}) is deleted; {size_text(gone.size)} on disk are free.")
    if gone.freed:
        common.note(f"No experiment uses {safe_text(' and '.join(gone.freed))} any more.")
