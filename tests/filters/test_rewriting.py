"""Steps that rewrite rows: what the steps behind them see, and what a run that goes on has to be told."""

from __future__ import annotations

import json

import pytest

from filters.overlap import overlap
from filters.pipeline import MemoryScores, kept_rows, run
from filters.recipe import Recipe, parse_recipe
from filters.step import (
    Edit,
    FilterParams,
    RowStep,
    Score,
    Scorer,
    SetResult,
    SetStep,
    StepParams,
    each,
)
from trainer.conversation import content_hash

RECIPE = """
steps:
  - exact
  - pii: {action: redact}
  - exact
  - length: {on: response, max_words: 5}
"""


@pytest.fixture
def rows(batches, talk):
    """Twelve rows: of each four, two differ in a mail address alone, and one has a number of several words."""
    answers = [
        "Ask ann@tidewater.org now",
        "Ask bob@tidewater.org now",
        "Nobody",
        "Ask +49 30 2093 7712 at once please",
    ]
    return batches([talk(f"Who? {i // 4}", answers[i % 4]) for i in range(12)], tools=[["t"]] * 12, size=5)


class Shout(RowStep[FilterParams]):
    """Puts capitals into answers: a step without scores."""

    name, kind, params_model = "shout", "filter", FilterParams
    scorers = ()

    def __init__(self, only: str = "") -> None:
        super().__init__(FilterParams())
        self.only = only

    def decide(self, scores):
        return None

    def rewrite(self, row, scores):
        *before, answer = row.messages
        return Edit([*before, answer | {"content": answer["content"].upper() + self.only}], f"loud{self.only}")


def told(outcome):
    drops = [(drop.id, drop.reason, drop.duplicate_of) for drop in outcome.drops]
    return (outcome.position, outcome.name, outcome.rows_in, drops, outcome.rewrites, outcome.rewritten)


def answers(rows, outcomes):
    return [row.messages[-1]["content"] for batch in kept_rows(rows, outcomes) for row in batch]


def test_the_steps_behind_see_the_new_text_and_what_became_equal_falls(rows):
    found = list(run(parse_recipe(RECIPE), rows))
    assert [len(outcome.drops) for outcome in found] == [0, 0, 3, 0], "with its number an answer has more than 5 words"
    assert found[1].rewritten == {"redacted mail": 6, "redacted phone": 3}
    assert {(drop.id, drop.duplicate_of) for drop in found[2].drops} == {(1, 0), (5, 4), (9, 8)}, "ids stay the rows'"
    assert answers(rows, found) == ["Ask [mail] now", "Nobody", "Ask [phone] at once please"] * 3


def test_a_rewritten_row_has_the_hash_of_its_new_text_and_of_its_tools(rows):
    rewrite = list(run(parse_recipe(RECIPE), rows))[1].rewrites[0]
    assert json.loads(rewrite.messages_json)[-1]["content"] == "Ask [mail] now"
    assert rewrite.content_hash == content_hash(rewrite.messages_json, '["t"]')
    [kept, *_] = next(kept_rows(rows, run(parse_recipe(RECIPE), rows)))
    assert (kept.id, kept.content_hash, kept.messages_json) == (0, rewrite.content_hash, rewrite.messages_json)


def test_scores_behind_a_rewrite_are_those_of_the_new_text(rows):
    scores = MemoryScores()
    list(run(parse_recipe("steps: [pii: {action: redact}, pii: {action: drop}]"), rows, scores=scores))
    [(name, [fingerprint])] = scores.scorers().items()
    new = next(iter(run(parse_recipe("steps: [pii: {action: redact}]"), rows))).rewrites[0].content_hash
    assert scores.get([new], name, fingerprint)[new].value == 0


def test_going_on_behind_finished_steps_gives_the_same(rows):
    whole = list(run(parse_recipe(RECIPE), rows))
    for stop in range(len(whole) + 1):
        done = whole[:stop]
        finished = [[drop.id for drop in outcome.drops] for outcome in done]
        rest = run(
            parse_recipe(RECIPE), rows, finished=finished, rewritten=[r for outcome in done for r in outcome.rewrites]
        )
        assert list(map(told, rest)) == list(map(told, whole[stop:]))


