"""`workbench clusters`: what rows are about, and what a version keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import clip, counted

if TYPE_CHECKING:
    from workbench.coverage import ClusterMap, Place

_TITLE = 40
_EXAMPLE = 46
_LINE = 72  # of an outlier
_HEIGHT = 20  # lines of the map
_OUTLIERS_DATA = 100  # with --json


@click.command("clusters")
@click.argument("names", metavar="SOURCE|VERSION...", nargs=-1, required=True)
@click.option("--k", type=click.IntRange(min=1), metavar="N", help="How many. Default: by the rows, at most 24.")
@click.option(
    "--on",
    type=click.Choice(["prompt", "response", "both"]),
    default="prompt",
    show_default=True,
    help="What is embedded.",
)
@click.option("--model", metavar="NAME|DIR", help="The embedding model. Default: all-MiniLM-L6-v2, for English.")
@click.option("--outliers", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", help="Rows shown.")
@click.option("--map/--no-map", "drawn", default=True, help="Whether the map is drawn.")
@click.option("--csv", "out", type=click.Path(path_type=Path), metavar="FILE", help="Write a line for each row, too.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[str, ...],
    k: int | None,
    on: Any,
    model: str | None,
    outliers: int,
    drawn: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Put rows into clusters by their embeddings, and say what each cluster is about.

    With several names the rows of all are taken together, each once, and every name has a column: how many rows of a
    cluster it keeps. Name a source and a version of it to see which clusters the version lost. Nothing is written but
    embeddings.

    \b
    workbench clusters alpaca
    workbench clusters alpaca curated --csv points.csv
    """
    from workbench import coverage

    with common.workspace(ctx) as workspace, common.progress_bar("embedding") as progress:
        found = coverage.cluster_map(workspace, names, k=k, on=on, model=model, progress=progress)
    if out is not None:
        rows = coverage.write_points(found, out)
        common.note(f"{counted(rows, 'row')} written to {out}.")
    if as_json:
        common.print_json(_data(found))
        return
    _print(found, outliers, drawn=drawn)


def _data(found: ClusterMap) -> dict[str, Any]:
    return {
        "names": list(found.names),
        "rows": found.rows,
        "unreadable": found.unreadable,
        "totals": found.totals,
        "clusters": [
            {
                "number": one.number,
                "title": one.title,
                "rows": one.rows,
                "share": round(one.rows / found.rows, 4),
                "kept": one.kept,
                "example": _place(one.example),
            }
            for one in found.clusters
        ],
        "lost": {name: [one.number for one in found.lost(name)] for name in found.names},
        "outliers_in_all": len(found.outliers),
        "outliers": [_place(one) for one in found.outliers[:_OUTLIERS_DATA]],
    }


def _place(one: Place) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.source,
        "row": one.row,
        "cluster": one.cluster,
        "nearness": one.nearness,
        "text": one.text,
    }


def _print(found: ClusterMap, outliers: int, *, drawn: bool) -> None:
    from workbench.report.scatter import letter, scatter
    from workbench.report.terminal import table

    out = common.out()
    several = found.names if len(found.names) > 1 else ()
    made = table("", "rows", "share", *several, "about", "for instance", right=("rows", "share", *several))
    room = max(20, _EXAMPLE - sum(max(5, len(name)) + 3 for name in several))
    for one in found.clusters:
        shares = [f"{one.kept[name]:,}" for name in several]
        share = f"{one.rows / found.rows:.1%}"
        example = clip(one.example.text, room)
        made.add_row(letter(one.number), f"{one.rows:,}", share, *shares, clip(one.title or "-", _TITLE), example)
    out.print(made)
    for name in several:
        lost = found.lost(name)
        if lost:
            letters = ", ".join(f"{letter(one.number)} ({one.kept[name]:,} of {one.rows:,})" for one in lost)
            usual = found.totals[name] / found.rows
            out.print(f"{name} has {usual:.0%} of all rows, and less than half of that of: {letters}.")
    if outliers and found.outliers:
        out.print(f"\n{counted(len(found.outliers), 'row')} far from what others are about (cosine with their centre):")
        for far in found.outliers[:outliers]:
            out.print(f"  {far.nearness:.2f}  {clip(f'{far.source} row {far.row}', 24):<24}  {clip(far.text, _LINE)}")
    if drawn and found.rows > 1:
        out.print()
        points = [
            (x, y, label + 1)
            for (x, y), label in zip(found.placed.tolist(), found.clustering.labels.tolist(), strict=True)
        ]
        for line in scatter(points, min(out.width, 110), _HEIGHT):
            out.print(line)
        common.note(
            "The two directions in which rows differ most; each letter is the cluster that most rows there have."
        )
    if found.unreadable:
        common.note(f"{counted(found.unreadable, 'row')} in no cluster: empty, or nothing that the model can read.")
