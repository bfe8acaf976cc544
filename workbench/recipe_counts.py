"""What each step of a recipe would drop, counted while the recipe is being changed: nothing is made.

A step is counted once for the rows and the steps before it, so that after a change only the steps from there on are
counted again. Scores that rules give are stored as a run stores them. What takes a model or a service is not begun
before somebody says so.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from filters.errors import Wipeout
from filters.judge.plan import Endpoint, JudgePlan
from filters.overlap import Overlap
from filters.pipeline import run
from filters.recipe import Recipe
from filters.step import JobScorer, Progress, Rewrite, Row, RowStep, Score, Step, StepOutcome
from trainer.conversation import canonical_json
from workbench.consent import ConsentedJobs, Keys, Tally, calls_of
from workbench.embeddings import CachedEmbeddings, StoredEmbeddings
from workbench.errors import Problem, Stopped
from workbench.overlap import recipe_overlap
from workbench.scoring import ScoreJobs
from workbench.store.evalsets import get_eval_set, items_as_rows
from workbench.store.members import Members, resolve
from workbench.store.scores import StoredScores
from workbench.text import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.workspace import Workspace

State = Literal["counted", "guarded", "waits", "failed"]

_MOST_DROPS = 1_000_000  # that are remembered of recipes as they were: some hundred megabytes


@dataclass(frozen=True)
class StepCount:
    """What a step does, or why that is not known.

    `guarded`: it would drop more than it may, and nobody let it; `waits`: it takes a job, `failed`: it cannot be run.
    `told` says why. Steps behind such a one are not counted. `key` stands for this step after those before it, over
    these rows.
    """

    position: int
    name: str
    state: State
    key: str
    outcome: StepOutcome | None = None
    told: str = ""


class JobNeeded(Exception):
    """A step would begin a job; the text says what it takes."""


class RecipeCounter:
    """Counts recipes over the rows of one workspace, one at a time: a call waits until the one before has ended."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[str, tuple[StepOutcome, str]] = {}  # with what the guard says of it
        self._busy = threading.Lock()

    def count(
        self,
        recipe: Recipe,
        base: str,
        *,
        let: Collection[str] = (),
        begin: Collection[str] = (),
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> Iterator[StepCount]:
        """Say of each step what it would drop of the rows of `base`, as people left them by hand.

        `let` holds the keys of steps that may drop what the guard would not allow, `begin` those of steps that may
        begin their job. Ends behind the first step that is not counted. Raises Stopped once `cancelled()` says so.
        """
        while not self._busy.acquire(timeout=0.05):
            if cancelled():
                raise Stopped("Stopped")
        try:
            yield from _Counting(self._workspace, self._known, recipe, base, progress, cancelled).steps(let, begin)
            self._forget()
        finally:
            self._busy.release()

    def overlap(self, recipe: Recipe, base: str, progress: Progress) -> Overlap:
        """What each step would drop by itself and what only it, by what is known without a job (`filters.overlap`).

        Rows that a job would have to be run for are counted as unjudged.
        """
        embed = StoredEmbeddings(self._workspace.cache_dir, lambda count, model: None)
        return recipe_overlap(self._workspace.store, recipe, [base], embed, progress)

    def _forget(self) -> None:
        """Drop what was counted first, down to what may be remembered; the newest stays."""
        drops = sum(len(outcome.drops) for outcome, _ in self._known.values())
        for key in list(self._known)[:-1]:
            if drops <= _MOST_DROPS:
                break
            drops -= len(self._known.pop(key)[0].drops)


class _Counting:
    """One count."""

    def __init__(
        self,
        workspace: Workspace,
        known: dict[str, tuple[StepOutcome, str]],
        recipe: Recipe,
        base: str,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        self._workspace, self._store = workspace, workspace.store
        self._known = known
        self._recipe = recipe
        self._base = base
        self._cancelled = cancelled
        self._tell = progress
        self._begins = False  # whether the step that is counted may begin its job
        self._guarded = ""  # what the guard says of it

    def steps(self, let: Collection[str], begin: Collection[str]) -> Iterator[StepCount]:
        """See `RecipeCounter.count`."""
        steps = self._recipe.steps
        ready = next((at for at, step in enumerate(steps) if self._unready(step)), len(steps))
        with ExitStack() as opened:
            members = Members(self._store, [resolve(self._store, self._base)], drafted=True)
            opened.enter_context(closing(members))
            run_steps = self._pipeline(opened, members, steps[:ready])
            key = hashlib.sha256(
                members.chosen().column("example_id").combine_chunks().to_numpy().tobytes()
            ).hexdigest()
            finished: list[list[int]] = []
            rewritten: list[Rewrite] = []
            outcomes: Iterator[StepOutcome] | None = None
            for position, step in enumerate(steps):
                if trouble := self._unready(step):
                    yield StepCount(position, step.name, "failed", key, told=trouble)
                    return
                key = self._next_key(key, step)
                found, self._begins = self._known.pop(key, None), key in begin
                try:
                    if found is None:
                        outcomes = outcomes or run_steps(finished=finished, rewritten=rewritten)
                        self._guarded = ""
                        found = next(outcomes), self._guarded
                    else:
                        outcomes = None
                except JobNeeded as needed:
                    yield StepCount(position, step.name, "waits", key, told=str(needed))
                    return
                except Stopped as stopped:
                    if self._cancelled():
                        raise
                    yield StepCount(
                        position, step.name, "failed", key, told=str(stopped)
                    )  # such as a budget that ended
                    return
                except Problem as problem:
                    yield StepCount(position, step.name, "failed", key, told=str(problem))
                    return
                outcome = replace(found[0], position=position, pairs=[])
                self._known[key] = outcome, found[1]
                if found[1] and key not in let:
                    yield StepCount(position, step.name, "guarded", key, outcome, found[1])
                    return
                yield StepCount(position, step.name, "counted", key, outcome, found[1])
                finished.append([drop.id for drop in outcome.drops])
                rewritten += outcome.rewrites

    def _pipeline(self, opened: ExitStack, members: Members, steps: tuple[Step[Any], ...]) -> Any:
        store = self._store
        scores = opened.enter_context(closing(StoredScores(store)))

        def others(name: str) -> Any:
            return opened.enter_context(closing(Members(store, [resolve(store, name)]))).batches

        return partial(
            run,
            replace(self._recipe, steps=steps),
            members.batches,
            scores=scores,
            embed=self._embed,
            compute=self._compute,
            others=others,
            items=lambda name: partial(items_as_rows, store, get_eval_set(store, name)),
            allow_wipeout=self._let_pass,
            progress=self._progress,
        )

    def _let_pass(self, wipeout: Wipeout) -> bool:
        """So that what the step would drop can be seen; whether the steps behind it are counted is asked then."""
        self._guarded = wipeout.what
        return True

    def _unready(self, step: Step[Any]) -> str:
        """What a step lacks, such as a tokenizer that cannot be had; empty where it can be run."""
        try:
            if isinstance(step, RowStep):
                _ = step.scorers
        except Problem as problem:
            return str(problem)
        return ""

    def _next_key(self, key: str, step: Step[Any]) -> str:
        """What stands for the rows before a step and the step itself: its parameters, and what it compares with."""
        beside: list[object] = []
        try:
            for name in step.references:
                named = resolve(self._store, name)
                beside.append([named.kind, named.id, named.rows])
            beside += [get_eval_set(self._store, name).manifest_hash for name in step.evalsets]
        except Problem:  # what is not there is told when the step is run
            beside.append("missing")
        meaning = canonical_json([key, step.name, step.version, step.settings(), beside])
        return hashlib.sha256(meaning.encode()).hexdigest()

    def _progress(self, done: int, total: int | None, what: str) -> None:
        if self._cancelled():
            raise Stopped("Stopped")
        self._tell(done, total, what)

    def _embed(self, texts: Any, model: str) -> NDArray[np.float32]:
        cache, runs = self._workspace.cache_dir, self._workspace.runs_dir
        if self._begins:
            return CachedEmbeddings(cache, runs, self._progress, self._cancelled)(texts, model)
        return StoredEmbeddings(cache, _needs_embeddings)(texts, model)

    def _compute(self, scorer: JobScorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        if not self._begins:
            raise JobNeeded(self._takes(scorer, rows))
        jobs = ScoreJobs(self._workspace.runs_dir, self._progress, self._cancelled)
        keys = Keys.of(self._workspace.config)
        yield from ConsentedJobs(jobs, keys, lambda calls: True)(scorer, rows)  # somebody saw `_takes`, and began it

    def _takes(self, scorer: JobScorer, rows: Iterable[list[Row]]) -> str:
        step = next(s for s in self._recipe.steps if isinstance(s, RowStep) and scorer in s.scorers)
        wanted: set[str] = set()
        backend = scorer.plan.backend if isinstance(scorer.plan, JudgePlan) else None
        tally = Tally(scorer.plan) if isinstance(scorer.plan, JudgePlan) else None
        for batch in rows:
            if self._cancelled():
                raise Stopped("Stopped")
            for row in batch:
                if tally and row.content_hash not in wanted:
                    tally.add(row)
                wanted.add(row.content_hash)
        count = counted(len(wanted), "row")
        if tally and isinstance(backend, Endpoint):
            calls = calls_of(scorer, backend, tally, Keys.of(self._workspace.config))
            return f"{count} without a rating, for {backend.model} at {backend.base_url}. {calls}"
        model = getattr(step.params, "model", "a model")
        return f"{count} without a score: {model} reads them in a job of its own, on this machine."


def _needs_embeddings(count: int, model: str) -> None:
    raise JobNeeded(f"{counted(count, 'text')} without an embedding: {model} reads them in a job of its own.")
