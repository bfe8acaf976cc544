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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.models import DEFAULT_MODEL, load_tokenizer
from trainer.plan import BASE, Budget, Evaluation, ExperimentPlan, ModelSetting, PolicySetting, Run, TrainingSetting
from trainer.protocol import PLAN, write_atomic
from trainer.statistics import NoiseFloor, estimate_noise_floor, minimum_detectable_effect, pool_noise_floors
from trainer.verdict import DEFAULT_METRICS, MetricSpec, Verdict, decide, measure
from workbench.errors import BadInput, Problem, UsageProblem
from workbench.jobs import OnEvent, run_job
from workbench.report.verdict import Side
from workbench.store import experiments as rows
from workbench.store.database import VersionRow
from workbench.store.evalsets import EvalSet
from workbench.workspace import Workspace

BASELINE = "baseline"
CANDIDATE = "candidate"
NOISE = "noise"
"""The arm, in the table `runs`, of a run that only measures how far training alone moves the baseline."""
DEFAULT_SEEDS = 3
DEFAULT_MINUTES = 10.0


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


@dataclass(frozen=True)
class Experiment:
    """A planned experiment: its folder holds all that the job needs.

    `mde` is the smallest effect on the primary metric that earlier runs of this setting let one expect to find;
    None without such runs.
    """

    id: str
    name: str
    folder: Path
    plan: ExperimentPlan
    arms: dict[str, str]
    evalset: str
    done: bool
    mde: float | None


@dataclass(frozen=True)
class Result:
    """A finished experiment. `base` holds the untrained model's means; `trained_tokens` is per arm and run."""

    experiment: str
    arms: dict[str, str]
    seeds: int
    trained_tokens: dict[str, int]
    verdict: Verdict | None
    means: dict[str, dict[str, float]]
    sanity: dict[str, dict[str, Any]]
    left_out: dict[str, dict[str, int]]
    settings: dict[str, Any]
    adapters: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `compare`."""
        head = {
            "experiment": self.experiment,
            "baseline": self.arms[BASELINE],
            "candidate": self.arms.get(CANDIDATE),
            "seeds": self.seeds,
            "trained_tokens": self.trained_tokens,
        }
        verdict = self.verdict.as_json() if self.verdict else {"scope": None, "verdict": None, "primary": None}
        sentences = list(self.verdict.sentences) if self.verdict else []
        return (
            head
            | verdict
            | {
                "metrics": verdict.get("metrics", []),
                "sentences": sentences,
                "means": self.means,
                "sanity": self.sanity,
                "left_out": self.left_out,
                "settings": self.settings,
                "adapters": self.adapters,
            }
        )


def plan(ws: Workspace, question: Question) -> Experiment:
    """Check the question, freeze its plan and inputs in a run folder, and note the experiment.

    Raises UsageProblem, NotFound, or BadInput where a version shares prompts with the eval set.
    """
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
    model = ModelSetting(
        name=question.model or ws.config.model or DEFAULT_MODEL, quantize=question.quantize, device=question.device
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
        runs=runs,
        evaluation=evaluation,
        base=not known_base,
        evaluation_seconds=json.loads(known_base[0].summary)["evaluation_seconds"] if known_base else None,
    )
    id = _digest(setting, [v.manifest_hash for v in versions.values()], question.seeds)[:10]
    name = " vs ".join(version.name for version in versions.values())
    folder = ws.runs_dir / id
    there = rows.get_experiment(ws.store, id)
    noted = {
        "arms": {arm: version.name for arm, version in versions.items()},
        "evalset": evalset.name,
        "seeds": question.seeds,
        "setting": setting,
        "base": base,
        "job": experiment_plan.model_dump(),
    }
    if there is None or not (folder / PLAN).exists():
        _write_folder(ws, folder, experiment_plan, versions, evalset)
        rows.save_experiment(ws.store, id, name, json.dumps(noted))
    return _experiment(ws, id)


def _with_date(policy: PolicySetting, model: str) -> PolicySetting:
    """The policy with a day for templates that ask for one, and without one for the others.

    Today is frozen where none was given; but a template that never asks must not make tomorrow's question another
    one. Raises ModelUnavailable, before anything is written.
    """
    template = str(load_tokenizer(model).chat_template or "")
    day = policy.date or datetime.date.today().isoformat()
    return policy.model_copy(update={"date": day if "strftime_now" in template else None})


def find(ws: Workspace, name: str) -> Experiment:
    """An experiment of the workspace by id, the start of one, or name. Raises NotFound."""
    return _experiment(ws, rows.find_experiment(ws.store, name).id)


def run(experiment: Experiment, on_event: OnEvent) -> None:
    """Run or resume the experiment's job and wait for it. Needs no database. Raises what the job reports."""
    run_job("trainer", experiment.folder, on_event)


