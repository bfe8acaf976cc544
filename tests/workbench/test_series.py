"""Several comparisons as one family."""

from __future__ import annotations

from typing import Any

from trainer.statistics import holm
from workbench.series import family


def result(candidate: str, p: float | None, verdict: str) -> dict[str, Any]:
    metric = {
        "name": "response_nll", "higher_is_better": False, "delta": 0.1, "ci": [0.05, 0.15], "p": p, "p_decisive": p,
        "mde": 0.04,
    }  # fmt: skip
    return {
        "candidate": candidate, "experiment": f"id-{candidate}", "primary": "response_nll", "verdict": verdict,
        "metrics": [{"name": "stop_rate", "p_decisive": 0.9}, metric],
    }  # fmt: skip


def test_a_verdict_stands_only_where_it_outlives_the_correction_for_all():
    p_values = [0.001, 0.03, 0.04, 0.6]
    words = ["worse", "better", "mixed", "no difference detected"]
    found = family([result(str(i), p, word) for i, (p, word) in enumerate(zip(p_values, words, strict=True))])
    assert [one.p_holm for one in found] == holm(p_values)
    assert [one.verdict for one in found] == ["worse"] + ["no difference detected"] * 3
    assert family([result("alone", 0.03, "better")])[0].verdict == "better", "one comparison needs no correction"


def test_what_is_not_known_decides_nothing():
    [known, unknown] = family([result("a", 0.01, "worse"), result("b", None, "no difference detected")])
    assert (known.verdict, known.p_holm) == ("worse", 0.02)
    assert (unknown.verdict, unknown.p_holm) == ("no difference detected", None)
    assert family([]) == []
