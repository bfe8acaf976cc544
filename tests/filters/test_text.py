from __future__ import annotations

import pytest

from filters.text import code_share, measure, normalise, without_code, words, words_and_signs


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two  three", 3),
        ("don't use e-mail at 3.14", 5),
        ("snake_case", 2),
        ("你好吗", 3),
        ("我喜欢Python", 4),
        ("これはペンです", 7),
        ("한국어 문장입니다", 2),
        ("สวัสดีครับ", 3),
        ("!!! — 🌳", 0),
    ],
)
def test_words_are_counted_in_any_script(text, count):
    assert len(words(text)) == count


def test_the_normal_form_joins_blanks_and_accents():
    assert normalise(" a\u0301\u00a0\n b\t") == "á b"
    assert normalise("STRASSE", ignore_case=True) == normalise("straße", ignore_case=True)


def test_code_is_cut_out_of_prose():
    assert without_code("a `b` c\n```py\nd\n```\ne").split() == ["a", "c", "e"]
    assert without_code("a\n```\nnever closed").split() == ["a"]


def test_code_without_a_fence_is_told_from_prose():
    assert code_share("def f(x):\n    y = x + 1\n    return y") > 0.6
    assert code_share("Dear Ana,\nthank you for the book.\nI read it in one night.") == 0.0


def test_characters_are_counted_without_the_blanks_around():
    assert measure([" ab c ", ""], "chars") == [4, 0]


def test_vowel_signs_and_accents_that_stand_alone_are_parts_of_a_word():
    assert words("यह एक छोटा वाक्य है") == ["यह", "एक", "छोटा", "वाक्य", "है"]
    assert words("நன்றி cafe\u0301 می\u200cروم") == ["நன்றி", "cafe\u0301", "می\u200cروم"]
    assert words_and_signs("अंतर्राष्ट्रीयकरण + है") == ["अंतर्राष्ट्रीयकरण", "+", "है"]
    assert words_and_signs("a = b[0]") == ["a", "=", "b", "0"]
