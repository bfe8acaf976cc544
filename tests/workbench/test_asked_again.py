"""Rows that a judge failed on: the next run of the same recipe asks about them again, and no other, and what became
of them meanwhile is told as it was."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from rich.console import Console

from filters.recipe import parse_recipe
from filters.step import Score
from workbench.curation import run_recipe
from workbench.errors import UsageProblem
from workbench.report.terminal import steps_table
from workbench.store.recipe_runs import ledger
from workbench.store.versions import history, recipe_run_of
from workbench.workspace import Workspace

JUDGE = "judge: {base_url: 'http://127.0.0.1:9/v1', model: m, min: 2}"


class Judge:
    """Rates by the last digit of the answer, and fails on the answers in `fails`; `asked` is what it was asked for."""

    def __init__(self):
        self.asked, self.fails = [], set()

    def __call__(self, scorer, rows):
        for batch in rows:
            answers = [row.text("response") for row in batch]
            self.asked += answers
            yield {
                row.content_hash: Score.error("cut off") if answer in self.fails else Score(float(answer[-1]))
                for row, answer in zip(batch, answers, strict=True)
            }


@pytest.fixture
def bench(tmp_path):
    """bench(steps, name): the report of a run of these steps over ten rows, with the judge and the workspace."""
    lines = [{"prompt": f"Question {n}?", "completion": f"Answer {n}"} for n in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    judge = Judge()
    with closing(Workspace.init(tmp_path / "ws")) as workspace:
        workspace.import_file(tmp_path / "rows.jsonl", name="rows")

        def run(*steps, name="v", **options):
            recipe = parse_recipe("steps:\n" + "".join(f"  - {step}\n" for step in steps))
            given = {"dry_run": False, "allow_wipeout": False, "progress": None} | options
            judge.asked.clear()
            return run_recipe(workspace.store, recipe, ["rows"], name, embed=None, compute=judge, **given)

        run.judge, run.workspace = judge, workspace
        yield run


def test_the_next_run_under_the_same_name_asks_about_the_failed_rows_alone(bench):
    bench.judge.fails = {"Answer 3", "Answer 7"}
    first = bench(JUDGE)
    assert (first.rows_out, first.steps[0].errors) == (8, 2)
    bench.judge.fails = {"Answer 7"}
    again = bench(JUDGE)
    assert sorted(bench.judge.asked) == ["Answer 3", "Answer 7"]
    assert (again.new, again.rows_out, again.steps[0].errors) == (False, 8, 1)
    bench.judge.fails = set()
    assert bench(JUDGE).steps[0].errors == 0
    assert bench.judge.asked == ["Answer 7"]
    bench(JUDGE)
    assert bench.judge.asked == []
    assert len(bench.workspace.versions()) == 1
    assert [stage.version for stage in history(bench.workspace.store, "v")] == ["v"]


def test_where_the_answer_changes_the_rows_the_version_stays_and_another_name_takes_the_run_over(bench):
    bench.judge.fails = {"Answer 1", "Answer 7"}
    assert bench(JUDGE).rows_out == 9, "the row that would be rated 1 stays while it has no rating"
    bench.judge.fails = set()
    with pytest.raises(UsageProblem, match=r"with other content .9 rows.; rows that a step had failed on"):
        bench(JUDGE)
    assert sorted(bench.judge.asked) == ["Answer 1", "Answer 7"]
    better = bench(JUDGE, name="better")
    assert (better.rows_out, better.resumed) == (8, 1)
    assert bench.judge.asked == []


def test_a_run_that_was_stopped_behind_a_failing_judge_does_not_go_on_with_its_failures(bench):
    bench.judge.fails = {"Answer 1"}
    with pytest.raises(UsageProblem, match="no row has a score"):
        bench(JUDGE, "top: {by: nowhere, k: 3}")
    bench.judge.fails = set()
    with pytest.raises(UsageProblem, match="no row has a score"):
        bench(JUDGE, "top: {by: nowhere, k: 3}")
    assert bench.judge.asked == ["Answer 1"]
    [(dropped,)] = bench.workspace.store.rows("SELECT dropped FROM steps")
    assert dropped == 2, "Answer 0 and Answer 1"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([JUDGE], [["2 failed, kept"]]),
        ([f"{JUDGE[:-1]}, on_error: drop}}"], [["2 failed, dropped"]]),
        (
            [JUDGE, "top: {by: judge-helpfulness, k: 4}"],
            [["2 failed, kept"], ["2 could not be judged, dropped"]],
        ),
        (
            [JUDGE, "top: {by: judge-helpfulness, k: 4, missing: keep}"],
            [["2 failed, kept"], ["2 could not be judged, kept"]],
        ),
    ],
)
def test_what_became_of_rows_without_a_score_is_told_of_each_step(bench, steps, told):
    bench.judge.fails = {"Answer 3", "Answer 7"}
    tried = bench(*steps, dry_run=True)
    report = bench(*steps)
    store = bench.workspace.store
    kept = ledger(store, recipe_run_of(store, store.version("v").id))
    for rows in (tried.steps, report.steps, kept):
        assert [list(step.notes) for step in rows] == told
    table = "".join(segment.text for segment in Console(width=300).render(steps_table([s.as_dict() for s in kept])))
    assert all(f"({note})" in table for notes in told for note in notes)


def test_of_steps_that_an_older_release_ran_it_is_not_told_what_is_not_known(bench):
    bench.judge.fails = {"Answer 3"}
    bench(JUDGE)
    store = bench.workspace.store
    with store.transaction() as cursor:
        cursor.execute("UPDATE steps SET unscored_dropped = NULL, errors_dropped = NULL")
    assert ledger(store, 1)[0].notes == ("1 failed",)
