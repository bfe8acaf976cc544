"""`workbench experiments culprits`: the rows that most likely made an eval item worse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import clip, counted, safe_text

if TYPE_CHECKING:
    from workbench.culprits import Culprits, Suspect


@click.command("culprits")
@click.argument("experiment")
@click.option("--item", type=click.IntRange(min=0), required=True, metavar="N", help="The eval item, by its number.")
@click.option(
    "--by",
    type=click.Choice(["neighbours", "gradients"]),
    default="neighbours",
    show_default=True,
    help="By meaning (embeddings), or by what training on a row does to the model at this item (gradients of the "
    "arm's adapter; slow the first time).",
)
@click.option("--arm", metavar="ARM", help="Whose rows, by arm or version. Default: the first candidate's.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, metavar="K", help="Rows shown.")
@click.option("--drop", type=click.IntRange(min=1), metavar="K", help="Drop the first K of the arm's own rows by hand.")
@click.option("--reason", metavar="TEXT", help="With --drop: why. Default: that they are culprits of this item.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    experiment: str,
    item: int,
    by: Any,
    arm: str | None,
    top: int,
    drop: int | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Rank the rows that differ between two versions by how likely they made an eval item of EXPERIMENT worse.

    --drop puts rows out in the draft of the arm's version, where undo takes them back; `workbench versions freeze`
    makes a version without them, to be compared again.

    \b
    workbench experiments culprits "main vs candidate" --item 17
    workbench experiments culprits "main vs candidate" --item 17 --by gradients --drop 5
    """
    if reason and not drop:
        raise click.UsageError("--reason says why rows are dropped: give --drop, too.")
    with common.workspace(ctx) as ws, common.progress_bar("reading rows") as progress:
        from workbench.culprits import comparison_of, drop_culprits, find_culprits

        number = comparison_of(ws, experiment, arm) if arm else 0
        found = find_culprits(ws, experiment, item, number=number, by=by, progress=progress)
        dropped = drop_culprits(ws, found, drop, reason or "") if drop else None
    if as_json:
        common.print_json(_data(found, top, dropped))
        return
    _print(found, top)
    if dropped is not None:
        version = safe_text(found.version)
        common.note(
            f"{counted(dropped, 'row')} dropped in the draft of {version}; `workbench versions freeze {version} "
            "--name V` makes a version without them."
        )


def _data(found: Culprits, top: int, dropped: int | None) -> dict[str, Any]:
    return {
        "experiment": found.experiment,
        "arm": found.arm,
        "version": found.version,
        "baseline": found.baseline,
        "by": found.by,
        "item": found.item.item,
        "asked": found.item.asked,
        "reference": found.item.reference,
        "answer": found.item.answer,
        "rows": len(found.suspects),
        "unread": found.unread,
        "dropped": dropped,
        "culprits": [
            {
                "rank": suspect.rank,
                "score": round(suspect.score, 4),
                "side": suspect.row.side,
                "id": suspect.row.id,
                "source": suspect.row.source,
                "row": suspect.number,
                "messages": suspect.row.messages,
            }
            for suspect in found.suspects[:top]
        ],
    }


def _print(found: Culprits, top: int) -> None:
    from rich.text import Text

    from trainer.conversation import side_text
    from workbench.report.terminal import table

    out = common.out()
    heading = Text()
    heading.append(f"item {found.item.item}    {clip(side_text(found.item.asked, 'prompt'), 200)}\n", style="bold")
    heading.append(f"reference  {clip(found.item.reference, 200)}\n", style="dim")
    heading.append(f"{found.arm}  {clip(found.item.answer, 200)}\n")
    out.print(heading)
    made = table("", "score", "where", "id", "prompt", "response", right=("", "score", "id"))
    for suspect in found.suspects[:top]:
        said = [clip(side_text(suspect.row.messages, side), 60) for side in ("prompt", "response")]
        made.add_row(str(suspect.rank), f"{suspect.score:.3f}", _side(suspect, found), str(suspect.row.id), *said)
    out.print(made)
    unread = f", of which {found.unread:,} could not be ranked" if found.unread else ""
    common.note(
        f"{counted(found.differing, 'row')} differ between the two versions{unread}. A ranking proves nothing: "
        "train without the first ones, and compare."
    )


def _side(suspect: Suspect, found: Culprits) -> str:
    ours = suspect.row.side == "only in the arm"
    return f"only in {clip(found.version if ours else found.baseline, 20)}"
