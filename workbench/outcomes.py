"""What an experiment's job measured, stored item by item, and the verdict that statistics make of it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.conversation import split_reference
from trainer.failures import comparable, failures
from trainer.plan import BASE, ExperimentPlan, Run
from trainer.preference import Preference
from trainer.variance import Floats
from trainer.verdict import MetricResult
from workbench.arms import BASELINE, CANDIDATE, NOISE, controls_of, families_of, is_noise, labels_of, setting_of
from workbench.contrasts import Contrast, Tables, contrast_arms, control_sentence, length_sentences, ranks
from workbench.errors import Problem, UsageProblem
from workbench.measurements import Noise, clusters_of, metric_tables
from workbench.merged_arms import Merged, merged_of
from workbench.own_measures import measure_own
from workbench.preferences import JudgedState, judge_of, known_preferences, match_ups, note_win_rates
from workbench.report.pairs import all_comparisons
from workbench.report.pairs import arms as arms_called
from workbench.report.verdict import Side
from workbench.slicing import dimensions
from workbench.store import experiments as rows
from workbench.store.evalsets import get_eval_set
from workbench.sweep_result import cost_of, data_effects
from workbench.text import counted
from workbench.workspace import Workspace

_UNEQUAL = 1.1
"""How many times the trained tokens of one arm those of another may be. A row more or less is ordinary."""


@dataclass(frozen=True)
class ArmResult:
    """What became of an arm. `label` is how it is called, `control` its kind where it is one, for the arms `of`.

    `merged` is there for one that was not trained: what it was made of. `trained_tokens` (in the mean) and `steps` are
    per run; `rank` is its place by the mean of the primary metric; `taken_from` are the experiments that runs of it
    were made for, where they were not made for this one. `cost` is what its runs took
    (`workbench.sweep_result.cost_of`).
    """

    version: str
    label: str
    control: str | None
    of: list[str]
    merged: Merged | None
    rows: int | None
    manifest_hash: str | None
    trained_tokens: int
    steps: int
    means: dict[str, float]
    rank: int | None
    left_out: dict[str, int]
    taken_from: list[str]
    cost: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """An entry of `arms` in the JSON of `compare`, where means and what was left out stand beside it."""
        return {name: value for name, value in asdict(self).items() if name not in ("means", "left_out")}


@dataclass(frozen=True)
class Result:
    """A finished experiment: its arms, the baseline first, and their comparisons, those with the baseline first.

    `base` holds the untrained model's means; `adapters` and `sanity` are by run. Arms rank by the metric `ranked_by`.
    Arms in `epochs` were trained so many times on their own rows. `failed` says by run what went wrong: the seeds of
    such runs are not compared.
    """

    experiment: str
    arms: dict[str, ArmResult]
    seeds: int
    seeds_compared: int
    failed: dict[str, str]
    contrasts: list[Contrast]
    ranked_by: str | None
    epochs: dict[str, int]
    base: dict[str, float]
    sanity: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    adapters: dict[str, str]
    judge: JudgedState | None = None
    own_metrics: list[str] = field(default_factory=list)
    """Why metrics of other packages are missing."""
    sweep: dict[str, Any] | None = None
    """Of a sweep, what the data does under each setting: see `workbench.sweep_result`."""

    def as_json(self) -> dict[str, Any]:
        """The JSON of `compare`: that of the first comparison, then all arms and all comparisons."""
        comparisons = [self._comparison(contrast) for contrast in self.contrasts]
        nothing: dict[str, Any] = {"candidate": None, "scope": None, "verdict": None, "primary": None}
        nothing |= {"metrics": [], "sentences": [], "shifts": [], "slices": []}
        first = comparisons[0] if comparisons else nothing | {"sentences": self._failures()}
        return (
            {
                "experiment": self.experiment,
                "baseline": self.arms[BASELINE].version,
                "candidate": first["candidate"],
                "seeds": self.seeds,
                "failed": self.failed,
                "trained_tokens": {name: arm.trained_tokens for name, arm in self.arms.items()},
            }
            | {key: first[key] for key in nothing}
            | {
                "means": {BASE: self.base} | {name: arm.means for name, arm in self.arms.items()},
                "sanity": self.sanity,
                "left_out": {name: arm.left_out for name, arm in self.arms.items()},
                "settings": self.settings,
                "adapters": self.adapters,
                "judge": self.judge.as_json() if self.judge else None,
                "ranked_by": self.ranked_by,
                "arms": [{"arm": name} | arm.as_json() for name, arm in self.arms.items()],
                "comparisons": comparisons,
            }
            | ({"sweep": self.sweep} if self.sweep else {})
        )

    def _failures(self) -> list[str]:
        told = []
        for why in dict.fromkeys(self.failed.values()):
            runs = [run for run, reason in self.failed.items() if reason == why]
            told.append(f"The {'runs' if len(runs) > 1 else 'run'} {', '.join(runs)} failed: {why}")
        if told and self.seeds_compared < self.seeds:
            told.append(
                f"Only the {counted(self.seeds_compared, 'seed')} that every arm finished are compared. A version on "
                "which training fails may be the worse one for it: that is not in the numbers."
            )
        return told

    def _luck_shared(self, *arms: ArmResult) -> list[str]:
        """That runs were compared before, and what follows: their luck is no other luck now."""
        earlier = list(dict.fromkeys(id for arm in arms for id in arm.taken_from))
        if not earlier:
            return []
        versions = " and ".join(arm.label for arm in arms if arm.taken_from)
        return [
            f"Runs of {versions} were made for {' and '.join(earlier)}: their luck is the same in both comparisons, "
            "so that one verdict does not confirm the other."
        ]

    def _trained_unlike(self, *arms: ArmResult) -> list[str]:
        """That arms which should have been trained alike were not: runs that ended early, or of earlier releases."""
        if self.epochs or self.sweep or any(arm.merged or arm.control == "full" for arm in arms):
            return []
        less, more = sorted(arms, key=lambda arm: arm.trained_tokens)
        if more.trained_tokens <= _UNEQUAL * less.trained_tokens:
            return []
        return [
            f"{more.label} was trained on {more.trained_tokens:,} tokens a run and {less.label} on "
            f"{less.trained_tokens:,}: a difference may be one of training, not of content."
        ]

    def _comparison(self, contrast: Contrast) -> dict[str, Any]:
        arm, against = self.arms[contrast.arm], self.arms[contrast.against]
        found = contrast.as_json() | {"candidate": arm.label, "baseline": against.label, "control": against.control}
        found["sentences"] += self._failures()
        if self.seeds_compared < self.seeds:
            found["scope"] += f" ({self.seeds_compared} of the {self.seeds} seeds asked for)"
        found["sentences"] += [*length_sentences(contrast.verdict), *self.own_metrics]
        found["sentences"] += [
            f"The metric {name!r} is left out: no item has a value of it in every run." for name in contrast.unmeasured
        ]
        found["sentences"] += self._luck_shared(against, arm)
        if self.judge:
            found["sentences"] += self.judge.sentences(self.experiment)
        found["sentences"] += [side.merged.sentence(side.label) for side in (arm, against) if side.merged]
        if self.epochs and not arm.merged:
            own, other = (counted(self.epochs[side], "epoch") for side in (contrast.arm, contrast.against))
            each = f"each version trained for {own}" if own == other else f"trained for {own} against {other}"
            found["scope"] += f", {each} of its own rows"
            if own != other or arm.version != against.version:
                found["sentences"].append(
                    f"{each[0].upper()}{each[1:]} of its own rows, in {arm.steps:,} steps against {against.steps:,}: "
                    f"a difference may be one of {'size' if own == other else 'how long was trained'}, not of content."
                )
        found["sentences"] += self._trained_unlike(arm, against)
        if against.control is None:
            found["sentences"] += [
                control_sentence(other, kind, self.arms[other.against].label)
                for other in self.contrasts
                if other.arm == contrast.arm and (kind := self.arms[other.against].control)
            ]
        return found


def conclude(ws: Workspace, id: str, judging: Problem | None = None) -> Result:
    """Store what the job of experiment `id` measured, and make the verdict. May be called again at any time.

    What a judge said goes into it once it is complete; `judging` is what stopped the judge before.
    """
    row = rows.find_experiment(ws.store, id)
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    folder = ws.runs_dir / id / "results"
    failed = {run: str(problem) for run, problem in failures(folder, job).items()}
    summaries: dict[str, dict[str, Any]] = {run: {"failed": why} for run, why in failed.items()}
    measured = [*(run.id for run in job.runs if run.id not in failed), *([BASE] if job.base else [])]
    summaries |= {name: _summary(folder / name) for name in measured}
    for planned in job.runs:
        version = ws.store.version(noted["arms"][planned.arm])
        stored = rows.RunRow(
            id=f"{id}/{planned.id}",
            experiment_id=id,
            arm=NOISE if is_noise(planned.id) else planned.arm,
            version_id=version.id if version else None,
            seed=planned.seed,
            settings_hash=setting_of(noted, planned.arm),
            state="done",
            summary=json.dumps(summaries[planned.id]),
        )
        if planned.id in failed:
            rows.save_failed_run(ws.store, stored)
        else:
            _store_run(ws, stored, folder / planned.id)
    if job.base:
        summary = json.dumps(summaries[BASE])
        stored = rows.RunRow(f"{id}/{BASE}", None, BASE, None, 0, noted["base"], "done", summary)
        _store_run(ws, stored, folder / BASE)
    result = _result(ws, id, noted, job, summaries, judging)
    rows.save_result(ws.store, id, json.dumps(result.as_json(), allow_nan=False))
    return result


def is_measured(ws: Workspace, id: str) -> bool:
    """Whether the job of experiment `id` is through with every run, and left enough for `conclude` to be called."""
    job = ExperimentPlan.model_validate(json.loads(rows.find_experiment(ws.store, id).plan)["job"])
    return has_results(ws.runs_dir / id, job)


def has_results(folder: Path, job: ExperimentPlan) -> bool:
    """Whether every run of a job in its run folder is measured, or failed, and enough to compare is left."""
    failed = failures(folder / "results", job)
    wanted = [*(run.id for run in job.runs if run.id not in failed), *([BASE] if job.base else [])]
    measured = all((folder / "results" / name / "summary.json").exists() for name in wanted)
    return measured and bool(comparable(job, failed))


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
    for arm, runs in _compared(ws, row.id, job).items():
        found[arm] = {run.seed: f"{row.id}/{run.id}" for run in runs}
    return found


@dataclass(frozen=True)
class Sides:
    """Two arms of an experiment that were compared, beside the base: `base`, `baseline` and `candidate`.

    `labels` is how each is called, `runs` its runs by seed with their ids in the table `runs`.
    """

    labels: dict[str, str]
    runs: dict[str, dict[int, str]]


def compared_sides(ws: Workspace, row: rows.ExperimentRow, number: int = 0) -> Sides:
    """The sides of the comparison number `number` (from 0) of a finished experiment; two where one arm was trained."""
    result = json.loads(row.result or "{}")
    runs, labels = compared_runs(ws, row), {BASE: BASE} | arms_called(result)
    chosen = {BASE: BASE, BASELINE: BASELINE}
    if compared := all_comparisons(result):
        chosen |= {BASELINE: compared[number]["against"], CANDIDATE: compared[number]["arm"]}
    return Sides({side: labels[arm] for side, arm in chosen.items()}, {s: runs[arm] for s, arm in chosen.items()})


def _compared(ws: Workspace, id: str, job: ExperimentPlan) -> dict[str, list[Run]]:
    """The runs of each arm that are compared: not the one that measures the noise, nor seeds that an arm lacks."""
    return comparable(job, [run.removeprefix(f"{id}/") for run in rows.failed_runs(ws.store, id)])


def answering_runs(ws: Workspace, row: rows.ExperimentRow) -> dict[str, list[str]]:
    """The ids, in the table `runs`, of each arm's runs, and of the one that measures the noise, if there is one."""
    job = ExperimentPlan.model_validate(json.loads(row.plan)["job"])
    found = {arm: [f"{row.id}/{run.id}" for run in runs] for arm, runs in _compared(ws, row.id, job).items()}
    failed = rows.failed_runs(ws.store, row.id)
    noise = [id for run in job.runs if is_noise(run.id) and (id := f"{row.id}/{run.id}") not in failed]
    return found | ({NOISE: noise} if noise else {})


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


