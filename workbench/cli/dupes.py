"""`workbench dupes`: clusters of duplicates, and what another threshold would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from rich.text import Text

    from workbench.duplicates import StepDuplicates
    from workbench.store.duplicates import Member

_WIDTH = 76  # of a prompt
_MEMBERS = 5  # of a cluster, for people
_MEMBERS_DATA = 20  # of a cluster, with --json


@click.command("dupes")
@click.argument("name", metavar="SOURCE|VERSION")
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), metavar="T", help="How like is a duplicate.")
@click.option("--step", metavar="STEP", help="Of a version: only this step, e.g. minhash.")
@click.option(
    "--method",
    type=click.Choice(["exact", "minhash", "semantic"]),
    help="Look for duplicates among the rows now, in this way. Default for a source: minhash.",
)
@click.option("--on", type=click.Choice(["prompt", "response", "both"]), help="With --method: what is compared.")
@click.option("--conflicts", is_flag=True, help="Of a version: nearly equal prompts whose answers differ, all kept.")
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="Clusters shown.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N clusters.")
@click.option(
    "--members",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Rows of a cluster shown beside its survivor. Default: {_MEMBERS}, with --json {_MEMBERS_DATA}.",
)
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    threshold: float | None,
    step: str | None,
    method: str | None,
    on: str | None,
    conflicts: bool,
    limit: int,
    offset: int,
    members: int | None,
    as_json: bool,
) -> None:
    """Show clusters of duplicates: who survives, who falls, and how alike they are.

    Of a version, those that fell on the way to it; --threshold says what another threshold would have done, by the
    pairs that were kept, without comparing again. Of a source, or with --method, what is found now; nothing is
    written. The largest clusters come first; --limit and --offset page through them.

    \b
    workbench dupes curated --threshold 0.75
    workbench dupes alpaca --method minhash --on response
    """
    from workbench import duplicates

    shown = members if members is not None else _MEMBERS_DATA if as_json else _MEMBERS
    pages = duplicates.Pages(offset, limit, shown)
    with common.workspace(ctx) as workspace, common.progress_bar("comparing") as progress:
        found = duplicates.look(
            workspace,
            name,
            step=step,
            method=method,
            threshold=threshold,
            on=on,
            conflicts=conflicts,
            pages=pages,
            progress=progress,
        )
    if as_json:
        common.print_json({"name": name, "offset": offset, "steps": [_data(one) for one in found]})
        return
    if not found and conflicts:
        common.note(f"No step on the way to {name} looked for conflicts: `- conflicts` in a recipe does.")
        return
    if not found:
        common.note(f"No step on the way to {name} looked for duplicates. --method minhash looks for them now.")
        return
    if conflicts:
        common.note("Nothing of this was dropped: the answers to nearly the same prompt differ.")
    _print(found, offset, moved=threshold is not None and method is None)


def _data(found: StepDuplicates) -> dict[str, Any]:
    def row(member: Member) -> dict[str, Any]:
        return {"id": member.id, "source": member.source, "row": member.row, "messages": member.messages}

    return {
        "step": found.step,
        "params": found.params,
        "rows_in": found.rows_in,
        "threshold": found.threshold,
        "dropped": 0 if found.step == "conflicts" else found.counts.rows,
        "listed": found.counts.rows,
        "dropped_then": found.dropped_then,
        "at_most": found.at_most,
        "about": found.about,
        "clusters_in_all": found.counts.clusters,
        "clusters": [
            {
                "size": cluster.size,
                "survivor": row(cluster.survivor),
                "members": [row(member) | {"similarity": similarity} for member, similarity in cluster.members],
            }
            for cluster in found.clusters
        ],
    }


def _print(found: list[StepDuplicates], offset: int, *, moved: bool) -> None:
    from workbench.report.terminal import table

    out = common.out()
    shown = "differ" if found[0].step == "conflicts" else "dropped"
    numbers = ("rows in", "threshold", shown, "clusters", "largest")
    summary = table("step", "on", *numbers, right=numbers)
    for one in found:
        counts = one.counts
        dropped = f"{one.hedge}{counts.rows:,}" + (f" (was {one.dropped_then:,})" if moved else "")
        threshold = "" if one.threshold is None else f"{one.threshold:g}"
        on = str(one.params.get("on", ""))
        summary.add_row(
            one.step, on, f"{one.rows_in:,}", threshold, dropped, f"{counts.clusters:,}", f"{counts.largest:,}"
        )
    out.print(summary)
    for one in found:
        for cluster in one.clusters:
            out.print()
            kept = _said(cluster.survivor, one)
            out.print(_line("kept", cluster.survivor, " ".join(kept)))
            for member, similarity in cluster.members:
                out.print(_line(f"{similarity:.3f}", member, _differing(_said(member, one), kept)))
            if (more := cluster.size - len(cluster.members)) > 0:
                out.print(f"       and {more:,} more", style="dim")
        if one.clusters and (more := one.counts.clusters - offset - len(one.clusters)) > 0:
            common.note(
                f"{one.step}: {counted(more, 'more cluster')}; go on with --offset {offset + len(one.clusters)}."
            )
        elif offset and not one.clusters and one.counts.clusters:
            common.note(f"{one.step}: it has {counted(one.counts.clusters, 'cluster')}.")
    if any(one.at_most for one in found):
        common.note("At most: below the threshold of the run the answers of a pair were not compared.")
    if moved:
        common.note(
            "To make it so, change the threshold in the recipe and run it again; scores and embeddings are kept."
        )


def _said(member: Member, found: StepDuplicates) -> list[str]:
    """The words of the side that tells members apart."""
    from trainer.conversation import side_text

    on = found.params.get("on", "both")
    return side_text(member.messages, "response" if on == "response" or found.step == "conflicts" else "prompt").split()


def _differing(said: list[str], kept: list[str]) -> str:
    """A text in words, from the first that the survivor has otherwise where it would not be seen; else all of it."""
    pairs = enumerate(zip(said, kept, strict=False))
    at = next((at for at, (word, other) in pairs if word != other), min(len(said) - 1, len(kept)))
    if said == kept or len(" ".join(said[: at + 1])) < _WIDTH:
        return " ".join(said)
    return "… " + " ".join(said[at:])


def _line(mark: str, member: Member, text: str) -> Text:
    from rich.text import Text

    from workbench.text import clip, safe_text

    line = Text(f"{mark:>5}  ", style="bold" if mark == "kept" else "")
    line.append(f"{safe_text(member.source)} row {member.row}  ", style="dim")
    return line.append(clip(text, _WIDTH))
