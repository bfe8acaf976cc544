"""From two versions to one verdict: arms become a job, its results are stored, statistics make the verdict.

An experiment is named by what it asks (data, model, setting, budget, seeds, eval set), so asking the same thing
again finds the answer, and a killed experiment resumes. The three parts, `plan`, `run_job` on its folder and
`conclude`, need the database only at their ends: while a job runs, other processes can work in the workspace.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.models import DEFAULT_MODEL, load_tokenizer, resolve_model
from trainer.plan import Budget, Evaluation, ExperimentPlan, ModelSetting, PolicySetting, Run, TrainingSetting
from trainer.protocol import PLAN, write_atomic
from trainer.verdict import DEFAULT_METRICS, PRIMARIES
from workbench import earlier_runs
from workbench.earlier_runs import EarlierRun
from workbench.errors import SharedPrompts, UsageProblem
from workbench.forecast import expected_bytes, expected_seconds, least_seconds
from workbench.jobs import OnEvent, run_job
from workbench.outcomes import BASELINE, CANDIDATE, NOISE, clusters_of, expected_mde, noise_floors
from workbench.prospects import doubts, gain_of_training
from workbench.store import experiments as rows
from workbench.store.database import VersionRow
from workbench.store.evalsets import EvalSet
from workbench.workspace import Workspace

DEFAULT_SEEDS = 3
DEFAULT_MINUTES = 10.0
BASE_ANSWERS = "base-answers.parquet"


@dataclass(frozen=True)
class Question:
    """What a person asks for. `trained_tokens` or `minutes`, not both; neither means `DEFAULT_MINUTES`."""

    baseline: str
    candidate: str | None
    """None trains the baseline alone."""
    evalset: str | None = None
    model: str | None = None
    quantize: Literal["nf4", "none", "auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seeds: int = DEFAULT_SEEDS
    trained_tokens: int | None = None
    minutes: float | None = None
    training: TrainingSetting | None = None
    policy: PolicySetting = field(default_factory=PolicySetting)
    max_new_tokens: int = 96
    stretch: bool = False
    """Whether the fewest steps worth comparing are made even where they take longer than `minutes`."""


@dataclass(frozen=True)
class Experiment:
    """A planned experiment: its folder holds all that the job needs.

    `mde` is the smallest effect on the primary metric that earlier runs of this setting let one expect to find;
    None without such runs. `seconds` is how long the whole will take, by earlier runs of the model; None without.
    """

    id: str
    name: str
    folder: Path
    plan: ExperimentPlan
    arms: dict[str, str]
    evalset: str
    done: bool
    mde: float | None
    seconds: float | None
    taken: dict[str, str] = field(default_factory=dict)
    """Runs that are not made again, and the earlier experiment each is taken over from."""
    disk: int | None = None
    """Bytes that its results will take, by earlier runs of the model; None without."""
    doubts: tuple[str, ...] = ()
    """Why it will hardly decide anything, as far as that can be told before."""


def plan(ws: Workspace, question: Question) -> Experiment:
    """Check the question, freeze its plan and inputs in a run folder, and note the experiment.

    Raises UsageProblem, NotFound, or SharedPrompts where a version shares prompts with the eval set.
    """
    return _plan(ws, question).write(ws)


def foresee(ws: Workspace, question: Question) -> Experiment:
    """What `plan` would give, without writing anything. Raises the same."""
    return _plan(ws, question).experiment(ws)


@dataclass(frozen=True)
class _Plan:
    """A question that was checked. `noted` is what the table of experiments has as its plan."""

    id: str
    versions: dict[str, VersionRow]
    evalset: EvalSet
    noted: dict[str, Any]

    @property
    def name(self) -> str:
        return " vs ".join(version.name for version in self.versions.values())

    def experiment(self, ws: Workspace) -> Experiment:
        """As it stands in the workspace, or as it would."""
        there = rows.get_experiment(ws.store, self.id)
        return _experiment(ws, there.id) if there else _as_noted(ws, self.id, self.name, self.noted, done=False)

    def write(self, ws: Workspace) -> Experiment:
        """Write the run folder and note the experiment, as far as that was not done before."""
        there = rows.get_experiment(ws.store, self.id)
        folder = ws.runs_dir / self.id
        if there is None:
            job = ExperimentPlan.model_validate(self.noted["job"])
            _write_folder(ws, folder, job, self.versions, self.evalset, self.noted)
            rows.save_experiment(ws.store, self.id, self.name, json.dumps(self.noted))
        elif there.state != "done" and not (folder / PLAN).exists():
            # What was asked stands as it was asked: what is known by now must not change it under way.
            noted = json.loads(there.plan)
            asked = ExperimentPlan.model_validate(noted["job"])
            _write_folder(ws, folder, asked, self.versions, self.evalset, noted)
        return _experiment(ws, self.id)


def _plan(ws: Workspace, question: Question) -> _Plan:
    if question.seeds < 1:
        raise UsageProblem("--seeds must be 1 or more")
    if question.minutes is not None and not 0 < question.minutes < math.inf:
        raise UsageProblem("--minutes must be more than 0")
    if question.trained_tokens and question.minutes:
        raise UsageProblem("--trained-tokens and --minutes both set the budget", do="Give one of them.")
    evalset = _eval_set(ws, question.evalset)
    names = {BASELINE: question.baseline} | ({CANDIDATE: question.candidate} if question.candidate else {})
    versions = {arm: _version(ws, name) for arm, name in names.items()}
    for version in versions.values():
        _refuse_overlap(ws, version, evalset)
    model_name = question.model or ws.config.model or DEFAULT_MODEL
    model = ModelSetting(
        name=model_name,
        revision=resolve_model(model_name, weights=False).revision,
        quantize=question.quantize,
        device=question.device,
    )
    policy = _with_date(question.policy, model.name)
    budget = Budget(
        trained_tokens=question.trained_tokens,
        minutes=None if question.trained_tokens else question.minutes or DEFAULT_MINUTES,
    )
    evaluation = Evaluation(max_new_tokens=question.max_new_tokens)
    setting = _digest(
        model.model_dump(), policy.model_dump(), _dump(question.training), budget.model_dump(), evalset.id,
        evaluation.model_dump(),
    )  # fmt: skip
    history = noise_floors(ws, setting, evalset) if budget.trained_tokens else {}
    runs = _runs(versions, question.seeds, measure_noise=not history)
    base = _digest("base", model.model_dump(), policy.model_dump(), evalset.id, evaluation.model_dump())
    known_base = rows.runs_with(ws.store, base)
    experiment_plan = ExperimentPlan(
        model=model,
        policy=policy,
        training=question.training,
        budget=budget,
        arms={arm: f"{arm}.parquet" for arm in versions},
        token_cache="../../cache/tokens",
        runs=runs,
        evaluation=evaluation,
        base=not known_base,
        base_answers=BASE_ANSWERS if known_base else None,
        evaluation_seconds=json.loads(known_base[0].summary)["evaluation_seconds"] if known_base else None,
        stretch=question.stretch,
    )
    name = " vs ".join(version.name for version in versions.values())
    id = _digest(setting, name, [v.manifest_hash for v in versions.values()], question.seeds)[:10]
    keys = _run_keys(setting, budget, question.seeds, versions, runs)
    noted = {
        "arms": {arm: version.name for arm, version in versions.items()},
        "evalset": evalset.name,
        "seeds": question.seeds,
        "setting": setting,
        "base": base,
        "runs": keys,
        "taken": {run: asdict(earlier) for run, earlier in earlier_runs.find(ws, keys, id).items()},
        "job": experiment_plan.model_dump(),
    }
    return _Plan(id, versions, evalset, noted)


def _with_date(policy: PolicySetting, model: str) -> PolicySetting:
    """The policy with a day for templates that ask for one, and without one for the others.

    Today is frozen where none was given; but a template that never asks must not make tomorrow's question another
    one. Raises ModelUnavailable, before anything is written.
    """
    try:
        day = datetime.date.fromisoformat(policy.date) if policy.date else datetime.date.today()
    except ValueError:
        raise UsageProblem(f"--date takes a day as YYYY-MM-DD, not {policy.date!r}") from None
    template = policy.template or str(load_tokenizer(model).chat_template or "")
    return policy.model_copy(update={"date": day.isoformat() if "strftime_now" in template else None})


def find(ws: Workspace, name: str) -> Experiment:
    """An experiment of the workspace by id, the start of one, or name. Raises NotFound."""
    return _experiment(ws, rows.find_experiment(ws.store, name).id)


def asked(row: rows.ExperimentRow) -> Question:
    """The question that an experiment answers."""
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    return Question(
        baseline=noted["arms"][BASELINE],
        candidate=noted["arms"].get(CANDIDATE),
        evalset=noted["evalset"],
        model=job.model.name,
        quantize=job.model.quantize,
        device=job.model.device,
        seeds=noted["seeds"],
        trained_tokens=job.budget.trained_tokens,
        minutes=job.budget.minutes,
        training=job.training,
        policy=job.policy,
        max_new_tokens=job.evaluation.max_new_tokens,
        stretch=job.stretch,
    )


def run(experiment: Experiment, on_event: OnEvent) -> None:
    """Run or resume the experiment's job and wait for it. Needs no database. Raises what the job reports."""
    run_job("trainer", experiment.folder, on_event)


