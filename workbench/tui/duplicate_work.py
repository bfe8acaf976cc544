"""What the Duplicates screen has done off the UI thread: lists opened and moved, texts laid out, counts told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.message import Message

from workbench.duplicate_review import Decision, accept
from workbench.duplicates import OpenDuplicates, Summary, conflicts_of, steps_of
from workbench.store.database import Store
from workbench.store.duplicates import ClusterRow, DedupStep
from workbench.text import counted
from workbench.tui.cells import flat

Decide = Callable[[OpenDuplicates], Decision]


@dataclass
class Listed(Message):
    """A step is open, or its threshold was moved. `pending` is what making it so would change, in words."""

    opened: OpenDuplicates | None
    steps: Sequence[DedupStep]
    summary: Summary | None
    lines: int
    cursor: int
    pending: str
    found: bool


def open_first(store: Store, base: str, row: int | None) -> Listed:
    """The first step that found row `row`, else the first that found something, else the first."""
    steps = [*steps_of(store, base), *conflicts_of(store, base)]
    best: tuple[int, OpenDuplicates, int] | None = None
    for step in steps:
        opened = OpenDuplicates(store, base, step)
        pos = None if row is None else opened.clusters.position_of(row)
        rank = 1 if opened.clusters.lines else 0
        if pos is not None:
            rank = 2
        if best is not None and rank <= best[0]:
            opened.close()
            continue
        if best is not None:
            best[1].close()
        best = rank, opened, pos or 0
        if rank == (1 if row is None else 2):
            break
    if best is None:
        return Listed(None, steps, None, 0, 0, "", True)
    return described(best[1], steps, pos=best[2], found=row is None or best[0] == 2)


def described(
    opened: OpenDuplicates,
    steps: Sequence[DedupStep],
    row: ClusterRow | None = None,
    pos: int = 0,
    *,
    found: bool = True,
) -> Listed:
    """What the screen shows of a list: with the cursor on `row` if it is in it, else on its cluster, else at `pos`."""
    clusters = opened.clusters
    at = None if row is None else clusters.position_of(row.id)
    if at is None and row is not None:
        at = clusters.position_of(row.survivor)
    cursor = min(pos if at is None else at, max(clusters.lines - 1, 0))
    return Listed(opened, steps, opened.summary, clusters.lines, cursor, accept(opened).would, found)


def as_shown(opened: OpenDuplicates, shown: Summary, decide: Decide) -> Decision:
    """Decide by the list that a person saw, if it was moved on meanwhile."""
    with opened.lock:
        if opened.summary.threshold != shown.threshold and shown.threshold is not None:
            opened.move(shown.threshold)
        return decide(opened)


def about_lines(
    base: str, opened: OpenDuplicates, steps: Sequence[DedupStep], shown: Summary, asked: float | None, pending: str
) -> list[str]:
    """The step, its threshold and counts; what else can be looked at, and what making it so would change."""
    on_side = shown.params.get("on")
    parts = [base, opened.step.name + (f" on {on_side}" if on_side else "")]
    if asked is not None:
        parts.append(f"threshold {asked:.4g}" + (f" (run at {opened.own:g})" if asked != opened.own else ""))
    if asked != shown.threshold:
        parts.append("counting …")
    elif opened.step.reports:
        parts.append(f"{counted(shown.counts.rows, 'answer')} to near prompts differ: nothing was dropped")
    else:
        counts = shown.counts
        falls = "falls" if counts.rows == 1 else "fall"
        parts.append(
            f"{shown.hedge}{counted(counts.rows, 'row')} {falls} in {counted(counts.clusters, 'cluster')}"
            if counts.rows
            else "no row falls"
        )
        if change := counts.rows - shown.dropped_then:
            parts.append(f"{change:+,} to the run")
    more = []
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps if step.id != opened.step.id)
        more.append(f"] also: {names}")
    if not opened.step.reports:
        more.append(f"X {pending}" if pending else "the rows stand as listed")
    return [" · ".join(parts), " · ".join(more)]


def not_looked_for(base: str) -> str:
    """What is said where no step has looked for duplicates."""
    return f"""{flat(base)}: no step on the way here has looked for duplicates.

d looks now: a recipe for equal and nearly equal prompts runs over these rows. It says first what would fall, and \
makes a new version only then; these rows stay as they are. What fell stands here beside the row that was kept, and \
can be taken back."""
