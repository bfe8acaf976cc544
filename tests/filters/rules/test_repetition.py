from __future__ import annotations

import pytest

from filters.rules.repetition import loop_share, sentence_share

LOOPS = [
    "The best way is to practice every day and " * 8,
    "It is red. It is red indeed. " * 6,
    "I like tea. " + "Tea is good for your health and mind. " * 5,
    "yes yes yes yes yes yes yes yes",
    "Reis ist gut und billig. " * 7,
    "我喜欢喝茶，" * 9,
    "1. Walk by the river\n2. Walk by the river\n3. Walk by the river\n" + "Walk by the river\n" * 4,
]
SPEECH = [
    "",
    "Paris",
    "Row, row, row your boat gently down the stream.",
    "It is very, very, very cold. Ha ha ha!",
    "0 0 0 0 0 0 0\n0 1 1 1 1 1 0\n0 0 0 0 0 0 0",
    "Monday: rest.\nTuesday: run.\nWednesday: rest.\nThursday: run.\nFriday: rest.\nSaturday: swim in the lake.",
    "He came. He saw. He won. And then he went home to his family, who had waited for him for ten long years.",
    "for i in range(3):\n    print(i)\n    print(i)\n    print(i)\n    print(i)\n    print(i)",
    "Verse one tells of the sea\nOh, take me home again\nVerse two is mine\nOh, take me home again",
    "好好学习，天天向上。慢慢来，不要着急。",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_loop_falls(judge, make_row, text):
    finding = judge("repetition", make_row("Tell me.", text))
    assert finding.reason == "repetition"
    assert finding.detail


@pytest.mark.parametrize("text", SPEECH)
def test_speech_verse_and_code_are_left_alone(judge, make_row, text):
    assert judge("repetition", make_row("Tell me.", text)) is None


def test_a_repetition_that_was_asked_for_is_left_alone(judge, make_row):
    assert judge("repetition", make_row("Repeat hello.", "hello " * 10)) is None


def test_the_share_counts_what_is_said_again():
    assert loop_share("a b c " * 4)[0] == pytest.approx(9 / 12)
    assert sentence_share("One two three four. One two three four. Five.")[0] == pytest.approx(4 / 9)


def test_moving_the_threshold_moves_the_decision_and_not_the_score(judge, make_row):
    row = make_row("Tell me.", "One two three four. Other words stand here now, more of them. One two three four.")
    assert judge("repetition", row) is None
    assert judge("repetition", row, threshold=0.2).score == pytest.approx(4 / 16, abs=1e-4)


@pytest.mark.parametrize("name", ["alpaca/alpaca_en.json", "alpaca/alpaca_zh.json", "alpaca/roleplay_instruct.json"])
def test_real_answers_do_not_loop(shared_rows, judge, name):
    assert [row.id for row in shared_rows(name)[:1000] if judge("repetition", row)] == []
