"""How slices are shown: in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from trainer.slices import slice_metric
from trainer.verdict import DEFAULT_METRICS
from workbench import experiment_report
from workbench.report.html import html_report
from workbench.report.markdown import markdown_report
from workbench.report.slices import render_slices
from workbench.workspace import Workspace

HOSTILE = "<b>[red]x[/] \x1b[2J|"


@pytest.fixture(scope="module")
def slices():
    """Twelve tasks of twelve items, one of which got worse, and one of three."""
    rng = np.random.default_rng(0)
    labels = [f"task {chr(97 + i // 12)}" for i in range(132)] + [HOSTILE] * 12 + ["tiny"] * 3 + [None] * 2
    a = rng.normal(2, 1, len(labels)) + rng.normal(0, 0.05, (3, len(labels)))
    b = a + rng.normal(0, 0.05, a.shape)
    b[:, -17:-5] += 1.0
    specs = [spec for spec in DEFAULT_METRICS if spec.name in ("response_nll", "repetition")]
    return [one.as_json() for spec in specs for one in slice_metric(spec, a, b, {"task": labels})]


@pytest.fixture
def result(slices):
    primary = {"name": "response_nll", "p_decisive": 1.0}
    return {
        "primary": "response_nll", "verdict": "worse", "metrics": [primary], "slices": slices, "means": {},
        "trained_tokens": {}, "baseline": "a", "candidate": "b",
    }  # fmt: skip


def shown(result) -> str:
    out = io.StringIO()
    rendered = render_slices(result)
    if rendered is not None:
        Console(file=out, width=80).print(rendered)
    return out.getvalue()


def test_a_terminal_shows_the_largest_slices_in_80_columns_and_counts_the_rest(result):
    text = shown(result)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    [worse] = [line for line in lines if line.rstrip().endswith("worse")]
    assert worse.startswith("task <b>[red]x[/]")
    assert "- task: 4 other slices without a difference" in text
    assert "- task: 1 slice of fewer than 10 items" in text
    assert "- repetition is worse in task <b>[red]x[/]" in text
    assert shown(result | {"slices": []}) == ""
    assert shown({key: value for key, value in result.items() if key != "slices"}) == "", "of an earlier release"


def test_reports_list_every_slice(compared_copy, slices):
    ws = Workspace.open(compared_copy)
    contents = experiment_report.gather(ws, "yes vs no", items=1)
    ws.close()
    result = dict(contents.result)
    result["comparisons"] = [one | {"slices": slices} for one in result["comparisons"]]
    views = [dict(view) | {"slices": slices} for view in contents.views]
    contents = replace(contents, result=json.loads(json.dumps(result)), views=views)
    html, markdown = html_report(contents), markdown_report(contents)
    for name in ("task a", "task k", "tiny"):
        assert f'<th scope="row">{name}</th>' in html
        assert f"| {name} |" in markdown
    assert "<b>[red]" not in html
    assert "2 items in no slice." in html
    assert "2 items in no slice." in markdown
