"""Clusters of duplicates: of a version at its thresholds or at others, of a source as it would be found now."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.embeddings import CachedEmbeddings
from workbench.errors import Stopped, UsageProblem
from workbench.store import duplicates as rows
from workbench.store.database import Store
from workbench.store.duplicates import Cluster, Counts, DedupStep, OpenClusters
from workbench.store.members import Members, resolve, resolve_base
from workbench.tables import Value, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from filters.dedup.jaccard import Pairs
    from filters.step import Embed, Progress
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class Summary:
    """What one deduplicator finds at `threshold` (None where it has none), and what it did when it ran.

    `counts.rows` fall at `threshold`, `dropped_then` fell in the run. `at_most` says that some pairs were never judged
    to the end, so fewer rows may fall; `about`, that some rows have more near ones than the pairs that were kept.
    """

    step: str
    params: dict[str, Any]
    rows_in: int
    threshold: float | None
    counts: Counts
    dropped_then: int
    at_most: bool = False
    about: bool = False

    @property
    def hedge(self) -> str:
        """What stands before the number of rows that fall, where it is not exact."""
        return "at most " if self.at_most else "about " if self.about else ""


@dataclass(frozen=True)
class StepDuplicates(Summary):
    """A summary with some of its clusters, the largest first."""

    clusters: tuple[Cluster, ...] = ()


@dataclass(frozen=True)
class Pages:
    """Which clusters are read, and how many rows of each at most, its survivor not counted."""

    start: int = 0
    count: int = 10
    members: int = 20


class OpenDuplicates:
    """The duplicates that one step found on the way to a version, listed for any threshold that its pairs reach.

    `clusters` is the list itself. Who reads it more than once for one purpose holds `lock` meanwhile, so that the
    threshold stays; `close` it when the screen is done.
    """

    def __init__(self, store: Store, version: str, step: DedupStep) -> None:
        self.step = step
        self.lock = threading.RLock()
        self.own: float | None = None if step.reports else step.params.get("threshold")
        self.floor = _floor(step)
        self.clusters = OpenClusters(store, resolve_base(store, version), step)
        self._store = store
        self._then = self.clusters.counts.rows
        self._pairs: tuple[Any, Pairs] | None = None
        self.summary = self._sum_up(self.own, self.clusters.counts)

    def move(self, threshold: float, cancelled: Callable[[], bool] = lambda: False) -> Summary:
        """List what falls at another threshold, by the pairs that the step kept: nothing is compared again.

        Raises UsageProblem where it lies outside `floor` to 1, Stopped where `cancelled()` ended it.
        """
        if self.own is None:
            raise UsageProblem(f"{self.step.name} has no threshold that could be moved")
        if not self.floor <= threshold <= 1:
            raise UsageProblem(
                f"a threshold of {threshold:g} is out of reach",
                where=f"step {self.step.name}",
                do=f"Its pairs are kept from {self.floor:g} up to 1; below that, run the recipe again.",
            )
        with self.lock:
            if cancelled():
                raise Stopped("another threshold was asked for")
            if threshold == self.own:
                counts, about = self.clusters.show_own(), False
            else:
                falls, about = self._falls(threshold)
                counts = self.clusters.show(falls, cancelled)
            self.summary = self._sum_up(threshold, counts, about)
            return self.summary

    def _falls(self, threshold: float) -> tuple[pa.Table, bool]:
        """What falls by the kept pairs, and whether some rows had more near ones than those."""
        from filters.dedup.star import KEPT, preferred_first, stars

        if self._pairs is None:
            found = rows.pairs(self._store, self.step.id)
            self._pairs = preferred_first(*(found.column(name).to_numpy() for name in found.column_names))
        ids, similar = self._pairs
        falls = [
            (int(ids[place]), int(ids[survivor]), similarity)
            for place, (survivor, similarity) in stars(similar, threshold).items()
        ]
        about = any(count >= KEPT for count in Counter(similar.second.tolist()).values())
        return rows.falls_table(falls), about

    def _sum_up(self, threshold: float | None, counts: Counts, about: bool = False) -> Summary:
        params, own = self.step.params, self.own
        judged = params.get("answer_threshold", 0) == 0 or params.get("target") is not None  # which looks below `own`
        return Summary(
            step=self.step.name,
            params=params,
            rows_in=self.step.rows_in,
            threshold=threshold,
            counts=counts,
            dropped_then=self._then,
            at_most=not judged and threshold is not None and own is not None and threshold < own,
            about=about,
        )

    def close(self) -> None:
        """Let go of the list."""
        self.clusters.close()


def steps_of(store: Store, version: str) -> list[DedupStep]:
    """The steps that looked for duplicates on the way to a version, the first run first; none for a source."""
    from filters.registry import STEPS

    return rows.dedup_steps(store, version, {name for name, step in STEPS.items() if step.kind == "dedup"})


def conflicts_of(store: Store, version: str) -> list[DedupStep]:
    """The steps that reported rows that are asked nearly the same and answer otherwise; they dropped none."""
    return rows.dedup_steps(store, version, {"conflicts"}, reports=True)


def look(
    ws: Workspace,
    name: str,
    *,
    step: str | None = None,
    method: str | None = None,
    threshold: float | None = None,
    on: str | None = None,
    conflicts: bool = False,
    pages: Pages = Pages(),
    progress: Progress | None = None,
) -> list[StepDuplicates]:
    """The duplicates of a source or version: of a version those that fell, with a `method` those found now.

    A source was never looked through, so `minhash` does it now. With `conflicts`, the rows of a version that answer
    nearly the same prompt otherwise. Raises UsageProblem for what does not go together.
    """
    if conflicts:
        if step or method or on or threshold is not None:
            raise UsageProblem("--conflicts goes with none of --step, --method, --on and --threshold")
        return [_of_step(ws.store, name, one, None, pages) for one in conflicts_of(ws.store, name)]
    is_source = resolve_base(ws.store, name).kind == "source"
    if method is None and not is_source:
        if on:
            raise UsageProblem("--on goes with --method", do="The steps of a version say what they compared.")
        return of_version(ws.store, name, step=step, threshold=threshold, pages=pages)
    if step:
        raise UsageProblem("--step names a step of a version's recipe", do="Use --method to look for duplicates now.")
    method = method or "minhash"
    if method == "exact" and threshold is not None:
        raise UsageProblem("exact duplicates have no threshold", do="Leave it out, or take another --method.")
    params = {key: value for key, value in {"threshold": threshold, "on": on}.items() if value is not None}
    embed = CachedEmbeddings(ws.cache_dir, ws.runs_dir, progress)
    return [of_rows(ws.store, name, method, params, embed=embed, progress=progress, pages=pages)]


def of_version(
    store: Store, version: str, *, step: str | None = None, threshold: float | None = None, pages: Pages = Pages()
) -> list[StepDuplicates]:
    """The duplicates that fell on the way to `version`, by step, or what would fall at another `threshold`.

    The pairs that a step kept say so: nothing is compared again. Raises UsageProblem where no step fits, or the
    threshold lies below the pairs that were kept.
    """
    steps = steps_of(store, version)
    wanted = [s for s in steps if step in (None, s.name) and (threshold is None or "threshold" in s.params)]
    if not wanted and (step or threshold is not None):
        there = ", ".join(dict.fromkeys(s.name for s in steps)) or "none"
        what = f"no step {step!r}" if step else "no step with a threshold"
        raise UsageProblem(f"{what} made {version!r}", do=f"Its steps that look for duplicates: {there}.")
    return [_of_step(store, version, one, threshold, pages) for one in wanted]


def _of_step(store: Store, version: str, step: DedupStep, threshold: float | None, pages: Pages) -> StepDuplicates:
    opened = OpenDuplicates(store, version, step)
    try:
        return _page(opened.summary if threshold is None else opened.move(threshold), opened.clusters, pages)
    finally:
        opened.close()


def of_rows(
    store: Store,
    name: str,
    method: str,
    params: dict[str, Any],
    *,
    embed: Embed | None,
    progress: Progress | None = None,
    pages: Pages = Pages(),
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
    falls = [
        (drop.id, drop.duplicate_of, drop.score if drop.score is not None else 1.0)
        for drop in outcome.drops
        if drop.duplicate_of is not None
    ]
    clusters = OpenClusters(store, None)
    try:
        counts = clusters.show(rows.falls_table(falls))
        threshold = outcome.params.get("threshold")
        summary = Summary(method, outcome.params, outcome.rows_in, threshold, counts, counts.rows)
        return _page(summary, clusters, pages)
    finally:
        clusters.close()


def write_clusters(opened: OpenDuplicates, path: Path) -> int:
    """Write the list as a table, a line for each row, texts cut short; returns how many.

    Raises as `write_table` does.
    """
    with opened.lock:
        return write_table(path, _TITLES, _lines(opened))


_TITLES = (
    "cluster", "kind", "threshold", "similarity", "now", "id", "source", "row", "survivor", "prompt", "response",
)  # fmt: skip
_READ = 1024  # lines read at a time


def _lines(opened: OpenDuplicates) -> Iterator[list[Value]]:
    for start in range(0, opened.clusters.lines, _READ):
        for row in opened.clusters.window(start, _READ):
            yield [
                row.cluster, opened.step.name, opened.summary.threshold, row.similarity, row.standing,
                row.id, row.source, row.row, row.of, row.prompt, row.response,
            ]  # fmt: skip


def stepped(threshold: float, by: int) -> float:
    """The next hundredth above (`by` 1) or below (-1) a threshold."""
    hundredths = threshold * 100
    near = round(hundredths)
    if math.isclose(hundredths, near, abs_tol=1e-6):
        return (near + by) / 100
    return (math.ceil(hundredths) if by > 0 else math.floor(hundredths)) / 100


def _floor(step: DedupStep) -> float:
    from filters.dedup.star import FLOOR

    return min(FLOOR, float(step.params.get("threshold", 1.0)))


def _page(summary: Summary, clusters: OpenClusters, pages: Pages) -> StepDuplicates:
    found = clusters.clusters(pages.start, pages.count, pages.members)
    return StepDuplicates(**vars(summary), clusters=tuple(found))
