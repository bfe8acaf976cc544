"""What an experiment's job measured, stored item by item, and the verdict that statistics make of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.conversation import split_reference
from trainer.plan import BASE, ExperimentPlan, Run
from trainer.shifts import SHIFTS, Shift, measure_shift
from trainer.statistics import NoiseFloor, estimate_noise_floor, minimum_detectable_effect, pool_noise_floors
from trainer.verdict import DEFAULT_METRICS, PRIMARIES, Measured, MetricSpec, Verdict, decide, measure, specs_for
from workbench.errors import Problem, UsageProblem
from workbench.report.verdict import Side
from workbench.store import experiments as rows
from workbench.store.evalsets import EvalSet, get_eval_set
from workbench.workspace import Workspace

BASELINE = "baseline"
CANDIDATE = "candidate"
NOISE = "noise"
"""The arm, in the table `runs`, of a run that only measures how far training alone moves the baseline."""


@dataclass(frozen=True)
class Result:
    """A finished experiment. `base` holds the untrained model's means; `trained_tokens` is per arm and run."""

    experiment: str
    arms: dict[str, str]
    seeds: int
    trained_tokens: dict[str, int]
    verdict: Verdict | None
    means: dict[str, dict[str, float]]
    shifts: list[Shift]
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
                "shifts": [shift.as_json() for shift in self.shifts],
                "sanity": self.sanity,
                "left_out": self.left_out,
                "settings": self.settings,
                "adapters": self.adapters,
            }
        )


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


def is_measured(ws: Workspace, id: str) -> bool:
    """Whether the job of experiment `id` has finished every run, so that `conclude` can be called."""
    job = ExperimentPlan.model_validate(json.loads(rows.find_experiment(ws.store, id).plan)["job"])
    wanted = [*(run.id for run in job.runs), *([BASE] if job.base else [])]
    return all((ws.runs_dir / id / "results" / name / "summary.json").exists() for name in wanted)


def finished(ws: Workspace, name: str) -> rows.ExperimentRow:
    """The experiment of that id, the start of one, or name, with its result.

    It is made now where its job outlived the one who began it. Raises NotFound; UsageProblem where there is none yet.
    """
    row = rows.find_experiment(ws.store, name)
    if row.result is None and is_measured(ws, row.id):
        conclude(ws, row.id)
        row = rows.find_experiment(ws.store, row.id)
    if row.result is None:
        raise UsageProblem(
            f"it has no result yet ({row.state})",
            where=f"experiment {row.id}",
            do=f"`workbench experiments resume {row.id}` goes on with it.",
        )
    return row


def compared_runs(ws: Workspace, row: rows.ExperimentRow) -> dict[str, dict[int, str]]:
    """The runs that an experiment compares, base first: for each arm its seeds with the ids in the table `runs`."""
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    found = {BASE: {0: _base_run(ws, noted)}}
    for arm, runs in _compared(noted, job).items():
        found[arm] = {run.seed: f"{row.id}/{run.id}" for run in runs}
    return found


def _compared(noted: dict[str, Any], job: ExperimentPlan) -> dict[str, list[Run]]:
    # The run that measures the noise is no part of the comparison.
    return {arm: [run for run in job.runs if run.arm == arm][: noted["seeds"]] for arm in noted["arms"]}


def answers_side_by_side(ws: Workspace, id: str) -> list[Side]:
    """The greedy answers of the base and of each arm's first seed to every eval item."""
    row = rows.find_experiment(ws.store, id)
    noted = json.loads(row.plan)
    by_run = {next(iter(runs.values())): arm for arm, runs in compared_runs(ws, row).items()}
    given: dict[int, dict[str, tuple[str, str]]] = {}
    for answer in rows.answers(ws.store, list(by_run)).to_pylist():
        given.setdefault(answer["eval_item"], {})[by_run[answer["run_id"]]] = (answer["text"], answer["finish"])
    sides = []
    for item in ws.eval_rows(noted["evalset"]).to_pylist():
        asked, reference = split_reference(json.loads(item["messages"]))
        prompt = next((str(m["content"]) for m in reversed(asked) if m["role"] == "user"), "")
        told = str(reference["content"]) if reference else ""
        sides.append(Side(item["item"], prompt, told, given.get(item["item"], {})))
    return sides


