"""Slices of simulated tables: a planted effect is found where it was planted, and none is made up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainer.slices import LEAST, slice_metric
from trainer.statistics import estimate_noise_floor
from trainer.verdict import DEFAULT_METRICS

NLL = next(spec for spec in DEFAULT_METRICS if spec.name == "response_nll")
TASKS = [task for task in "abcdefgh" for _ in range(20)]
FEW = ["few"] * (LEAST - 1)


def arms(rng, items: int, seeds: int = 3, luck: float = 0.3):
    """Two arms of the same data: items differ, and each run has luck of its own, in each task too."""
    item = rng.normal(2, 1, items)
    return tuple(
        item + rng.normal(0, luck / np.sqrt(items), (seeds, 1)) + rng.normal(0, 0.2, (seeds, items)) for _ in range(2)
    )


def by_task(a, b, **options):
    (found,) = slice_metric(NLL, a, b, {"task": TASKS}, **options)
    return {one.name: one for one in found.slices}


def test_an_effect_in_one_slice_is_found_there_and_nowhere_else():
    rng = np.random.default_rng(1)
    found, elsewhere = 0, 0
    for _ in range(40):
        a, b = arms(rng, len(TASKS))
        b[:, np.array(TASKS) == "c"] += 0.4
        slices = by_task(a, b)
        found += slices["c"].verdict == "worse"
        elsewhere += any(s.verdict != "no difference detected" for name, s in slices.items() if name != "c")
    assert found >= 36
    assert elsewhere <= 4


@pytest.mark.parametrize("seeds", [1, 3])
def test_on_the_same_data_no_slice_differs_in_nineteen_of_twenty_experiments(seeds):
    rng = np.random.default_rng(seeds)
    families, singles, repeats = 0, 0, 60
    for _ in range(repeats):
        a, b = arms(rng, len(TASKS), seeds)
        again = arms(rng, len(TASKS), 4)[0]
        floors = {"noise": lambda mask, runs=again: estimate_noise_floor(runs[:, mask])} if seeds == 1 else {}
        slices = by_task(a, b, **floors)
        families += any(s.verdict != "no difference detected" for s in slices.values())
        singles += any(s.p < 0.05 for s in slices.values())
    assert families / repeats <= 0.1
    assert singles / repeats > 0.15, "uncorrected, eight slices cry wolf"


def test_a_slice_with_few_items_or_clusters_is_only_counted():
    rng = np.random.default_rng(3)
    labels = [*TASKS, *FEW]
    a, b = arms(rng, len(labels))
    clusters = [f"c{i // 4}" if label == "a" else str(i) for i, label in enumerate(labels)]
    (found,) = slice_metric(NLL, a, b + 5, {"task": labels}, clusters=clusters)
    slices = {one.name: one for one in found.slices}
    assert (slices["few"].items, slices["few"].verdict, slices["few"].p) == (LEAST - 1, None, None)
    assert (slices["a"].items, slices["a"].units, slices["a"].verdict) == (20, 5, None)
    assert slices["b"].verdict == "worse"
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["slices"][-1]["ci"] is None


def test_one_seed_without_a_noise_floor_decides_nothing_in_a_slice_either():
    a, b = arms(np.random.default_rng(4), len(TASKS), 1)
    assert {s.verdict for s in by_task(a, b + 5).values()} == {"no difference detected"}


def test_items_of_a_cluster_stand_alone_in_its_own_slice():
    a, b = arms(np.random.default_rng(5), len(TASKS))
    (found,) = slice_metric(NLL, a, b + 5, {"cluster": TASKS}, clusters=TASKS)
    assert {one.verdict for one in found.slices} == {"worse"}


def test_what_is_no_division_is_left_out_and_unlabelled_items_are_counted():
    a, b = arms(np.random.default_rng(6), 40)
    b[0, 0] = np.nan
    dimensions = {
        "alike": ["x"] * 40,
        "each": [str(i) for i in range(40)],
        "task": [None] * 5 + ["x"] * 20 + ["y"] * 15,
    }
    (found,) = slice_metric(NLL, a, b, dimensions)
    assert (found.dimension, found.unlabelled, [s.items for s in found.slices]) == ("task", 4, [20, 15])
