"""The page on methods and settings is run: its sweeps, with a tiny model; and its tables have the rows of theirs."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from workbench.workspace import Workspace

from .chapters import ROOT, needs_fork, run_page

pytestmark = needs_fork

PAGE = "docs/methods.md"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a workspace as the demo leaves it, with versions `raw` and `curated`, and a few eval items."""
    with contextlib.closing(Workspace.init(tmp_path / "demo-workspace")) as ws:
        for name, count in (("raw", 12), ("curated", 10)):
            rows = [{"prompt": f"Question {i}?", "completion": f"{name} {i}"} for i in range(count)]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            ws.import_file(tmp_path / f"{name}.jsonl", name=f"{name}-rows")
            ws.freeze(f"{name}-rows", name)
    there = (ROOT / "datasets/eval/starter-eval.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "datasets" / "eval").mkdir(parents=True)
    (tmp_path / "datasets" / "eval" / "starter-eval.jsonl").write_text("".join(there[:3]), encoding="utf-8")
    return tmp_path


def told(heading: str) -> list[str]:
    """The first cells of the table below a heading of the page."""
    section = (ROOT / PAGE).read_text(encoding="utf-8").split(f"\n### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[1:]


def test_the_sweeps_of_the_page_run_and_have_the_rows_that_it_shows(home, tiny_model, fork_job):
    import trainer.experiment  # noqa: F401  # the children find all of it loaded

    small = "--trained-tokens 80 --max-new-tokens 2 --preset short --json"
    ran = run_page(PAGE, home, fork_job, {"sweep": f"--model {tiny_model} {small}"})
    assert [one.line for one in ran if not one.as_told] == []
    methods, data, other = (json.loads(one.out) for one in ran if one.line.startswith("workbench sweep"))

    labels = [arm["label"] for arm in methods["arms"]]
    assert labels == ["lora", "qlora", "dora", "full"] == told("Four methods")
    for arm in methods["arms"]:
        cost = arm["cost"]
        assert cost["peak_bytes"] > cost["saved_bytes"] > 0
        assert cost["estimated_bytes"] > 0
        assert cost["tokens_per_second"] is None or cost["tokens_per_second"] > 0
    saved = {arm["label"]: arm["cost"]["saved_bytes"] for arm in methods["arms"]}
    assert saved["full"] == max(saved.values())

    assert [arm["label"] for arm in data["arms"]][2:] == ["raw, lora lr=0.001", "curated, lora lr=0.001"]
    [effect] = data["sweep"]["data"]
    assert [one["setting"] for one in effect["effects"]] == ["lora lr=0.0002", "lora lr=0.001"]
    assert len(effect["sentences"]) == 2

    assert [arm["label"] for arm in other["arms"]] == ["lora", "ia3"]
    assert other["arms"][0]["taken_from"] == [methods["experiment"]]
