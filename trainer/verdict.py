"""From paired differences to one verdict: better, worse, mixed, or no difference detected.

The rule. One *primary* metric decides whether the candidate is better or worse, at the full error rate. *Guardrails*
can turn better into mixed: a guardrail is breached when the estimated harm is larger than its stated margin *and* the
harm is significant. Guardrails are judged together, by Holm's correction. They speak only after the primary has
(serial gatekeeping: Maurer, Hothorn and Lehmacher 1995), so the primary needs no correction for them. *Report*
metrics decide nothing; their p is not corrected. Where several candidates are compared with one baseline, the primary
metrics of these comparisons are corrected together, by Holm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from trainer.errors import UsageProblem
from trainer.statistics import Difference, NoiseFloor, holm, paired_difference, paired_share_difference
from trainer.variance import Clusters, Floats

Role = Literal["primary", "guardrail", "report"]
Outcome = Literal["better", "worse", "no difference detected", "mixed"]

BETTER: Final = "better"
WORSE: Final = "worse"
MIXED: Final = "mixed"
NO_DIFFERENCE: Final = "no difference detected"


@dataclass(frozen=True)
class MetricSpec:
    """A metric and its part in the verdict.

    `margin` (guardrails only, above zero, in the metric's unit): how much harm is tolerated. `unit` is for sentences;
    `yes_no` marks metrics that are 0 or 1 per item; `caveat` is said wherever this metric decides. `general` marks
    what is measured on windows of general text, not on eval items (`trainer.forgetting`).
    """

    name: str
    role: Role
    higher_is_better: bool
    margin: float | None = None
    unit: str = ""
    yes_no: bool = False
    caveat: str = ""
    general: bool = False

    def __post_init__(self) -> None:
        if (self.role == "guardrail") != (self.margin is not None and self.margin > 0):
            raise UsageProblem(f"{self.name}: a guardrail needs a margin above zero, and only a guardrail has one")


# Margins are the least harm that would make one hesitate to take a version that is better on the primary metric.
DEFAULT_METRICS: Final = (
    MetricSpec(
        "response_nll",
        "primary",
        higher_is_better=False,
        unit="nats",
        caveat="Likelihood favours the version that resembles the eval set: look at a neutral set beside it.",
    ),
    # A small model listens with about 0.75 nats and loses about 0.4 when its answers are shuffled: an eighth of that.
    MetricSpec("prompt_gain", "guardrail", higher_is_better=True, margin=0.05, unit="nats"),
    # One answer in twenty more that runs into the token limit; on 80 prompts, four.
    MetricSpec("stop_rate", "guardrail", higher_is_better=True, margin=0.05, yes_no=True),
    # rep-4 of a looping answer is near 1, of a sound one near 0: as much as one answer in fifty more that loops.
    MetricSpec("repetition", "guardrail", higher_is_better=False, margin=0.02),
    # A twentieth of a nat is 5% more perplexity on ordinary prose that neither arm was trained on.
    MetricSpec("general_nll", "guardrail", higher_is_better=False, margin=0.05, unit="nats", general=True),
    MetricSpec("general_kl", "report", higher_is_better=False, unit="nats", general=True),
    MetricSpec(
        "win_rate",
        "report",
        higher_is_better=True,
        caveat="A judge may like length, style and itself: see what the win rate is among answers of equal length.",
    ),
    MetricSpec("win_rate_controlled", "report", higher_is_better=True),
    MetricSpec(
        "instructions_strict",
        "report",
        higher_is_better=True,
        caveat="Instructions followed say nothing of whether the answer is right or good.",
    ),
    MetricSpec("instructions_loose", "report", higher_is_better=True),
    MetricSpec("all_instructions_strict", "report", higher_is_better=True, yes_no=True),
    MetricSpec("all_instructions_loose", "report", higher_is_better=True, yes_no=True),
    MetricSpec("regurgitation", "report", higher_is_better=False),
)

JUDGED: Final = ("win_rate", "win_rate_controlled")
"""What a judge says of the candidate's answers beside the baseline's (`trainer.preference`)."""

PRIMARIES: Final = ("win_rate", "response_nll", "instructions_strict")
"""What may decide: the first of these that was measured. An eval set without references has no likelihood."""


def specs_for(measured: Collection[str]) -> tuple[MetricSpec, ...]:
    """The metrics of a comparison that measured these, the primary one first."""
    specs = [spec for spec in DEFAULT_METRICS if spec.name in measured]
    primary = next((name for name in PRIMARIES if name in measured), None)
    chosen = [replace(spec, role="primary") for spec in specs if spec.name == primary]
    others = [replace(s, role="report") if s.role == "primary" else s for s in specs if s.name != primary]
    return (*chosen, *others)


@dataclass(frozen=True)
class MetricResult:
    """One metric of the comparison, as in the JSON of `compare`. Numbers that cannot be known are infinite.

    `p` is the metric's own, `p_decisive` the one its `verdict` stands on: Holm-corrected for guardrails, and with
    the noise floor where there is one seed; for the primary metric of one comparison of several it is corrected for
    these, and `mde` is what is found at that level. `token_weighted` is the change where every
    token counts alike instead of every item. `n_missing` items have no value in some run and are left out.
    """

    name: str
    role: Role
    higher_is_better: bool
    baseline: float
    candidate: float
    delta: float
    ci: tuple[float, float]
    p: float
    p_decisive: float
    mde: float
    verdict: Outcome
    token_weighted: float | None = None
    n_missing: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values: an interval as a list, and null for what is not finite."""
        return {**asdict(self), "ci": [_finite(x) for x in self.ci], "mde": _finite(self.mde)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Verdict:
    """The verdict, the primary metric's name, what it speaks about, every metric, and the reasons in sentences."""

    verdict: Outcome
    primary: str
    scope: str
    metrics: tuple[MetricResult, ...]
    sentences: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """`scope`, `verdict`, `primary`, `metrics` as JSON values, without NaN or infinities."""
        return {
            "scope": self.scope,
            "verdict": self.verdict,
            "primary": self.primary,
            "metrics": [m.as_json() for m in self.metrics],
        }


@dataclass(frozen=True)
class Measured:
    """A metric with its paired difference."""

    spec: MetricSpec
    difference: Difference

    @property
    def harm(self) -> float:
        """The difference, signed so that positive is worse."""
        return -self.difference.delta if self.spec.higher_is_better else self.difference.delta

    @property
    def worst_harm(self) -> float:
        """The interval's end on the harmful side, signed so that positive is worse."""
        low, high = self.difference.ci
        return -low if self.spec.higher_is_better else high

    def breached(self, outcome: Outcome) -> bool:
        """Significantly worse, and by more than the margin."""
        return self.spec.margin is not None and outcome == WORSE and self.harm > self.spec.margin


def measure(
    spec: MetricSpec,
    baseline: Floats,
    candidate: Floats,
    *,
    clusters: Clusters | None = None,
    weights: Floats | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
) -> Measured:
    """Compare two arms on one metric, tables (seeds x items): see `paired_difference`. Yes/no ignores weights."""
    if spec.yes_no:
        shares = paired_share_difference(baseline, candidate, clusters=clusters, noise=noise, confidence=confidence)
        return Measured(spec, shares)
    difference = paired_difference(
        baseline, candidate, clusters=clusters, weights=weights, noise=noise, confidence=confidence
    )
    return Measured(spec, difference)


@dataclass(frozen=True)
class Family:
    """Comparisons that are decided together: how many they are, and the p of this one's primary metric by Holm."""

    size: int
    p: float


def decide_together(comparisons: Sequence[Sequence[Measured]]) -> list[Verdict]:
    """The verdicts on several comparisons, their primary metrics corrected together by Holm.

    Among many comparisons of equal data, one in twenty would else say better or worse by luck. Raises as `decide`.
    """
    primaries = [next((m for m in measured if m.spec.role == "primary"), None) for measured in comparisons]
    corrected = holm([m.difference.decisive_p if m else 1.0 for m in primaries]) if comparisons else []
    return [decide(measured, Family(len(comparisons), p)) for measured, p in zip(comparisons, corrected, strict=True)]


def decide(measured: Sequence[Measured], family: Family | None = None) -> Verdict:
    """The verdict on a comparison. One metric is primary; all come from the same seeds at the same confidence.

    `family` is there where it is one of several. Raises UsageProblem if not.
    """
    primaries = [m for m in measured if m.spec.role == "primary"]
    if len(primaries) != 1:
        raise UsageProblem(f"one metric must be primary, not {len(primaries)}")
    if len({m.spec.name for m in measured}) < len(measured):
        raise UsageProblem("every metric must have a name of its own")
    if len({(m.difference.n_seeds, m.difference.confidence) for m in measured}) > 1:
        raise UsageProblem("all metrics of a comparison must have the same seeds and confidence")
    primary = primaries[0]
    p_values = _decisive_p(measured)
    if family and family.size > 1:
        primary = replace(primary, difference=primary.difference.among(family.size))
        measured = [primary if m.spec.role == "primary" else m for m in measured]
        p_values[primary.spec.name] = family.p
    outcomes = {m.spec.name: outcome(m, p_values[m.spec.name]) for m in measured}
    result: Outcome = outcomes[primary.spec.name]
    breaches = [m for m in measured if m.breached(outcomes[m.spec.name])]
    if result == BETTER and breaches:
        result = MIXED
    guardrails = [m for m in measured if m.spec.role == "guardrail"]
    sentences = [_primary_sentence(primary, outcomes[primary.spec.name], family)]
    sentences += [_guardrail_sentence(m, outcomes[m.spec.name]) for m in guardrails]
    if primary.spec.caveat:
        sentences.append(primary.spec.caveat)
    return Verdict(
        verdict=result,
        primary=primary.spec.name,
        scope=primary.difference.scope,
        metrics=tuple(_result(m, p_values[m.spec.name], outcomes[m.spec.name]) for m in measured),
        sentences=tuple(sentences),
    )


def _decisive_p(measured: Sequence[Measured]) -> dict[str, float]:
    """The p that decides about each metric: guardrails corrected together by Holm."""
    p_values = {m.spec.name: m.difference.decisive_p for m in measured}
    family = [m.spec.name for m in measured if m.spec.role == "guardrail"]
    p_values.update(zip(family, holm([p_values[name] for name in family]), strict=True))
    return p_values


def outcome(m: Measured, p: float) -> Outcome:
    """Significantly better, significantly worse, or neither, by the p that decides."""
    if m.harm == 0 or p >= 1 - m.difference.confidence:
        return NO_DIFFERENCE
    return WORSE if m.harm > 0 else BETTER


def _result(m: Measured, p_decisive: float, outcome: Outcome) -> MetricResult:
    d = m.difference
    return MetricResult(
        name=m.spec.name,
        role=m.spec.role,
        higher_is_better=m.spec.higher_is_better,
        baseline=d.baseline,
        candidate=d.candidate,
        delta=d.delta,
        ci=d.ci,
        p=d.p,
        p_decisive=p_decisive,
        mde=d.mde,
        verdict=outcome,
        token_weighted=d.token_weighted,
        n_missing=d.n_missing,
    )


def _number(value: float, unit: str, *, signed: bool = False) -> str:
    text = f"{value:+.2g}" if signed else f"{value:.2g}"
    return f"{text} {unit}".rstrip()


def _change(m: Measured) -> str:
    d = m.difference
    head = f"{m.spec.name}: {_number(d.delta, m.spec.unit, signed=True)}"
    if not math.isfinite(d.ci[0]):
        return f"{head} (no interval: too few items or clusters to know their spread)"
    p = f"p = {d.p:.2g}" if d.p >= 0.0001 else "p < 0.0001"
    return f"{head} ({d.confidence:.0%} interval {d.ci[0]:+.2g} to {d.ci[1]:+.2g}, {p})"


def _primary_sentence(m: Measured, outcome: Outcome, family: Family | None = None) -> str:
    d = m.difference
    corrected = ""
    if family and family.size > 1:
        corrected = f", corrected for {family.size} comparisons (Holm) p = {family.p:.2g}"
    if outcome != NO_DIFFERENCE:
        return f"{_change(m)}: {outcome}, for {d.scope}{corrected}."
    if d.n_seeds == 1 and d.noise is None:
        return f"{_change(m)}: {NO_DIFFERENCE}; two runs without a noise floor cannot tell data from luck."
    if not math.isfinite(d.mde):
        return f"{_change(m)}: {NO_DIFFERENCE}; the smallest effect that could have been found is unknown."
    seen = f"An effect of {_number(d.mde, m.spec.unit)} would have been found four times in five."
    if d.noise is not None and d.p < 1 - d.confidence:
        floor = _number(d.noise.bound(d.confidence), m.spec.unit)
        return f"{_change(m)}: {NO_DIFFERENCE} beyond the {floor} that training again may move it. {seen}"
    return f"{_change(m)}: {NO_DIFFERENCE}{corrected}. {seen}"


def _guardrail_sentence(m: Measured, outcome: Outcome) -> str:
    margin = m.spec.margin or 0.0
    stated = f"its margin of {_number(margin, m.spec.unit)}, for {m.difference.scope}"
    if m.breached(outcome):
        return f"{_change(m)}: worse than {stated}."
    if m.worst_harm > margin:
        return f"{_change(m)}: not shown to be worse than {stated}, nor to be within it."
    return f"{_change(m)}: within {stated}."
