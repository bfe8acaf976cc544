"""How the length and the shape of answers moved between two arms: reported with an interval, never judged.

Longer is not better, and a list is not worse than a paragraph; but a judge, and a reader, may be swayed by them. So
these have no direction and no part in the verdict.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from trainer.statistics import NoiseFloor, paired_difference, paired_share_difference
from trainer.variance import Clusters, Floats


@dataclass(frozen=True)
class ShiftSpec:
    """What may move. `yes_no` marks what is 0 or 1 for each answer."""

    name: str
    yes_no: bool


SHIFTS: Final = (
    ShiftSpec("answer_tokens", yes_no=False),
    ShiftSpec("has_list", yes_no=True),
    ShiftSpec("has_code", yes_no=True),
    ShiftSpec("has_heading", yes_no=True),
)


@dataclass(frozen=True)
class Shift:
    """One of `SHIFTS` in two arms, and the base model's mean where it is known.

    `p` is for no change at all, not corrected for the others; with one seed it includes the noise floor.
    """

    name: str
    base: float | None
    baseline: float
    candidate: float
    delta: float
    ci: tuple[float, float]
    p: float

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; null for what is not finite."""
        return {**asdict(self), "ci": [end if math.isfinite(end) else None for end in self.ci]}


def measure_shift(
    spec: ShiftSpec,
    baseline: Floats,
    candidate: Floats,
    *,
    base: float | None,
    clusters: Clusters | None = None,
    noise: NoiseFloor | None = None,
) -> Shift:
    """Compare two tables (seeds x items) as the metrics of a verdict are compared."""
    if spec.yes_no:
        found = paired_share_difference(baseline, candidate, clusters=clusters, noise=noise, confidence=0.95)
    else:
        found = paired_difference(baseline, candidate, clusters=clusters, noise=noise, confidence=0.95)
    return Shift(spec.name, base, found.baseline, found.candidate, found.delta, found.ci, found.decisive_p)