def _runs(versions: dict[str, VersionRow], seeds: int, *, measure_noise: bool) -> list[Run]:
    """Every arm with every seed. Equal data in both arms get different seeds: the same run twice tells nothing.

    One seed alone needs a second run of the baseline, unless the noise of this setting is known already.
    """
    same_data = len({version.manifest_hash for version in versions.values()}) < len(versions)
    runs = []
    for seed in range(seeds):
        for arm in versions:
            own = seed + seeds if same_data and arm == CANDIDATE else seed
            runs.append(Run(id=f"{arm}-{own}", arm=arm, seed=own))
    if seeds == 1 and measure_noise and CANDIDATE in versions:
        runs.append(Run(id=f"{BASELINE}-{NOISE}", arm=BASELINE, seed=1000))
    return runs


def _run_keys(
    setting: str, budget: Budget, seeds: int, versions: dict[str, VersionRow], runs: list[Run]
) -> dict[str, str]:
    """What tells runs apart, whichever experiment they belong to, by run id.

    How much a run trains by a budget in minutes depends on how many runs share them, hence on the seeds.
    """
    metrics = [spec.name for spec in DEFAULT_METRICS]
    shared = None if budget.trained_tokens else seeds
    return {run.id: _digest("run", setting, shared, metrics, versions[run.arm].manifest_hash, run.seed) for run in runs}


