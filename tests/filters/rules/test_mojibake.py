from __future__ import annotations

import pytest

GOOD = [
    "Ein schöner Fluss, größer als der Rhein.",
    "L'été à la forêt, où l'on entend les cigognes.",
    "¿Dónde está el niño? ¡Aquí!",
    "“Quoted” – with a dash… and 20 °C, 5 € or £3",
    "法国的首都是巴黎。",
    "これは日本語の文です。",
    "Это русский текст.",
    "x² + y² ≤ r²  →  π ≈ 3.14",
    "🌳🌲 thanks!",
    "Žluťoučký kůň",
]


@pytest.mark.parametrize("text", GOOD)
@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
def test_text_read_in_the_wrong_character_set_is_found(judge, make_row, text, codec):
    garbled = text.encode().decode(codec, errors="ignore")
    finding = judge("mojibake", make_row("Tell me.", garbled))
    if finding is None:  # what ftfy cannot see: too little of it, or every odd byte was dropped
        assert codec == "cp1252"
        assert text in {GOOD[4], GOOD[5], GOOD[8], GOOD[9]}
    else:
        assert finding.reason == "mojibake"


@pytest.mark.parametrize("text", GOOD)
def test_good_text_in_any_language_is_left_alone(judge, make_row, text):
    assert judge("mojibake", make_row(text, text)) is None


def test_replacement_characters_are_found(judge, make_row):
    assert judge("mojibake", make_row("Tell me.", "Der Flu\ufffd ist gro\ufffd.")).score == 2


def test_prompts_count_too_unless_left_out(judge, make_row):
    row = make_row("Wo ist das CafÃ© in der StraÃŸe?", "Am Markt.")
    assert judge("mojibake", row).detail
    assert judge("mojibake", row, on="response") is None


def test_a_question_about_encodings_may_quote_some(judge, make_row):
    row = make_row("Why does my page show cafÃ©?", "The UTF-8 bytes were read as Latin-1, so é came out as Ã©.")
    assert judge("mojibake", row) is None


def test_some_may_be_let_pass(judge, make_row):
    row = make_row("a", "The cafÃ© is open.")
    assert judge("mojibake", row, max_bad=1) is None


def test_real_answers_with_wrong_characters_are_found(shared_rows, judge):
    found = [row for row in shared_rows("alpaca/codegen_instruct.json") if judge("mojibake", row)]
    assert len(found) == 2
    assert all("Â°" in row.text("both") or "Ï€" in row.text("both") for row in found)
