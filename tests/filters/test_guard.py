from __future__ import annotations

import pytest

from filters.errors import Wipeout

EN = "Where does the river come from and where does it go in the end?"
DE = "Wo entspringt der Fluss, und wohin fließt er am Ende eigentlich?"


def short(n, of, talk):
    """`of` conversations, the first `n` with a one-word answer."""
    return [talk(f"Question {i}?", "no" if i < n else "a longer answer") for i in range(of)]


def test_more_than_max_drop_stops_and_says_what_to_do(outcomes, batches, talk):
    rows = batches(short(6, 10, talk))
    with pytest.raises(Wipeout) as caught:
        outcomes("steps: [{length: {min_words: 2}}]", rows)
    said = str(caught.value)
    assert said.startswith("recipe, step 1 (length): it would drop 6 of 10 rows (60%; 6 too short); max_drop is 0.5")
    assert "raise max_drop of length" in said
    assert "--allow-wipeout" in said
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("options", [{"allow_wipeout": True}, {}])
def test_a_higher_max_drop_or_leave_from_the_caller_lets_it_pass(outcomes, batches, talk, options):
    max_drop = "" if options else ", max_drop: 0.6"
    (outcome,) = outcomes(f"steps: [{{length: {{min_words: 2{max_drop}}}}}]", batches(short(6, 10, talk)), **options)
    assert len(outcome.drops) == 6


def test_the_share_is_of_what_the_step_got_not_of_the_first_input(outcomes, batches, talk):
    rows = batches([*[talk("same", "same answer")] * 15, *short(3, 5, talk)])
    with pytest.raises(Wipeout, match="3 of 6 rows"):
        outcomes("steps:\n  - exact: {max_drop: 0.9}\n  - length: {min_words: 2, max_drop: 0.4}\n", rows)


@pytest.mark.parametrize("group", ["source", "category"])
def test_all_of_one_group_stops(outcomes, batches, talk, group):
    named = ["small"] * 5 + ["big"] * 15
    rows = batches(short(5, 20, talk), **{group: named})
    with pytest.raises(Wipeout, match=f"all 5 rows of {group} 'small'"):
        outcomes("steps: [{length: {min_words: 2}}]", rows)
    (outcome,) = outcomes("steps: [{length: {min_words: 2, max_drop: 1}}]", rows)
    assert len(outcome.drops) == 5


def test_a_group_of_four_or_one_with_a_survivor_does_not_stop(outcomes, batches, talk):
    (few,) = outcomes(
        "steps: [{length: {min_words: 2}}]", batches(short(4, 20, talk), source=["small"] * 4 + ["big"] * 16)
    )
    assert len(few.drops) == 4
    (most,) = outcomes(
        "steps: [{length: {min_words: 2}}]", batches(short(5, 20, talk), source=["small"] * 6 + ["big"] * 14)
    )
    assert len(most.drops) == 5


def test_rows_without_a_category_are_no_group(outcomes, batches, talk):
    rows = batches(short(5, 20, talk), category=[None] * 5 + ["x"] * 15)
    (outcome,) = outcomes("steps: [{length: {min_words: 2}}]", rows)
    assert len(outcome.drops) == 5


def test_all_of_one_language_stops(outcomes, batches, talk):
    conversations = [talk(f"{EN} ({i})", "a longer answer") for i in range(15)] + [
        talk(f"{DE} ({i})", "nein") for i in range(5)
    ]
    with pytest.raises(Wipeout, match="all 5 rows of language 'de'"):
        outcomes("steps: [{length: {min_words: 2}}]", batches(conversations))
    conversations.append(talk(DE, "eine längere Antwort"))
    (outcome,) = outcomes("steps: [{length: {min_words: 2}}]", batches(conversations))
    assert len(outcome.drops) == 5


def test_a_group_gone_before_does_not_stop_a_later_step(outcomes, batches, talk):
    rows = batches([*short(6, 20, talk), *[talk("same", "same")] * 6], source=["small"] * 6 + ["big"] * 20)
    found = outcomes("steps:\n  - length: {min_words: 2, max_drop: 1}\n  - exact\n", rows)
    assert [len(outcome.drops) for outcome in found] == [12, 0]
