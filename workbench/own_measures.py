"""Metrics of other packages, read off the answers that are stored: no model is asked, and no run made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.conversation import content_text, split_reference
from trainer.own_metrics import Answered, own_metrics
from trainer.shifts import SHIFTS
from trainer.verdict import DEFAULT_METRICS, MetricSpec
from workbench.errors import Problem
from workbench.store import experiments as rows
from workbench.workspace import Workspace

_TAKEN = frozenset(
    {*(spec.name for spec in DEFAULT_METRICS), *(shift.name for shift in SHIFTS)}
    | {"prompt_tokens", "regurgitation_control"}
)


def measure_own(ws: Workspace, evalset: str, runs: Sequence[str]) -> tuple[list[MetricSpec], list[str]]:
    """Measure the answers of these runs by every metric that packages offer, and note it among what was measured.

    Returns the metrics, and a sentence for each that failed: it is left out as a whole.
    """
    metrics, told = own_metrics(_TAKEN)
    if not metrics:
        return [], told
    items = {}
    for item in ws.eval_rows(evalset).to_pylist():
        asked, reference = split_reference(json.loads(item["messages"]))
        items[item["item"]] = (asked, content_text(reference.get("content")) if reference else None)
    given: dict[str, list[Answered]] = {run: [] for run in runs}
    for answer in rows.answers(ws.store, runs).to_pylist():
        number = answer["eval_item"]
        given[answer["run_id"]].append(Answered(number, *items[number], answer["text"], answer["finish"]))
    found = []
    for metric in metrics:
        try:
            values = {run: metric.measure(answers) for run, answers in given.items()}
        except Problem as problem:
            told.append(str(problem))
            continue
        rows.save_metric(ws.store, metric.name, {run: _column(v, len(items)) for run, v in values.items()})
        found.append(metric.spec)
    return found, told


def _column(values: Mapping[int, float], items: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    column = np.full(items, np.nan)
    column[list(values)] = list(values.values())
    return column
