"""Comparisons as people follow them: what was compared and how it stands, and jobs that run while one does else.

`Jobs` starts and stops the jobs of experiments and is asked now and then how they are; when one has ended its
result is made. It loads no model, and statistics only when there is a result to be made.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.protocol import DONE, LOG, PLAN, read_events
from workbench import jobs
from workbench.arms import BASELINE, CANDIDATE, labels_of
from workbench.errors import Problem, Stopped
from workbench.experiment_removal import Removal, remove_experiment
from workbench.fitting import fit
from workbench.following import Progress, planned_runs
from workbench.forecast import PACE
from workbench.report.pairs import comparisons
from workbench.report.verdict import plain_name
from workbench.store import experiments as rows
from workbench.store.experiments import ExperimentRow, State
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.experiments import Experiment, Question
    from workbench.workspace import Workspace


OUTCOMES = ("better", "mixed", "no difference detected", "worse")
"""The words of verdicts, the best first."""


def budget_told(trained_tokens: int | None, minutes: float | None, epochs: int | None) -> str:
    """A budget as it was asked for."""
    if epochs:
        return counted(epochs, "epoch")
    return f"{trained_tokens:,} tokens" if trained_tokens else f"{round(minutes or 0, 2):g} min"


def words_told(words: Sequence[str]) -> str:
    """How often each word of verdicts came."""
    counts = ", ".join(f"{words.count(word)} {word}" for word in OUTCOMES if word in words)
    return counts.removesuffix(" detected").replace(" detected,", ",")


@dataclass(frozen=True)
class Listed:
    """An experiment in a list. `delta` is candidate minus baseline on the metric `primary`, with its interval `ci`.

    Of several candidates these and `verdict` are of the first; `verdicts` has all, by the names of the candidates, and
    `against` what each was compared with. `labels` is how each arm is called, which tells settings of a sweep apart.
    `judge_waits` where a judge has not said all yet, so that the verdict does without it.
    `progress` is there for those whose job has told something and that are not done; `why` says what failed.
    """

    id: str
    name: str
    state: State
    arms: dict[str, str]
    labels: dict[str, str]
    evalset: str
    model: str
    quantize: str
    seeds: int
    trained_tokens: int | None
    minutes: float | None
    epochs: int | None
    created_at: datetime
    finished_at: datetime | None
    log: Path
    verdict: str | None = None
    verdicts: tuple[tuple[str, str], ...] = ()
    against: tuple[str, ...] = ()
    primary: str | None = None
    delta: float | None = None
    ci: tuple[float | None, float | None] | None = None
    judge_waits: bool = False
    progress: Progress | None = None
    why: str = ""

    @property
    def budget(self) -> str:
        """The budget as it was asked for."""
        return budget_told(self.trained_tokens, self.minutes, self.epochs)

    @property
    def verdict_told(self) -> str | None:
        """The verdict; of several candidates, how often each word came. A judge that is not done is named."""
        words = [word for _, word in self.verdicts]
        told = self.verdict if len(words) < 2 else words_told(words)
        return f"{told}, judge waiting" if told and self.judge_waits else told


@dataclass(frozen=True)
class Seen:
    """How the experiments stand, oldest first, and a sentence for each job that has ended since the last look."""

    experiments: list[Listed] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


def listing(ws: Workspace) -> list[Listed]:
    """All experiments, oldest first; what has ended by now gets its result."""
    return Jobs(ws).look().experiments


def settle(ws: Workspace, row: ExperimentRow, *, asked: bool = False) -> ExperimentRow:
    """Note what became of an experiment whose job does not run: its result where everything was measured.

    `asked` tells that somebody stopped it. An experiment that is done stays as it is. Raises Problem where what was
    measured makes no result.
    """
    if row.state == "done":
        return row
    from workbench import outcomes

    if outcomes.is_measured(ws, row.id):
        outcomes.conclude(ws, row.id)
    else:
        ended = jobs.ending(ws.runs_dir / row.id)
        rows.set_state(ws.store, row.id, "stopped" if asked or isinstance(ended, Stopped) else "failed")
    return rows.find_experiment(ws.store, row.id)


@dataclass
class _Followed:
    """An experiment that is not done: its plan, how far its events were read, and what they came to."""

    listed: Listed
    progress: Progress
    snapshot: Progress
    position: int = 0
    why: str = ""


class Jobs:
    """The experiments of a workspace and their jobs. Methods wait, for the disk or a job: call them in a worker."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._lock = threading.Lock()
        self._done: dict[str, Listed] = {}
        self._followed: dict[str, _Followed] = {}
        self._running: set[str] = set()
        self._stopping: set[str] = set()
        self._refused: set[str] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def look(self) -> Seen:
        """How all experiments stand now; what ended since the last look gets its result, and is told."""
        with self._lock:
            listed, ended = [], []
            for id, state in rows.states(self._ws.store):
                if state == "done":
                    listed.append(self._finished(id))
                    continue
                followed = self._follow(id)
                if self._is_running(id):
                    self._running.add(id)
                    state = "running"
                elif state == "running" or id in self._running or self._came_back(id):
                    sentence, state = self._settle(id, followed)
                    ended.append(sentence)
                listed.append(self._finished(id) if state == "done" else self._unfinished(followed, state))
            return Seen(listed, ended)

    def start(self, id: str) -> None:
        """Start or resume the job of an experiment that is not done; one that runs is left alone.

        Raises Problem where its run folder is gone.
        """
        with self._lock:
            if self._is_running(id):
                return
            folder = self._folder(id)
            if not (folder / PLAN).exists():
                do = "Compare the versions again: that makes it."
                raise Problem("the run folder is gone", where=str(folder), do=do)
            self._refused.discard(id)
            self._stopping.discard(id)
            if followed := self._followed.get(id):
                followed.why = ""
            from workbench import outcomes

            rows.set_state(self._ws.store, id, "running")
            if not (folder / DONE).exists() and not outcomes.is_measured(self._ws, id):
                self._processes[id] = jobs.start("trainer", folder)

    def begin(self, question: Question, cancelled: Callable[[], bool] = lambda: False) -> str:
        """Plan a comparison and start its job, where it is not done; returns the experiment's id.

        Raises as `experiments.plan`; Stopped where it was called off meanwhile, and then what is new is taken back: the
        experiment, and the versions that were made for its controls.
        """
        from workbench.experiments import plan

        known = dict(rows.states(self._ws.store))
        versions = {version.name for version in self._ws.versions()}
        planned = plan(self._ws, question)
        if cancelled():
            if planned.id not in known:
                self.remove(planned.id)
                made = {version.name for version in self._ws.versions()} - versions
                for name in made & set(planned.arms.values()):
                    self._ws.remove_version(name)
            raise Stopped("called off")
        if not planned.done:
            self.start(planned.id)
        return planned.id

    def remove(self, id: str) -> Removal:
        """Delete an experiment with all that is its own; see `workbench.experiment_removal`."""
        with self._lock:  # nobody looks at it, or starts it, meanwhile
            removal = remove_experiment(self._ws, id)
            for known in (self._done, self._followed, self._processes):
                known.pop(id, None)
            for ids in (self._running, self._stopping, self._refused):
                ids.discard(id)  # asked again, the same question has the same id
            return removal

    def stop(self, id: str) -> None:
        """Stop the job of an experiment and wait until it has left its checkpoint."""
        self._stopping.add(id)
        jobs.stop(self._folder(id), self._processes.get(id))

    # Inside

    def _folder(self, id: str) -> Path:
        return self._ws.runs_dir / id

    def _is_running(self, id: str) -> bool:
        process = self._processes.get(id)
        if process and process.poll() is None:
            return True
        self._processes.pop(id, None)
        folder = self._folder(id)
        return folder.is_dir() and jobs.is_running(folder)

    def _came_back(self, id: str) -> bool:
        """Whether its job was run to the end elsewhere: in another terminal, on another machine."""
        return id not in self._refused and (self._folder(id) / DONE).exists()

    def _finished(self, id: str) -> Listed:
        if id not in self._done:
            self._done[id] = _listed(self._ws, rows.find_experiment(self._ws.store, id))
            self._followed.pop(id, None)
            self._running.discard(id)
        return self._done[id]

    def _follow(self, id: str) -> _Followed:
        if id not in self._followed:
            row = rows.find_experiment(self._ws.store, id)
            noted = json.loads(row.plan)
            made = [run for run in planned_runs(noted["job"]) if run.id not in noted.get("taken", {})]
            progress = Progress(made)
            self._followed[id] = _Followed(_listed(self._ws, row), progress, progress.snapshot())
        followed = self._followed[id]
        events, followed.position = read_events(self._folder(id), followed.position)
        for event in events:
            followed.progress.take(event)
        if events:
            followed.snapshot = followed.progress.snapshot()
        return followed

    def _unfinished(self, followed: _Followed, state: State) -> Listed:
        if state == "failed" and not followed.why:
            followed.why = str(jobs.ending(self._folder(followed.listed.id)))
        why = followed.why if state == "failed" else ""
        return replace(followed.listed, state=state, why=why, progress=followed.snapshot)

    def _settle(self, id: str, followed: _Followed) -> tuple[str, State]:
        self._running.discard(id)
        row = rows.find_experiment(self._ws.store, id)
        try:
            row = settle(self._ws, row, asked=id in self._stopping)
        except Exception as error:
            # Once is enough: what cannot be read now cannot be read a second later.
            rows.set_state(self._ws.store, id, "failed")
            self._refused.add(id)
            followed.why = str(error)
            if not isinstance(error, Problem):
                raise
            return f"{row.name} failed: {error}", "failed"
        if row.state == "done":
            return told(self._finished(id)), "done"
        if row.state == "failed":
            return f"{row.name} failed: {jobs.ending(self._folder(id))}", "failed"
        return f"{row.name} is stopped; resumed, it goes on where it was.", "stopped"


