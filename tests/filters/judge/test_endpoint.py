"""An endpoint as a judge, against a real server that misbehaves on demand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from filters.judge.calls import endpoint_scores
from filters.judge.endpoint import Asker
from filters.judge.job import judge_folder
from filters.judge.plan import Budget, Endpoint, JudgePlan
from filters.judge.rubric import load_rubric
from filters.judge.spending import BudgetReached
from filters.scoring import read_parts, write_job
from trainer.errors import ModelUnavailable
from trainer.protocol import Events, read_events

from ...waiting import until

KEY = "sk-secret-0815"


@pytest.fixture
def rows(make_row):
    return [make_row(f"What is {n} plus {n}?", f"It is {2 * n}.", id=n) for n in range(6)]


@pytest.fixture
def judge(no_backoff, monkeypatch):
    """Judge rows at a server; the scores in the order of the rows, and the asker."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def go(server, rows, **options):
        asker = Asker(Endpoint(base_url=server.url, model="m", **options))
        found = {}
        go.found, go.asker = found, asker
        for part in endpoint_scores(asker, load_rubric("helpfulness"), rows, lambda: False):
            found.update(part)
        return [found[row.content_hash] for row in rows]

    return go


def test_the_rating_at_the_end_is_the_score_and_the_rest_its_reason(serve, judge, rows):
    server = serve(lambda prompt, nth: "Rating: 1 would be harsh.\nIt is right.\nRating: 4")
    scores = judge(server, rows)
    assert {(score.value, score.detail) for score in scores} == {(4.0, "Rating: 1 would be harsh. It is right.")}
    assert server.calls == 6
    assert judge.asker.spending.usage.as_dict() == {
        "calls": 6, "prompt_tokens": 600, "reply_tokens": 60, "estimated": 0, "cost": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("said", ["Rating: 6", "Rating: 4/5", "4", "Rating: four", "Rating: 4\nThat is all.", ""])
def test_what_is_not_in_the_form_asked_for_is_asked_again_and_then_an_error(serve, judge, rows, said):
    server = serve(lambda prompt, nth: said)
    (score,) = judge(server, rows[:1])
    assert (score.state, score.label, score.value) == ("error", "malformed", None)
    assert server.calls == 3


def test_half_a_character_in_an_answer_is_replaced_and_the_rating_counts(serve, judge, rows):
    server = serve(lambda prompt, nth: f"Why \ud83d ok{nth}\nRating: {4 if nth > 1 else 'none'}")
    (score,) = judge(server, rows[:1])
    assert (score.value, score.detail) == (4.0, "Why \ufffd ok2")
    assert server.calls == 2


def test_a_malformed_answer_may_be_mended(serve, judge, rows):
    server = serve(lambda prompt, nth: "Rating: 5" if nth == 2 else "Five out of five!")
    assert judge(server, rows[:1])[0].value == 5
    assert "does not end as asked" in server.bodies[1][0]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        (("The answer is right, and so Rating: 5", "length"), "cut-off"),
        (("Rating: 5", "content_filter"), "refused"),
        (("I'm sorry, but I can't assist with that request.", "stop"), "refused"),
    ],
)
def test_cut_off_and_refusing_answers_are_errors_that_say_so(serve, judge, rows, chat_reply, said, label):
    server = serve(lambda prompt, nth: (200, {}, chat_reply(*said)))
    (score,) = judge(server, rows[:1])
    assert (score.state, score.label) == ("error", label)
    assert server.calls == 1


def test_a_busy_server_is_asked_again_not_before_it_says(serve, judge, rows):
    times = []

    def script(prompt, nth):
        times.append(time.monotonic())
        return (429, {"Retry-After": "0.4"}, {"error": {"message": "slow down"}}) if len(times) == 1 else "Rating: 3"

    server = serve(script)
    assert [score.value for score in judge(server, rows, concurrency=1)] == [3.0] * 6
    assert times[1] - times[0] >= 0.4
    assert server.calls == 7


