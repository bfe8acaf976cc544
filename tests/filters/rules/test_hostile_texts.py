"""No text may hold up a run: patterns that backtrack take minutes on what no one wrote but every crawl has."""

from __future__ import annotations

import pytest

from filters.registry import STEPS
from filters.step import RowStep

TEXTS = {
    "gaps": ("a" + "," * 60) * 400,
    "blanks": "y" + " " * 20_000 + "x",
    "tabs": "\t" * 20_000 + "x",
    "lines": "y" + "\n" * 20_000 + "x",
    "one word": "x" * 40_000,
    "addresses": "a@" * 10_000,
    "dots": "a." * 10_000,
    "open tags": "<div " + "a=b " * 4_000,
    "open brackets": "(" * 10_000,
    "open quotes": '"\\' * 10_000,
    "backticks": "`" * 10_001,
    "pipes": "|" * 20_000,
}
WANTED = {
    "length": {"min_words": 1},
    "readability": {"max_grade": 20.0},
    "audit": {"drop": ["no-stop"]},
}  # what has no default
RULES = {
    name: step(step.params_model(**WANTED.get(name, {})))
    for name, step in STEPS.items()
    if issubclass(step, RowStep) and step.__module__.startswith(("filters.rules.", "filters.audit"))
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_holds_up_a_rule(rule, text, make_row):
    for row in (make_row("q", TEXTS[text]), make_row(TEXTS[text], "x")):
        for scorer in RULES[rule].scorers:
            assert scorer.score([row])[0].state != "error"
