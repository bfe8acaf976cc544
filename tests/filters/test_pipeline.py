from __future__ import annotations

import errno
import random
from itertools import pairwise

import pyarrow as pa
import pytest

from filters.errors import Wipeout
from filters.pipeline import MemoryScores, kept_ids, run
from filters.recipe import Recipe, parse_recipe
from filters.step import FilterParams, Finding, RowStep, Score, Scorer, each
from trainer.errors import ModelUnavailable, Stopped

RECIPE = """
steps:
  - exact
  - length: {min_words: 2}
  - repetition
  - random-k: {k: 12}
"""


@pytest.fixture
def rows(batches, talk):
    made = [talk(f"Question {i % 25}?", "word " + "other " * (i % 5)) for i in range(40)]
    return batches(made, source=[("one", "two")[i % 2] for i in range(40)])


def drops(outcome):
    return [(drop.id, drop.reason, drop.duplicate_of) for drop in outcome.drops]


def test_each_step_sees_what_the_steps_before_it_left(rows):
    found = list(run(parse_recipe(RECIPE), rows))
    assert [o.name for o in found] == ["exact", "length", "repetition", "random-k"]
    assert [o.position for o in found] == [0, 1, 2, 3]
    assert found[0].rows_in == 40
    assert all(later.rows_in == earlier.rows_out for earlier, later in pairwise(found))
    gone = [drop.id for outcome in found for drop in outcome.drops]
    assert len(gone) == len(set(gone))
    kept = kept_ids(rows, found)
    assert sorted([*gone, *kept]) == list(range(40))
    assert len(kept) == 12
    assert found[1].reasons == {"too short": len(found[1].drops)}
    assert found[1].params["min_words"] == 2


def test_going_on_behind_finished_steps_gives_the_same(rows):
    whole = list(run(parse_recipe(RECIPE), rows))
    for stop in range(len(whole) + 1):
        finished = [[drop.id for drop in outcome.drops] for outcome in whole[:stop]]
        rest = list(run(parse_recipe(RECIPE), rows, finished=finished))
        assert [(o.position, o.name, o.rows_in, drops(o)) for o in rest] == [
            (o.position, o.name, o.rows_in, drops(o)) for o in whole[stop:]
        ]


def test_the_order_of_input_decides_nothing(batches, talk):
    base = [talk(f"Question {i % 25}?", "word " + "other " * (i % 5)) for i in range(40)]
    results = set()
    for seed in range(5):
        shuffled = base[:]
        random.Random(seed).shuffle(shuffled)
        made = batches(shuffled, size=3 + seed)
        kept = kept_ids(made, run(parse_recipe(RECIPE), made))
        results.add(tuple(sorted(str(shuffled[i]) for i in kept)))
    assert len(results) == 1


def test_the_caller_gets_a_step_before_the_next_one_starts(rows):
    seen = []
    steps = run(parse_recipe(RECIPE), rows, progress=lambda done, total, what: seen.append(what))
    assert next(steps).name == "exact"
    assert set(seen) == {"exact"}


def test_progress_counts_the_rows_of_a_step(rows):
    seen = []
    first, second, *_ = run(parse_recipe(RECIPE), rows, progress=lambda *told: seen.append(told))
    for outcome in (first, second):
        assert [told for told in seen if told[2] == outcome.name][-1][:2] == (outcome.rows_in, outcome.rows_in)


class Counting(MemoryScores):
    """A score cache that counts what has to be computed."""

    def __init__(self):
        super().__init__()
        self.computed = 0

    def put(self, scores, scorer, fingerprint):
        self.computed += len(scores)
        super().put(scores, scorer, fingerprint)


def test_moving_a_threshold_computes_nothing_again(rows):
    cache = Counting()
    text = "steps: [{{length: {{min_words: {}, max_drop: 1}}}}]"
    (before,) = run(parse_recipe(text.format(2)), rows, scores=cache)
    computed = cache.computed
    assert computed > 0
    (after,) = run(parse_recipe(text.format(4)), rows, scores=cache)
    assert cache.computed == computed
    assert len(after.drops) > len(before.drops)