def _result(
    ws: Workspace,
    id: str,
    noted: dict[str, Any],
    job: ExperimentPlan,
    summaries: dict[str, dict[str, Any]],
    judging: Problem | None,
) -> Result:
    arms: dict[str, str] = noted["arms"]
    items = ws.eval_rows(noted["evalset"])
    n_items = len(items)
    compared = {arm: [run.id for run in runs] for arm, runs in _compared(ws, id, job).items()}
    seeds = len(compared[BASELINE])
    failed = {run: summary["failed"] for run, summary in summaries.items() if "failed" in summary}
    stored = [f"{id}/{run}" for runs in compared.values() for run in runs]
    own, own_told = measure_own(ws, noted["evalset"], [_base_run(ws, noted), *stored])
    tables, weights = {}, np.ones(n_items)
    for arm, runs in compared.items():
        tables[arm], weights = metric_tables(ws, [f"{id}/{r}" for r in runs], n_items)
    base, base_weights = metric_tables(ws, [_base_run(ws, noted)], n_items)
    preferred, judged = _preferred(ws, id, noted, tables, judging)
    means = {arm: _means(by_metric) for arm, by_metric in tables.items()}
    first = summaries[compared[BASELINE][0]]
    contrasts: list[Contrast] = []
    if len(arms) > 1:
        evalset = get_eval_set(ws.store, noted["evalset"])
        # The noise of one setting says nothing of the others in a sweep, which asks for more seeds than one.
        noise = Noise(ws, noted["setting"], evalset, first) if seeds == 1 and "sweep" not in noted else None
        contrasts = contrast_arms(
            [[pair for pair in family if tables.keys() >= set(pair)] for family in families_of(noted)],
            tables,
            base=_means(base),
            clusters=clusters_of(ws, noted["evalset"]),
            weights=weights,
            noise=noise.floors() if noise else {},
            dimensions=dimensions(items, *_lengths(base, base_weights, n_items)),
            noise_within=noise.within if noise else lambda *_: None,
            judged=preferred,
            more=own,
        )
    # The first that each arm has a mean of by itself: what a judge says is of pairs.
    primaries = contrasts[0].verdict.metrics if contrasts else ()
    by = next((metric for metric in primaries if all(metric.name in of_arm for of_arm in means.values())), None)
    folder = ws.runs_dir / id
    budget = json.loads((folder / "budget.json").read_text(encoding="utf-8"))
    return Result(
        experiment=id,
        arms=_arm_results(ws, noted, means, {arm: [summaries[r] for r in runs] for arm, runs in compared.items()}, by),
        seeds=noted["seeds"],
        seeds_compared=seeds,
        failed=failed,
        contrasts=contrasts,
        ranked_by=by.name if by else None,
        epochs={arm: passes for arm in job.arms if (passes := _epochs(job, arm))},
        base=_means(base),
        sanity={name: summary["sanity"] for name, summary in summaries.items() if "sanity" in summary},
        settings=budget
        | {"model": job.model.name, "revision": first["revision"], "held": first["held"], "evalset": noted["evalset"]},
        adapters={r.id: str(folder / "results" / r.id / "adapter") for r in job.runs if r.id not in failed},
        judge=judged,
        own_metrics=own_told,
        sweep={"data": data_effects(noted, tables, contrasts, clusters_of(ws, noted["evalset"]))}
        if "sweep" in noted
        else None,
    )


