"""Making versions: by running a recipe over rows, or by freezing them as they are."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filters.step import Compute, Drop, JobScorer, Progress, RowStep, StepOutcome
from workbench.draft import manual_step
from workbench.embeddings import CachedEmbeddings
from workbench.errors import BadInput, UsageProblem
from workbench.importing import check_name
from workbench.resources import data_dir, recipe_names
from workbench.store.database import Store, VersionRow
from workbench.store.drafts import MANUAL
from workbench.store.evalsets import EvalSet, get_eval_set, items_as_rows, overlapping_members
from workbench.store.members import Members, Named, resolve
from workbench.store.recipe_runs import (
    RecipeRun,
    StepRow,
    begin_run,
    discard_run,
    dropped_ids,
    find_run,
    ledger,
    recipe_run,
    rename_run,
    save_step,
)
from workbench.store.rewrites import makes_rows, run_rewrites
from workbench.store.scores import StoredScores
from workbench.store.versions import freeze, manifest_hash, recipe_run_of, refuse_source_name

if TYPE_CHECKING:
    from filters.engines import Engine
    from filters.recipe import Recipe

_SUFFIXES = {".yaml", ".yml"}
WITHOUT = "without"  # the name of the step that leaves out what eval sets hold


@dataclass(frozen=True)
class RunReport:
    """What a recipe did. `new` is False where the version was there already; a dry run makes no `version`."""

    version: str | None
    rows_in: int
    rows_out: int
    manifest_hash: str
    steps: list[StepRow]
    new: bool
    resumed: int = 0  # steps taken over from a run that was stopped


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that can be run by `name`: a shipped one's own, or a path. `steps` is None where it cannot be read."""

    name: str
    path: Path
    steps: tuple[str, ...] | None


def recipe_files(folder: Path) -> list[RecipeFile]:
    """The recipes that lie in `folder` or its folder `recipes`, by name, and behind them those that ship with us."""
    from filters.errors import RecipeProblem
    from filters.recipe import load_recipe

    own = sorted(path for place in (folder, folder / "recipes") for path in place.glob("*.y*ml") if path.is_file())
    shipped = [(name, data_dir() / "recipes" / f"{name}.yaml") for name in recipe_names()]
    found = []
    for name, path in [*((str(path), path) for path in own if path.suffix in _SUFFIXES), *shipped]:
        try:
            found.append(RecipeFile(name, path, tuple(step.name for step in load_recipe(path).steps)))
        except RecipeProblem:
            found.append(RecipeFile(name, path, None))
    return found


def find_recipe(recipe: Path | str) -> Path:
    """The file of a recipe given as a path or as the name of one that ships with the product."""
    path = Path(recipe)
    if path.is_file() or path.suffix in _SUFFIXES or len(path.parts) > 1:
        return path
    shipped = recipe_names()
    if str(recipe) in shipped:
        return data_dir() / "recipes" / f"{recipe}.yaml"
    near = difflib.get_close_matches(str(recipe), shipped, n=1)
    do = f"Did you mean {near[0]!r}?" if near else f"Give a path, or one of: {', '.join(shipped)}."
    raise UsageProblem("there is no such recipe", where=str(recipe), do=do)