def conclude(ws: Workspace, id: str) -> Result:
    """Store what the job of experiment `id` measured, and make the verdict. May be called again at any time."""
    row = rows.find_experiment(ws.store, id)
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    folder = ws.runs_dir / id / "results"
    summaries = {name: _summary(folder / name) for name in [*(r.id for r in job.runs), *([BASE] if job.base else [])]}
    for planned in job.runs:
        version = ws.store.version(noted["arms"][planned.arm])
        stored = rows.RunRow(
            id=f"{id}/{planned.id}",
            experiment_id=id,
            arm=NOISE if planned.id == f"{BASELINE}-{NOISE}" else planned.arm,
            version_id=version.id if version else None,
            seed=planned.seed,
            settings_hash=noted["setting"],
            state="done",
            summary=json.dumps(summaries[planned.id]),
        )
        _store_run(ws, stored, folder / planned.id)
    if job.base:
        summary = json.dumps(summaries[BASE])
        stored = rows.RunRow(f"{id}/{BASE}", None, BASE, None, 0, noted["base"], "done", summary)
        _store_run(ws, stored, folder / BASE)
    result = _result(ws, id, noted, job, summaries)
    rows.save_result(ws.store, id, json.dumps(result.as_json(), allow_nan=False))
    return result


def answers_side_by_side(ws: Workspace, id: str) -> list[Side]:
    """The greedy answers of the base and of each arm's first seed to every eval item."""
    noted = json.loads(rows.find_experiment(ws.store, id).plan)
    job = ExperimentPlan.model_validate(noted["job"])
    shown = {BASE: _base_run(ws, noted)}
    for arm in noted["arms"]:
        shown[arm] = f"{id}/{next(r.id for r in job.runs if r.arm == arm)}"
    by_run = {run_id: arm for arm, run_id in shown.items()}
    given: dict[int, dict[str, tuple[str, str]]] = {}
    for answer in rows.answers(ws.store, list(by_run)).to_pylist():
        given.setdefault(answer["eval_item"], {})[by_run[answer["run_id"]]] = (answer["text"], answer["finish"])
    sides = []
    for item in ws.eval_rows(noted["evalset"]).to_pylist():
        messages = json.loads(item["messages"])
        prompt = next((str(m["content"]) for m in reversed(messages[:-1]) if m["role"] == "user"), "")
        sides.append(Side(item["item"], prompt, str(messages[-1]["content"]), given.get(item["item"], {})))
    return sides


def noise_floors(ws: Workspace, setting: str, evalset: EvalSet) -> dict[str, NoiseFloor]:
    """For each metric, how far two runs on the same data lie apart under this setting, from all runs stored so far.

    Empty where no version was run with two seeds yet.
    """
    # The same seed on the same version is the same run, whichever experiment made it: twice, it would hide noise.
    by_version: dict[int | None, dict[int, str]] = {}
    for stored in rows.runs_with(ws.store, setting):
        by_version.setdefault(stored.version_id, {}).setdefault(stored.seed, stored.id)
    repeated = [list(group.values()) for group in by_version.values() if len(group) > 1]
    if not repeated:
        return {}
    clusters = _clusters(ws, evalset.name)
    floors = {}
    for spec in DEFAULT_METRICS:
        found = []
        for group in repeated:
            table = _tables(ws, group, evalset.rows)[0].get(spec.name)
            if table is not None:
                found.append(estimate_noise_floor(table, clusters=clusters, yes_no=spec.yes_no))
        if found:
            floors[spec.name] = pool_noise_floors(found)
    return floors


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


def _result(
    ws: Workspace, id: str, noted: dict[str, Any], job: ExperimentPlan, summaries: dict[str, dict[str, Any]]
) -> Result:
    arms: dict[str, str] = noted["arms"]
    n_items = len(ws.eval_rows(noted["evalset"]))
    # The run that measures the noise is no part of the comparison.
    compared = {arm: [r.id for r in job.runs if r.arm == arm][: noted["seeds"]] for arm in arms}
    tables, weights = {}, None
    for arm, runs in compared.items():
        tables[arm], weights = _tables(ws, [f"{id}/{r}" for r in runs], n_items)
    base, _ = _tables(ws, [_base_run(ws, noted)], n_items)
    means = {BASE: {metric: float(np.nanmean(table)) for metric, table in base.items()}}
    means |= {
        arm: {metric: float(np.nanmean(table)) for metric, table in by_metric.items()}
        for arm, by_metric in tables.items()
    }
    verdict = None
    if CANDIDATE in arms:
        evalset = _eval_set(ws, noted["evalset"])
        floors = noise_floors(ws, noted["setting"], evalset) if noted["seeds"] == 1 else {}
        clusters = _clusters(ws, noted["evalset"])

        def measured(spec: MetricSpec) -> Any:
            return measure(
                spec,
                tables[BASELINE][spec.name],
                tables[CANDIDATE][spec.name],
                clusters=clusters,
                weights=weights if spec.name == "response_nll" else None,
                noise=floors.get(spec.name),
            )

        verdict = decide([measured(spec) for spec in DEFAULT_METRICS if spec.name in tables[BASELINE]])
    first = summaries[compared[BASELINE][0]]
    folder = ws.runs_dir / id
    budget = json.loads((folder / "budget.json").read_text(encoding="utf-8"))
    return Result(
        experiment=id,
        arms=arms,
        seeds=noted["seeds"],
        trained_tokens={arm: summaries[runs[0]]["trained_tokens"] for arm, runs in compared.items()},
        verdict=verdict,
        means=means,
        sanity={name: summary["sanity"] for name, summary in summaries.items() if "sanity" in summary},
        left_out={arm: summaries[runs[0]]["left_out"] for arm, runs in compared.items()},
        settings=budget | {"model": job.model.name, "held": first["held"], "evalset": noted["evalset"]},
        adapters={r.id: str(folder / "results" / r.id / "adapter") for r in job.runs},
    )


