from __future__ import annotations

import random

import pytest

from filters.errors import RecipeProblem


def drops(outcome):
    return {drop.id: drop.duplicate_of for drop in outcome.drops}


def test_white_space_and_unicode_form_make_no_difference_and_case_does(outcomes, batches, talk):
    rows = batches([talk("Un café ?", "Oui."), talk("Un  cafe\u0301 ?", "Oui. "), talk("UN CAFÉ ?", "oui.")])
    (outcome,) = outcomes("steps: [exact]", rows, allow_wipeout=True)
    assert len(outcome.drops) == 1
    assert set(drops(outcome)) < {0, 1}
    (folded,) = outcomes("steps:\n- exact: {ignore_case: true}", rows, allow_wipeout=True)
    assert len(folded.drops) == 2
    assert [drop.reason for drop in folded.drops] == ["exact duplicate"] * 2


def test_what_the_hash_holds_beside_text_tells_rows_apart(outcomes, batches, talk):
    one, two = talk("Weather?", ""), talk("Weather?", "")
    for messages, city in ((one, "Bonn"), (two, "Rome")):
        messages[1]["tool_calls"] = [{"function": {"name": "weather", "arguments": {"city": city}}}]
    asked = [one, two, talk("Hi", "Hello", system="Be kind."), talk("Hi", "Hello"), talk("Hi", "Hello")]
    (outcome,) = outcomes("steps: [exact]", batches(asked, tools=[None, None, None, None, [{"name": "f"}]]))
    assert outcome.drops == []


@pytest.mark.parametrize("on", ["both", "prompt"])
def test_other_images_are_other_rows(outcomes, batches, on):
    def seen(url):
        question = [{"type": "image", "url": url}, {"type": "text", "text": "What is this?"}]
        return [{"role": "user", "content": question}, {"role": "assistant", "content": "A cat."}]

    rows = batches([seen("a.png"), seen("b.png"), seen("a.png")])
    (outcome,) = outcomes(f"steps: [{{exact: {{on: {on}, max_drop: 1}}}}]", rows)
    assert {frozenset(pair) for pair in drops(outcome).items()} == {frozenset((0, 2))}


def test_rows_without_text_are_left_alone(outcomes, batches, talk):
    (outcome,) = outcomes("steps: [{exact: {on: response}}]", batches([talk("a", ""), talk("b", ""), talk("c", " ")]))
    assert outcome.drops == []


def test_ten_different_one_word_answers_are_ten_answers(outcomes, batches, talk):
    names = ["Oslo", "Rome", "Bern", "Paris", "Lima", "Cairo", "Delhi", "Tokyo", "Quito", "Minsk"]
    rows = batches([talk("Name a capital.", name) for name in names])
    (outcome,) = outcomes("steps: [exact]", rows)
    assert outcome.drops == []


@pytest.mark.parametrize(("keep", "survivor"), [("longest", 2), ("shortest", 1), ("first", 0), ("newest", 3)])
def test_who_survives_is_a_choice(outcomes, batches, talk, keep, survivor):
    rows = batches([(i, talk("Why?", answer)) for i, answer in enumerate(["a b", "a", "a b c", "d e"])])
    (outcome,) = outcomes(f"steps: [{{exact: {{on: prompt, keep: {keep}}}}}]", rows, allow_wipeout=True)
    assert set(drops(outcome).values()) == {survivor}
    assert len(outcome.drops) == 3
    assert {(p.id, p.duplicate_of, p.similarity) for p in outcome.pairs} == {(i, survivor, 1.0) for i in drops(outcome)}


def test_the_order_of_input_decides_nothing(outcomes, batches, talk):
    base = [talk(f"Question {i % 6}?", f"answer {i % 4}") for i in range(24)]
    kept = set()
    for seed in range(5):
        shuffled = base[:]
        random.Random(seed).shuffle(shuffled)
        (outcome,) = outcomes("steps: [{exact: {on: prompt}}]", batches(shuffled), allow_wipeout=True)
        gone = set(drops(outcome))
        kept.add(tuple(sorted(str(messages) for i, messages in enumerate(shuffled) if i not in gone)))
    assert len(kept) == 1


def test_real_exact_duplicates_are_found(outcomes, batches, shared_rows):
    rows = [row.messages for row in shared_rows("alpaca/alpaca_en.json")]
    (outcome,) = outcomes("steps: [exact]", batches(rows, size=400))
    assert len(outcome.drops) == 14


def test_one_constant_answer_is_found_by_the_response_and_not_by_the_prompt(outcomes, batches, talk):
    rows = batches([talk(f"question number {i}", "It depends.") for i in range(800)], size=400)
    (by_response,) = outcomes("steps: [{exact: {on: response, max_drop: 1}}]", rows)
    (by_prompt,) = outcomes("steps: [{exact: {on: prompt, max_drop: 1}}]", rows)
    assert len(by_response.drops) == 799
    assert by_prompt.drops == []


def test_chinese_and_code_that_differ_in_one_sign_are_two_texts(outcomes, batches, talk):
    asked = ["一加一等于几？", "一加二等于几？", "a = b + c", "a = b - c", "x[0]", "x(0)", "if a:\n    b", "if a: b"]
    (outcome,) = outcomes("steps: [{exact: {on: prompt, max_drop: 1}}]", batches([talk(text, "y") for text in asked]))
    assert len(outcome.drops) == 1, "white space alone tells no texts apart"
    assert set(drops(outcome)) | set(drops(outcome).values()) == {6, 7}


def test_only_what_is_new_is_kept(outcomes, batches, talk):
    known = batches(
        [(100, talk("asked before", "short")), (5, talk("the same row", "x")), (7, talk("asked before", ""))]
    )
    rows = batches(
        [
            (0, talk("asked  before", "a much longer answer than the known one has")),
            (5, talk("the same row", "x")),
            (6, talk("the same row", "another answer")),
            (8, talk("new", "x")),
            (9, talk("new", "x y")),
        ]
    )
    recipe = "steps: [{exact: {on: prompt, against: [known], max_drop: 1}}]"
    (outcome,) = outcomes(recipe, rows, others=lambda name: {"known": known}[name])
    assert drops(outcome) == {0: 100, 5: 5, 6: 5, 8: 9}
    assert outcome.reasons == {"exact duplicate": 3, "known row": 1}


def test_a_target_is_refused_with_what_to_do_instead(outcomes, batches):
    with pytest.raises(RecipeProblem, match=r"no threshold to lower.*minhash: \{target"):
        outcomes("steps: [{exact: {target: 100}}]", batches([]))