def told(done: Listed) -> str:
    """An experiment that is done, in a sentence."""
    if done.verdict is None:
        return f"{done.name} is trained."
    if len(done.verdicts) > 1:
        said: dict[str, list[str]] = {}
        for (candidate, verdict), against in zip(done.verdicts, done.against, strict=True):
            said.setdefault(against, []).append(f"{candidate} {verdict}")
        return " ".join(f"Against {against}: {', '.join(each)}." for against, each in said.items())
    text = f"{done.labels[CANDIDATE]} against {done.labels[BASELINE]}: {done.verdict}"
    if done.delta is None:
        return f"{text}."
    unit = "nats a token" if done.primary == "response_nll" else plain_name(done.primary or "")
    return f"{text} ({done.delta:+.3f} {unit})."


def promises(experiment: Experiment) -> list[str]:
    """What an experiment will cost and what it can show, before it is run, as far as that is known: sentences."""
    from rich.filesize import decimal as size_text

    plan, told = experiment.plan, []
    budget = plan.budget
    if budget.epochs:
        swept = dict.fromkeys(own.epochs for own in plan.settings.values() if own.epochs)
        passes = " or ".join(counted(epochs, "epoch") for epochs in swept or [budget.epochs])
        size = f"{passes} of each version's own rows"
    elif budget.trained_tokens:
        size = f"{budget.trained_tokens:,} trained tokens a run"
    else:
        size = f"{round(budget.minutes or 0, 2):g} minutes"
    n_merged = sum(run.arm in plan.merged for run in plan.runs)
    runs = counted(len(plan.runs) - n_merged, "run") + (f" and {n_merged} merged of them" if n_merged else "")
    told.append(f"{experiment.name} · {runs} · {size} · {plan.model.name} · eval set {experiment.evalset}")
    if len(experiment.arms) > 2:
        sizes = {arm: counted(count, "row") for arm, count in experiment.rows.items()}
        names = experiment.labels if plan.settings else experiment.arms
        each = (f"{arm} {names[arm]} ({sizes.get(arm, 'not trained')})" for arm in experiment.arms)
        told.append(f"{len(experiment.arms)} arms: {', '.join(each)}")
    if experiment.taken:
        earlier = " and ".join(dict.fromkeys(experiment.taken.values()))
        told.append(f"{counted(len(experiment.taken), 'run')} taken over from {earlier}: not made again")
    if experiment.is_taken_over:
        return [*told, "nothing is left to be trained"]
    if budget.minutes and not experiment.taken:
        told.append("the first steps measure what the minutes buy")
    elif budget.epochs or plan.whole:
        told.append("how long it takes shows in the first steps: rows are counted in tokens by then")
    elif experiment.seconds is None:
        told.append("how long it takes is not known yet: this model was not trained here before")
    else:
        told.append(f"about {duration(experiment.seconds)} in all, by earlier runs of this model")
        told += [
            f"it was not trained by {method} here yet: taken to need {PACE[method]:g} times as long as by lora"
            for method in experiment.guessed
        ]
    if len(experiment.arms) > 1:
        told.append(smallest_effect(experiment))
    if experiment.disk is not None:
        free = shutil.disk_usage(experiment.folder.parent).free
        told.append(f"about {size_text(experiment.disk)} on disk, where {size_text(free)} are free")
    if needed := fit(plan, experiment.labels):
        told += needed.sentences()
    return told + [f"warning: {doubt}" for doubt in experiment.doubts]


