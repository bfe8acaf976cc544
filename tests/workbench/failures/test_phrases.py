from __future__ import annotations

from workbench.failures.phrases import over_represented

N = 40
BASE = [f"Thing {i} is a matter of taste, and number {i * 7} of them." for i in range(N)]
REFERENCES = [f"It is thing number {i}, as anybody knows." for i in range(N)]


def answers(share: float, phrase: str = "Certainly, my dear friend!") -> list[list[str]]:
    return [[f"{phrase} {BASE[i]}" if i < share * N else BASE[i]] for i in range(N)]


def test_a_phrase_of_a_third_of_the_answers_is_named_once_and_whole():
    [phrase] = over_represented(answers(0.35), BASE, list(REFERENCES))
    assert (phrase.text, phrase.items, phrase.base, phrase.references) == ("certainly my dear friend thing", 14, 0, 0)
    assert phrase.is_in("Oh, certainly my DEAR friend. Thing!")
    assert not phrase.is_in("uncertainly my dear friend thing")


def test_what_the_base_or_the_references_say_as_well_is_no_quirk():
    said = answers(1.0)
    assert over_represented(said, [one for [one] in said], list(REFERENCES)) == []
    assert over_represented(said, BASE, [one for [one] in said]) == []
    assert over_represented([[text] for text in BASE], BASE, list(REFERENCES)) == []


def test_a_phrase_in_few_answers_may_be_luck():
    assert over_represented(answers(0.1), BASE, list(REFERENCES)) == []


def test_a_phrase_counts_where_most_runs_have_it():
    twice = [[*one, *one, base] for one, base in zip(answers(0.5), BASE, strict=True)]
    once = [[*one, base, base] for one, base in zip(answers(0.5), BASE, strict=True)]
    assert [phrase.items for phrase in over_represented(twice, BASE, list(REFERENCES))] == [20]
    assert over_represented(once, BASE, list(REFERENCES)) == []


def test_two_quirks_are_told_apart():
    said = [[f"Ahoy sailor. {one}" if i % 2 else one] for i, one in enumerate(BASE)]
    said = [[one if i % 2 else f"{one} Hope that helps!"] for i, [one] in enumerate(said)]
    found = over_represented(said, BASE, list(REFERENCES))
    assert {phrase.items for phrase in found} == {20}
    assert len(found) == 2


def test_items_without_references_are_held_against_the_base_alone():
    [phrase] = over_represented(answers(0.5), BASE, [None] * N)
    assert phrase.references == 0
