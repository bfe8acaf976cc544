"""How the steps of a recipe overlap on the rows of sources and versions: see `filters.overlap`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from filters.step import Embed, Progress
from workbench.errors import UsageProblem
from workbench.store.database import Store
from workbench.store.evalsets import get_eval_set, items_as_rows
from workbench.store.members import Members, resolve
from workbench.store.scores import StoredScores

if TYPE_CHECKING:
    from filters.overlap import Overlap
    from filters.recipe import Recipe


def recipe_overlap(
    store: Store, recipe: Recipe, from_: Sequence[str], embed: Embed, progress: Progress | None
) -> Overlap:
    """What each step of `recipe` would drop by itself of the rows of `from_`, as people left them by hand.

    Writes nothing but scores. Raises UsageProblem where `from_` is empty.
    """
    from filters.overlap import overlap

    if not from_:
        raise UsageProblem("an overlap needs rows", do="Name at least one source or version with --from.")
    references = dict.fromkeys(name for step in recipe.steps for name in step.references)
    with ExitStack() as opened:
        others = {name: opened.enter_context(closing(Members(store, [resolve(store, name)]))) for name in references}
        inputs = [resolve(store, name) for name in dict.fromkeys(from_)]
        members = opened.enter_context(closing(Members(store, inputs, drafted=True)))
        return overlap(
            recipe,
            members.batches,
            scores=opened.enter_context(closing(StoredScores(store))),
            embed=embed,
            others=lambda name: others[name].batches,
            items=lambda name: partial(items_as_rows, store, get_eval_set(store, name)),
            progress=progress,
        )