def test_of_two_rewrites_the_later_stands_and_had_the_earlier_before_it(rows):
    recipe = Recipe("loud", (Shout(), *parse_recipe("steps: [pii: {action: redact}]").steps, Shout("!")))
    found = list(run(recipe, rows))
    assert [outcome.rewritten for outcome in found] == [
        {"loud": 12},
        {"redacted mail": 6, "redacted phone": 3},
        {"loud!": 12},
    ]
    assert answers(rows, found)[:3] == ["ASK [MAIL] NOW!", "ASK [MAIL] NOW!", "NOBODY!"]


def test_a_rewrite_that_changes_nothing_is_none(rows):
    assert [len(outcome.rewrites) for outcome in run(Recipe("loud", (Shout(), Shout())), rows)] == [12, 0]


def test_an_overlap_lets_steps_judge_what_a_rewrite_left(rows):
    found = overlap(parse_recipe(RECIPE), rows, scores=MemoryScores())
    assert [(step.name, step.alone, step.only) for step in found.steps] == [
        ("exact", 0, 0),
        ("pii", 0, 0),
        ("exact", 3, 3),
        ("length", 0, 0),
    ]


class Length(RowStep[FilterParams]):
    """Scores the letters of the answer."""

    name, kind, params_model = "letters", "filter", FilterParams
    scorers = (Scorer("letters", 1, {}, each(lambda row: Score(float(len(row.text("response")))))),)

    def decide(self, scores):
        return None


class Read(SetStep[StepParams]):
    """Tells which scores `letters` it sees, and drops nothing."""

    name, kind, params_model = "read", "selector", StepParams

    def select(self, rows, outside):
        found = [score.value for batch in rows for score in outside.scored("letters", batch)]
        return SetResult(settled={"found": found[:4]})


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("length redact read", [25.0, 25.0, 6.0, 35.0]),
        ("redact length read", [14.0, 14.0, 6.0, 26.0]),
        ("shout length redact more read", [25.0, 25.0, 6.0, 35.0]),
        ("more length redact more read", [26.0, 26.0, 7.0, 36.0]),
    ],
)
def test_a_row_keeps_the_score_that_a_step_gave_it_before_it_was_rewritten(rows, order, expected):
    steps = {
        "length": Length(FilterParams()),
        "read": Read(StepParams()),
        "redact": parse_recipe("steps: [pii: {action: redact}]").steps[0],
        "shout": Shout(),
        "more": Shout("!"),
    }
    recipe, scores = Recipe("r", tuple(steps[name] for name in order.split())), MemoryScores()
    whole = list(run(recipe, rows, scores=scores))
    assert whole[-1].params["found"] == expected
    done = whole[:-1]
    (again,) = run(
        recipe,
        rows,
        scores=scores,
        finished=[()] * len(done),
        rewritten=[r for outcome in done for r in outcome.rewrites],
    )
    assert again.params["found"] == expected


def test_a_score_of_the_new_text_that_another_run_left_is_not_taken_for_that_of_the_old(rows):
    scores = MemoryScores()
    (redact,) = parse_recipe("steps: [pii: {action: redact}]").steps
    length, read = Length(FilterParams()), Read(StepParams())
    list(run(Recipe("first", (redact, length)), rows, scores=scores))
    *_, last = run(Recipe("r", (length, redact, read)), rows, scores=scores)
    assert last.params["found"] == [25.0, 25.0, 6.0, 35.0]
    *_, last = run(Recipe("r", (redact, length, read)), rows, scores=scores)
    assert last.params["found"] == [14.0, 14.0, 6.0, 26.0]


def test_a_row_keeps_the_score_of_an_earlier_run_when_it_is_rewritten(rows):
    scores = MemoryScores()
    list(run(Recipe("first", (Length(FilterParams()),)), rows, scores=scores))
    recipe = Recipe("r", (*parse_recipe("steps: [pii: {action: redact}]").steps, Read(StepParams())))
    *_, last = run(recipe, rows, scores=scores)
    assert last.params["found"] == [25.0, 25.0, 6.0, 35.0]


def test_flagged_rows_are_counted_and_stay(rows):
    [outcome] = run(parse_recipe("steps: [pii: {action: flag}]"), rows)
    assert (outcome.drops, outcome.rewrites) == ([], [])
    assert outcome.params["flagged"] == {"pii: mail": 6, "pii: phone": 3}
