"""Scores from a job of their own process, ingested into the workspace."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from filters.pipeline import compute_missing
from filters.recipe import load_recipe
from filters.remaining import Remaining
from filters.scoring import score_folder, write_job
from filters.step import Score
from trainer.errors import Stopped
from trainer.protocol import Events
from workbench.scoring import ScoreJobs
from workbench.store.scores import StoredScores
from workbench.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Question {i}?", "completion": "word " * (i + 1)}) + "\n" for i in range(8))
    )
    with closing(Workspace.init(tmp_path / "ws")) as made:
        made.import_file(path, name="mine")
        yield made


@pytest.mark.usefixtures("forked_jobs")
def test_a_recipe_scores_rows_in_a_job_and_takes_over_what_a_killed_one_left(workspace, tiny_model, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"steps:\n  - likelihood: {{model: {str(tiny_model)!r}, max: 1000}}\n")
    scorer = load_recipe(recipe).steps[0].scorers[0]
    left = workspace.runs_dir / f"score-{scorer.fingerprint}"
    rows = [row for batch in Remaining(lambda: workspace.rows("mine")) for row in batch]

    def killed(asked):
        yield {row.content_hash: Score(0.5) for row in asked[:3]}
        yield {asked[3].content_hash: Score.error("busy")}
        raise Stopped("Stopped")

    write_job(left, [rows], scorer.plan)
    with pytest.raises(Stopped):
        score_folder(left, Events(left), killed, "answers")

    seen = []
    report = workspace.run_recipe(recipe, ["mine"], "clean", progress=lambda *told: seen.append(told))
    assert (report.rows_in, report.rows_out) == (8, 8)
    assert (5, 5, "answers") in seen  # three were known, and the error was tried again
    stored = StoredScores(workspace.store)
    found = stored.get([row.content_hash for row in rows], scorer.name, scorer.fingerprint)
    assert [found[row.content_hash].value for row in rows[:3]] == [0.5] * 3
    assert all(found[row.content_hash].state == "ok" for row in rows)
    assert all(4 < (found[row.content_hash].value or 0) < 7 for row in rows[3:])  # log of 259 tokens is 5.6
    assert set(stored.scorers()) == {"response_nll", "perplexity"}
    stored.close()
    assert not left.exists()
    assert ("perplexity", 8) in workspace.facets("mine").scorers


def test_a_job_that_is_called_off_leaves_no_process_and_keeps_its_folder(workspace, tiny_model, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"steps:\n  - likelihood: {{model: {str(tiny_model)!r}}}\n")
    scorer = load_recipe(recipe).steps[0].scorers[0]
    stored = StoredScores(workspace.store)
    left = Remaining(lambda: workspace.rows("mine"))
    with pytest.raises(Stopped):
        compute_missing(scorer, left, stored, ScoreJobs(workspace.runs_dir, None, lambda: True))
    stored.close()
    assert [folder.name for folder in workspace.runs_dir.iterdir()] == [f"score-{scorer.fingerprint}"]
