"""Each kind of verifiable instruction on answers that follow it, miss it, or nearly do either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.errors import BadInput
from trainer.instructions import KINDS, from_json, parse, to_json, variants
from trainer.instructions.length import sentences

PROMPTS = Path(__file__).parents[3] / "../shared/data/eval/ifeval_prompts.jsonl"

GERMAN = "Das Wetter ist heute schön, und wir gehen mit den Kindern in den Park."
ENGLISH = "The weather is fine today and we will go to the park with our children."

# kind, parameters, answers that follow, answers that do not
CASES = [
    ("keywords:existence", {"keywords": ["mom", "intern"]}, ["My MOM did an internship."], ["My mom works."]),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "at least"},
        ["War and wars"],
        ["War and peace"],
    ),
    ("keywords:frequency", {"keyword": "a.b", "frequency": 1, "relation": "less than"}, ["axb"], ["a.b"]),
    ("keywords:forbidden_words", {"forbidden_words": ["rock", "c++"]}, ["A rocket, C+"], ["Rock!", "I like C++."]),
    (
        "keywords:letter_frequency",
        {"letter": "T", "let_frequency": 2, "let_relation": "less than"},
        ["Tin can"],
        ["ten tins"],
    ),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 3, "let_relation": "at least"}, ["a! b!!"], ["a!!"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I saw NASA.", "COVID-19, UK"],
        ["I saw Nasa.", "12 3"],
    ),
    ("change_case:english_capital", {}, [ENGLISH.upper(), "YES, 3 OF THEM"], [ENGLISH, GERMAN.upper(), "123"]),
    ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, GERMAN.lower()]),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say hello. "},
        ["say HELLO.\n\nHello"],
        ["Sure! Say hello.", "Say hell"],
    ),
    (
        "combination:two_responses",
        {},
        ["a ****** b", "******\na\n******\nb\n******"],
        ["a", "a ****** a", "a ****** b ****** c", "a ****** ****** b", "******"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[a] and [b c]", "[x] [x]"],
        ["[a]", "[a\nb] [c]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. x", "p. s. x"],
        ["Bye.\nPS x", "PxSx"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S x", "p.p.s. x"], ["P.S. x"]),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is no.", "Well. My answer is maybe. Yes."],
        ["No.", "My answer is no"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', "```json\n[1, 2]\n```", "```\n{}\n```"],
        ['{"a": 1', 'Here: {"a": 1}', "[" * 100_000],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb"],
        ["SECTION 1\na", "Section 1\na\nSection 2\nb", "SECTION A SECTION B"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "x:\n  - a\n- b\ny", "* a\n\n* b\n---"],
        ["* a", "* a\n* b\n- c", "**a**\n**b**", "a - b\n* c"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and **b c**"],
        ["*a* b", "* a\n* b", "** ** and *a*", "***a***"],
    ),
    ("detectable_format:title", {}, ["<<A title>>\nx", "x <<y>>"], ["<A>", "<<>>", "<< >>", "<<a\nb>>"]),
    ("language:response_language", {"language": "de"}, [GERMAN], [ENGLISH, "नमस्ते"]),
    ("language:response_language", {"language": "kn"}, ["ನಮಸ್ಕಾರ, ನೀವು ಹೇಗಿದ್ದೀರಿ?"], ["ok", ENGLISH]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "it"},
        ["A.\n\nIt was.", 'A.\n\n\n\n"It", b', "A.\n\n**It** b"],
        ["It.\n\nNo.", "A.\n\nItem", "A.\nIt", "A.\n\nIt\n\nB"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "***\na\n***\nb", "a *** b ***"],
        ["a\n\nb", "a\n***\n***\nb", "a", "***"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["One. Two"],
        ["One, Dr. No."],
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, ["One!"], ["One! Two?"]),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["a b c", "don't go"],
        ["a b", "a - b"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["a b"], ["a b c"]),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
    (
        "startend:end_checker",
        {"end_phrase": "Any questions?"},
        ["x any Questions? ", '"x Any questions?"'],
        ["Any questions? No.", "Any questions"],
    ),
    ("startend:quotation", {}, ['"a"', ' "a" '], ['"a', '"', "'a'", "“a”"]),
]


@pytest.mark.parametrize(("kind", "params", "following", "missing"), CASES, ids=[case[0] for case in CASES])
def test_answers_follow_or_miss(kind, params, following, missing):
    (instruction,) = parse([kind], [params])
    assert [answer for answer in following if not instruction.strict(answer)] == []
    assert [answer for answer in missing if instruction.strict(answer)] == []


def test_every_kind_has_its_cases():
    assert {case[0] for case in CASES} == set(KINDS)


def test_an_empty_answer_follows_nothing():
    for kind, params, _, _ in CASES:
        (instruction,) = parse([kind], [params])
        assert [answer for answer in ("", " \n") if instruction.strict(answer) or instruction.loose(answer)] == []


def test_loose_lets_an_answer_pass_without_its_first_line_last_line_or_asterisks():
    (quoted,) = parse(["startend:quotation"], None)
    for answer in ('Sure!\n"a"', '"a"\nBye!', 'Sure!\n"a"\nBye!', '**"a"**', 'Sure!\n*"a"*\nBye!'):
        assert (quoted.strict(answer), quoted.loose(answer)) == (False, True), answer
    assert not quoted.loose('Sure!\nYes!\n"a"')
    assert len(variants("a\n*b*\nc")) == 8
    assert set(variants("a\n*b*\nc")) == {
        "a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("No stop", 1),
        ("Dr. Meyer paid 3.5 million. Why?", 2),
        ("e.g. this. And that!", 2),
        ('She said "Come." Then she left.', 2),
        ("Wait... what?! Yes.", 2),
        ("1. Wash it.\n2. Dry it.", 2),
        ("今天很好。我们走吧！", 2),
        ("See J. R. Smith at example.com now.", 1),
    ],
)
def test_sentences_are_counted_as_a_reader_would(text, count):
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("ids", "kwargs", "said"),
    [
        (["keywords:exist"], [{}], "unknown instruction 'keywords:exist'"),
        (["keywords:existence"], [{}], "keywords:existence: keywords"),
        (["punctuation:no_comma"], [{"n": 1}], "punctuation:no_comma: n"),
        (["punctuation:no_comma"], [], "one object for each"),
        ("punctuation:no_comma", None, "not a list"),
        (["language:response_language"], [{"language": "xx"}], "no language 'xx'"),
    ],
)
def test_what_is_not_an_instruction_is_refused_with_a_sentence(ids, kwargs, said):
    with pytest.raises(BadInput, match=said):
        parse(ids, kwargs)


def test_instructions_travel_as_text_and_null_parameters_count_as_not_given():
    made = parse(["punctuation:no_comma", "keywords:existence"], [{"n": None}, {"keywords": ["a"], "letter": None}])
    assert from_json(to_json(made)) == made


@pytest.mark.skipif(not PROMPTS.exists(), reason="shared data not here")
def test_all_of_ifevals_instructions_are_known():
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    assert sum(len(parse(row["instruction_id_list"], row["kwargs"])) for row in rows) == 834
