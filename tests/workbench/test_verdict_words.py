"""A verdict in words: metrics as people call them, whatever the JSON calls them."""

from __future__ import annotations

from trainer.verdict import DEFAULT_METRICS
from workbench.report.ablation import meaning
from workbench.report.verdict import metric_name, plain_name, sentences


def test_reasons_call_metrics_by_their_plain_names_and_leave_other_sentences_alone():
    told = ["instructions_strict: +0.1 (p = 0.2): better.", "response_nll: -0.1: better.", "A caveat: stop_rate."]
    assert sentences({"sentences": told}) == [
        "instructions followed: +0.1 (p = 0.2): better.",
        "response NLL: -0.1: better.",
        "A caveat: stop_rate.",
    ]


def test_no_metric_is_shown_by_its_key_and_none_is_taken_for_another():
    names = [spec.name for spec in DEFAULT_METRICS]
    for shown in (metric_name, plain_name):
        told = [shown(name) for name in names]
        assert len(set(told)) == len(told)
        assert not any("_" in name or "the same" in name for name in told)


def test_what_an_ablation_was_measured_by_is_told_in_words():
    step = {"state": "done", "metric": "response_nll", "step": "exact", "verdict": "better"}
    assert "Change: of response NLL (nats/token)" in meaning("leave-one-out", "full", [step])[0]