def _experiment(ws: Workspace, id: str) -> Experiment:
    row = rows.find_experiment(ws.store, id)
    return _as_noted(ws, row.id, row.name, json.loads(row.plan), done=row.state == "done")


def _as_noted(ws: Workspace, id: str, name: str, noted: dict[str, Any], *, done: bool) -> Experiment:
    evalset = _eval_set(ws, noted["evalset"])
    job = ExperimentPlan.model_validate(noted["job"])
    taken = {run: earlier["experiment"] for run, earlier in noted.get("taken", {}).items()}
    floors = noise_floors(ws, noted["setting"], evalset)
    floor = next((floors[name] for name in PRIMARIES if name in floors), None)
    left = len(job.runs) - len(taken)
    compares = CANDIDATE in noted["arms"] and not done
    return Experiment(
        id=id,
        name=name,
        folder=ws.runs_dir / id,
        plan=job,
        arms=noted["arms"],
        evalset=evalset.name,
        done=done,
        mde=expected_mde(floors, evalset.rows, noted["seeds"]),
        seconds=expected_seconds(ws, job, evalset.rows, left),
        taken=taken,
        disk=expected_bytes(ws, job, left),
        doubts=tuple(
            doubts(
                job,
                clusters_of(ws, evalset.name),
                noted["seeds"],
                floor,
                gain_of_training(ws, noted),
                # Runs that are taken over bring the steps that are made, whatever the minutes would buy.
                None if taken else least_seconds(ws, job, evalset.rows),
            )
            if compares
            else ()
        ),
    )


