"""Metrics of other packages, found by real entry points: metadata folders on the path, as pip leaves them."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from trainer.own_metrics import Answered
from workbench import outcomes, results
from workbench.store.experiments import find_experiment
from workbench.workspace import Workspace

EXAMPLE = Path(__file__).parents[2] / "docs/example_metric"
HEAD = "class M:\n    higher_is_better = False\n    def measure(self, answered):\n        "


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(package, metrics, code): a package with entry points, whose module has the name of the package."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def go(package, metrics, code=None):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {target}\n" for name, target in metrics.items())
        (info / "entry_points.txt").write_text(f"[sft_workbench.metrics]\n{lines}")
        if code is not None:
            (tmp_path / f"{package}.py").write_text(code)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return go


@pytest.fixture
def ws(compared_copy):
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


def concluded(ws) -> dict:
    outcomes.conclude(ws, find_experiment(ws.store, "yes vs no").id)
    return json.loads(find_experiment(ws.store, "yes vs no").result)


def test_the_example_package_measures_every_answer_and_decides_nothing(ws, install, monkeypatch):
    before = concluded(ws)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    monkeypatch.syspath_prepend(str(EXAMPLE))
    code = (EXAMPLE / "example_metric.py").read_text()
    install("example_metric", project["entry-points"]["sft_workbench.metrics"])
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE eval_items SET messages = replace(messages, 'Item 2?', 'As JSON?') WHERE item < 5")
    found = concluded(ws)
    [metric] = [one for one in found["metrics"] if one["name"] == "is_json"]
    assert (metric["role"], metric["higher_is_better"], metric["baseline"], metric["n_missing"]) == (
        "report",
        True,
        0.0,
        5,
    )
    assert (found["verdict"], found["primary"]) == (before["verdict"], before["primary"])
    shown = results.open_result(ws, "yes vs no")
    assert shown.metrics[-1].name == "is_json"
    assert shown.items[2].values["is_json"] == {"base": 0.0, "baseline": 0.0, "candidate": 0.0}
    assert len(code.splitlines()) <= 25

    from example_metric import IsJson

    asked = [{"role": "user", "content": "Give me JSON."}]
    answers = ['{"a": 1}', "```json\n[]\n```", "no"]
    assert [IsJson().measure(Answered(0, asked, None, text, "stop")) for text in answers] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (HEAD + "raise KeyError('x')", "failed on item 0 (KeyError: 'x')"),
        (HEAD + "return float('nan')", "gave nan for item 0, no finite number"),
        (HEAD + "return 'much'", "gave 'much' for item 0, no finite number"),
        ("import nowhere_to_be_found", "cannot be loaded (ModuleNotFoundError"),
        ("class M:\n    higher_is_better = True", "has no method measure"),
        ("class M:\n    def measure(self, a): return 1.0", "does not say higher_is_better"),
        (HEAD + "raise SystemExit(3)", "failed on item 0 (SystemExit: 3)"),
    ],
)
def test_a_broken_metric_is_told_by_name_and_the_rest_goes_on(ws, install, code, said):
    install("broken", {"odd": "broken:M"}, code)
    install("fine", {"length": "fine:M"}, HEAD + "return len(answered.answer)")
    found = concluded(ws)
    [told] = [sentence for sentence in found["sentences"] if "broken 1.0" in sentence]
    assert "'odd'" in told
    assert said in told
    names = [metric["name"] for metric in found["metrics"]]
    assert "length" in names
    assert "odd" not in names
    assert found["verdict"] == "worse"


def test_a_metric_that_no_item_has_in_every_run_is_told_and_costs_nothing_else(ws, install):
    code = "calls = 0\n" + HEAD + "global calls; calls += 1; return None if 6 < calls <= 12 else 1.0"
    install("seldom", {"rare": "seldom:M"}, code)  # of the run after the base's six answers nothing
    found = concluded(ws)
    assert "The metric 'rare' is left out: no item has a value of it in every run." in found["sentences"]
    assert "rare" not in {metric["name"] for metric in found["metrics"]}
    assert found["verdict"] == "worse"


def test_a_name_that_is_taken_is_refused_and_one_that_two_offer_is_nobodys(ws, install):
    code = HEAD + "return 1.0"
    install("one", {"stop_rate": "one:M", "both": "one:M"}, code)
    install("two", {"both": "two:M"}, code)
    found = concluded(ws)
    assert [s for s in found["sentences"] if "'stop_rate' of one 1.0 is left out" in s]
    assert [s for s in found["sentences"] if "one 1.0 and two 1.0 both offer" in s]
    assert "both" not in {metric["name"] for metric in found["metrics"]}