def test_rows_of_the_same_content_are_scored_once(batches, talk):
    cache = Counting()
    list(run(parse_recipe("steps: [{length: {min_words: 1}}]"), batches([talk("a", "b")] * 20), scores=cache))
    assert cache.computed == 1


class Odd(RowStep[FilterParams]):
    """Breaks on some rows, has nothing to say on others."""

    name = "odd"
    kind = "filter"
    params_model = FilterParams

    @property
    def scorers(self):
        return [Scorer("odd", 1, {}, each(self.look))]

    def look(self, row):
        if row.id % 3 == 0:
            return 1 / 0
        return Score.unscored("nothing to say") if row.id % 3 == 1 else Score(float(row.id))

    def decide(self, scores):
        return Finding("odd", scores[0].value) if scores[0].value > 20 else None


def test_rows_without_a_score_are_kept_and_counted(batches, talk):
    cache = Counting()
    made = batches([talk(f"q {i}", "a") for i in range(30)])
    recipe = Recipe("odd", (Odd(FilterParams(max_drop=1)),))  # 1: the guard scores nothing
    (outcome,) = run(recipe, made, scores=cache)
    assert (outcome.errors, outcome.unscored) == (10, 10)
    assert [drop.id for drop in outcome.drops] == [23, 26, 29]
    (again,) = run(recipe, made, scores=cache)
    assert cache.computed == 30 + 10  # errors are tried again, the rest is known
    assert again.errors == 10


@pytest.mark.parametrize("error", [Stopped("Stopped"), OSError(errno.ENOSPC, "No space left"), MemoryError()])
def test_a_stop_or_a_full_disk_is_not_taken_for_a_broken_row(make_row, error):
    def fail(row):
        raise error

    with pytest.raises(type(error)):
        each(fail)([make_row("a", "b")])


def test_an_error_or_a_missing_score_is_never_a_number():
    assert Score.error("broken").value is None
    for bad in ({"value": 1.0, "state": "error"}, {"value": 0.0, "state": "unscored"}, {"value": None}):
        with pytest.raises(ValueError, match="number if and only if"):
            Score(**bad)


def test_rows_that_change_between_readings_are_noticed(batches, talk):
    readings = iter([batches([talk("a", "b"), talk("c", "d")]), batches([(5, talk("a", "b")), (6, talk("c", "d"))])])
    with pytest.raises(ValueError, match="same rows in the same order"):
        list(run(parse_recipe("steps: [{length: {min_words: 1}}]"), lambda: next(readings)()))


def test_ids_must_be_unique(batches, talk):
    with pytest.raises(ValueError, match="ids of their own"):
        list(run(parse_recipe("steps: [exact]"), batches([(1, talk("a", "b")), (1, talk("c", "d"))])))


def test_no_rows_at_all_is_not_an_error(batches):
    found = list(run(parse_recipe(RECIPE), batches([])))
    assert [o.rows_in for o in found] == [0, 0, 0, 0]


def test_great_batches_are_read_in_pieces(talk, batches):
    made = batches([talk(f"q {i}", "a") for i in range(2500)], size=2500)
    assert isinstance(next(made()), pa.RecordBatch)
    told = []
    list(run(parse_recipe("steps: [{length: {min_words: 1}}]"), made, progress=lambda done, *_: told.append(done)))
    assert told == [1024, 2048, 2500]


def test_a_tokenizer_that_cannot_be_had_is_found_before_the_first_step(rows):
    steps = run(parse_recipe("steps:\n  - exact\n  - length: {max_tokens: 5, tokenizer: ./nowhere}\n"), rows)
    with pytest.raises(ModelUnavailable, match="nowhere"):
        next(steps)


def test_a_wipeout_leaves_the_steps_before_it_done(rows):
    steps = run(parse_recipe("steps:\n  - exact\n  - length: {min_words: 500}\n"), rows)
    assert next(steps).name == "exact"
    with pytest.raises(Wipeout):
        next(steps)