def _experiment(ws: Workspace, id: str) -> Experiment:
    row = rows.find_experiment(ws.store, id)
    noted = json.loads(row.plan)
    evalset = _eval_set(ws, noted["evalset"])
    return Experiment(
        id=row.id,
        name=row.name,
        folder=ws.runs_dir / row.id,
        plan=ExperimentPlan.model_validate(noted["job"]),
        arms=noted["arms"],
        evalset=evalset.name,
        done=row.state == "done",
        mde=_expected_mde(noise_floors(ws, noted["setting"], evalset), evalset.rows, noted["seeds"]),
    )


def _expected_mde(floors: dict[str, NoiseFloor], n_items: int, seeds: int) -> float | None:
    floor = floors.get(DEFAULT_METRICS[0].name)
    if floor is None or n_items < 2:
        return None
    return minimum_detectable_effect(
        item_sd=floor.item_sd, seed_sd=floor.seed_sd, n_items=n_items, n_seeds=seeds, noise_df=floor.df
    )


def _tables(ws: Workspace, run_ids: Sequence[str], n_items: int) -> tuple[dict[str, Any], Any]:
    """For each metric a float table (runs x items), NaN where missing, and the items' reference tokens."""
    position = {run_id: i for i, run_id in enumerate(run_ids)}
    tables: dict[str, Any] = {}
    weights = np.ones(n_items)
    for row in rows.item_metrics(ws.store, run_ids).to_pylist():
        table = tables.setdefault(row["metric"], np.full((len(run_ids), n_items), np.nan))
        table[position[row["run_id"]], row["eval_item"]] = row["value"]
        if row["metric"] == "response_nll":
            weights[row["eval_item"]] = row["weight"]
    return tables, weights


def _clusters(ws: Workspace, evalset: str) -> list[str]:
    items = ws.eval_rows(evalset).to_pylist()
    return [str(item["cluster"] or item["item"]) for item in items]


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


def _refuse_overlap(ws: Workspace, version: VersionRow, evalset: EvalSet) -> None:
    shared = ws.overlaps(version.name, evalset.name)
    if shared:
        raise BadInput(
            f"{shared:,} rows of version {version.name!r} have the prompt of an item of eval set {evalset.name!r}",
            where=version.name,
            do=f"Freeze a version without them: workbench versions freeze {version.name} --name V "
            f"--without {evalset.name}.",
        )


def _write_folder(
    ws: Workspace, folder: Path, job: ExperimentPlan, versions: dict[str, VersionRow], evalset: EvalSet
) -> None:
    """Inputs first, the plan last: a folder with a plan is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm, version in versions.items():
        batches = ws.rows(version.name)
        columns = ["content_hash", "messages", "tools"]
        schema = pa.schema([(column, pa.string()) for column in columns])
        with pq.ParquetWriter(folder / job.arms[arm], schema) as writer:
            for batch in batches:
                writer.write_batch(batch.select(columns).cast(schema))
    items = ws.eval_rows(evalset.name)
    clusters = pa.array(_clusters(ws, evalset.name))
    pq.write_table(items.set_column(items.column_names.index("cluster"), "cluster", clusters), folder / "eval.parquet")
    write_atomic(folder / PLAN, job.model_dump_json(indent=1))


def _store_run(ws: Workspace, run: rows.RunRow, folder: Path) -> None:
    rows.save_run(
        ws.store, run, pq.read_table(folder / "metrics.parquet"), pq.read_table(folder / "generations.parquet")
    )


def _base_run(ws: Workspace, noted: dict[str, Any]) -> str:
    return rows.runs_with(ws.store, noted["base"])[0].id


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    if not path.exists():
        raise Problem(
            "this run has no result yet", where=str(folder), do="`workbench experiments resume` goes on with it."
        )
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def _dump(setting: TrainingSetting | None) -> dict[str, Any] | None:
    return setting.model_dump() if setting else None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def note_end(ws: Workspace, id: str, state: Literal["stopped", "failed"]) -> None:
    """Note that the job of experiment `id` ended without a result."""
    rows.set_state(ws.store, id, state)
