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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.failures import forget_failures
from trainer.models import DEFAULT_MODEL, load_tokenizer, resolve_model
from trainer.plan import Budget, Evaluation, ExperimentPlan, Method, ModelSetting, PolicySetting, TrainingSetting
from trainer.preference import WIN_RATE
from trainer.protocol import DONE, PLAN, write_atomic
from trainer.verdict import PRIMARIES
from workbench import earlier_runs
from workbench.arms import (
    BASELINE,
    candidate_arms,
    candidates_of,
    controls_of,
    digest,
    families_of,
    labels_of,
    plan_runs,
    run_keys,
)
from workbench.asked_data import find_eval_set, find_version, refuse_overlap
from workbench.controls import FULL, make_controls
from workbench.earlier_runs import EarlierRun
from workbench.errors import UsageProblem
from workbench.forecast import expected_bytes, expected_seconds, least_seconds, methods_of, unknown_methods
from workbench.jobs import OnEvent, run_job
from workbench.measurements import clusters_of, noise_floors
from workbench.merged_arms import check_parts, make_merged, merged_hashes, merged_keys, merged_of, said, spelled
from workbench.outcomes import has_results
from workbench.preferences import AskedJudge, judge_of
from workbench.prospects import doubts, expected_mde, gain_of_training, least_win_rate
from workbench.resources import general_text
from workbench.store import experiments as rows
from workbench.store.database import VersionRow
from workbench.store.evalsets import EvalSet
from workbench.sweep import Sweep, usual_setting
from workbench.workspace import Workspace

DEFAULT_SEEDS = 3
DEFAULT_MINUTES = 10.0
BASE_ANSWERS = "base-answers.parquet"
GENERAL = "general.txt"


