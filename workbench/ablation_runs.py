"""Ablations as people follow them: how each stands, what its steps are worth so far, and its comparisons in turn.

`AblationRuns` makes the comparisons of an ablation one after another, as each takes over the runs of the one before.
It is asked now and then how they are, after `comparing.Jobs` was. Between two looks one job runs by itself; the next
comparison begins at the look that finds the one before ended. Nothing heavy is loaded where there is no ablation.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workbench.comparing import Jobs, Listed, Seen, budget_told, duration, smallest_effect, words_told
from workbench.errors import NotFound, Problem, SharedPrompts, Stopped
from workbench.store import experiments as rows
from workbench.store.experiments import State
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.ablation import Ablation, Kept
    from workbench.experiments import Question
    from workbench.workspace import Workspace

WAYS = {"leave-one-out": "leave one out", "add-one": "add one"}
"""The ways of an ablation in words."""


@dataclass(frozen=True)
class ListedAblation:
    """An ablation in a list. `steps` are as `ablation.worth` has them, `told` is how to read them, in sentences.

    `made` of `runs` runs are done, counted once where comparisons share them. `experiments` are those that are there,
    by the name of the version compared.
    """

    id: str
    recipe: str
    inputs: tuple[str, ...]
    mode: str
    state: State
    baseline: str
    evalset: str
    model: str
    seeds: int
    trained_tokens: int | None
    minutes: float | None
    created_at: datetime
    made: int
    runs: int
    steps: tuple[dict[str, Any], ...]
    told: tuple[str, ...]
    experiments: dict[str, Listed]

    @property
    def name(self) -> str:
        """Recipe, sources and way."""
        return f"{self.recipe} over {', '.join(self.inputs)}: {WAYS[self.mode]}"

    @property
    def budget(self) -> str:
        """The budget as it was asked for."""
        return budget_told(self.trained_tokens, self.minutes, None)

    @property
    def verdict_told(self) -> str | None:
        """How often each word came; None before the first."""
        return words_told([step["verdict"] for step in self.steps if step["state"] == "done"]) or None

    @property
    def latest(self) -> datetime:
        """When it was asked, or its newest experiment was made."""
        return max([self.created_at, *(listed.created_at for listed in self.experiments.values())])


def in_order(experiments: Sequence[Listed], ablations: Sequence[ListedAblation]) -> list[Listed | ListedAblation]:
    """The newest first, every ablation before its experiments."""
    dated: list[tuple[datetime, bool, Listed | ListedAblation]] = [(one.created_at, False, one) for one in experiments]
    dated += [(one.latest, True, one) for one in ablations]
    # Oldest first, as both come, and turned round: those of one moment keep their order.
    return [one for *_, one in sorted(dated, key=lambda found: found[:2])][::-1]


class AblationRuns:
    """The ablations of a workspace. Methods wait, for the disk or a job: call them in a worker."""

    def __init__(self, ws: Workspace, jobs: Jobs) -> None:
        self._ws = ws
        self._jobs = jobs
        self._lock = threading.Lock()
        self._listed: dict[str, tuple[object, ListedAblation]] = {}
        self._plans: dict[str, dict[str, Any]] = {}

    def look(self, seen: Seen) -> list[ListedAblation]:
        """How all ablations stand, oldest first, where the experiments stand as `seen`; those under way go on."""
        if not self._ws.ablations_dir.is_dir():
            return []
        from workbench.ablation import all_kept

        experiments = {listed.id: listed for listed in seen.experiments}
        with self._lock:
            known = [self._go_on(kept, experiments) if kept.going else kept for kept in all_kept(self._ws)]
            return [self._as_listed(kept, experiments) for kept in known]

    def begin(
        self,
        recipe: str,
        inputs: Sequence[str],
        ablation: Ablation,
        question: Question,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """Keep an ablation whose versions are made, and let it go on; returns its id.

        Raises as `ablation.keep`; Stopped where it was called off meanwhile.
        """
        from workbench.ablation import keep

        if cancelled():
            raise Stopped("called off")
        kept = keep(self._ws, recipe, inputs, ablation, question)
        self.start(kept.id)
        return kept.id

    def start(self, id: str) -> None:
        """Let an ablation go on where it was; what failed or was refused is tried again."""
        from workbench.ablation import save

        with self._lock:
            kept = self._find(id)
            states = dict(rows.states(self._ws.store))
            came = {version: one for version, one in kept.came.items() if one.experiment in states}
            for one in came.values():
                if one.experiment and states[one.experiment] in ("stopped", "failed"):
                    rows.set_state(self._ws.store, one.experiment, "planned")
            save(self._ws, replace(kept, came=came, going=True))

    def stop(self, id: str) -> None:
        """Begin no further comparison, and stop the one that runs; waits until that has left its checkpoint."""
        from workbench.ablation import save

        with self._lock:
            kept = self._find(id)
            save(self._ws, replace(kept, going=False))
            states = dict(rows.states(self._ws.store))
        for one in kept.came.values():
            if one.experiment and states.get(one.experiment) == "running":
                self._jobs.stop(one.experiment)

    def remove(self, id: str) -> None:
        """Forget an ablation that does not go on. Its versions and experiments stay."""
        from workbench.ablation import forget

        with self._lock:
            forget(self._ws, self._find(id).id)

    # Inside

    def _find(self, id: str) -> Kept:
        from workbench.ablation import all_kept

        for kept in all_kept(self._ws):
            if kept.id == id:
                return kept
        raise NotFound("no such ablation", where=id)

    def _go_on(self, kept: Kept, experiments: Mapping[str, Listed]) -> Kept:
        """Begin the next comparison where none runs; `experiments` are those of the last look."""
        from workbench.ablation import Came, questions, save

        try:
            for question in questions(kept.ablation, kept.question):
                version = str(question.candidate)
                came = kept.came.get(version)
                listed = experiments.get(came.experiment or "") if came else None
                if came and (came.state or (listed and listed.state in ("done", "failed"))):
                    continue
                if listed and listed.state == "running":
                    return kept
                if listed and listed.state == "stopped":  # by a person, who is not to be contradicted
                    break
                try:
                    begun = Came(self._jobs.begin(question))
                except Stopped:
                    raise
                except Problem as problem:
                    refused = isinstance(problem, SharedPrompts)
                    begun = Came(None, "refused" if refused else "failed", problem.what)
                kept = replace(kept, came=kept.came | {version: begun})
                save(self._ws, kept)
                if begun.experiment and dict(rows.states(self._ws.store))[begun.experiment] != "done":
                    return kept
        except Exception:  # told once, and not tried again every second
            save(self._ws, replace(kept, going=False))
            raise
        kept = replace(kept, going=False)
        save(self._ws, kept)
        return kept

    def _as_listed(self, kept: Kept, experiments: Mapping[str, Listed]) -> ListedAblation:
        there = {
            version: found
            for version, came in kept.came.items()
            if came.experiment and (found := experiments.get(came.experiment))
        }
        # Statistics only where something has ended since the last look.
        ended = (kept, tuple((version, listed.state, listed.why) for version, listed in there.items()))
        before = self._listed.get(kept.id)
        state = _state(kept, there)
        if before and before[0] == ended:
            steps, told = before[1].steps, before[1].told
        else:
            steps, told = self._worth(kept, there)
        made, runs = self._runs(kept, there)
        question = kept.question
        listed = ListedAblation(
            id=kept.id,
            recipe=kept.recipe,
            inputs=kept.inputs,
            mode=kept.ablation.mode,
            state=state,
            baseline=kept.ablation.baseline.version,
            evalset=question.evalset or "",
            model=question.model or "",
            seeds=question.seeds,
            trained_tokens=question.trained_tokens,
            minutes=question.minutes,
            created_at=kept.created_at,
            made=made,
            runs=runs,
            steps=steps,
            told=told,
            experiments=there,
        )
        self._listed[kept.id] = (ended, listed)
        return listed

    def _worth(self, kept: Kept, there: Mapping[str, Listed]) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
        """A row for each step by what is stored, and how to read them."""
        from workbench.ablation import trained_tokens, worth
        from workbench.report.ablation import meaning
        from workbench.series import family

        compared: dict[str, dict[str, Any]] = {}
        tokens: dict[str, int] = {}
        results = []
        for version, came in kept.came.items():
            listed = there.get(version)
            if came.state:
                compared[version] = {"state": came.state, "why": came.why}
            elif listed and listed.state == "failed":
                compared[version] = {"state": "failed", "why": listed.why}
            elif listed and listed.state == "done":
                results.append(json.loads(rows.find_experiment(self._ws.store, listed.id).result or "null"))
            if listed:
                counted_tokens = trained_tokens(self._ws, listed.id)
                tokens |= {listed.arms[arm]: n for arm, n in counted_tokens.items()}
        to_come = len(kept.ablation.to_compare) - len(compared) - len(results)
        compared |= {one.candidate: {"state": "done"} | one.as_dict() for one in family(results, to_come)}
        steps = worth(kept.ablation, compared, tokens)
        told = meaning(kept.ablation.mode, kept.ablation.baseline.version, steps)
        told += [f"{step['step']} {step['state']}: {step['why'].rstrip('.')}." for step in steps if "why" in step]
        return tuple(steps), tuple(told)

    def _runs(self, kept: Kept, there: Mapping[str, Listed]) -> tuple[int, int]:
        """How many runs are done, and how many there are: one of a version by a seed counts once."""
        made: set[tuple[str, int]] = set()
        runs: set[tuple[str, int]] = set()
        for listed in there.values():
            if listed.id not in self._plans:
                self._plans[listed.id] = json.loads(rows.find_experiment(self._ws.store, listed.id).plan)
            noted = self._plans[listed.id]
            ended = noted.get("taken", {}).keys() | (listed.progress.seconds.keys() if listed.progress else set())
            for run in noted["job"]["runs"]:
                key = (listed.arms[run["arm"]], run["seed"])
                runs.add(key)
                if listed.state == "done" or run["id"] in ended:
                    made.add(key)
        ablation, seeds = kept.ablation, range(kept.question.seeds)
        to_come = _to_come(kept, there)
        if to_come and not there:
            to_come.append(ablation.baseline.version)
        runs |= {(version, seed) for version in to_come for seed in seeds}
        return len(made), len(runs)


def _state(kept: Kept, there: Mapping[str, Listed]) -> State:
    states = {listed.state for listed in there.values()}
    if kept.going or "running" in states:
        return "running"
    if _to_come(kept, there) or states & {"planned", "stopped"}:
        return "stopped" if kept.came else "planned"
    failed = "failed" in states or any(came.state == "failed" for came in kept.came.values())
    return "failed" if failed else "done"


def _to_come(kept: Kept, there: Mapping[str, Listed]) -> list[str]:
    """Versions to compare that have no experiment, and nothing that kept them from one."""
    settled = there.keys() | {version for version, came in kept.came.items() if came.state}
    return [variant.side.version for variant in kept.ablation.to_compare if variant.side.version not in settled]


def outlook(ws: Workspace, ablation: Ablation, question: Question) -> list[str]:
    """What an ablation will take and what it can show, before anything is trained, in sentences.

    Raises as `experiments.foresee`, but for versions that share prompts with the eval set: those are told.
    """
    from workbench.ablation import questions
    from workbench.experiments import foresee
    from workbench.forecast import expected_seconds

    found, shared = [], []
    for one in questions(ablation, replace(question, baseline=ablation.baseline.version)):
        try:
            found.append(foresee(ws, one))
        except SharedPrompts as problem:
            if problem.where == ablation.baseline.version:
                raise
            shared.append(str(one.candidate))
    runs = {(one.arms[run.arm], run.seed): one.done or run.id in one.taken for one in found for run in one.plan.runs}
    there = sum(runs.values())
    told = [
        f"{counted(len(found), 'comparison')} with {ablation.baseline.version}, {counted(len(runs), 'run')} in all"
        + (f", {there} of them there already" if there else "")
    ]
    if same := [variant.step for variant in ablation.variants if variant.same]:
        told.append(f"not trained, as the rows are the same with and without: {', '.join(same)}")
    if shared:
        told.append(f"not trained, as it shares prompts with the eval set: {', '.join(shared)}")
    if not found:
        return told
    left = len(runs) - there
    first = next((one for one in found if not one.done), found[0])
    items = next(evalset.rows for evalset in ws.evalsets() if evalset.name == first.evalset)
    if first.plan.budget.minutes and left:
        told.append(f"about {question.minutes:g} min in all; the first steps measure what they buy")
    elif not left:
        told.append("all of it was compared before")
    elif (seconds := expected_seconds(ws, first.plan, items, {"lora": left})) is None:
        told.append("how long it takes is not known yet: this model was not trained here before")
    else:
        told.append(f"about {duration(seconds)} in all, by earlier runs of this model")
    told.append(smallest_effect(first))
    return told + [f"warning: {doubt}" for doubt in first.doubts]
