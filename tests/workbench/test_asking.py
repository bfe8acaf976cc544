from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest

from workbench import asking
from workbench.errors import Stopped, UsageProblem
from workbench.store.experiments import experiments
from workbench.workspace import Workspace


@pytest.fixture
def ws(compared_copy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


@pytest.fixture
def id(ws) -> str:
    [experiment] = experiments(ws.store)
    return experiment.id


def turns(text: str):
    return [{"role": "user", "content": text}]


def watch() -> str:
    return "watch"


@pytest.mark.usefixtures("forked_jobs")
def test_a_prompt_of_the_eval_set_is_answered_as_it_was_in_the_evaluation_and_at_once_when_asked_again(ws, id):
    question = asking.prepare_question(ws, id, turns("Item 3?"))
    told = []
    asking.ask(question, told.append, watch)
    found = asking.answers(question)
    for arm, run in (("base", "base"), ("baseline", "baseline-0"), ("candidate", "candidate-0")):
        stored = pq.read_table(ws.runs_dir / id / "results" / run / "generations.parquet").to_pylist()
        assert (found[arm].text, found[arm].finish) == next((r["text"], r["finish"]) for r in stored if r["item"] == 3)
    assert [event["arm"] for event in told if event["event"] == "answer"] == ["base", "baseline", "candidate"]
    again = asking.prepare_question(ws, id, turns("Item 3?"))
    assert again.done
    asking.ask(again, lambda event: pytest.fail("no job runs"), watch)
    assert asking.answers(again) == found


def test_another_prompt_seed_or_turn_before_is_another_question(ws, id):
    asked = [
        asking.prepare_question(ws, id, turns("a")),
        asking.prepare_question(ws, id, turns("b")),
        asking.prepare_question(ws, id, turns("a"), seed=1),
        asking.prepare_question(ws, id, [{"role": "system", "content": "x"}, *turns("a")]),
    ]
    assert len({question.folder for question in asked}) == 4
    assert not any(question.done for question in asked)


def test_a_question_that_is_called_off_stops_its_job_and_can_be_asked_again(ws, id):
    question = asking.prepare_question(ws, id, turns("c"))
    with pytest.raises(Stopped):
        asking.ask(question, lambda event: None, lambda: "stop")
    assert not question.done
    assert asking.answers(question) == {}


def test_what_cannot_be_asked_is_said_before_a_job_starts(ws, id):
    with pytest.raises(UsageProblem, match="nothing to answer"):
        asking.prepare_question(ws, id, turns("  "))
    with pytest.raises(UsageProblem, match="half of a character"):
        asking.prepare_question(ws, id, turns("half \ud800"))
    shutil.rmtree(ws.runs_dir / id / "results" / "candidate-0" / "adapter")
    with pytest.raises(UsageProblem, match="candidate-0 is no longer there"):
        asking.prepare_question(ws, id, turns("d"))
    assert not list((ws.runs_dir / id).glob("answers/*"))