def noise_floors(
    ws: Workspace, setting: str, evalset: EvalSet, like: dict[str, Any] | None = None
) -> dict[str, NoiseFloor]:
    """For each metric, how far two runs on the same data lie apart under this setting, from all runs stored so far.

    Only runs of equal length and arithmetic are put together (a budget in minutes may come out otherwise each time);
    with `like`, a run's summary, only runs like that one count. Empty where no version was run with two seeds yet.
    """
    # The same seed on the same version is the same run, whichever experiment made it: twice, it would hide noise.
    alike: dict[tuple[Any, ...], dict[int, str]] = {}
    for stored in rows.runs_with(ws.store, setting):
        summary = json.loads(stored.summary)
        kind = _kind(summary)
        if stored.version_id is not None and (like is None or kind == _kind(like)):
            alike.setdefault((stored.version_id, *kind), {}).setdefault(stored.seed, stored.id)
    repeated = [list(group.values()) for group in alike.values() if len(group) > 1]
    if not repeated:
        return {}
    clusters = clusters_of(ws, evalset.name)
    floors = {}
    for spec in (*DEFAULT_METRICS, *SHIFTS):
        found = []
        for group in repeated:
            table = _tables(ws, group, evalset.rows)[0].get(spec.name)
            if table is not None:
                found.append(estimate_noise_floor(table, clusters=clusters, yes_no=spec.yes_no))
        if found:
            floors[spec.name] = pool_noise_floors(found)
    return floors


def _result(
    ws: Workspace, id: str, noted: dict[str, Any], job: ExperimentPlan, summaries: dict[str, dict[str, Any]]
) -> Result:
    arms: dict[str, str] = noted["arms"]
    n_items = len(ws.eval_rows(noted["evalset"]))
    compared = {arm: [run.id for run in runs] for arm, runs in _compared(noted, job).items()}
    tables, weights = {}, None
    for arm, runs in compared.items():
        tables[arm], weights = _tables(ws, [f"{id}/{r}" for r in runs], n_items)
    base, _ = _tables(ws, [_base_run(ws, noted)], n_items)
    means = {BASE: {metric: float(np.nanmean(table)) for metric, table in base.items()}}
    means |= {
        arm: {metric: float(np.nanmean(table)) for metric, table in by_metric.items()}
        for arm, by_metric in tables.items()
    }
    verdict, shifts = None, []
    if CANDIDATE in arms:
        evalset = get_eval_set(ws.store, noted["evalset"])
        like = summaries[compared[BASELINE][0]]
        floors = noise_floors(ws, noted["setting"], evalset, like) if noted["seeds"] == 1 else {}
        clusters = clusters_of(ws, noted["evalset"])

        def measured(spec: MetricSpec) -> Measured:
            return measure(
                spec,
                tables[BASELINE][spec.name],
                tables[CANDIDATE][spec.name],
                clusters=clusters,
                weights=weights if spec.name == "response_nll" else None,
                noise=floors.get(spec.name),
            )

        both = tables[BASELINE].keys() & tables[CANDIDATE].keys()
        verdict = decide([measured(spec) for spec in specs_for(both)])
        shifts = [
            measure_shift(
                spec,
                tables[BASELINE][spec.name],
                tables[CANDIDATE][spec.name],
                base=means[BASE].get(spec.name),
                clusters=clusters,
                noise=floors.get(spec.name),
            )
            for spec in SHIFTS
            if spec.name in both
        ]
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
        shifts=shifts,
        sanity={name: summary["sanity"] for name, summary in summaries.items() if "sanity" in summary},
        left_out={arm: summaries[runs[0]]["left_out"] for arm, runs in compared.items()},
        settings=budget
        | {"model": job.model.name, "revision": first["revision"], "held": first["held"], "evalset": noted["evalset"]},
        adapters={r.id: str(folder / "results" / r.id / "adapter") for r in job.runs},
    )


def _kind(summary: dict[str, Any]) -> tuple[Any, ...]:
    """What two runs of one setting must share to be runs of the same kind."""
    return summary.get("steps"), summary.get("dtype"), summary.get("held")


def expected_mde(floors: dict[str, NoiseFloor], n_items: int, seeds: int) -> float | None:
    """The smallest effect on the primary metric that runs like the earlier ones would find; None without them."""
    floor = next((floors[name] for name in PRIMARIES if name in floors), None)
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


def clusters_of(ws: Workspace, evalset: str) -> list[str]:
    """The cluster of each item of an eval set, in order; an item without one is its own."""
    items = ws.eval_rows(evalset).to_pylist()
    return [str(item["cluster"] or item["item"]) for item in items]


def _store_run(ws: Workspace, run: rows.RunRow, folder: Path) -> None:
    try:
        tables = [pq.read_table(folder / name) for name in ("metrics.parquet", "generations.parquet")]
    except (OSError, pa.ArrowInvalid) as error:
        do = "Remove this folder and resume the experiment: that makes this run again."
        raise Problem(f"results cannot be read ({error})", where=str(folder), do=do) from error
    rows.save_run(ws.store, run, *tables)


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
