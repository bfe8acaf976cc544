"""Answers of an experiment judged by a scripted server: what decides then, and what becomes of a judge that dies."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest

from workbench import answer_judging, experiments, outcomes, results
from workbench.comparing import smallest_effect
from workbench.consent import ConsentNeeded, within_budget
from workbench.errors import ModelUnavailable, Problem, Stopped, UsageProblem
from workbench.experiment_command import command_line
from workbench.experiments import Question
from workbench.judging import Asking
from workbench.store.experiments import find_experiment

from .judged import ITEMS, measure, prefers_good, to_judge

pytest.importorskip("openai")


def prefers_the_first(prompt: str, nth: int) -> str:
    return "Better: A"


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    workspace = to_judge(tmp_path)
    yield workspace
    workspace.close()


@pytest.fixture
def planned(ws, tiny_model):
    """plan(url, seeds): an experiment with a judge, measured: the candidate answers well, the baseline poorly."""

    def plan(url: str, seeds: int = 2, **given) -> experiments.Experiment:
        judge = answer_judging.asked_judge(ws, "helpfulness", {"base_url": url, "model": "m"} | given)
        question = Question("a", "b", model=str(tiny_model), trained_tokens=300, seeds=seeds, judge=judge)
        found = experiments.plan(ws, question)
        measure(found)
        outcomes.conclude(ws, found.id)
        return found

    return plan


def agreed(**options) -> Asking:
    return Asking(agrees=lambda _: True, **options)


def result(ws, experiment) -> dict:
    return json.loads(find_experiment(ws.store, experiment.id).result)


def metric(found: dict, name: str) -> dict:
    return next(one for one in found["metrics"] if one["name"] == name)


def test_a_judge_decides_and_is_asked_about_every_pair_in_both_orders_once(ws, planned, serve):
    server = serve(prefers_good)
    experiment = planned(server.url)
    waiting = result(ws, experiment)
    assert (waiting["primary"], waiting["judge"]["state"]) == ("response_nll", "waiting")
    assert any("this verdict does without it" in sentence for sentence in waiting["sentences"])
    answer_judging.judge_answers(ws, experiment.id, agreed())
    found = result(ws, experiment)
    assert server.calls == 2 * ITEMS, "two seeds with the same answers are the same pairs"
    assert (found["primary"], found["verdict"], found["judge"]["state"]) == ("win_rate", "better", "done")
    rate = metric(found, "win_rate")
    assert (rate["role"], rate["baseline"], rate["candidate"]) == ("primary", 0.5, 1.0)
    assert metric(found, "response_nll")["role"] == "report"
    assert metric(found, "win_rate_controlled")["verdict"] == "better"
    assert found["means"]["candidate"]["win_rate"] == 1.0
    shown = results.open_result(ws, experiment.id)
    assert shown.metrics[0].name == "win_rate"
    assert [item.change("win_rate") for item in shown.items] == [0.5] * ITEMS
    answer_judging.judge_answers(ws, experiment.id, agreed())
    assert server.calls == 2 * ITEMS


def test_what_the_order_decides_is_a_tie(ws, planned, serve, in_process):
    experiment = planned(serve(prefers_the_first).url)
    answer_judging.judge_answers(ws, experiment.id, agreed())
    found = result(ws, experiment)
    assert metric(found, "win_rate")["candidate"] == 0.5
    assert (found["verdict"], found["judge"]["flips"]) == ("no difference detected", 2 * ITEMS)


def test_a_judge_that_dies_half_way_is_told_and_goes_on_without_paying_twice(ws, planned, serve, in_process):
    alive = 10

    def script(prompt, nth):
        if server.calls > alive:
            return (401, {}, {"error": {"message": "no more"}})
        return prefers_good(prompt, nth)

    server = serve(script)
    experiment = planned(server.url, concurrency=1)
    with pytest.raises(ModelUnavailable):
        answer_judging.judge_answers(ws, experiment.id, agreed())
    found = result(ws, experiment)
    assert (found["primary"], found["judge"]["state"]) == ("response_nll", "waiting")
    [told] = [sentence for sentence in found["sentences"] if "The judge has spoken on" in sentence]
    assert "the endpoint does not accept the key" in told
    assert f"experiments resume {experiment.id}" in told
    assert 0 < found["judge"]["judged"] < found["judge"]["pairs"] == 2 * ITEMS
    alive = 10_000
    answer_judging.judge_answers(ws, experiment.id, agreed())
    assert sum(server.answered.values()) == 2 * ITEMS
    assert max(server.answered.values()) == 1
    assert result(ws, experiment)["primary"] == "win_rate"


def test_a_spent_budget_stops_it_and_the_next_goes_on(ws, planned, serve, in_process):
    server = serve(prefers_good)
    experiment = planned(server.url, budget_calls=2 * ITEMS - 4)
    with pytest.raises(Stopped, match="budget of 56 calls"):
        answer_judging.judge_answers(ws, experiment.id, Asking(agrees=within_budget))
    assert result(ws, experiment)["judge"]["state"] == "waiting"
    answer_judging.judge_answers(ws, experiment.id, Asking(agrees=within_budget))
    assert (server.calls, result(ws, experiment)["verdict"]) == (2 * ITEMS, "better")


def test_leave_is_asked_for_before_anything_is_trained(ws, planned, serve):
    server = serve(prefers_good)
    experiment = planned(server.url)
    with pytest.raises(ConsentNeeded) as needed:
        answer_judging.agree_before(ws, experiment, lambda _: False)
    assert needed.value.calls.calls == 2 * 2 * ITEMS
    assert needed.value.calls.prompt_tokens > 0
    assert server.calls == 0


def test_one_seed_is_judged_beside_two_runs_on_the_same_data(ws, planned, serve, in_process):
    server = serve(prefers_good)
    experiment = planned(server.url, seeds=1)
    answer_judging.judge_answers(ws, experiment.id, agreed())
    found = result(ws, experiment)
    assert server.calls == 2 * ITEMS, "equal answers of the two baseline runs are ties, and not asked about"
    assert found["judge"]["pairs"] == 2 * ITEMS
    assert found["verdict"] == "better"
    assert "these two runs" in found["scope"]


def test_a_judge_is_part_of_the_question_and_of_its_command(ws, planned, serve, tiny_model):
    url = serve(prefers_good).url
    experiment = planned(url)
    question = experiments.asked(find_experiment(ws.store, experiment.id))
    command, _ = command_line(question)
    assert f"--judge helpfulness --judge-model m --judge-url {url}" in command
    assert experiments.plan(ws, question).id == experiment.id
    without = Question("a", "b", model=str(tiny_model), trained_tokens=300, seeds=2)
    plain = experiments.plan(ws, without)
    assert plain.id != experiment.id
    assert set(plain.taken.values()) == {experiment.id}, "its runs are not made again"
    with pytest.raises(UsageProblem, match="has no judge"):
        answer_judging.judge_answers(ws, plain.id, agreed())


def test_a_rubric_that_changed_is_not_the_judge_it_was(ws, planned, serve, tmp_path):
    rubric = tmp_path / "mine.yaml"
    rubric.write_text("name: mine\ninstructions: Be kind.\n")
    judge = answer_judging.asked_judge(ws, str(rubric), {"base_url": serve(prefers_good).url, "model": "m"})
    assert judge.scorer == "judge-pairs-mine"
    experiment = planned("http://localhost:1/v1")
    noted = json.loads(find_experiment(ws.store, experiment.id).plan)
    noted["judge"] = {"params": judge.params, "scorer": judge.scorer, "fingerprint": judge.fingerprint}
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET plan = ? WHERE id = ?", [json.dumps(noted), experiment.id])
    rubric.write_text("name: mine\ninstructions: Be strict.\n")
    with pytest.raises(Problem, match="is not the one that this experiment began with"):
        answer_judging.judge_answers(ws, experiment.id, agreed())


def test_a_judge_that_is_not_there_is_told_before_anything_is_trained(ws, planned, serve, monkeypatch):
    asked = []

    def agrees(calls):
        asked.append(calls)
        return True

    url = serve(prefers_good).url
    experiment = planned(url)
    assert answer_judging.agree_before(ws, experiment, agrees) is None
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET plan = replace(plan, ?, 'http://localhost:1/v1')", [url])
    assert "nobody answers at http://localhost:1/v1 now" in answer_judging.agree_before(ws, experiment, agrees)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelUnavailable, match="client library"):
        answer_judging.agree_before(ws, experiment, agrees)
    assert len(asked) == 2, "nobody is asked for money that cannot be spent"


def test_with_a_judge_the_smallest_win_rate_is_foreseen_and_not_the_smallest_loss(ws, planned, serve):
    known = planned(serve(prefers_good).url)
    assert "smallest effect to be found, by earlier runs of this setting" in smallest_effect(
        replace(experiments.find(ws, known.id), decides="response_nll")
    )
    assert re.search(r"if not at all, one of 6\d% would be found", smallest_effect(experiments.find(ws, known.id)))