def smallest_effect(experiment: Experiment) -> str:
    """What is known before of the smallest effect that an experiment will find, in a sentence."""
    candidates = sum(name.startswith(CANDIDATE) for name in experiment.arms) + len(experiment.plan.merged)
    each = f", for each of {candidates} candidates together" if candidates > 1 else ""
    if experiment.mde is None:
        return "the smallest effect to be found is not known yet: it takes two runs on the same data by this setting"
    if not math.isfinite(experiment.mde):
        return "the smallest effect to be found is not known: earlier runs on the same data did not differ at all"
    if experiment.decides == "win_rate":
        found = f"one of {0.5 + experiment.mde:.0%} would be found" if experiment.mde < 0.5 else "none would be found"
        return (
            "the judge's win rate decides: how far training again moves it is not known before; if not at all, "
            f"{found}{each}"
        )
    unit = "nats" if experiment.decides == "response_nll" else f"of {plain_name(experiment.decides)}"
    return f"smallest effect to be found, by earlier runs of this setting: {experiment.mde:.3f} {unit}{each}"


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _listed(ws: Workspace, row: ExperimentRow) -> Listed:
    noted = json.loads(row.plan)
    job = noted["job"]
    result: dict[str, Any] = json.loads(row.result) if row.result else {}
    primary = _primary(result)
    return Listed(
        id=row.id,
        name=row.name,
        state=row.state,
        arms=noted["arms"],
        labels=labels_of(noted),
        evalset=noted["evalset"],
        model=job["model"]["name"],
        quantize=job["model"]["quantize"],
        seeds=noted["seeds"],
        trained_tokens=job["budget"]["trained_tokens"],
        minutes=job["budget"]["minutes"],
        epochs=job["budget"].get("epochs"),
        created_at=row.created_at,
        finished_at=row.finished_at,
        log=ws.runs_dir / row.id / LOG,
        verdict=result.get("verdict"),
        verdicts=tuple((one["candidate"], one["verdict"]) for one in comparisons(result)),
        against=tuple(one["baseline"] for one in comparisons(result)),
        primary=primary.get("name"),
        delta=primary.get("delta"),
        ci=tuple(primary["ci"]) if "ci" in primary else None,
        judge_waits=(result.get("judge") or {}).get("state") == "waiting",
    )


