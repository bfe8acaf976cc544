"""What an experiment has stored for a diagnosis: answers beside prompts and references, metrics, training rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.chat import Turns
from trainer.conversation import Message, content_text, split_reference
from trainer.plan import BASE, ExperimentPlan, TrainingSetting
from workbench import outcomes
from workbench.arms import labels_of
from workbench.failures.symptoms import question_of
from workbench.measurements import metric_tables
from workbench.merged_arms import merged_of
from workbench.store import experiments as rows
from workbench.store.evalsets import eval_batches, get_eval_set
from workbench.workspace import Workspace

Floats = NDArray[np.float64]
Tick = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Given:
    """One answer: its text, and whether the model ended it (`stop`) or the limit of new tokens did (`length`)."""

    text: str
    finish: str


@dataclass(frozen=True)
class TrainingRow:
    """One row of a version: its id, each answer that is trained behind its question, whether it has a system turn."""

    id: int
    answers: list[tuple[str, str]]
    has_system: bool


@dataclass(frozen=True)
class Case:
    """An experiment to be diagnosed. Lists are by item; `given` and `metrics` by column: the base, then each arm.

    `versions` names what each arm was trained on, `labels` how it is called, `steps` its optimizer steps (not known of
    results of early releases). `metrics[name][column]` is a table (runs x items), NaN where nothing
    was measured; a metric of general text has a column for each window of it. `reference_tokens` is NaN for an item
    without a reference.
    """

    id: str
    versions: dict[str, str]
    labels: dict[str, str]
    steps: dict[str, int]
    questions: list[str]
    references: list[str | None]
    reference_tokens: Floats
    systems: NDArray[np.bool_]
    clusters: list[str]
    given: dict[str, list[list[Given]]]
    metrics: dict[str, dict[str, Floats]]
    plan: ExperimentPlan
    settings: dict[str, Any]

    @property
    def seeds(self) -> int:
        """How many runs each arm has."""
        return max(len(self.given[arm][0]) for arm in self.versions)

    def training(self, arm: str) -> TrainingSetting:
        """How an arm was trained: in a sweep that differs between arms."""
        if own := self.plan.settings.get(arm):
            return own.training
        return self.plan.training or TrainingSetting.model_validate(self.settings["training"])


def open_case(ws: Workspace, name: str) -> Case:
    """The case of a finished experiment (id, the start of one, or name). Raises NotFound, UsageProblem."""
    row = outcomes.finished(ws, name)
    noted, result = json.loads(row.plan), json.loads(row.result or "{}")
    evalset = get_eval_set(ws.store, noted["evalset"])
    items = [item for batch in eval_batches(ws.store, evalset) for item in batch.to_pylist()]
    split = [split_reference(json.loads(item["messages"])) for item in items]
    merged = merged_of(noted)  # what such an arm does wrong no row of a version explains
    compared = {column: ids for column, ids in outcomes.compared_runs(ws, row).items() if column not in merged}
    runs = {column: list(ids.values()) for column, ids in compared.items()}
    places = {run: (column, place) for column, ids in runs.items() for place, run in enumerate(ids)}
    n = len(items)
    given = {column: [[Given("", "stop")] * len(ids) for _ in range(n)] for column, ids in runs.items()}
    for answer in rows.answers(ws.store, list(places)).to_pylist():
        column, place = places[answer["run_id"]]
        given[column][answer["eval_item"]][place] = Given(answer["text"], answer["finish"])
    metrics: dict[str, dict[str, Floats]] = {}
    tokens = np.full(n, np.nan)
    for column, ids in runs.items():
        tables, weights = metric_tables(ws, ids, n)
        for metric, table in tables.items():
            metrics.setdefault(metric, {})[column] = table
        if "response_nll" in tables:
            tokens = np.where(np.isnan(tables["response_nll"][0]), np.nan, weights)
    return Case(
        id=row.id,
        versions={arm: version for arm, version in noted["arms"].items() if arm in runs},
        labels=labels_of(noted),
        steps={arm["arm"]: arm["steps"] for arm in result.get("arms", [])},
        questions=[_question(asked) for asked, _ in split],
        references=[content_text(reference.get("content")) if reference else None for _, reference in split],
        reference_tokens=tokens,
        systems=np.array([any(m["role"] == "system" for m in asked) for asked, _ in split], dtype=bool),
        clusters=[str(item["cluster"] or item["item"]) for item in items],
        given={column: given[column] for column in (BASE, *noted["arms"]) if column in given},
        metrics=metrics,
        plan=ExperimentPlan.model_validate(noted["job"]),
        settings=result["settings"],
    )


def training_rows(ws: Workspace, case: Case, arm: str, tick: Tick | None = None) -> Iterator[TrainingRow]:
    """The rows that an arm was trained on, in order."""
    version, turns = case.versions[arm], case.plan.policy.turns
    for number, batch in enumerate(ws.rows(version)):
        if tick:
            tick(number * batch.num_rows, None, f"reading {version}")
        for id, text in zip(batch.column("id").to_pylist(), batch.column("messages").to_pylist(), strict=True):
            messages = json.loads(text)
            yield TrainingRow(id, _answers(messages, turns), any(m["role"] == "system" for m in messages))


def _answers(messages: list[Message], turns: Turns) -> list[tuple[str, str]]:
    """The answers of a conversation that are trained, each with the user turn before it."""
    places = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    places = places[-1:] if turns == "last" else places
    return [
        (_question(messages[:i]), content_text(messages[i].get("content")))
        for i in places
        if messages[i].get("train") is not False
    ]


def _question(messages: list[Message]) -> str:
    return question_of([(m["role"], content_text(m.get("content"))) for m in messages])