def _eval_set(ws: Workspace, name: str | None) -> EvalSet:
    known = ws.evalsets()
    if name is None and len(known) == 1:
        return known[0]
    if name is None and not known:
        raise UsageProblem(
            "there is no eval set to measure on",
            do="`workbench evalset import FILE --name E` brings one in; `workbench evalset hold-out` makes one.",
        )
    if name is None:
        raise UsageProblem(f"which eval set? There are {', '.join(e.name for e in known)}", do="Give --evalset NAME.")
    from workbench.store.evalsets import get_eval_set

    return get_eval_set(ws.store, name)


def _version(ws: Workspace, name: str) -> VersionRow:
    version = ws.store.version(name)
    if version:
        return version
    if any(source.name == name for source in ws.sources()):
        raise UsageProblem(
            f"{name!r} is a source, and only frozen versions are trained on",
            do=f"Freeze it first: workbench versions freeze {name} --name V.",
        )
    from workbench.store.versions import get_version

    get_version(ws.store, name)
    raise AssertionError("get_version names what is missing")


_shared: dict[tuple[str, str], int] = {}
"""Rows that a version shares with an eval set, by their manifest hashes: a person who asks is told again and again."""


def _refuse_overlap(ws: Workspace, version: VersionRow, evalset: EvalSet) -> None:
    both = (version.manifest_hash, evalset.manifest_hash)
    if both not in _shared:
        _shared[both] = ws.overlaps(version.name, evalset.name)
    if shared := _shared[both]:
        raise SharedPrompts(
            f"{shared:,} rows of version {version.name!r} have the prompt of an item of eval set {evalset.name!r}",
            where=version.name,
            do=f"Freeze a version without them: workbench versions freeze {version.name} --name V "
            f"--without {evalset.name}.",
        )


def _write_folder(
    ws: Workspace,
    folder: Path,
    job: ExperimentPlan,
    versions: dict[str, VersionRow],
    evalset: EvalSet,
    noted: dict[str, Any],
) -> None:
    """Inputs and earlier results first, the plan last: a folder with a plan is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm, version in versions.items():
        batches = ws.rows(version.name)
        columns = ["content_hash", "messages", "tools"]
        schema = pa.schema([(column, pa.string()) for column in columns])
        with pq.ParquetWriter(folder / job.arms[arm], schema) as writer:
            for batch in batches:
                writer.write_batch(batch.select(columns).cast(schema))
    items = ws.eval_rows(evalset.name)
    clusters = pa.array(clusters_of(ws, evalset.name))
    pq.write_table(items.set_column(items.column_names.index("cluster"), "cluster", clusters), folder / "eval.parquet")
    if job.base_answers:
        known = rows.answers(ws.store, [rows.runs_with(ws.store, noted["base"])[0].id])
        pq.write_table(known.select(["eval_item", "text"]).rename_columns(["item", "text"]), folder / job.base_answers)
    arms = {run.id: run.arm for run in job.runs}
    taken = {run: EarlierRun(**found) for run, found in noted.get("taken", {}).items()}
    earlier_runs.take_over(ws, taken, arms, folder)
    write_atomic(folder / PLAN, job.model_dump_json(indent=1))


def _dump(setting: TrainingSetting | None) -> dict[str, Any] | None:
    return setting.model_dump() if setting else None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def note_state(ws: Workspace, id: str, state: Literal["running", "stopped", "failed"]) -> None:
    """Note how the job of experiment `id` stands, or that it ended without a result."""
    rows.set_state(ws.store, id, state)