def _epochs(job: ExperimentPlan, arm: str) -> int | None:
    own = job.settings.get(arm)
    return (own and own.epochs) or job.budget.epochs


def _preferred(
    ws: Workspace, id: str, noted: dict[str, Any], tables: dict[str, dict[str, Floats]], judging: Problem | None
) -> tuple[dict[tuple[str, str], Preference], JudgedState | None]:
    """What the experiment's judge said, if it has one; win rates go into `tables`, and among the metrics of items."""
    judge = judge_of(noted)
    if judge is None or len(noted["arms"]) < 2:
        return {}, None
    runs = answering_runs(ws, rows.find_experiment(ws.store, id))
    found = match_ups(ws, noted, runs)
    preferred, judged = known_preferences(ws, judge, found, tables, clusters_of(ws, noted["evalset"]), judging)
    note_win_rates(ws, preferred, runs, tables)
    return preferred, judged


def _lengths(base: Tables, weights: Floats, n_items: int) -> tuple[Floats, Floats]:
    """Tokens of each item's prompt and reference, NaN where not known: earlier releases did not note the former."""
    unknown = np.full((1, n_items), np.nan)
    prompts, losses = (base.get(metric, unknown)[0] for metric in ("prompt_tokens", "response_nll"))
    return prompts, np.where(np.isnan(losses), np.nan, weights)