def test_server_errors_and_broken_answers_pass_or_become_errors(serve, judge, rows):
    def script(prompt, nth):
        if "What is 1 " in prompt:
            return 500, {}, "<html>oops</html>"
        if "What is 2 " in prompt and nth < 3:
            return 503, {}, {"error": {"message": "warming up"}}
        if "What is 3 " in prompt and nth < 2:
            return 200, {}, '{"choices": [{"mess'
        if "What is 4 " in prompt:
            return 400, {}, {"error": {"message": "this is \x1b[31mtoo long"}}
        return "Rating: 2"

    scores = judge(serve(script), rows)
    assert [score.value for score in scores] == [2.0, None, 2.0, 2.0, None, 2.0]
    assert (scores[1].label, scores[4].label) == ("busy", "rejected")
    assert "this is \ufffd[31mtoo long" in scores[4].detail


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": ["Rating: 3"]}, {"choices": {"a": 1}}, {"choices": "Rating: 3"}, {"choices": [None]},
        {"choices": 3}, [1, 2], None,
    ],
)  # fmt: skip
def test_json_that_is_no_chat_completion_is_an_error_of_its_row_alone(serve, judge, rows, answer):
    server = serve(lambda prompt, nth: (200, {}, json.dumps(answer)) if "What is 0 " in prompt else "Rating: 3")
    scores = judge(server, rows[:2])
    assert [(score.state, score.label) for score in scores] == [("error", "busy"), ("ok", None)]


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "12", "completion_tokens": 3}, {"prompt_tokens": 12, "completion_tokens": -3},
              {"prompt_tokens": True, "completion_tokens": 3}, {"prompt_tokens": 1.5, "completion_tokens": 3}, []]
)  # fmt: skip
def test_usage_that_is_no_count_of_tokens_is_estimated(serve, judge, rows, chat_reply, usage):
    server = serve(lambda prompt, nth: (200, {}, chat_reply("Rating: 3") | {"usage": usage}))
    assert judge(server, rows[:1], max_reply_tokens=50)[0].value == 3.0
    spent = judge.asker.spending.usage
    assert (spent.estimated, spent.reply_tokens) == (1, 50)
    assert spent.prompt_tokens > 100


def test_a_slow_answer_is_a_timeout_and_not_a_number(serve, judge, rows):
    server = serve(lambda prompt, nth: time.sleep(0.6) or "Rating: 5")
    (score,) = judge(server, rows[:1], timeout=0.1, max_reply_tokens=50)
    assert (score.state, score.label) == ("error", "timeout")
    spent = judge.asker.spending.usage  # the server may have billed what nobody waited for
    assert (spent.calls, spent.estimated, spent.reply_tokens) == (5, 5, 250)
    assert spent.prompt_tokens > 500


def test_calls_that_time_out_are_not_made_beyond_the_budget(serve, judge, rows):
    server = serve(lambda prompt, nth: time.sleep(0.4) or "Rating: 5")
    with pytest.raises(BudgetReached):
        judge(server, rows, timeout=0.1, concurrency=2, budget=Budget(tokens=1200))
    assert server.calls <= 2


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "does not accept the key"), (403, "OPENAI_API_KEY"), (404, "does not know the model 'm'")],
)
def test_what_no_further_call_can_mend_ends_the_work_at_once(serve, judge, rows, status, says):
    server = serve(lambda prompt, nth: (status, {}, {"error": {"message": f"no, {KEY}"}}))
    with pytest.raises(ModelUnavailable, match=says) as caught:
        judge(server, rows, concurrency=2)
    assert caught.value.exit_code == 5
    assert KEY not in str(caught.value)
    assert server.calls <= 2


def test_without_a_key_the_error_names_the_variable(serve, judge, rows, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ModelUnavailable, match=r"wants a key, and none is set.*MY_KEY"):
        judge(serve(lambda prompt, nth: (401, {}, {})), rows, key_variable="MY_KEY")


