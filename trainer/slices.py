"""Where a difference lies: two arms compared again within parts of the eval set, such as its tasks or languages.

Slices are looked at beside the verdict and have no part in it. All slices of one dimension are one family: their p
values are corrected together by Holm's method, so that on the same data none of them differs in 19 experiments of 20,
however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.statistics import NoiseFloor, holm
from trainer.variance import Clusters, Floats
from trainer.verdict import Measured, MetricSpec, Outcome, measure, outcome

LEAST: Final = 10
"""Items, or clusters of items, that a slice needs to be tested. A paired t test of ten finds an effect as large as the
spread between single items four times in five; of fewer, only effects that a reader would see in the answers."""

Labels = Sequence[str | None]
"""The slice of each item in one dimension; None where that is not known."""

Mask = NDArray[np.bool_]
"""Which items of the eval set are meant."""


@dataclass(frozen=True)
class Slice:
    """One slice. `p_decisive` is corrected by Holm over the slices of its dimension; `verdict` stands on it.

    All but the counts is None where the slice has fewer than `LEAST` items or clusters (`units`).
    """

    name: str
    items: int
    units: int
    baseline: float | None = None
    candidate: float | None = None
    delta: float | None = None
    ci: tuple[float, float] | None = None
    p: float | None = None
    p_decisive: float | None = None
    verdict: Outcome | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; null for what is not finite."""
        ends = [end if math.isfinite(end) else None for end in self.ci] if self.ci else None
        return {**asdict(self), "ci": ends}


@dataclass(frozen=True)
class SlicedMetric:
    """One metric in the slices of one dimension, the largest first; `unlabelled` items are in none."""

    metric: str
    dimension: str
    slices: tuple[Slice, ...]
    unlabelled: int

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "metric": self.metric,
            "dimension": self.dimension,
            "slices": [one.as_json() for one in self.slices],
            "unlabelled": self.unlabelled,
        }


def slice_metric(
    spec: MetricSpec,
    baseline: Floats,
    candidate: Floats,
    dimensions: Mapping[str, Labels],
    *,
    clusters: Clusters | None = None,
    noise: Callable[[Mask], NoiseFloor | None] = lambda _: None,
) -> list[SlicedMetric]:
    """Compare two tables (seeds x items) within the slices of each dimension; see `slice_items`.

    `noise` gives the noise floor of the items of a mask, where there is one seed.
    """

    def compare(mask: Mask, together: Clusters | None) -> Measured:
        kept = None if together is None else [c for c, keep in zip(together, mask, strict=True) if keep]
        return measure(spec, baseline[:, mask], candidate[:, mask], clusters=kept, noise=noise(mask))

    complete = np.asarray(~(np.isnan(baseline).any(0) | np.isnan(candidate).any(0)))
    return slice_items(spec, complete, dimensions, compare, clusters)


def slice_items(
    spec: MetricSpec,
    complete: Mask,
    dimensions: Mapping[str, Labels],
    compare: Callable[[Mask, Clusters | None], Measured],
    clusters: Clusters | None,
) -> list[SlicedMetric]:
    """Compare within the slices of each dimension by `compare`, which gets the items of a slice and the clusters.

    Only items with a value in every run (`complete`) are in a slice. Dimensions in which all items are in one slice,
    or each is in its own, are left out. In the dimension `cluster` the items of a cluster stand alone: it speaks of
    items like those of that cluster.
    """
    found = []
    for dimension, labels in dimensions.items():
        names = np.array([label or "" for label in labels])
        masks = {str(name): complete & (names == name) for name in np.unique(names[complete]) if name}
        if len(masks) < 2 or all(mask.sum() == 1 for mask in masks.values()):
            continue
        together = None if dimension == "cluster" else clusters
        units = {name: _units(mask, together) for name, mask in masks.items()}
        tested = {name: compare(mask, together) for name, mask in masks.items() if units[name] >= LEAST}
        slices = _slices(masks, units, tested)
        found.append(SlicedMetric(spec.name, dimension, slices, int((complete & (names == "")).sum())))
    return found


def _slices(masks: Mapping[str, Mask], units: Mapping[str, int], tested: Mapping[str, Measured]) -> tuple[Slice, ...]:
    corrected = dict(zip(tested, holm([m.difference.decisive_p for m in tested.values()]), strict=True))
    slices = []
    for name, mask in sorted(masks.items(), key=lambda pair: (-int(pair[1].sum()), pair[0])):
        counts = (name, int(mask.sum()), units[name])
        if name not in tested:
            slices.append(Slice(*counts))
            continue
        d, p = tested[name].difference, corrected[name]
        slices.append(Slice(*counts, d.baseline, d.candidate, d.delta, d.ci, d.p, p, outcome(tested[name], p)))
    return tuple(slices)


def _units(mask: Mask, clusters: Clusters | None) -> int:
    """How many items, or clusters of them, are in the mask."""
    if clusters is None:
        return int(mask.sum())
    alone = sum(c is None for c, keep in zip(clusters, mask, strict=True) if keep)
    return alone + len({c for c, keep in zip(clusters, mask, strict=True) if keep and c is not None})