def _arm_results(
    ws: Workspace,
    noted: dict[str, Any],
    means: dict[str, dict[str, float]],
    summaries: dict[str, list[dict[str, Any]]],
    by: MetricResult | None,
) -> dict[str, ArmResult]:
    places: dict[str, int] = {}
    if by:
        places = ranks({arm: m[by.name] for arm, m in means.items()}, higher_is_better=by.higher_is_better)
    controls, labels, merged = controls_of(noted), labels_of(noted), merged_of(noted)
    found = {}
    for arm, of_arm in summaries.items():
        run, name = of_arm[0], noted["arms"][arm]
        origins = (str(summary["taken_over_from"]) for summary in of_arm if "taken_over_from" in summary)
        version = ws.store.version(name)
        found[arm] = ArmResult(
            version=name,
            label=labels[arm],
            control=controls[arm]["kind"] if arm in controls else None,
            of=list(controls[arm]["of"]) if arm in controls else [],
            merged=Merged.of_run(merged[arm], labels, run) if arm in merged else None,
            rows=version.rows if version else None,
            manifest_hash=version.manifest_hash if version else None,
            trained_tokens=round(statistics.fmean(summary["trained_tokens"] for summary in of_arm)),
            steps=run["steps"],
            means=means[arm],
            rank=places.get(arm),
            left_out=run["left_out"],
            taken_from=list(dict.fromkeys(origin.split("/")[0] for origin in origins)),
            cost=cost_of(of_arm),
        )
    return found


def _means(tables: dict[str, Any]) -> dict[str, float]:
    return {metric: float(np.nanmean(table)) for metric, table in tables.items()}


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
