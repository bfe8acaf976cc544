"""Ablations followed: kept as one thing, their comparisons in turn, what is known of them, stopped and gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.ablation_runs import AblationRuns, in_order, outlook
from workbench.errors import NotFound
from workbench.store import experiments as rows
from workbench.workspace import Workspace

from .ablated import Faked, Followed, to_ablate


@pytest.fixture
def ws(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with source `rows` and a recipe whose last step does nothing."""
    monkeypatch.chdir(tmp_path)
    workspace = to_ablate(tmp_path, tiny_model)
    yield workspace
    workspace.close()


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    """Jobs that never run."""
    return Faked(monkeypatch)


def test_comparisons_are_made_in_turn_and_every_step_gets_its_row(ws, faked):
    followed = Followed(ws, faked)
    assert followed.runs.look(followed.jobs.look()) == []
    followed.begin()
    first = followed.look()
    assert (first.name, first.state) == ("r over rows: leave one out", "running")
    assert (first.made, first.runs, first.verdict_told) == (0, 6, None)
    assert [step["state"] for step in first.steps] == ["not run", "not run", "same rows"]
    assert followed.look().state == "running"
    assert len(faked.started) == 1, "the second waits for the first"
    followed.end()
    half = followed.look()
    assert len(faked.started) == 2
    assert (half.made, half.runs) == (4, 6)
    assert [step["state"] for step in half.steps] == ["done", "not run", "same rows"]
    assert "corrected for 2 comparisons" in half.told[0], "the one to come counts"
    followed.end()
    done = followed.look()
    assert (done.state, done.made, done.runs) == ("done", 6, 6)
    assert [step.get("verdict") for step in done.steps] == ["worse", "no difference detected", None]
    assert half.steps[0]["p_holm"] == pytest.approx(done.steps[0]["p_holm"]), "what is told early stays so"
    assert done.verdict_told == "1 no difference, 1 worse"
    assert "Without it the model is worse, so it earns its place: exact." in done.told
    assert AblationRuns(ws, followed.jobs).look(followed.jobs.look()) == [done], "all of it is read from what is stored"
    order = [one.name for one in in_order(followed.jobs.look().experiments, [done])]
    assert order == [done.name, "rows-r vs rows-r-without-length-2", "rows-r vs rows-r-without-exact"]


def test_what_it_takes_is_told_before_and_the_same_question_is_the_same_ablation(ws, faked):
    followed = Followed(ws, faked)
    told = outlook(ws, followed.ablation, followed.question)
    assert told[0] == "2 comparisons with rows-r, 6 runs in all"
    assert told[1] == "not trained, as the rows are the same with and without: length-3"
    assert "this model was not trained here before" in told[2]
    assert rows.states(ws.store) == [], "nothing is written"
    id = followed.begin()
    asked_at = followed.look().created_at
    followed.end()
    followed.look()
    told = outlook(ws, followed.ablation, followed.question)
    assert told[0] == "2 comparisons with rows-r, 6 runs in all, 4 of them there already"
    assert told[2] == "about 12 s in all, by earlier runs of this model"
    assert "smallest effect to be found" in told[3]
    assert followed.begin() == id
    assert followed.look().created_at == asked_at
    assert len(followed.look().experiments) == 2


def test_stopped_it_begins_nothing_and_goes_on_where_it_was(ws, faked):
    followed = Followed(ws, faked)
    id = followed.begin()
    followed.look()
    followed.runs.stop(id)
    assert [followed.look().state for _ in range(3)] == ["stopped"] * 3
    assert len(faked.started) == 1
    followed.runs.start(id)
    assert [followed.look().state for _ in range(2)] == ["running"] * 2
    assert faked.started == [faked.started[0]] * 2
    followed.jobs.stop(faked.started[0])
    assert followed.look().state == "stopped", "who stops the comparison stops what it is part of"
    assert len(faked.started) == 2


def test_a_comparison_that_fails_is_told_the_next_is_made_and_gone_on_with_it_is_tried_again(ws, faked):
    followed = Followed(ws, faked)
    id = followed.begin()
    followed.look()
    followed.end(well=False)
    followed.look()
    assert len(faked.started) == 2
    followed.end()
    failed = followed.look()
    assert failed.state == "failed"
    assert [step["state"] for step in failed.steps] == ["failed", "done", "same rows"]
    assert failed.told[-1] == "exact failed: arm baseline: the rows are odd. Look."
    followed.runs.start(id)
    assert followed.look().state == "running"
    assert faked.started[2] == faked.started[0]
    followed.end()
    assert followed.look().state == "done"


def test_a_version_that_shares_prompts_is_refused_and_the_rest_is_made(ws, faked, tmp_path):
    item = {"prompt": "Question 22?", "completion": "dropped for its short answer"}
    (tmp_path / "short.jsonl").write_text(json.dumps(item) + "\n")
    ws.import_evalset(tmp_path / "short.jsonl", "short")
    followed = Followed(ws, faked, "short")
    told = outlook(ws, followed.ablation, followed.question)
    assert told[0] == "1 comparison with rows-r, 4 runs in all"
    assert told[2] == "not trained, as it shares prompts with the eval set: rows-r-without-length-2"
    followed.begin()
    followed.look()
    rows.set_state(ws.store, faked.started[0], "failed")
    faked.running.clear()
    ended = followed.look()
    assert [step["state"] for step in ended.steps] == ["failed", "refused", "same rows"]
    assert ended.told[-1].startswith("length-2 refused: 1 rows of version 'rows-r-without-length-2' have the prompt of")
    assert (ended.state, ended.runs, len(faked.started)) == ("failed", 4, 1)


def test_a_file_that_cannot_be_read_is_left_out_and_a_forgotten_one_is_gone(ws, faked):
    followed = Followed(ws, faked)
    id = followed.begin()
    (ws.ablations_dir / "other.json").write_text("{")
    followed.look()
    followed.runs.remove(id)
    assert followed.runs.look(followed.jobs.look()) == []
    assert len(rows.states(ws.store)) == 1, "its experiments stay"
    with pytest.raises(NotFound):
        followed.runs.start(id)
