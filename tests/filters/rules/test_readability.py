from __future__ import annotations

import pytest

from filters.registry import STEPS
from filters.rules.readability import flesch_kincaid_grade, syllables

CHILD = (
    "The cat sat on the mat. It was a big red cat. A dog came in. The dog saw the cat. The cat ran up a tree. "
    "The dog sat down to wait. The sun went down. The dog went home. Then the cat came down. It ate a fish and "
    "went to bed. It was glad to be home. It slept all night."
)
STATUTE = (
    "Notwithstanding any limitation established elsewhere in this regulation, the administrative authority "
    "responsible for environmental protection may, following consultation with the municipal representatives "
    "concerned, authorise temporary modifications of the aforementioned conditions, provided that the operator "
    "demonstrates convincingly that the anticipated consequences for neighbouring communities remain negligible "
    "and that appropriate compensatory investments are undertaken immediately."
)
GERMAN = (
    "Die Katze lag auf dem Sofa und schlief. Draußen regnete es, und niemand wollte vor die Tür gehen. Am Abend kam "
    "der Vater nach Hause und kochte eine Suppe, die nach Zwiebeln roch. Danach spielten alle Karten, bis das Licht "
    "ausging und die Kinder ins Bett mussten, weil am nächsten Morgen die Schule begann."
)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "cat the dog scratched through make smiles fished eyes week"),
        (2, "table sofa children opened houses water reason being lion idea's"[:-7]),
        (3, "banana wonderful protection radio area beautiful regulate"),
        (4, "regulation temporary authority representing"),
        (5, "administrative modifications"),
    ],
)
def test_syllables_are_counted_from_the_spelling(count, words):
    assert {word: syllables(word) for word in words.split()} == dict.fromkeys(words.split(), count)


def test_the_grade_is_the_published_formula():
    # 12 words in 2 sentences, 14 syllables: 0.39 * 6 + 11.8 * 14 / 12 - 15.59
    text = "The cat sat on the table. It was a red sofa cat."
    assert flesch_kincaid_grade(text) == pytest.approx(0.39 * 6 + 11.8 * 14 / 12 - 15.59)


def test_a_line_ends_a_sentence_and_an_abbreviation_inside_a_number_does_not():
    assert flesch_kincaid_grade("one two\nthree four") == flesch_kincaid_grade("one two. three four.")
    assert flesch_kincaid_grade("it is 3.14 long") == flesch_kincaid_grade("it is 314 long")


def test_a_text_without_words_has_no_grade():
    with pytest.raises(ValueError, match="without words"):
        flesch_kincaid_grade("1 2 3")


def test_hard_and_easy_text_fall_by_their_bounds(judge, make_row):
    child, statute = make_row("q", CHILD), make_row("q", STATUTE)
    assert judge("readability", statute, max_grade=20.0).reason == "too hard to read"
    assert judge("readability", child, max_grade=20.0) is None
    assert judge("readability", child, min_grade=3.0).reason == "too easy to read"
    assert judge("readability", statute, min_grade=3.0) is None


@pytest.mark.parametrize("text", [GERMAN, "Yes.", "```python\n" + "x = 1\n" * 60 + "```", "猫在垫子上睡觉。" * 20])
def test_what_the_formula_was_not_made_for_is_unscored(judge, make_row, text):
    assert judge("readability", make_row("q", text), max_grade=1.0) == "unscored"


def test_a_bound_is_needed_and_the_lower_comes_first():
    params = STEPS["readability"].params_model
    with pytest.raises(ValueError, match="min_grade or max_grade"):
        params()
    with pytest.raises(ValueError, match="no row could pass"):
        params(min_grade=9.0, max_grade=8.0)
