"""Deleting an experiment: what goes with it, what stays because others need it, and when it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.protocol import PLAN, holding
from workbench.comparing import Jobs, listing, setup
from workbench.errors import NotFound, Problem, Stopped, UsageProblem
from workbench.experiment_removal import foresee_removal, remove_experiment
from workbench.experiments import plan
from workbench.results import open_result
from workbench.store import experiments as rows
from workbench.store.integrity import check
from workbench.workspace import Workspace

TABLES = ("experiments", "runs", "item_metrics", "generations")


@pytest.fixture
def ws(compared_copy) -> Iterator[Workspace]:
    workspace = Workspace.open(compared_copy)
    yield workspace
    workspace.close()


@pytest.fixture
def only(ws) -> str:
    """The id of the experiment that is there."""
    [row] = rows.experiments(ws.store)
    return row.id


def counts(ws: Workspace) -> list[int]:
    return [ws.store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]


def wrong(ws: Workspace) -> list[str]:
    return [looked.what for looked in check(ws.store) if looked.problem]


def copy(ws: Workspace, id: str, other: str) -> None:
    """A second experiment that was measured beside the base of the first, as a later one would be."""
    shutil.copytree(ws.runs_dir / id, ws.runs_dir / other)
    with ws.store.transaction() as cursor:
        cursor.execute("INSERT INTO experiments BY NAME SELECT * REPLACE (? AS id) FROM experiments", [other])
        for table, key in (("item_metrics", "run_id"), ("generations", "run_id"), ("runs", "id")):
            which = f"replace({key}, ?, ?) AS {key}" + (", ? AS experiment_id" if table == "runs" else "")
            given = [id, other] + ([other] if table == "runs" else [])
            cursor.execute(
                f"INSERT INTO {table} BY NAME SELECT * REPLACE ({which}) FROM {table} WHERE {key} NOT LIKE '%/base'",
                given,
            )


def test_all_that_is_its_own_goes_and_its_versions_can_be_deleted_after_it(ws, only):
    folder = ws.runs_dir / only
    assert list(folder.glob("results/*/adapter"))
    with pytest.raises(UsageProblem, match="was trained on"):
        ws.remove_version("yes")
    foreseen = foresee_removal(ws, "yes vs no")
    assert foreseen.freed == ("yes", "no")
    assert foreseen.size > 10_000
    assert counts(ws)[0] == 1, "a look deletes nothing"
    assert remove_experiment(ws, only) == foreseen
    assert counts(ws) == [0, 0, 0, 0]
    assert not folder.exists()
    assert wrong(ws) == []
    ws.remove_version("yes")
    assert wrong(ws) == []
    with pytest.raises(NotFound, match="no experiment"):
        remove_experiment(ws, only)


def test_the_base_run_stays_as_long_as_another_experiment_is_measured_beside_it(ws, only):
    before = counts(ws)
    copy(ws, only, "other")
    removal = remove_experiment(ws, only)
    assert removal.freed == (), "the other one was trained on them too"
    assert counts(ws) == before
    assert len(open_result(ws, "other").items[0].values["response_nll"]) == 3, "base, baseline and candidate"
    assert wrong(ws) == []
    with pytest.raises(UsageProblem, match="was trained on"):
        ws.remove_version("yes")
    remove_experiment(ws, "other")
    assert counts(ws) == [0, 0, 0, 0]


@pytest.mark.parametrize(("at_work", "told"), [("job", "Stop it first"), ("question", "is being answered")])
def test_one_that_something_runs_in_is_refused_and_stays_whole(ws, only, at_work, told):
    folder = ws.runs_dir / only
    if at_work == "question":
        folder = folder / "answers" / "0123"
        folder.mkdir(parents=True)
        (folder / PLAN).write_text("{}")
    before = counts(ws)
    with holding(folder), pytest.raises(UsageProblem, match=told):
        remove_experiment(ws, only)
    assert counts(ws) == before
    assert (ws.runs_dir / only / PLAN).exists()
    remove_experiment(ws, only)


def test_one_without_a_run_folder_can_be_deleted(ws, only):
    shutil.rmtree(ws.runs_dir / only)
    remove_experiment(ws, only)
    assert counts(ws) == [0, 0, 0, 0]


def test_a_folder_that_cannot_be_deleted_is_told_and_the_experiment_is_gone(ws, only, monkeypatch):
    def refuse(path: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(Problem, match=r"is deleted, but not all of its run folder \(Device or resource busy\)"):
        remove_experiment(ws, only)
    assert counts(ws) == [0, 0, 0, 0]


def test_the_same_question_asked_after_its_deletion_is_a_new_experiment(ws, only):
    jobs = Jobs(ws)
    assert [listed.state for listed in jobs.look().experiments] == ["done"]
    question = setup(ws, "yes", "no").question
    jobs.remove(only)
    assert jobs.look().experiments == []
    planned = plan(ws, question)
    assert (planned.id, planned.done) == (only, False)
    assert planned.plan.base, "nobody knows the base any more"
    [listed] = jobs.look().experiments
    assert (listed.state, listed.verdict) == ("planned", None)
    rows.set_state(ws.store, planned.id, "done")
    [listed] = jobs.look().experiments
    assert (listed.state, listed.verdict) == ("done", None), "the earlier result is forgotten"


def test_a_comparison_that_is_called_off_while_it_is_planned_leaves_nothing(ws, only):
    jobs, question = Jobs(ws), setup(ws, "no", "yes").question
    with pytest.raises(Stopped):
        jobs.begin(question, lambda: True)
    assert [id for id, _ in rows.states(ws.store)] == [only]
    assert [folder.name for folder in ws.runs_dir.iterdir()] == [only]
    id = plan(ws, question).id
    with pytest.raises(Stopped):
        jobs.begin(question, lambda: True)
    assert dict(rows.states(ws.store))[id] == "planned", "it was there before"


def test_what_was_planned_and_never_started_is_listed_so_and_tells_nothing(ws, only):
    id = plan(ws, setup(ws, "no", "yes").question).id
    jobs = Jobs(ws)
    look = jobs.look()
    assert ([listed.state for listed in look.experiments], look.ended) == (["done", "planned"], [])
    with holding(ws.runs_dir / id):
        assert jobs.look().experiments[-1].state == "running"
    assert listing(ws)[-1].state == "planned"
