from __future__ import annotations

import pytest

from workbench.failures.symptoms import continues, garbled, loops, runs, start

QUESTION = "What is the capital of France?"
LONG = "Please tell me which city is the capital of France."


@pytest.mark.parametrize(
    ("question", "answer", "sign"),
    [
        (QUESTION, "Paris.\nuser\nAnd of Italy?\nassistant\nRome.", "writes another turn: user"),
        (QUESTION, "It is Paris.\n\n### Instruction: Name a river.", "writes another turn: ### Instruction"),
        (QUESTION, "What is the capital of Italy?\nWhat is the capital of Spain?", "asks in its turn"),
        (LONG, f"{LONG} Please tell me which city is", "repeats the prompt"),
        ("The capital of France", "is a city that many people", "ends the prompt's sentence"),
    ],
)
def test_going_on_instead_of_answering_is_seen(question, answer, sign):
    assert (continues(question, answer) or "").startswith(sign)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, "Paris is the capital of France."),
        (QUESTION, "paris, of course"),
        ("Write a dialogue. Begin lines with 'User:'.", "User: Hello!\nBot: Hello yourself."),
        ("Name a user", "The user interface is part of a program."),
        ("Hello", "Hello"),
        (QUESTION, ""),
        (QUESTION, "```\nuser:\n  name: root\n```\nThat is the file."),
    ],
)
def test_an_answer_is_no_going_on(question, answer):
    assert continues(question, answer) is None


def test_a_loop_is_seen_and_a_list_is_none():
    assert loops("It is a city. " + "It is a big city. " * 6)
    assert loops("of the of the of the of the of the of the of the of the")
    assert loops("1. Paris\n2. Lyon\n3. Nice\n4. Lille\n5. Nantes") is None
    assert loops("") is None


@pytest.mark.parametrize(
    "answer",
    ["Paris.<|im_end|>\n<|im_start|>user", "[/INST] Paris", "cafÃ© au lait", "ĠParisĠis", "a\ufffd\ufffd b"],
)
def test_what_no_reader_should_see_is_garbled(answer):
    assert garbled(QUESTION, answer)


def test_sound_text_and_half_a_character_at_the_end_are_not_garbled():
    assert garbled(QUESTION, "Paris — 巴黎, café, `<|im_end|>` is a marker, ₂ ▁") is None
    assert garbled(QUESTION, "Paris, 巴\ufffd") is None
    assert garbled("What is <|im_end|>?", "<|im_end|> ends a turn.") is None


def test_runs_and_starts_do_not_depend_on_case_and_punctuation():
    text = "One two three, four five six seven eight nine."
    assert len(runs(text)) == 2
    assert runs(text) == runs(text.upper().replace(",", ""))
    assert start(text) == start(text + " and on")
    assert start("Yes.") is None
