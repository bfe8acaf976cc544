"""Clusters of duplicates: of a version at its thresholds or at others, of a source as it would be found now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.embeddings import CachedEmbeddings
from workbench.errors import UsageProblem
from workbench.store import duplicates as rows
from workbench.store.database import Store
from workbench.store.duplicates import DedupStep, Member
from workbench.store.members import Members, resolve

if TYPE_CHECKING:
    from filters.step import Embed, Progress
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class Cluster:
    """A row that is kept and those that fall for it, the most similar first: (row, similarity)."""

    survivor: Member
    members: list[tuple[Member, float]]


@dataclass(frozen=True)
class StepDuplicates:
    """What one deduplicator finds at `threshold` (None where it has none), and what it did when it ran.

    `dropped` counts the rows that fall at `threshold`, `dropped_then` those that fell. `at_most` says that some pairs
    were never judged to the end, so fewer rows may fall; `about`, that some rows have more near ones than the pairs
    that were kept. `clusters` are the largest ones.
    """

    step: str
    params: dict[str, Any]
    rows_in: int
    threshold: float | None
    dropped: int
    dropped_then: int
    clusters_in_all: int
    largest: int
    clusters: list[Cluster]
    at_most: bool = False
    about: bool = False


@dataclass
class _Falls:
    """Rows that fall, by the row that each falls for."""

    by_survivor: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, id: int, survivor: int, similarity: float) -> None:
        self.by_survivor.setdefault(survivor, []).append((id, similarity))

    @property
    def count(self) -> int:
        return sum(len(fallen) for fallen in self.by_survivor.values())


def look(
    ws: Workspace,
    name: str,
    *,
    step: str | None = None,
    method: str | None = None,
    threshold: float | None = None,
    on: str | None = None,
    limit: int = 10,
    progress: Progress | None = None,
) -> list[StepDuplicates]:
    """The duplicates of a source or version: of a version those that fell, with a `method` those found now.

    A source was never looked through, so `minhash` does it now. Raises UsageProblem for what does not go together.
    """
    is_source = resolve(ws.store, name).kind == "source"
    if method is None and not is_source:
        if on:
            raise UsageProblem("--on goes with --method", do="The steps of a version say what they compared.")
        return of_version(ws.store, name, step=step, threshold=threshold, limit=limit)
    if step:
        raise UsageProblem("--step names a step of a version's recipe", do="Use --method to look for duplicates now.")
    method = method or "minhash"
    if method == "exact" and threshold is not None:
        raise UsageProblem("exact duplicates have no threshold", do="Leave it out, or take another --method.")
    params = {key: value for key, value in {"threshold": threshold, "on": on}.items() if value is not None}
    embed = CachedEmbeddings(ws.cache_dir, ws.runs_dir, progress)
    return [of_rows(ws.store, name, method, params, embed=embed, progress=progress, limit=limit)]


def of_version(
    store: Store, version: str, *, step: str | None = None, threshold: float | None = None, limit: int = 10
) -> list[StepDuplicates]:
    """The duplicates that fell on the way to `version`, by step, or what would fall at another `threshold`.

    The pairs that a step kept say so: nothing is compared again. `limit` clusters of each step are given. Raises
    UsageProblem where no step fits, or the threshold lies below the pairs that were kept.
    """
    steps = rows.dedup_steps(store, version, _names())
    wanted = [s for s in steps if step in (None, s.name) and (threshold is None or "threshold" in s.params)]
    if not wanted and (step or threshold is not None):
        there = ", ".join(dict.fromkeys(s.name for s in steps)) or "none"
        what = f"no step {step!r}" if step else "no step with a threshold"
        raise UsageProblem(f"{what} made {version!r}", do=f"Its steps that look for duplicates: {there}.")
    return [_of_step(store, s, threshold, limit) for s in wanted]


def of_rows(
    store: Store,
    name: str,
    method: str,
    params: dict[str, Any],
    *,
    embed: Embed | None,
    progress: Progress | None = None,
    limit: int = 10,
) -> StepDuplicates:
    """The duplicates among the rows of a source or version, found now by one step; nothing is written.

    Raises RecipeProblem for parameters that the step does not take.
    """
    from filters.pipeline import run
    from filters.recipe import parse_recipe
    from trainer.conversation import canonical_json

    recipe = parse_recipe(f"steps: [{{{method}: {canonical_json(params)}}}]", name=f"dupes --method {method}")
    members = Members(store, [resolve(store, name)], drafted=True)
    try:
        (outcome,) = run(recipe, members.batches, embed=embed, allow_wipeout=True, progress=progress)
    finally:
        members.close()
    falls = _Falls()
    for drop in outcome.drops:
        if drop.duplicate_of is not None:
            falls.add(drop.id, drop.duplicate_of, drop.score if drop.score is not None else 1.0)
    threshold = outcome.params.get("threshold")
    return _report(store, method, outcome.params, outcome.rows_in, threshold, falls, falls.count, limit)


def _names() -> set[str]:
    from filters.registry import STEPS

    return {name for name, step in STEPS.items() if step.kind == "dedup"}


def _of_step(store: Store, step: DedupStep, threshold: float | None, limit: int) -> StepDuplicates:
    then = _Falls()
    for id, survivor, similarity in rows.falls(store, step.id):
        then.add(id, survivor, similarity)
    own = step.params.get("threshold")
    if threshold is None or threshold == own:
        return _report(store, step.name, step.params, step.rows_in, own, then, then.count, limit)
    moved, about = _moved(store, step, threshold)
    below = own is not None and threshold < own and step.params.get("answer_threshold", 0) > 0
    return _report(
        store, step.name, step.params, step.rows_in, threshold, moved, then.count, limit, at_most=below, about=about
    )


def _moved(store: Store, step: DedupStep, threshold: float) -> tuple[_Falls, bool]:
    """What falls at another threshold, by the pairs that the step kept, and whether some rows had more than those."""
    from filters.dedup.star import KEPT, preferred_first, stars

    floor = _floor(step)
    if not floor <= threshold <= 1:
        raise UsageProblem(
            f"a threshold of {threshold:g} is out of reach",
            where=f"step {step.name}",
            do=f"Its pairs are kept from {floor:g} up to 1; below that, run the recipe again.",
        )
    found = rows.pairs(store, step.id)
    ids, similar = preferred_first(*(found.column(name).to_numpy() for name in found.column_names))
    falls = _Falls()
    for id, survivor, similarity in rows.falls(store, step.id):
        if id == survivor:  # known before, at any threshold
            falls.add(id, survivor, similarity)
    for place, (survivor, similarity) in stars(similar, threshold).items():
        falls.add(int(ids[place]), int(ids[survivor]), similarity)
    return falls, any(count >= KEPT for count in Counter(similar.second.tolist()).values())


def _floor(step: DedupStep) -> float:
    from filters.dedup.star import FLOOR

    return min(FLOOR, float(step.params["threshold"]))


def _report(
    store: Store,
    step: str,
    params: dict[str, Any],
    rows_in: int,
    threshold: float | None,
    falls: _Falls,
    dropped_then: int,
    limit: int,
    *,
    at_most: bool = False,
    about: bool = False,
) -> StepDuplicates:
    ordered = sorted(falls.by_survivor.items(), key=lambda cluster: (-len(cluster[1]), cluster[0]))
    return StepDuplicates(
        step=step,
        params=params,
        rows_in=rows_in,
        threshold=threshold,
        dropped=falls.count,
        dropped_then=dropped_then,
        clusters_in_all=len(ordered),
        largest=1 + len(ordered[0][1]) if ordered else 0,
        clusters=_shown(store, ordered[:limit]),
        at_most=at_most,
        about=about,
    )


def _shown(store: Store, clusters: Sequence[tuple[int, list[tuple[int, float]]]]) -> list[Cluster]:
    ids = {id for survivor, fallen in clusters for id in (survivor, *(id for id, _ in fallen))}
    known = rows.members(store, sorted(ids))
    return [
        Cluster(
            known[survivor],
            [(known[id], similarity) for id, similarity in sorted(fallen, key=lambda f: (-f[1], f[0]))],
        )
        for survivor, fallen in clusters
    ]
