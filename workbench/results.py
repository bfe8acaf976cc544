"""A finished experiment to look into: its verdict as stored, every eval item with its numbers, and the answers.

Wins and losses of single items describe what was measured; whether there is a difference the verdict alone says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.conversation import Message, content_text, split_reference
from trainer.verdict import DEFAULT_METRICS, MetricSpec, specs_for
from workbench.arms import BASELINE, CANDIDATE
from workbench.outcomes import compared_sides, finished
from workbench.report.pairs import all_comparisons, pair
from workbench.store import experiments as rows
from workbench.store.evalsets import EvalSet, eval_batches, eval_item, get_eval_set
from workbench.workspace import Workspace

Won = Literal["better", "worse", "equal"]

PROMPT = 200
"""Characters of a prompt that a list of items carries."""

MOST = 100_000
"""Characters of an answer that are read to be shown; more are counted."""

_EQUAL = 1e-9


@dataclass(frozen=True)
class Item:
    """One eval item. `values` are means over the seeds: by metric, then by arm (`base`, `baseline`, `candidate`)."""

    item: int
    prompt: str
    slice: str | None
    cluster: str | None
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    def change(self, metric: str) -> float | None:
        """Candidate minus baseline; None where one of them was not measured."""
        by_arm = self.values.get(metric, {})
        if BASELINE not in by_arm or CANDIDATE not in by_arm:
            return None
        return by_arm[CANDIDATE] - by_arm[BASELINE]

    def won(self, spec: MetricSpec) -> Won | None:
        """Whether the candidate came out better or worse than the baseline on this item alone."""
        change = self.change(spec.name)
        if change is None:
            return None
        if abs(change) < _EQUAL:
            return "equal"
        return "better" if (change > 0) == spec.higher_is_better else "worse"


@dataclass(frozen=True)
class Finished:
    """A finished experiment, looked at as one of its comparisons: number `number` (from 0) of `comparisons`.

    `result` is the JSON of `compare` for these two arms, `whole` that for all, `arms` the name of what each side was
    trained on, base first, `runs` its runs by seed, `metrics` what was measured, the primary metric first.
    `comparisons` are named as people call them; there is none where one version was trained alone.
    """

    id: str
    name: str
    result: dict[str, Any]
    whole: dict[str, Any]
    arms: dict[str, str]
    runs: dict[str, dict[int, str]]
    metrics: tuple[MetricSpec, ...]
    evalset: EvalSet
    items: list[Item]
    number: int = 0
    comparisons: tuple[str, ...] = ()

    def tally(self, spec: MetricSpec) -> dict[Won, int]:
        """On how many items the candidate came out better, worse or equal."""
        won = [item.won(spec) for item in self.items]
        return {"better": won.count("better"), "worse": won.count("worse"), "equal": won.count("equal")}

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from other results, and from the same one looked at as another comparison."""
        return self.id, self.number

    @property
    def most_seeds(self) -> int:
        """How many runs each arm has; the base has one."""
        return max(len(runs) for runs in self.runs.values())


@dataclass(frozen=True)
class Answer:
    """The greedy answer of one run: its beginning, its whole length in characters, `stop` or `length`."""

    arm: str
    seed: int
    text: str
    length: int
    finish: str


@dataclass(frozen=True)
class ItemAnswers:
    """One item whole: the turns that were asked, the reference if there is one, and the answers of the arms."""

    item: Item
    asked: list[Message]
    reference: str
    answers: list[Answer]


def open_result(ws: Workspace, name: str, number: int = 0) -> Finished:
    """The result of an experiment (id, the start of one, or name) with its items, as one of its comparisons.

    Raises NotFound, or UsageProblem where there is no result yet.
    """
    row = finished(ws, name)
    result = json.loads(row.result or "{}")
    sides = compared_sides(ws, row, number)
    evalset = get_eval_set(ws.store, json.loads(row.plan)["evalset"])
    measured = rows.item_means(ws.store, {arm: list(ids.values()) for arm, ids in sides.runs.items()})
    values: dict[int, dict[str, dict[str, float]]] = {}
    for entry in measured.to_pylist():
        values.setdefault(entry["eval_item"], {}).setdefault(entry["metric"], {})[entry["arm"]] = entry["value"]
    # What is measured on general text has windows of it for items, which are numbered from -1 down.
    known = {metric for item, by_metric in values.items() if item >= 0 for metric in by_metric}
    return Finished(
        id=row.id,
        name=row.name,
        result=pair(result, number),
        whole=result,
        arms=sides.labels,
        runs=sides.runs,
        metrics=(*specs_for(known), *_own(result, known)),
        evalset=evalset,
        items=_items(ws, evalset, values),
        number=number,
        comparisons=tuple(f"{one['candidate']} against {one['baseline']}" for one in all_comparisons(result)),
    )


def _own(result: dict[str, Any], known: Collection[str]) -> list[MetricSpec]:
    """The metrics of other packages in a result; these need not be installed any more."""
    ours = {spec.name for spec in DEFAULT_METRICS}
    named = {metric["name"]: metric["higher_is_better"] for metric in result.get("metrics", [])}
    return [
        MetricSpec(name, "report", higher_is_better=higher)
        for name, higher in named.items()
        if name in known and name not in ours
    ]


def item_answers(ws: Workspace, shown: Finished, item: int, seed: int = 0) -> ItemAnswers:
    """The answers to one item by the run number `seed` (from 0) of each arm; the base has one answer for all.

    Raises NotFound.
    """
    stored = eval_item(ws.store, shown.evalset, item)
    asked, reference = split_reference(json.loads(stored.messages))
    chosen = {arm: list(runs.items())[min(seed, len(runs) - 1)] for arm, runs in shown.runs.items()}
    found = rows.answers_to(ws.store, [run for _, run in chosen.values()], item, MOST)
    answers = [Answer(arm, number, *found[run]) for arm, (number, run) in chosen.items() if run in found]
    text = content_text(reference.get("content")) if reference else ""
    return ItemAnswers(shown.items[item], asked, text, answers)


def _items(ws: Workspace, evalset: EvalSet, values: dict[int, dict[str, dict[str, float]]]) -> list[Item]:
    found = []
    for batch in eval_batches(ws.store, evalset):
        for row in batch.to_pylist():
            prompt = _last_question(split_reference(json.loads(row["messages"]))[0])[:PROMPT]
            found.append(Item(row["item"], prompt, row["slice"], row["cluster"], values.get(row["item"], {})))
    return found


def _last_question(messages: Sequence[Message]) -> str:
    return next((content_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), "")
