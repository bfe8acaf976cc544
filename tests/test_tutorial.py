"""The tutorial is run: its commands, script, recipes and judge, in order, with a tiny model and budgets of seconds."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from filters.judge.material import preference_request
from filters.judge.reply import preference
from filters.judge.rubric import load_rubric

from .chapters import ROOT, SMALL, Ran, needs_fork, put_starter, run_page

pytestmark = needs_fork

STARTER = ROOT / "datasets/starter/good.jsonl"
URL = "http://localhost:8177/v1"


@pytest.fixture(scope="module")
def stand_in() -> ModuleType:
    """The tutorial's stand-in for a judge."""
    spec = importlib.util.spec_from_file_location("tutorial_judge", ROOT / "docs/tutorial_judge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judge_url(stand_in) -> Iterator[str]:
    """Its address, at a port that is free; told the file that the page tells it."""
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    [told] = re.findall(r"^python docs/tutorial_judge.py .+$", page, re.MULTILINE)
    given = stand_in.options_of(shlex.split(told)[2:])
    assert f"http://localhost:{given.port}/v1" == URL
    server = stand_in.server_of(stand_in.references_in(ROOT / given.references), 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://localhost:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_model, fork_job, judge_url) -> list[Ran]:
    """The tutorial from top to bottom, each recipe saved where its first line says."""
    import openai.resources.chat  # noqa: F401  # the children find all of it loaded

    import filters.judge.job  # noqa: F401
    import trainer.likelihood  # noqa: F401

    home = tmp_path_factory.mktemp("tutorial")
    put_starter(home, 30)
    smaller = {
        "--n 60": "--n 6",
        "metric: ifd_ppl": f"metric: ifd_ppl, model: {tiny_model}",
        "--limit 30": f"--limit 3 --model {tiny_model}",
        "# exit code 7": "",  # a model of random weights is made no worse by wrong answers
        URL: judge_url,
    }
    return run_page("docs/tutorial.md", home, fork_job, {"compare": f"--model {tiny_model} {SMALL}"}, smaller)


def test_every_command_ends_well(ran):
    failed = [one for one in ran if not one.as_told and not ("--gate" in one.line and one.code == 7)]
    assert not failed, failed
    assert len(ran) >= 14


def compared(ran: list[Ran]) -> list[Ran]:
    return [one for one in ran if one.line.startswith("workbench compare")]


def test_every_comparison_is_decided_by_the_judge_and_the_last_trains_nothing(ran):
    assert len(compared(ran)) == 3
    for one in compared(ran):
        assert re.search(r"^win rate .*\n?.*\*", one.out, re.MULTILINE), one.out
        assert "this verdict does without it" not in one.out
    assert "4 runs taken over" in compared(ran)[-1].err, "its runs were made by the comparisons before it"


def test_the_recipe_leaves_one_answer_to_each_prompt_and_says_why(ran):
    [cleaned] = [one for one in ran if "--name cleaned" in one.line]
    assert "exact duplicate" in cleaned.out
    counts = {one.line.split("--name ")[1]: one.out for one in ran if "--name" in one.line}
    assert rows(counts["cleaned"]) * 4 == rows(counts["mixed"])


def rows(out: str) -> int:
    return int(re.search(r"(\d+) of \d+ rows", out)[1])


def test_the_stand_in_finds_the_reference_of_every_prompt(stand_in):
    rubric = load_rubric("helpfulness")
    references = stand_in.references_in(STARTER)
    for line in STARTER.read_text(encoding="utf-8").splitlines():
        talk = json.loads(line)["messages"]
        [asked] = preference_request(rubric, talk[:-1], "Yes.", "No.\n\n[0 end]").messages
        turns = stand_in.turns_of(asked["content"])
        assert references[stand_in.asked_in(text for role, text in turns if role == "user")] == talk[-1]["content"]
        assert [text.strip() for _, text in turns[-2:]] == ["Yes.", "No.\n\n[0 end]"]


def test_the_stand_in_prefers_what_is_nearer_wherever_it_stands_and_calls_equals_a_tie(stand_in):
    references = {"Why does bread dough need kneading?": "Kneading turns the proteins of flour into gluten."}
    near, far = "It makes gluten out of flour.", "Tungsten is a metal."
    for answers, better in (((near, far), "A"), ((far, near), "B"), ((near, near), "tie"), (("", "日"), "tie")):
        assert preference(stand_in.preference(question(*answers), references)) == better


def test_the_stand_in_refuses_what_it_cannot_judge(stand_in):
    with pytest.raises(ValueError, match="no answer to this prompt"):
        stand_in.preference(question("Yes.", "No."), {})
    with pytest.raises(ValueError, match="no material"):
        stand_in.preference("Which is better?", {})


def question(first: str, second: str) -> str:
    """What a judge is asked about two answers."""
    prompt = [{"role": "user", "content": "Why does bread dough need kneading?"}]
    [asked] = preference_request(load_rubric("helpfulness"), prompt, first, second).messages
    return str(asked["content"])