def test_an_address_that_may_have_no_key_gets_nothing_of_the_environment(serve, judge, rows, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-4711")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Key: gate-4711\nAuthorization: Bearer gate-4711")
    server = serve(lambda prompt, nth: "Rating: 3" if nth == 1 else (401, {}, {}))
    assert judge(server, rows[:1], key_variable=None)[0].value == 3
    with pytest.raises(ModelUnavailable, match=r"none was sent.*judge_hosts = 'http://127.0.0.1:\d+'"):
        judge(server, rows[:1], key_variable=None)
    for _, headers in server.bodies:
        assert "authorization" not in {name.lower() for name in headers}
        assert not [value for value in headers.values() if KEY in value or "4711" in value]


def test_a_key_does_not_follow_to_another_address(serve, judge, rows):
    stranger = serve(lambda prompt, nth: "Rating: 5")
    server = serve(lambda prompt, nth: (307, {"Location": f"{stranger.url}/chat/completions"}, {}))
    judge(server, rows[:1])
    ((_, headers),) = stranger.bodies
    assert KEY not in str(headers)
    assert KEY in str(server.bodies[0][1])


def test_a_server_that_is_not_there_is_no_score(judge, rows, no_backoff):
    class Gone:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(ModelUnavailable, match=r"cannot be reached.*Start the server") as caught:
        judge(Gone, rows)
    assert caught.value.exit_code == 5
    assert judge.found == {}


def test_a_judge_that_never_gives_a_usable_answer_is_not_paid_for_a_whole_set(serve, judge, make_row):
    many = [make_row(f"Question {n}", "Answer") for n in range(200)]
    server = serve(lambda prompt, nth: (200, {}, completion_cut()))
    with pytest.raises(ModelUnavailable, match=r"no answers that can be used \(2\d cut-off"):
        judge(server, many)
    assert server.calls < 40
    assert {score.state for score in judge.found.values()} == {"error"}


def test_rows_that_a_judge_failed_on_before_do_not_end_the_work_of_the_next_run(serve, judge, make_row):
    server = serve(lambda prompt, nth: (200, {}, completion_cut()))
    few = [make_row(f"Question {n}", "Answer") for n in range(30)]
    assert {score.label for score in judge(server, few)} == {"cut-off"}
    many = [make_row(f"Question {n}", "Answer") for n in range(120)]
    assert len(judge(server, many, give_up=False)) == 120


def completion_cut():
    return {"choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Well"}}]}


def test_calls_run_side_by_side_but_no_more_than_allowed_and_no_faster(serve, judge, rows):
    together = threading.Barrier(3)

    def script(prompt, nth):
        together.wait(60)
        time.sleep(0.05)  # a fourth would come now
        return "Rating: 3"

    server = serve(script)
    judge(server, rows, concurrency=3)
    assert server.most_under_way == 3
    started = time.monotonic()
    judge(serve(lambda prompt, nth: "Rating: 3"), rows, calls_per_minute=600)
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize(
    ("budget", "says", "least"),
    [
        (Budget(calls=4), "budget of 4 calls", 4),
        (Budget(tokens=1100), "budget of 1,100 tokens", 2),
        (Budget(cost=0.0011, price_in=1, price_out=1), "a cost of 0.0011", 2),
    ],
)
def test_a_budget_is_not_overrun_and_what_it_bought_is_kept(serve, judge, rows, budget, says, least):
    server = serve(lambda prompt, nth: "Rating: 3")
    with pytest.raises(BudgetReached, match=says):
        judge(server, rows, budget=budget)
    assert least <= server.calls < 6
    assert len(judge.found) == server.calls
    usage = judge.asker.spending.usage
    assert usage.prompt_tokens + usage.reply_tokens <= (budget.tokens or 10_000)
    assert usage.cost <= (budget.cost or 0)


def test_what_was_only_set_aside_does_not_use_the_budget_up(serve, judge, rows):
    def script(prompt, nth):
        until(lambda: server.most_under_way > 1)
        time.sleep(0.05)  # more would come now
        return "Rating: 3"

    server = serve(script)
    scores = judge(server, rows, concurrency=6, max_reply_tokens=1000, budget=Budget(tokens=4000))
    assert [score.value for score in scores] == [3.0] * 6
    assert server.most_under_way < 6  # of 1,400 tokens or so at the most, two fit at a time


