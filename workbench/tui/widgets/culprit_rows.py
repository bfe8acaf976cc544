"""The suspects of an eval item as a table, and one of them whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.conversation import side_text
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.preview import turn_lines
from workbench.tui.widgets.table import Cell, Column

if TYPE_CHECKING:
    from workbench.culprits import Culprits, Suspect, Way
    from workbench.tables import Value

OURS = "only in the arm"

_SHOWN = 60  # characters of a text that the table carries; all of it stands below

TOLD = {
    "neighbours": "near in words: rows of B to the question and what B answered, rows that B lacks to the reference",
    "gradients": "what training on a row does to the answer of B at this item; of rows that B lacks, the contrary",
}
"""What each ranking says, in a line."""


def culprit_rows(
    found: Culprits, rankings: dict[Way, Culprits], dropped: set[int]
) -> tuple[list[Column], list[tuple[str, list[Value | Cell]]]]:
    """The suspects as columns and rows of a `Table`, the likeliest first, with the scores of every ranking there is."""
    scores = {by: {one.row.id: one.score for one in ranking.suspects} for by, ranking in sorted(rankings.items())}
    columns = [Column("", right=True), *(Column(by, right=True) for by in scores), Column("in"), Column("draft")]
    columns += [Column("prompt"), Column("response")]
    rows: list[tuple[str, list[Value | Cell]]] = []
    for one in found.suspects:
        cells: list[Value | Cell] = [one.rank]
        for by in scores:
            score = scores[by].get(one.row.id)
            cells.append(Cell(score, "" if score is None else f"{score:.3f}"))
        cells += ["B" if one.row.side == OURS else "A", "dropped" if one.row.id in dropped else ""]
        texts = [side_text(one.row.messages, side) for side in ("prompt", "response")]
        cells += [" ".join(text[:_SHOWN].split()) for text in texts]
        rows.append((str(one.row.id), cells))
    return columns, rows


def row_lines(suspect: Suspect, found: Culprits, width: int) -> list[Line]:
    """A row whole, under where it stands, in `width` cells."""
    where = f"{suspect.row.source} row {suspect.number:,}"
    ours = suspect.row.side == OURS
    side = f"only in B {found.version}" if ours else f"only in A {found.baseline}: B may have missed it"
    rank = f"{suspect.rank:,} of {len(found.suspects):,} by {found.by}, {suspect.score:.3f}"
    pieces = ((where, "strong"), (rank, "muted"), (side, "muted"))
    head: list[Line] = [[(fit(flat(piece), width).rstrip(), style)] for piece, style in pieces]
    return [*head, [], *turn_lines(suspect.row.messages, width)[0]]


def version_of(suspect: Suspect, found: Culprits) -> str:
    """The version that a suspect is a row of."""
    return found.version if suspect.row.side == OURS else found.baseline