def run_recipe(
    store: Store,
    recipe: Recipe,
    from_: Sequence[str],
    version: str,
    *,
    embed: CachedEmbeddings,
    compute: Compute,
    dry_run: bool,
    allow_wipeout: bool,
    progress: Progress | None,
    engine: Engine | None = None,
) -> RunReport:
    """Run `recipe` over the rows of `from_` and freeze what is left as `version`.

    Every finished step is committed, so that a run that was stopped goes on behind it. Rows on which a model or a
    service failed in an earlier run of the same are asked about again, and no others. With another `engine` it is the
    same run. Raises BadInput where no row is left, Wipeout where the guard stops a step, UsageProblem where the version
    is there with other content.
    """
    from filters.pipeline import run

    check_name(version)
    if not from_:
        raise UsageProblem("a run needs rows", do="Name at least one source or version with --from.")
    inputs = [resolve(store, name) for name in dict.fromkeys(from_)]
    refuse_source_name(store, version)
    references = dict.fromkeys(name for step in recipe.steps for name in step.references)
    evalsets = {name: get_eval_set(store, name) for step in recipe.steps for name in step.evalsets}
    with ExitStack() as opened:
        others = {name: opened.enter_context(closing(Members(store, [resolve(store, name)]))) for name in references}
        members, manual = _as_drafted(store, inputs)
        opened.enter_context(closing(members))
        scores = opened.enter_context(closing(StoredScores(store)))
        run_steps = partial(
            run,
            recipe,
            members.batches,
            scores=scores,
            embed=embed,
            compute=compute,
            engine=engine,
            others=lambda name: others[name].batches,
            items=lambda name: partial(items_as_rows, store, evalsets[name]),
            allow_wipeout=allow_wipeout,
            progress=progress,
        )
        if dry_run:
            return _dry_report(members, [*manual, *run_steps()])
        input_hash = _input_hash(members)
        manifests = [evalset.manifest_hash for evalset in evalsets.values()]
        recipe_hash = " against ".join([recipe.recipe_hash, *map(_input_hash, others.values()), *manifests])
        done = _done(store, _asked(recipe_hash, allow_wipeout), input_hash, version)
        if done and not _failed(recipe, done.steps):
            return done
        begun = _begin_or_resume(store, recipe, recipe_hash, input_hash, members, manual, allow_wipeout)
        finished = dropped_ids(store, begun.id)[len(manual) :]
        for outcome in run_steps(finished=finished, rewritten=run_rewrites(store, begun.id)):
            with store.transaction(rows=bool(outcome.rewrites)) as cursor:
                save_step(cursor, begun.id, replace(outcome, position=outcome.position + len(manual)))
        steps = ledger(store, begun.id)
        _check_some_left(begun.rows_in, steps)
        with store.transaction(rows=makes_rows(store, begun.id)) as cursor:
            try:
                frozen, new = freeze(cursor, store, version, members, run_id=begun.id, recipe=recipe.text)
            except UsageProblem as problem:
                asked = "; rows that a step had failed on when it was made were judged again" if done else ""
                raise UsageProblem(problem.what + asked, where=problem.where, do=problem.do) from None
    return RunReport(version, begun.rows_in, frozen.rows, frozen.manifest_hash, steps, new, len(finished))


def freeze_rows(store: Store, source: str, name: str, without: Sequence[EvalSet]) -> tuple[VersionRow, bool]:
    """Freeze a source or version as version `name`, leaving out the rows whose prompts eval sets in `without` hold.

    Each row left out gets its decision, in a step named `without`. Returns the version and whether it is new.
    """
    check_name(name)
    named = resolve(store, source)
    members, steps = _as_drafted(store, [named])
    with closing(members):
        input_hash = _input_hash(members)
        rows_in = members.rows + sum(len(step.drops) for step in steps)
        drops: dict[int, Drop] = {}
        for eval_set in without:
            for id, item in overlapping_members(store, members, eval_set):
                drops.setdefault(id, Drop(id, "eval-prompt", detail=f"its prompt is item {item} of {eval_set.name}"))
        names = [eval_set.name for eval_set in without]
        if without:
            gone = list(drops.values())
            steps.append(StepOutcome(0, WITHOUT, "filter", {"evalsets": names}, members.rows, gone, [], 0.0))
        step_hash = hashlib.sha256("\n".join([WITHOUT, *(e.manifest_hash for e in without)]).encode()).hexdigest()
        with store.transaction() as cursor:
            run_id = begin_run(cursor, None, step_hash, input_hash, rows_in, [named.name])
            for position, step in enumerate(steps):
                save_step(cursor, run_id, replace(step, position=position))
            return freeze(cursor, store, name, members, run_id=run_id)


def _as_drafted(store: Store, inputs: Sequence[Named]) -> tuple[Members, list[StepOutcome]]:
    """The rows as people left them, and the step that tells what they did: both of one moment."""
    with store.transaction():  # nobody changes a draft meanwhile
        members = Members(store, inputs, drafted=True)
        try:
            return members, manual_step(store, members)
        except BaseException:
            members.close()
            raise


