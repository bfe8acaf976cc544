from __future__ import annotations

import pytest

EN = "The river rises in the mountains and flows through three countries before it reaches the sea."
DE = "Der Fluss entspringt in den Bergen und fließt durch drei Länder, bevor er das Meer erreicht."
FR = "Le fleuve prend sa source dans les montagnes et traverse trois pays avant de rejoindre la mer."
ES = "El río nace en las montañas y atraviesa tres países antes de llegar al mar."
ZH = "这条河发源于山区，流经三个国家，最后流入大海。"
ASK = {
    EN: "Where does the river come from and where does it go?",
    DE: "Wo entspringt der Fluss, und wohin fließt er?",
    FR: "Où le fleuve prend-il sa source et où va-t-il ?",
    ES: "¿Dónde nace el río y hacia dónde va después?",
    ZH: "这条河从哪里来，流到哪里去？请简单回答。",
}


@pytest.mark.parametrize("text", ASK)
def test_an_answer_in_the_language_of_its_prompt_stays(judge, make_row, text):
    assert judge("language", make_row(ASK[text], text)) is None


@pytest.mark.parametrize(("asked", "answer"), [(EN, DE), (DE, EN), (FR, EN), (ES, FR), (ZH, EN), (EN, ZH)])
def test_an_answer_in_another_language_falls(judge, make_row, asked, answer):
    finding = judge("language", make_row(ASK[asked], answer))
    assert finding.reason == "wrong language"
    assert finding.score >= 0.9


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (f"Translate: {EN}", DE),
        (f"Please say this in German: {EN}", DE),
        (f"Wie heißt das auf Englisch? {DE}", EN),
        (f"把这句话翻译一下：{ZH}", EN),
        ("산과 바다 사이를 흐르는 강에 관한 글을 영어로 짧게 써 주세요.", EN),
        ("Hãy viết một đoạn văn ngắn bằng tiếng Anh về một con sông chảy ra biển.", EN),
        (f"Correct the mistakes in this note.\n{DE}", DE),
        (
            "用 shimmer 和 keepsake 这两个词造一个复杂的句子。",
            "A shimmer of light fell on the keepsake that she had found.",
        ),
    ],
)
def test_another_language_that_the_prompt_brings_is_excused(judge, make_row, prompt, answer):
    assert judge("language", make_row(prompt, answer)) is None


def test_a_system_turn_may_name_the_language(judge, make_row):
    assert judge("language", make_row(ASK[EN], DE)) is not None
    assert judge("language", make_row(ASK[EN], DE, system="Always answer in German.")) is None


@pytest.mark.parametrize(
    "answer", ["Paris", "42", "Hello", "Berlin, Rom", "```python\nprint('hello world, how are you')\n```"]
)
def test_short_answers_and_code_are_not_guessed_at(judge, make_row, answer):
    assert judge("language", make_row(ASK[EN], answer)) == "unscored"


def test_allow_keeps_only_the_languages_named(judge, make_row):
    assert judge("language", make_row(ASK[DE], DE), allow=["en", "de"]) is None
    finding = judge("language", make_row(ASK[FR], FR), allow=["en", "de"])
    assert (finding.reason, finding.detail) == ("language not allowed", "fr")


def test_a_side_without_allow_means_nothing_and_is_refused(judge, make_row):
    with pytest.raises(ValueError, match="`on` is for `allow`"):
        judge("language", make_row("a", "b"), on="prompt")


def test_real_answers_in_another_language_are_found(shared_rows, judge):
    found = [row for row in shared_rows("alpaca/alpaca_zh.json") if getattr(judge("language", row), "reason", None)]
    assert 3 <= len(found) <= 8  # read one by one: English answers to Chinese prompts
    assert all(sum(char.isascii() for char in row.text("response")) > 0.9 * len(row.text("response")) for row in found)


def test_real_english_answers_are_taken_for_english(shared_rows, judge):
    assert [
        row.id for row in shared_rows("alpaca/alpaca_en.json") if getattr(judge("language", row), "reason", None)
    ] == []