def _primary(result: dict[str, Any]) -> dict[str, Any]:
    metrics: Sequence[dict[str, Any]] = result.get("metrics") or ()
    return next((metric for metric in metrics if metric["name"] == result.get("primary")), {})


@dataclass(frozen=True)
class Setup:
    """What a comparison is asked with: the eval sets there are, (name, items), and a question to begin with.

    `last` names the experiment that the question was taken from; empty where there was none.
    """

    evalsets: list[tuple[str, int]]
    question: Question
    last: str


def setup(ws: Workspace, baseline: str, candidate: str) -> Setup:
    """What to begin with in asking for a comparison: settings as in the newest one, so that its runs tell of this one.

    Without one, the defaults.
    """
    from trainer.models import DEFAULT_MODEL
    from workbench.experiments import DEFAULT_MINUTES, Question, asked

    evalsets = [(evalset.name, evalset.rows) for evalset in ws.evalsets()]
    known = rows.experiments(ws.store)
    if not known:
        model = ws.config.model or DEFAULT_MODEL
        return Setup(evalsets, Question(baseline, candidate, model=model, minutes=DEFAULT_MINUTES), "")
    last = asked(known[-1])
    minutes = None if last.trained_tokens else last.minutes or DEFAULT_MINUTES
    same = replace(last, more=(), controls=(), sweep=None, merges=(), epochs=None, minutes=minutes, judge=None)
    return Setup(evalsets, replace(same, baseline=baseline, candidate=candidate), known[-1].name)


def apart_from(ws: Workspace, version: str, evalset: str) -> str:
    """A version that shares no prompt with an eval set: itself, or one frozen now without those rows; its name."""
    if not ws.overlaps(version, evalset):
        return version
    frozen, _ = ws.freeze(version, f"{version}-without-{evalset}", [evalset])
    return frozen.name