@dataclass(frozen=True)
class Question:
    """What a person asks for. One of `trained_tokens`, `minutes` and `epochs`; none means `DEFAULT_MINUTES`."""

    baseline: str
    candidate: str | None
    """None trains the baseline alone."""
    more: tuple[str, ...] = ()
    """Further candidates, each compared with the baseline."""
    controls: tuple[str, ...] = ()
    """Kinds of arms made from the baseline, by which candidates are measured: see `workbench.controls`."""
    merges: tuple[str, ...] = ()
    """Arms made of the adapters of others, as `--merge` takes them: see `workbench.merged_arms`."""
    evalset: str | None = None
    model: str | None = None
    quantize: Literal["nf4", "none", "auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seeds: int = DEFAULT_SEEDS
    trained_tokens: int | None = None
    minutes: float | None = None
    epochs: int | None = None
    """Passes of each arm over its own rows, in place of a budget that is the same for all."""
    training: TrainingSetting | None = None
    policy: PolicySetting = field(default_factory=PolicySetting)
    max_new_tokens: int = 96
    stretch: bool = False
    """Whether the fewest steps worth comparing are made even where they take longer than `minutes`."""
    judge: AskedJudge | None = None
    """Who says which answers are better, and so decides."""
    sweep: Sweep | None = None
    """Methods and settings under each of which all versions are trained, in place of one."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """All of them, in order."""
        return ((self.candidate,) if self.candidate is not None else ()) + self.more

    @property
    def usual(self) -> TrainingSetting:
        """The training setting that a sweep starts from."""
        return usual_setting(self.training, self.trained_tokens)


@dataclass(frozen=True)
class Experiment:
    """A planned experiment: its folder holds all that the job needs.

    `mde` is the smallest effect on the metric `decides` that earlier runs of this setting let one expect to find; None
    without such runs, and of a judge's win rate what would be found if training again moved nothing. `seconds` is how
    long the whole will take, by earlier runs of the model; None without.
    """

    id: str
    name: str
    folder: Path
    plan: ExperimentPlan
    arms: dict[str, str]
    rows: dict[str, int]
    evalset: str
    done: bool
    mde: float | None
    seconds: float | None
    taken: dict[str, str] = field(default_factory=dict)
    """Runs that are not made again, and the earlier experiment each is taken over from."""
    disk: int | None = None
    """Bytes that its results will take, by earlier runs of the model; None without."""
    labels: dict[str, str] = field(default_factory=dict)
    """How each arm is called before people."""
    guessed: tuple[Method, ...] = ()
    """Methods whose pace is reckoned from that of others in `seconds`: the model was not trained by them here yet."""
    doubts: tuple[str, ...] = ()
    """Why it will hardly decide anything, as far as that can be told before."""
    decides: str = "response_nll"
    """The metric that its verdict will stand on, as far as that is known."""
    judge_waits: bool = False
    """Whether it is done but for its judge."""

    @property
    def is_taken_over(self) -> bool:
        """Whether earlier experiments made all of its runs."""
        return not self.plan.base and all(run.id in self.taken for run in self.plan.runs)


def plan(ws: Workspace, question: Question) -> Experiment:
    """Check the question, freeze its plan and inputs in a run folder, and note the experiment.

    Raises UsageProblem, NotFound, or SharedPrompts where a version shares prompts with the eval set.
    """
    return _plan(ws, question, dry_run=False).write(ws)


def foresee(ws: Workspace, question: Question) -> Experiment:
    """What `plan` would give, without writing anything. Raises the same."""
    return _plan(ws, question, dry_run=True).experiment(ws)


@dataclass(frozen=True)
class _Plan:
    """A question that was checked. `noted` is what the table of experiments has as its plan."""

    id: str
    versions: dict[str, VersionRow]
    evalset: EvalSet
    noted: dict[str, Any]

    @property
    def name(self) -> str:
        arms = [BASELINE, *candidates_of(self.noted)]
        named = [self.versions[arm].name for arm in arms if arm in self.versions]
        if sweep := self.noted.get("sweep"):
            settings = ", ".join(dict.fromkeys(sweep["labels"].values()))
            return f"{' vs '.join(dict.fromkeys(named))} by {settings}"
        kinds = list(dict.fromkeys(made["kind"] for made in controls_of(self.noted).values()))
        if merged := merged_of(self.noted):
            kinds.append(f"merged by {', '.join(dict.fromkeys(made.how for made in merged.values()))}")
        told = " vs ".join(named)
        return f"{told} ({', '.join(kinds)})" if kinds else told

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


def _plan(ws: Workspace, question: Question, *, dry_run: bool) -> _Plan:
    """Check a question. Versions that controls need are made, but for a `dry_run`."""
    budget = _budget(question)
    evalset = find_eval_set(ws, question.evalset)
    swept = question.sweep.arms(_asked_versions(question), question.usual) if question.sweep else []
    asked_versions = [version for version, _, _ in swept] or _asked_versions(question)
    names = dict(zip((BASELINE, *candidate_arms(len(asked_versions) - 1)), asked_versions, strict=True))
    own = {arm: setting for arm, (_, _, setting) in zip(names, swept, strict=False)}
    training = question.usual if own else question.training
    versions = {arm: find_version(ws, name) for arm, name in names.items()}
    for version in versions.values():
        refuse_overlap(ws, version, evalset)
    model_name = question.model or ws.config.model or DEFAULT_MODEL
    model = ModelSetting(
        name=model_name,
        revision=resolve_model(model_name, weights=False).revision,
        quantize=own[BASELINE].quantize if own else question.quantize,
        device=question.device,
    )
    policy = _with_date(question.policy, model.name)
    candidates = {arm: version for arm, version in versions.items() if arm != BASELINE}
    controls = make_controls(ws, question.controls, versions[BASELINE], candidates, dry_run=dry_run)
    versions |= {arm: control.version for arm, control in controls.items()}
    whole = [arm for arm, control in controls.items() if control.kind == FULL]
    general = hashlib.sha256(general_text().encode()).hexdigest()
    evaluation = Evaluation(max_new_tokens=question.max_new_tokens, general=general)

    def setting_hash(model: ModelSetting, training: TrainingSetting | None, budget: Budget) -> str:
        measured = (evalset.id, evaluation.model_dump())
        return digest(model.model_dump(), policy.model_dump(), _dump(training), _dump(budget), *measured)

    settings = {
        arm: setting_hash(
            model.model_copy(update={"quantize": each.quantize}),
            each.training,
            Budget(epochs=each.epochs) if each.epochs else budget,
        )
        for arm, each in own.items()
    } or dict.fromkeys(versions, setting_hash(model, training, budget))
    setting = settings[BASELINE]
    history = noise_floors(ws, setting, evalset) if not budget.minutes else {}
    called = {arm: version.name for arm, version in versions.items()}
    merged = make_merged(question.merges, {arm: name for arm, name in called.items() if arm not in controls})
    hashes = {arm: version.manifest_hash for arm, version in versions.items()}
    all_hashes = hashes | merged_hashes(merged, hashes)
    # What a judge makes of two runs on the same data is known of no other experiment.
    # Under different settings, runs on the same data are to have the same seeds.
    apart = {arm: hash + settings[arm] if own else hash for arm, hash in all_hashes.items()}
    runs = plan_runs(apart, question.seeds, measure_noise=not history or question.judge is not None)
    base = digest("base", model.model_dump(), policy.model_dump(), evalset.id, evaluation.model_dump())
    known_base = rows.runs_with(ws.store, base)
    experiment_plan = ExperimentPlan(
        model=model,
        policy=policy,
        training=training,
        budget=budget,
        settings=own,
        arms={arm: f"{arm}.parquet" for arm in versions},
        merged=merged,
        whole=whole,
        token_cache="../../cache/tokens",
        runs=runs,
        evaluation=evaluation,
        base=not known_base,
        base_answers=BASE_ANSWERS if known_base else None,
        evaluation_seconds=json.loads(known_base[0].summary)["evaluation_seconds"] if known_base else None,
        stretch=question.stretch,
    )
    check_parts(experiment_plan, called)
    trained = [run for run in runs if run.arm not in merged]
    keys = run_keys(settings, budget, question.seeds, hashes, whole, trained, len(merged))
    keys |= merged_keys(experiment_plan, keys)
    noted = {
        "arms": called | {arm: said(made, called) for arm, made in merged.items()},
        "rows": {arm: version.rows for arm, version in versions.items()},
        "controls": {arm: {"kind": control.kind, "of": list(control.of)} for arm, control in controls.items()},
        "evalset": evalset.name,
        "seeds": question.seeds,
        "setting": setting,
        "base": base,
        "runs": keys,
        "job": experiment_plan.model_dump(),
    } | ({"judge": asdict(question.judge)} if question.judge else {})
    if question.sweep:
        labels = {arm: label for arm, (_, label, _) in zip(names, swept, strict=True)}
        noted["sweep"] = question.sweep.as_json() | {"labels": labels, "settings": settings}
    planned = _Plan("", versions, evalset, noted)
    judged = [question.judge.scorer, question.judge.fingerprint] if question.judge else []
    id = digest(setting, planned.name, list(apart.values()), question.seeds, *judged)[:10]
    taken = {run: asdict(earlier) for run, earlier in earlier_runs.find(ws, keys, id).items()}
    return replace(planned, id=id, noted=noted | {"taken": taken})


def _asked_versions(question: Question) -> tuple[str, ...]:
    if question.controls and not question.candidates:
        raise UsageProblem("a control needs a candidate that it is the control of")
    if question.merges and not question.candidates:
        raise UsageProblem("a merged arm is made of arms that are compared", do="Name them with `workbench compare`.")
    return (question.baseline, *question.candidates)


def _budget(question: Question) -> Budget:
    if question.seeds < 1:
        raise UsageProblem("--seeds must be 1 or more")
    if question.sweep:
        if question.seeds < 2:
            raise UsageProblem(
                "--seeds must be 2 or more in a sweep: how far training again moves a model differs between settings, "
                "and is seen between the seeds of each"
            )
        return question.sweep.budget(question.trained_tokens)
    if question.minutes is not None and not 0 < question.minutes < math.inf:
        raise UsageProblem("--minutes must be more than 0")
    if question.epochs is not None:
        if question.trained_tokens or question.minutes:
            raise UsageProblem(
                "--match epochs has no other budget: each version is trained on all of its own rows",
                do="Leave --trained-tokens and --minutes out, and set --epochs.",
            )
        if FULL in question.controls:
            raise UsageProblem(
                "--match epochs trains the baseline on all of its rows already: it is its own control",
                do="Leave full out.",
            )
        return Budget(epochs=question.epochs)
    if question.trained_tokens and question.minutes:
        raise UsageProblem("--trained-tokens and --minutes both set the budget", do="Give one of them.")
    if FULL in question.controls and not question.trained_tokens:
        raise UsageProblem(
            "--control full takes as long as all rows of the baseline do, and cannot share a budget in minutes",
            do="Give --trained-tokens for the other arms.",
        )
    return Budget(
        trained_tokens=question.trained_tokens,
        minutes=None if question.trained_tokens else question.minutes or DEFAULT_MINUTES,
    )


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
    merged, sweep = merged_of(noted), Sweep.from_json(noted["sweep"]) if "sweep" in noted else None
    names = [noted["arms"][arm] for arm in candidates_of(noted) if arm not in merged]
    if sweep:  # each version is in it under every setting
        names = list(dict.fromkeys(name for name in names if name != noted["arms"][BASELINE]))
    candidate, *more = names or [None]
    return Question(
        baseline=noted["arms"][BASELINE],
        candidate=candidate,
        more=tuple(more),
        controls=tuple(dict.fromkeys(made["kind"] for made in controls_of(noted).values())),
        merges=tuple(spelled(made, noted["arms"]) for made in merged.values()),
        evalset=noted["evalset"],
        model=job.model.name,
        quantize="auto" if sweep else job.model.quantize,
        device=job.model.device,
        seeds=noted["seeds"],
        trained_tokens=job.budget.trained_tokens,
        minutes=job.budget.minutes,
        epochs=None if sweep else job.budget.epochs,
        training=job.training,
        policy=job.policy,
        max_new_tokens=job.evaluation.max_new_tokens,
        stretch=job.stretch,
        judge=judge_of(noted),
        sweep=sweep,
    )


def open_again(ws: Workspace, experiment: Experiment) -> Experiment:
    """An experiment some of whose runs failed, so that its job makes these; any other as it is."""
    folder = experiment.folder
    if not experiment.done or not rows.failed_runs(ws.store, experiment.id) or not (folder / PLAN).exists():
        return experiment
    forget_failures(folder / "results")
    (folder / DONE).unlink(missing_ok=True)
    rows.set_state(ws.store, experiment.id, "stopped")
    return _experiment(ws, experiment.id)


def run(experiment: Experiment, on_event: OnEvent) -> None:
    """Run or resume the experiment's job and wait for it. Needs no database. Raises what the job reports.

    Where everything is measured, such as runs that are all taken over, no job is started.
    """
    if not has_results(experiment.folder, experiment.plan):
        run_job("trainer", experiment.folder, on_event)


def _experiment(ws: Workspace, id: str) -> Experiment:
    row = rows.find_experiment(ws.store, id)
    found = _as_noted(ws, row.id, row.name, json.loads(row.plan), done=row.state == "done")
    judge = json.loads(row.result or "{}").get("judge") or {}
    return replace(found, judge_waits=judge.get("state") == "waiting")


def _as_noted(ws: Workspace, id: str, name: str, noted: dict[str, Any], *, done: bool) -> Experiment:
    evalset = find_eval_set(ws, noted["evalset"])
    job = ExperimentPlan.model_validate(noted["job"])
    taken = {run: earlier["experiment"] for run, earlier in noted.get("taken", {}).items()}
    floors = noise_floors(ws, noted["setting"], evalset)
    judged, clusters = judge_of(noted) is not None, clusters_of(ws, evalset.name)
    decides = WIN_RATE if judged else next((name for name in PRIMARIES if name in floors), PRIMARIES[1])
    floor = floors.get(decides)
    left = [run for run in job.runs if run.id not in taken]
    trained = methods_of(job, left)
    compared = len(next(iter(families_of(noted)), []))
    mde = expected_mde(floor, clusters, noted["seeds"], compared) if floor else None
    return Experiment(
        id=id,
        name=name,
        folder=ws.runs_dir / id,
        plan=job,
        arms=noted["arms"],
        rows=noted.get("rows", {}),
        evalset=evalset.name,
        done=done,
        mde=least_win_rate(clusters, noted["seeds"], compared) if judged else mde,
        decides=decides,
        seconds=expected_seconds(ws, job, evalset.rows, trained, len(left) - trained.total()),
        guessed=tuple(unknown_methods(ws, job, trained)),
        taken=taken,
        labels=labels_of(noted),
        disk=expected_bytes(ws, job, left),
        doubts=tuple(
            doubts(
                job,
                clusters,
                noted["seeds"],
                floor,
                gain_of_training(ws, noted),
                compared,
                # Runs that are taken over bring the steps that are made, whatever the minutes would buy.
                None if taken else least_seconds(ws, job, evalset.rows),
            )
            if compared and not done
            else ()
        ),
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
    if job.evaluation.general:
        (folder / GENERAL).write_text(general_text(), encoding="utf-8", newline="")
    arms = {run.id: run.arm for run in job.runs}
    taken = {run: EarlierRun(**found) for run, found in noted.get("taken", {}).items()}
    earlier_runs.take_over(ws, taken, arms, folder)
    write_atomic(folder / PLAN, job.model_dump_json(indent=1))


_NOT_ALWAYS_THERE: dict[str, object] = {"epochs": None, "method": "lora", "peft": {}}


def _dump(setting: TrainingSetting | Budget | None) -> dict[str, Any] | None:
    """What names a setting. What was not always there changes no name where it is not used."""
    if setting is None:
        return None
    unused = {key for key, usual in _NOT_ALWAYS_THERE.items() if getattr(setting, key, usual) == usual}
    return setting.model_dump(exclude=unused)


def note_state(ws: Workspace, id: str, state: Literal["running", "stopped", "failed"]) -> None:
    """Note how the job of experiment `id` stands, or that it ended without a result."""
    rows.set_state(ws.store, id, state)
