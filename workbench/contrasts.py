"""The comparisons of an experiment's arms in pairs, and how its arms rank.

Comparisons that answer one question are decided together by Holm: see `workbench.arms.families_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trainer.power import NoiseFloor
from trainer.preference import Preference
from trainer.shifts import SHIFTS, Shift, measure_shift
from trainer.slices import Labels, Mask, SlicedMetric, slice_metric
from trainer.variance import Clusters, Floats
from trainer.verdict import (
    BETTER,
    JUDGED,
    MIXED,
    WORSE,
    Measured,
    MetricSpec,
    Verdict,
    decide_together,
    measure,
    specs_for,
)
from workbench.arms import Pair

Tables = Mapping[str, Floats]
"""A table (seeds x items) for each metric."""

_BEATEN = {
    "random-k": "choosing these rows beats drawing as many at random",
    "longest-k": "choosing these rows beats taking as many with the longest answers",
    "full": "these rows alone beat all rows of the baseline, each trained on at least once",
}
_BEATS = {
    "random-k": "as many rows drawn at random do better",
    "longest-k": "as many rows with the longest answers do better",
    "full": "all rows of the baseline, each trained on at least once, do better",
}
_SAME = {
    "random-k": "not shown to differ from as many rows drawn at random",
    "longest-k": "not shown to differ from as many rows with the longest answers",
    "full": "not shown to differ from all rows of the baseline, each trained on at least once",
}


@dataclass(frozen=True)
class Contrast:
    """An arm compared with another one. `p_alone` decided on its primary metric before it was corrected for others.

    `unmeasured` are the metrics of other packages that no item has in every run.
    """

    arm: str
    against: str
    verdict: Verdict
    shifts: list[Shift]
    slices: list[SlicedMetric]
    p_alone: float
    unmeasured: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """An entry of `comparisons` in the JSON of `compare`, but for the names of versions."""
        return (
            {"arm": self.arm, "against": self.against}
            | self.verdict.as_json()
            | {
                "p_alone": self.p_alone,
                "sentences": list(self.verdict.sentences),
                "shifts": [shift.as_json() for shift in self.shifts],
                "slices": [sliced.as_json() for sliced in self.slices],
            }
        )


def contrast_arms(
    families: Sequence[Sequence[Pair]],
    tables: Mapping[str, Tables],
    *,
    base: Mapping[str, float],
    clusters: Clusters,
    weights: Floats,
    noise: Mapping[str, NoiseFloor],
    dimensions: Mapping[str, Labels],
    noise_within: Callable[[MetricSpec, Mask], NoiseFloor | None],
    judged: Mapping[tuple[str, str], Preference],
    more: Sequence[MetricSpec] = (),
) -> list[Contrast]:
    """Compare pairs of arms, in families that are decided together. `base` has the untrained model's means, `noise` the
    noise floors.

    `weights` are the tokens of each item's reference, for the token-weighted change of the likelihood. Metrics that
    decide are looked at again in the slices of `dimensions`, with the noise floor of their items. `judged` is what a
    judge said of pairs, and `more` what packages measure.
    """

    def measured(arm: str, against: str) -> list[Measured]:
        a, b = tables[against], tables[arm]
        preferred = judged[arm, against].by_name() if (arm, against) in judged else {}

        def one(spec: MetricSpec) -> Measured:
            if spec.name in preferred:
                return Measured(spec, preferred[spec.name])
            weighted = weights if spec.name == "response_nll" else None
            floor, together = noise.get(spec.name), None if spec.general else clusters
            return measure(spec, a[spec.name], b[spec.name], clusters=together, weights=weighted, noise=floor)

        both = {name for name in a.keys() & b.keys() if name not in JUDGED} | preferred.keys()
        owned = (own for own in more if own.name not in unmeasured(arm, against))
        return [one(spec) for spec in (*specs_for(both), *owned)]

    def unmeasured(arm: str, against: str) -> tuple[str, ...]:
        """What packages measure, but on no item in every run."""
        two = [(own.name, tables[arm].get(own.name), tables[against].get(own.name)) for own in more]
        return tuple(name for name, a, b in two if a is None or b is None or np.isnan(np.vstack([a, b])).any(0).all())

    def slices(arm: str, against: str, own: Sequence[Measured]) -> list[SlicedMetric]:
        found = []
        for spec in (m.spec for m in own if m.spec.role != "report" and not m.spec.general):
            if spec.name in JUDGED:
                found += judged[arm, against].sliced(spec, dimensions)
            else:
                a, b = tables[against][spec.name], tables[arm][spec.name]
                noise = partial(noise_within, spec)
                found += slice_metric(spec, a, b, dimensions, clusters=clusters, noise=noise)
        return found

    found = []
    for members in families:
        all_measured = [measured(*pair) for pair in members]
        for (arm, against), own, verdict in zip(members, all_measured, decide_together(all_measured), strict=True):
            p_alone = next(m.difference.decisive_p for m in own if m.spec.role == "primary")
            shifts = _shifts(tables[against], tables[arm], base, clusters, noise)
            lacking = unmeasured(arm, against)
            found.append(Contrast(arm, against, verdict, shifts, slices(arm, against, own), p_alone, lacking))
    return found


def _shifts(
    baseline: Tables, candidate: Tables, base: Mapping[str, float], clusters: Clusters, noise: Mapping[str, NoiseFloor]
) -> list[Shift]:
    return [
        measure_shift(
            spec,
            baseline[spec.name],
            candidate[spec.name],
            base=base.get(spec.name),
            clusters=clusters,
            noise=noise.get(spec.name),
        )
        for spec in SHIFTS
        if spec.name in baseline and spec.name in candidate
    ]


def control_sentence(contrast: Contrast, kind: str, label: str) -> str:
    """How a candidate does against a control of some kind, which is called `label`."""
    outcome, primary = contrast.verdict.verdict, contrast.verdict.metrics[0]
    told = {BETTER: _BEATEN, MIXED: _BEATEN, WORSE: _BEATS}.get(outcome, _SAME)[kind]
    though = ", though with a guardrail worse than its margin" if outcome == MIXED else ""
    low, high = primary.ci
    between = f", 95% interval {low:+.2g} to {high:+.2g}" if np.isfinite(low) else ""
    return f"Against the control {label}: {told}{though} ({primary.delta:+.2g} on the primary metric{between})."


def length_sentences(verdict: Verdict) -> list[str]:
    """That a judge's preference may be one for length, where it is not shown among answers of equal length."""
    metrics = {metric.name: metric for metric in verdict.metrics}
    rate, controlled = (metrics.get(name) for name in JUDGED)
    if rate is None or controlled is None or rate.verdict == controlled.verdict:
        return []
    if rate.verdict not in (BETTER, WORSE):
        return []
    low, high = controlled.ci
    between = f", 95% interval {0.5 + low:.0%} to {0.5 + high:.0%}" if np.isfinite(low) else ""
    return [
        f"Among answers of equal length the win rate is {controlled.candidate:.0%}{between}: what the judge prefers "
        "may be their length alone."
    ]


def ranks(means: Mapping[str, float], *, higher_is_better: bool) -> dict[str, int]:
    """The place of each arm by its mean, 1 for the best; equal means share a place."""
    sign = 1 if higher_is_better else -1
    return {arm: 1 + sum(sign * mean > sign * own for mean in means.values()) for arm, own in means.items()}