def _input_hash(members: Members) -> str:
    """SHA-256 (hex) over ids and contents in order: decisions name ids, so equal content is not enough."""
    digest = hashlib.sha256()
    for batch in members.batches(("id", "content_hash")):
        for id, content in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(f"{id} {content}\n".encode())
    return digest.hexdigest()


def _asked(recipe_hash: str, allow_wipeout: bool) -> str:
    """What names a run beside its rows: with the guard off other rows may fall, so it is another run."""
    return recipe_hash + (" allow-wipeout" if allow_wipeout else "")


def _begin_or_resume(
    store: Store,
    recipe: Recipe,
    recipe_hash: str,
    input_hash: str,
    members: Members,
    manual: Sequence[StepOutcome],
    allow_wipeout: bool,
) -> RecipeRun:
    """The run that was stopped, or a new one. What the guard let pass stands with the guard off, not the reverse."""
    asked = _asked(recipe_hash, allow_wipeout)
    names = [named.name for named in members.names]
    by_hand = [len(step.drops) for step in manual]

    def stopped_as(recipe_hash: str) -> list[RecipeRun]:
        # The same rows may have come from elsewhere, where no step by hand comes first.
        return [
            run
            for run in find_run(store, recipe_hash, input_hash, "running")
            if list(run.inputs) == names and [s.dropped for s in ledger(store, run.id) if s.name == MANUAL] == by_hand
        ]

    stopped = stopped_as(asked)
    if not stopped and allow_wipeout and (guarded := stopped_as(recipe_hash)):
        with store.transaction() as cursor:
            rename_run(cursor, guarded[0].id, asked)
        stopped = guarded
    if stopped and not _failed(recipe, ledger(store, stopped[0].id)):
        return stopped[0]
    if stopped:  # what its steps dropped may hang on the scores that were not to be had
        with store.transaction(rows=makes_rows(store, stopped[0].id)) as cursor:
            discard_run(cursor, stopped[0].id)
    with store.transaction() as cursor:
        rows_in = members.rows + sum(len(step.drops) for step in manual)
        run_id = begin_run(cursor, recipe.text, asked, input_hash, rows_in, names)
        for step in manual:
            save_step(cursor, run_id, step)
    return recipe_run(store, run_id)


def _failed(recipe: Recipe, steps: Sequence[StepRow]) -> bool:
    """Whether a job failed on rows of a finished step: the model or service may answer another time."""
    failed = {step.name for step in steps if step.errors}
    asking = (step for step in recipe.steps if step.name in failed and isinstance(step, RowStep))
    return any(isinstance(scorer, JobScorer) for step in asking for scorer in step.scorers)


def _done(store: Store, recipe_hash: str, input_hash: str, version: str) -> RunReport | None:
    """The report of the run that made `version` out of the same rows by the same steps, if there was one."""
    there = store.version(version)
    if there is None:
        return None
    for run in find_run(store, recipe_hash, input_hash, "finished"):
        if run.id == recipe_run_of(store, there.id):
            steps = ledger(store, run.id)
            return RunReport(version, run.rows_in, there.rows, there.manifest_hash, steps, new=False)
    return None


def _dry_report(members: Members, outcomes: Sequence[StepOutcome]) -> RunReport:
    steps = [StepRow.of(outcome) for outcome in outcomes]
    rows_in = members.rows + sum(len(o.drops) for o in outcomes if o.name == MANUAL)
    _check_some_left(rows_in, steps)
    dropped = {drop.id for outcome in outcomes for drop in outcome.drops}
    rewritten = {rewrite.id: rewrite.content_hash for outcome in outcomes for rewrite in outcome.rewrites}
    kept = [
        rewritten.get(id, content)
        for batch in members.batches(("id", "content_hash"))
        for id, content in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if id not in dropped
    ]
    return RunReport(None, rows_in, len(kept), manifest_hash(kept), steps, new=False)


def _check_some_left(rows_in: int, steps: Sequence[StepRow]) -> None:
    if sum(step.dropped for step in steps) < rows_in:
        return
    worst = max(steps, key=lambda step: step.dropped)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in worst.reasons.items())
    raise BadInput(
        f"the recipe leaves none of {rows_in:,} rows",
        where=f"step {worst.name}, which dropped {worst.dropped:,} ({reasons})",
        do="No version was made. Loosen that step.",
    )
