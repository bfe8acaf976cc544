"""The verdict rule, on differences built to sit on each side of each line."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from trainer.errors import UsageProblem
from trainer.statistics import NoiseFloor, paired_difference
from trainer.verdict import DEFAULT_METRICS, Measured, MetricSpec, decide, measure, specs_for

NLL, GAIN, STOP, REPETITION = JUDGED = DEFAULT_METRICS[:4]
BASE = paired_difference(np.zeros((2, 40)), np.random.default_rng(0).normal(size=(2, 40)))


def found(spec, delta, p, n_seeds=2, half=0.01, **changes):
    """A difference with this delta and p; its interval is delta +- half."""
    ci = (delta - half, delta + half)
    return Measured(spec, replace(BASE, delta=delta, p=p, ci=ci, mde=0.03, n_seeds=n_seeds, **changes))


def verdict(nll, gain=(0.0, 1.0), stop=(0.0, 1.0), repetition=(0.0, 1.0)):
    pairs = zip(JUDGED, (nll, gain, stop, repetition), strict=True)
    return decide([found(spec, *values) for spec, values in pairs])


def test_better_is_a_significantly_better_primary_with_sound_guardrails():
    assert verdict((-0.1, 0.01)).verdict == "better"
    assert verdict((-0.1, 0.01), gain=(0.2, 0.001)).verdict == "better"


def test_worse_is_a_significantly_worse_primary_whatever_the_guardrails_say():
    assert verdict((0.1, 0.01)).verdict == "worse"
    assert verdict((0.1, 0.01), gain=(0.3, 0.001)).verdict == "worse"
    assert verdict((0.1, 0.01), gain=(-0.3, 0.001)).verdict == "worse"


def test_without_significance_the_sentence_tells_what_would_have_been_found():
    result = verdict((-0.1, 0.06))
    assert result.verdict == "no difference detected"
    assert "An effect of 0.03 nats would have been found four times in five" in result.sentences[0]


@pytest.mark.parametrize(
    ("guardrail", "change"),
    [("gain", -0.06), ("stop", -0.06), ("repetition", 0.03)],
    ids=["gain", "stop", "repetition"],
)
def test_mixed_is_a_better_primary_and_a_guardrail_beyond_its_margin(guardrail, change):
    result = verdict((-0.1, 0.01), **{guardrail: (change, 0.001)})
    assert result.verdict == "mixed"
    assert any("worse than its margin" in sentence for sentence in result.sentences)
    assert verdict((-0.1, 0.01), **{guardrail: (-change, 0.001)}).verdict == "better"  # the good side is no breach


def test_a_guardrail_within_its_margin_breaches_nothing_however_significant():
    result = verdict((-0.1, 0.01), gain=(-0.03, 0.0001))
    assert result.verdict == "better"
    assert result.metrics[1].verdict == "worse"
    assert "within its margin of 0.05 nats" in result.sentences[1]


def test_a_guardrail_beyond_its_margin_breaches_nothing_without_significance_but_is_not_called_sound():
    result = verdict((-0.1, 0.01), gain=(-0.3, 0.2))
    assert result.verdict == "better"
    assert "not shown to be worse than its margin of 0.05 nats" in result.sentences[1]
    assert "nor to be within it" in result.sentences[1]


def test_guardrails_are_judged_together_and_the_primary_alone():
    assert verdict((-0.1, 0.04)).verdict == "better"  # three guardrails do not make the primary harder
    assert verdict((-0.1, 0.04), gain=(-0.1, 0.03)).verdict == "better"  # 0.03 x 3 guardrails
    assert verdict((-0.1, 0.04), gain=(-0.1, 0.016)).verdict == "mixed"


def test_a_breached_guardrail_without_a_better_primary_is_told_but_is_no_verdict():
    result = verdict((-0.01, 0.5), stop=(-0.4, 0.001))
    assert result.verdict == "no difference detected"
    assert result.metrics[2].verdict == "worse"
    assert any("stop_rate: -0.4" in s and "worse than its margin" in s for s in result.sentences)


def test_report_metrics_decide_nothing_and_cost_nothing():
    extra = [MetricSpec(f"extra-{i}", "report", higher_is_better=True) for i in range(20)]
    metrics = [
        found(NLL, -0.1, 0.04),
        found(GAIN, -0.1, 0.04),
        found(extra[0], -9.0, 0.04),
        *(found(s, -9.0, 0.5) for s in extra[1:]),
    ]
    result = decide(metrics)
    assert result.verdict == "mixed"
    assert result.metrics[2].verdict == "worse"


def test_one_seed_needs_a_noise_floor_and_must_clear_it():
    alone = decide([found(NLL, -0.1, 1e-9, n_seeds=1)])
    assert (alone.verdict, alone.scope) == ("no difference detected", "these two runs")
    assert "without a noise floor" in alone.sentences[0]
    loud = decide([found(NLL, -0.1, 1e-9, n_seeds=1, noise=NoiseFloor(0.05, 1, 0.3, 40))])
    assert loud.verdict == "no difference detected"
    assert "beyond the 0.64 nats that training again may move it" in loud.sentences[0]
    quiet = decide([found(NLL, -0.1, 1e-9, n_seeds=1, noise=NoiseFloor(0.01, 5, 0.3, 40))])
    assert quiet.verdict == "better"
    assert "for these two runs" in quiet.sentences[0]


def test_a_guardrail_of_one_seed_must_clear_its_floor_too():
    noise = NoiseFloor(0.01, 5, 0.3, 40)
    primary = found(NLL, -0.1, 1e-9, n_seeds=1, noise=noise)
    assert decide([primary, found(GAIN, -0.2, 1e-9, n_seeds=1, noise=noise)]).verdict == "mixed"
    assert decide([primary, found(GAIN, -0.2, 1e-9, n_seeds=1)]).verdict == "better"


def test_the_caveat_of_the_primary_metric_is_said():
    assert "resembles the eval set" in verdict((-0.1, 0.01)).sentences[-1]


def test_json_holds_the_contract_and_no_nan():
    one_item = np.array([[1.0]]), np.array([[0.0]])
    result = decide([measure(spec, *one_item) for spec in DEFAULT_METRICS])
    text = json.dumps(result.as_json(), allow_nan=False)
    metric = json.loads(text)["metrics"][0]
    assert list(metric) == [
        "name", "role", "higher_is_better", "baseline", "candidate", "delta", "ci", "p", "p_decisive", "mde", "verdict",
        "token_weighted", "n_missing",
    ]  # fmt: skip
    assert (metric["ci"], metric["mde"], metric["p"]) == ([None, None], None, 1.0)
    assert "no interval" in result.sentences[0]


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_identical_runs_are_no_difference_with_p_one(n_seeds):
    runs = np.random.default_rng(1).random((n_seeds, 30))
    tables = [runs, runs, (runs > 0.2).astype(float), runs * 0]
    result = decide([measure(spec, t, t.copy()) for spec, t in zip(JUDGED, tables, strict=True)])
    assert result.verdict == "no difference detected"
    assert {m.p for m in result.metrics} == {1.0}
    assert {m.verdict for m in result.metrics} == {"no difference detected"}
    json.dumps(result.as_json(), allow_nan=False)


def test_measured_tables_reach_the_verdict_with_the_right_sign():
    rng = np.random.default_rng(2)
    a = 2 + rng.normal(0, 0.1, (3, 60))
    stops = np.ones((3, 60))
    worse = [measure(NLL, a, a + rng.normal(0.5, 0.1, a.shape)), measure(STOP, stops, stops)]
    assert decide(worse).verdict == "worse"
    better_but_endless = [measure(NLL, a, a - rng.normal(0.5, 0.1, a.shape)), measure(STOP, stops, 1 - stops)]
    result = decide(better_but_endless)
    assert result.verdict == "mixed"
    assert result.metrics[1].ci[1] < -0.9
    assert math.isfinite(result.metrics[1].mde)


def test_a_comparison_that_cannot_mean_anything_is_refused():
    with pytest.raises(UsageProblem, match="primary"):
        decide([found(GAIN, 0, 1)])
    with pytest.raises(UsageProblem, match="primary"):
        decide([found(NLL, 0, 1), found(replace(NLL, name="other"), 0, 1)])
    with pytest.raises(UsageProblem, match="name of its own"):
        decide([found(NLL, 0, 1), found(GAIN, 0, 1), found(GAIN, 0, 1)])
    with pytest.raises(UsageProblem, match="same seeds"):
        decide([found(NLL, 0, 1), found(GAIN, 0, 1, n_seeds=1)])
    for margin in (None, 0.0, -1.0):
        with pytest.raises(UsageProblem, match="margin"):
            MetricSpec("x", "guardrail", higher_is_better=True, margin=margin)
    with pytest.raises(UsageProblem, match="margin"):
        MetricSpec("x", "report", higher_is_better=True, margin=0.1)


def test_without_likelihood_the_share_of_instructions_followed_decides():
    with_references = specs_for(["instructions_strict", "regurgitation", "response_nll", "stop_rate"])
    assert [(s.name, s.role) for s in with_references] == [
        ("response_nll", "primary"), ("stop_rate", "guardrail"), ("instructions_strict", "report"),
        ("regurgitation", "report"),
    ]  # fmt: skip
    without = specs_for(["regurgitation", "stop_rate", "instructions_strict"])
    assert (without[0].name, without[0].role) == ("instructions_strict", "primary")
    assert [spec.role for spec in without] == ["primary", "guardrail", "report"]
