"""`workbench compare --judge` against a server: what is told and asked, and what becomes of a judge that dies."""

from __future__ import annotations

import re

import pytest

from workbench import experiments, outcomes
from workbench.experiments import Question

from ..judged import BAD, GOOD, ITEMS, measure, prefers_good, to_judge

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def compare(tmp_path, tiny_model, anywhere, monkeypatch):
    """compare(url, *options): versions `a` and `b`, whose runs are all there, compared by the judge at `url`."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    ws = to_judge(tmp_path)
    there = experiments.plan(ws, Question("a", "b", model=str(tiny_model), trained_tokens=300, seeds=2))
    measure(there)
    outcomes.conclude(ws, there.id)
    ws.close()
    setting = ("--model", tiny_model, "--trained-tokens", 300, "--seeds", 2, "--answers", 0)
    judge = ("--judge", "helpfulness", "--judge-model", "m", "--judge-url")
    return lambda url, *options: anywhere("-w", tmp_path / "ws", "compare", "a", "b", *setting, *judge, url, *options)


def sides(server) -> list[list[str]]:
    """For every call, its two answers in the order that they were shown in."""
    prompts = [body["messages"][0]["content"] for body, _ in server.bodies]
    return [re.findall(rf"(?:{GOOD}|{BAD}) \d+", prompt) for prompt in prompts]


def test_a_judge_is_asked_in_both_orders_and_its_win_rate_decides(compare, serve):
    server = serve(prefers_good)
    told = compare(server.url, "--yes")
    assert told.code == 0
    assert "120 calls without retries" in told.err, "what it may come to is told before"
    assert "b against a: better" in told.out
    assert "win rate, of" in told.out, "equal length"
    shown = sides(server)
    assert len(shown) == 2 * ITEMS
    assert sorted(shown) == sorted(pair[::-1] for pair in shown), "each pair in both orders"
    again = compare(server.url, "--json")
    assert server.calls == 2 * ITEMS, "nothing is asked twice"
    metrics = {metric["name"]: metric for metric in again.json["metrics"]}
    assert again.json["primary"] == "win_rate"
    assert metrics["win_rate"]["candidate"] == 1.0
    assert metrics["win_rate_controlled"]["verdict"] == "better"
    assert again.json["judge"]["state"] == "done"


def test_a_judge_that_dies_half_way_leaves_a_verdict_and_the_same_command_asks_the_rest(
    compare, serve, anywhere, tmp_path
):
    answers = ITEMS

    def script(prompt, nth):
        return prefers_good(prompt, nth) if server.calls <= answers else (401, {}, {"error": {"message": "no more"}})

    server = serve(script)
    died = compare(server.url, "--yes", "--json")
    assert died.code == 5
    assert (died.json["primary"], died.json["judge"]["state"]) == ("response_nll", "waiting")
    assert 0 < died.json["judge"]["judged"] < died.json["judge"]["pairs"]
    [sentence] = [told for told in died.json["sentences"] if told.startswith("The judge has spoken on")]
    assert "this verdict does without it" in sentence
    assert "does not accept the key" in died.err
    listed = anywhere("-w", tmp_path / "ws", "experiments", "ls").out
    assert " done " in listed
    assert "judge waiting" in " ".join(listed.split())
    answers = 10_000
    whole = compare(server.url, "--yes", "--json")
    assert "was run before; its judge goes on" in whole.err
    assert (whole.code, whole.json["primary"], whole.json["judge"]["state"]) == (0, "win_rate", "done")
    assert sum(server.answered.values()) == 2 * ITEMS
    assert max(server.answered.values()) == 1, "what was answered is not asked again"
    assert "waiting" not in anywhere("-w", tmp_path / "ws", "experiments", "ls").out


def test_without_leave_nothing_is_asked_and_nothing_is_begun(compare, serve):
    server = serve(prefers_good)
    refused = compare(server.url, "--json")
    assert refused.code != 0
    assert (refused.out, server.calls) == ("", 0)
    assert "--yes" in refused.err


def test_pairs_that_a_judge_failed_on_are_asked_about_again_by_resume_alone(compare, serve, anywhere, tmp_path):
    broken = True

    def script(prompt, nth):
        return "Well." if broken and "Item 3?" in prompt else prefers_good(prompt, nth)

    server = serve(script)
    first = compare(server.url, "--yes", "--json")
    assert (first.json["judge"]["state"], first.json["judge"]["failed"]) == ("done", 2)
    broken, asked = False, server.calls
    assert compare(server.url, "--yes", "--json").json["judge"]["failed"] == 2
    assert server.calls == asked, "a result that is there is shown"
    again = anywhere("-w", tmp_path / "ws", "experiments", "resume", first.json["experiment"], "--yes", "--json")
    assert (again.code, again.json["judge"]["failed"], server.calls) == (0, 0, asked + 2)