def test_the_newer_name_of_the_limit_is_found_out(serve, judge, rows):
    def script(prompt, nth):
        if "max_tokens" in server.bodies[-1][0]:
            return 400, {}, {"error": {"message": "use max_completion_tokens instead"}}
        return "Rating: 3"

    server = serve(script)
    assert {score.value for score in judge(server, rows, concurrency=1)} == {3.0}
    assert server.calls == 7


def test_the_newer_name_of_the_limit_is_found_out_by_calls_under_way_together(serve, judge, rows):
    together = threading.Barrier(len(rows))

    def script(prompt, nth):
        if nth > 1:
            return "Rating: 3"
        together.wait(10)
        return 400, {}, {"error": {"message": "use max_completion_tokens instead"}}

    server = serve(script)
    assert {score.value for score in judge(server, rows, concurrency=8)} == {3.0}
    assert server.calls == 12


# The job, in a process of its own


def write(folder, rows, url, **options):
    plan = JudgePlan(rubric=load_rubric("helpfulness"), backend=Endpoint(base_url=url, model="m", **options))
    write_job(folder, [rows], plan)


# Touches the file `heard` once a handler of a signal has run.
HEARS = """
import pathlib, runpy, signal, sys

def install(number, handler, real=signal.signal):
    def told(*args):
        pathlib.Path(sys.argv[1], "heard").touch()
        handler(*args)
    return real(number, told if callable(handler) else handler)

signal.signal = install
runpy.run_module("filters", run_name="__main__", alter_sys=True)
"""


def start(folder):
    return subprocess.Popen([sys.executable, "-P", "-c", HEARS, str(folder)], env={**os.environ, "OPENAI_API_KEY": KEY})


def scored(folder):
    return {key: score for part in read_parts(folder) for key, score in part.items()}


def test_killed_a_job_asks_again_for_nothing_that_was_answered_and_stopped_it_loses_nothing(
    serve, rows, tmp_path, make_row, monkeypatch
):
    rows = [*rows, *(make_row(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(6, 12))]
    gates = {1: threading.Event(), 2: threading.Event()}
    phase = [0]

    def script(prompt, nth):
        number = int(prompt.split("What is ")[1].split()[0])
        if phase[0] == 0 and number >= 4:
            gates[1].wait(30)  # killed while these are under way
        elif phase[0] == 1 and number >= 6:
            gates[2].wait(30)
        return f"Fine. {KEY} was sent.\nRating: 4"

    server = serve(script)
    write(tmp_path, rows, server.url, concurrency=2)
    job = start(tmp_path)
    until(lambda: server.calls == 6 and len(scored(tmp_path)) == 4)
    job.send_signal(signal.SIGKILL)
    job.wait()
    first = dict(server.answered)
    assert set(scored(tmp_path)) == {row.content_hash for row in rows[:4]}

    phase[0] = 1
    gates[1].set()
    job = start(tmp_path)
    until(lambda: server.calls == 10)  # rows 4 and 5 again, 6 and 7 under way
    job.send_signal(signal.SIGTERM)
    until((tmp_path / "heard").exists)
    gates[2].set()
    assert job.wait(60) == 6
    assert set(scored(tmp_path)) == {row.content_hash for row in rows[:8]}
    assert server.calls == 10

    phase[0] = 2
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge_folder(tmp_path, Events(tmp_path))  # here: a third process would tell no more
    assert {score.value for score in scored(tmp_path).values()} == {4.0}
    assert len(scored(tmp_path)) == 12
    assert all(server.asked[prompt] == 1 for prompt in first)
    assert server.calls == 14  # twelve, and two that were not answered when the job was killed
    usage = [event for event in read_events(tmp_path)[0] if event["event"] == "usage"]
    assert [event["calls"] for event in usage] == [4, 4]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers in server.bodies)


def test_a_plan_holds_no_secret_of_the_address():
    for url in ("http://me:pass@host/v1", "http://host/v1?api-key=abc", "ftp://host"):
        with pytest.raises(ValueError, match="base_url") as caught:
            Endpoint(base_url=url, model="m")
        assert "pass" not in caught.value.errors()[0]["msg"].replace("password", "")
        assert "abc" not in caught.value.errors()[0]["msg"]
