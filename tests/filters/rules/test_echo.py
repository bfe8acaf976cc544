from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.rules.echo import copied_share

LONG = (
    "My neighbour keeps three hens behind the shed and every morning before six they begin to shout, although the "
    "town says that animals must be quiet at night. What can I do about it without a quarrel?"
)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (LONG, LONG),
        (LONG, LONG + " You could talk to him."),
        (LONG, "So " + LONG[:140]),
        ("写一首关于秋天的诗，描写落叶和月亮。", "写一首关于秋天的诗，描写落叶和月亮。"),
        ("Warum ist der Himmel am Abend rot und nicht blau?", "Warum ist der Himmel am Abend rot und nicht blau?"),
    ],
)
def test_an_answer_made_of_its_prompt_falls(judge, make_row, prompt, answer):
    assert judge("echo", make_row(prompt, answer)).reason.startswith("echo: ")


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Who won the World Cup in 2018?", "France won the World Cup in 2018."),
        ("What is the sum of four and three times two?", "The sum of four and three times two is ten."),
        ("Hello there!", "Hello there! How can I help you today?"),
        ("Correct the spelling: " + LONG, LONG),
        ("Translate into English: " + LONG, LONG),
        (
            "Wiederhole bitte: Der Mond ist aufgegangen, die Sterne prangen.",
            "Der Mond ist aufgegangen, die Sterne prangen.",
        ),
        ("提取句子：" + "今天天气很好，我们去公园散步吧。", "今天天气很好，我们去公园散步吧。"),
        (LONG, "Talk to him on a calm day, tell him what you hear, and ask him to keep the hens shut in until seven."),
        ("def f(x):\n    return x + 1\nWhy?", "def f(x):\n    return x + 1"),
    ],
)
def test_an_answer_that_takes_up_its_prompt_for_good_reason_stays(judge, make_row, prompt, answer):
    assert judge("echo", make_row(prompt, answer)) is None


def test_each_answer_is_held_against_the_turns_before_it(judge, make_row):
    assert judge("echo", make_row("Hi.", "Hi!", LONG, LONG)).reason == "echo: begins with its prompt"
    assert judge("echo", make_row("Hi.", LONG, LONG, "Talk to him.")) is None


def test_the_threshold_moves_the_share_and_not_the_score(judge, make_row):
    row = make_row(LONG, LONG[:140] + " Perhaps a talk over the fence about the hours helps, or a thicker door.")
    assert judge("echo", row) is None
    assert judge("echo", row, threshold=0.5).reason == "echo: copies its prompt"


@given(st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl"])), st.lists(st.sampled_from(["ab", "xy"])))
def test_the_share_is_one_for_a_copy_and_never_leaves_its_bounds(prompt, answer):
    text = " ".join(prompt)
    assert copied_share(text, text) == (1.0 if len(prompt) >= 8 else 0.0)
    assert 0.0 <= copied_share(" ".join(answer), text) <= 1.0
