from __future__ import annotations

from functools import cached_property

import pytest

from filters.overlap import overlap
from filters.pipeline import MemoryScores, run
from filters.recipe import Recipe, parse_recipe
from filters.step import FilterParams, Finding, JobScorer, RowStep, Score

LONG = "A glacier is a slow river of ice that carries stones down from the mountains to the sea."
RECIPE = """
steps:
  - exact
  - length: {max_words: 9}
  - refusal
  - longest-k: {k: 3}
"""


@pytest.fixture
def rows(batches, talk):
    return batches(
        [
            talk("What is a glacier?", LONG),  # 0: too long, has a copy
            talk("What is a glacier?", LONG),  # 1: the same
            talk("What is a fjord?", "A drowned valley."),
            talk("What is a fjord?", "A drowned valley."),  # 3: a copy and nothing else
            talk(
                "Name a film.", "I'm sorry, but I can't help with that request at all, whoever asks."
            ),  # refuses, long
            talk("Name a film.", "I'm sorry, but I can't help with that."),  # only refuses
            talk("Name a lake.", "Lake Constance."),
        ]
    )


def test_each_step_judges_all_rows_whatever_the_steps_before_it_took(rows):
    recipe = parse_recipe(RECIPE)
    in_order = {o.name: len(o.drops) for o in run(recipe, rows)}
    found = overlap(recipe, rows, scores=MemoryScores())
    alone = {step.name: (step.alone, step.only) for step in found.steps}
    assert in_order["length"] == 2
    assert alone == {"exact": (2, 1), "length": (3, 1), "refusal": (2, 1)}
    assert (found.rows, found.dropped) == (7, 5)


def test_the_matrix_is_symmetric_and_its_diagonal_is_what_falls_alone(rows):
    found = overlap(parse_recipe(RECIPE), rows, scores=MemoryScores())
    matrix = [step.shared for step in found.steps]
    assert matrix == list(zip(*matrix, strict=True))
    assert [row[i] for i, row in enumerate(matrix)] == [step.alone for step in found.steps]
    assert matrix[0][1] == 1  # of the two copies of the long answer one falls to both steps
    assert matrix[0][2] == 0
    assert matrix[1][2] == 1


def test_selectors_are_named_and_left_out(rows):
    found = overlap(parse_recipe(RECIPE), rows, scores=MemoryScores())
    assert found.left_out == ("longest-k",)
    assert [step.position for step in found.steps] == [0, 1, 2]


def test_a_guard_that_would_stop_a_run_does_not_stop_the_report(rows):
    found = overlap(parse_recipe("steps:\n  - length: {min_words: 500}\n"), rows, scores=MemoryScores())
    assert [(step.alone, step.only) for step in found.steps] == [(7, 7)]


class Costly(RowStep[FilterParams]):
    """Drops what a paid service calls bad."""

    name = "costly"
    kind = "filter"
    params_model = FilterParams

    @cached_property
    def scorers(self):
        return [JobScorer("costly", 1, {}, plan=FilterParams())]

    def decide(self, scores):
        return Finding("bad") if scores[0].value else None


def test_no_job_starts_and_rows_without_a_stored_score_are_unjudged(rows):
    step = Costly(FilterParams())
    known = MemoryScores()
    [scorer] = step.scorers
    hashes = [h for batch in rows() for h in batch.column("content_hash").to_pylist()]
    known.put({hashes[6]: Score(1.0), hashes[2]: Score(0.0)}, scorer.name, scorer.fingerprint)
    [found] = overlap(Recipe("r", (step,), ""), rows, scores=known).steps
    assert (found.alone, found.only, found.unjudged) == (1, 1, 4)  # row 3 has the content of row 2


class Strict(Costly):
    """Drops also what the service failed on."""

    def without(self, state):
        return Finding("no answer")


def test_a_step_that_drops_what_its_job_fails_on_does_not_drop_what_was_never_asked_about(rows):
    step = Strict(FilterParams())
    known = MemoryScores()
    [scorer] = step.scorers
    hashes = [h for batch in rows() for h in batch.column("content_hash").to_pylist()]
    known.put({hashes[6]: Score(1.0), hashes[5]: Score.error("busy")}, scorer.name, scorer.fingerprint)
    [found] = overlap(Recipe("r", (step,), ""), rows, scores=known).steps
    assert (found.alone, found.unjudged) == (2, 6)  # of the 6 the service failed on one


def test_the_input_may_be_empty(batches):
    found = overlap(parse_recipe("steps:\n  - refusal\n"), batches([]), scores=MemoryScores())
    assert (found.rows, found.dropped, found.steps[0].alone) == (0, 0, 0)
