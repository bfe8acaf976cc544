"""Which rows hold the prompts of an eval set, with the words that both have: to look at before anything is dropped."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.store.evalsets import get_eval_set, items_as_rows
from workbench.store.examples import row_numbers
from workbench.store.members import Members, resolve

if TYPE_CHECKING:
    from filters.step import Progress
    from trainer.conversation import Side
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class HeldPrompt:
    """A row that holds an eval prompt: `share` of its words by weight, `shared` the longest run of them."""

    id: int
    source: str
    row: int
    text: str
    item: int
    prompt: str
    share: float
    shared: str


def held_prompts(
    ws: Workspace,
    name: str,
    evalset: str,
    *,
    on: Side = "both",
    ngram: int = 8,
    share: float = 0.5,
    progress: Progress | None = None,
) -> list[HeldPrompt]:
    """The rows of a source or version that `decontaminate` would drop, the largest share first.

    Raises NotFound for a name that is none, and for an eval set that is none.
    """
    from filters.decontaminate import DecontaminateParams, eval_prompts, overlaps
    from filters.remaining import Remaining, parsed
    from filters.step import Outside

    params = DecontaminateParams(against=[evalset], on=on, ngram=ngram, share=share)
    eval_set = get_eval_set(ws.store, evalset)
    outside = Outside(
        embed=None,
        progress=progress or (lambda *_: None),
        items=lambda _: parsed(lambda: items_as_rows(ws.store, eval_set)),
    )
    with closing(Members(ws.store, [resolve(ws.store, name)], drafted=True)) as members:
        rows = Remaining(members.batches)
        found = {one.id: one for one in overlaps(rows, eval_prompts([evalset], outside), params, outside)}
        where = row_numbers(ws.store, list(found))
        held = [
            HeldPrompt(
                row.id,
                row.source,
                where[row.id],
                "\n".join(row.turns(on)),
                found[row.id].prompt.item,
                found[row.id].prompt.text,
                round(found[row.id].share, 4),
                found[row.id].text,
            )
            for batch in rows.read(rows.mask(list(found)))
            for row in batch
        ]
    return sorted(held, key=lambda one: (-one.share, one.item, one.id))
