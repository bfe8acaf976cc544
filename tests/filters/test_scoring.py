from __future__ import annotations

import json
from typing import Literal

import pytest
from pydantic import BaseModel

from filters.pipeline import MemoryScores, run
from filters.recipe import Recipe
from filters.scoring import HELD, read_parts, score_folder, write_job
from filters.step import Drop, FilterParams, Finding, JobScorer, RowStep, Score, SetResult, SetStep, StepParams
from trainer.errors import Stopped, UsageProblem
from trainer.protocol import Events, read_plan


class Plan(BaseModel):
    kind: Literal["letters"] = "letters"


class LettersParams(FilterParams):
    least: int = 0


class Letters(RowStep[LettersParams]):
    """Counts the letters of the answer: what a model would say, without a model."""

    name = "letters"
    kind = "filter"
    params_model = LettersParams
    scorers = (JobScorer("letters", 1, {}, Plan()),)

    def decide(self, scores):
        return Finding("few letters", scores[0].value) if scores[0].value < self.params.least else None


class Best(SetStep[StepParams]):
    """Keeps the row with the highest score `letters`."""

    name = "best"
    kind = "selector"
    params_model = StepParams

    def select(self, rows, outside):
        found = []
        for batch in rows:
            scores = outside.scored("letters", batch)
            found += [(score.value or 0.0, row.id) for score, row in zip(scores, batch, strict=True)]
        return SetResult([Drop(id, "not best") for _, id in found if id != max(found)[1]])


def recipe(*steps):
    return Recipe("r", steps)


def count(row):
    return Score(float(len(row.text("response"))))


def in_pieces(asked, size=3):
    def compute(scorer, rows):
        for batch in rows:
            for start in range(0, len(batch), size):
                piece = batch[start : start + size]
                asked.extend(row.content_hash for row in piece)
                yield {row.content_hash: count(row) for row in piece}

    return compute


@pytest.fixture
def rows(batches, talk):
    return batches([talk("Say it", "a" * (i % 10 + 1)) for i in range(20)], size=7)


def test_a_job_is_asked_once_for_each_content_and_its_scores_decide(rows):
    asked = []
    (outcome,) = run(recipe(Letters(LettersParams(least=4))), rows, compute=in_pieces(asked))
    assert len(asked) == len(set(asked)) == 10
    assert [drop.id for drop in outcome.drops] == [0, 1, 2, 10, 11, 12]
    assert outcome.reasons == {"few letters": 6}


def test_scores_that_are_there_are_not_asked_for_and_errors_are_asked_again(rows):
    scores, asked = MemoryScores(), []
    list(run(recipe(Letters(LettersParams())), rows, scores=scores, compute=in_pieces(asked)))
    bad = asked[4]
    scores.put({bad: Score.error("busy")}, "letters", Letters.scorers[0].fingerprint)
    again = []
    list(run(recipe(Letters(LettersParams(least=2))), rows, scores=scores, compute=in_pieces(again)))
    assert again == [bad]


def test_what_a_job_knew_before_it_failed_is_kept(rows):
    def fails(scorer, rows):
        batch = next(iter(rows))
        yield {row.content_hash: count(row) for row in batch}
        raise Stopped("Stopped")

    scores, asked = MemoryScores(), []
    with pytest.raises(Stopped):
        list(run(recipe(Letters(LettersParams())), rows, scores=scores, compute=fails))
    list(run(recipe(Letters(LettersParams())), rows, scores=scores, compute=in_pieces(asked)))
    assert len(asked) == 3


def test_a_row_that_the_job_passed_over_is_an_error_and_stays(rows):
    (outcome,) = run(recipe(Letters(LettersParams(least=4))), rows, compute=lambda scorer, rows: iter(()))
    assert (outcome.errors, outcome.drops) == (20, [])


def test_without_a_way_to_compute_the_error_says_so(rows):
    with pytest.raises(UsageProblem, match="letters needs a model or a service"):
        list(run(recipe(Letters(LettersParams())), rows))


def test_a_set_step_reads_the_scores_of_the_step_before_it(rows):
    scores = MemoryScores()
    scores.put({"0" * 64: Score(9.0)}, "letters", "another-setting")
    asked = []
    steps = recipe(Letters(LettersParams()), Best(StepParams()))
    _, best = run(steps, rows, scores=scores, compute=in_pieces(asked))
    assert {0, 19} - {drop.id for drop in best.drops} == {19}


def test_scores_by_name_are_refused_where_the_name_means_none_or_several(rows):
    scores = MemoryScores()
    with pytest.raises(UsageProblem, match=r"no row has a score 'letters'.*Scores there are: none"):
        list(run(recipe(Best(StepParams())), rows, scores=scores))
    for fingerprint in ("one", "two"):
        scores.put({"0" * 64: Score(1.0)}, "letters", fingerprint)
    with pytest.raises(UsageProblem, match="of 2 settings or models"):
        list(run(recipe(Best(StepParams())), rows, scores=scores))


def test_a_run_folder_is_gone_on_with_behind_what_it_has(tmp_path, make_row):
    made = [make_row("Say it", "a" * n) for n in range(1, 7)]
    assert write_job(tmp_path, [made, made[:2]], Plan()) == 6
    assert read_plan(tmp_path, Plan) == Plan()

    def stopped(rows):
        yield {rows[0].content_hash: count(rows[0])}
        yield {rows[1].content_hash: Score.unscored("no letters")}
        raise Stopped("Stopped")

    with pytest.raises(Stopped):
        score_folder(tmp_path, Events(tmp_path), stopped, "counting")
    asked = []

    def rest(rows):
        asked.extend(row.text("response") for row in rows)
        yield {row.content_hash: count(row) for row in rows}

    score_folder(tmp_path, Events(tmp_path), rest, "counting")
    assert asked == ["a" * n for n in range(3, 7)]
    found = {key: score for part in read_parts(tmp_path) for key, score in part.items()}
    assert found[made[1].content_hash] == Score.unscored("no letters")
    assert [found[row.content_hash].value for row in made] == [1.0, None, 3.0, 4.0, 5.0, 6.0]


def test_half_a_character_in_a_detail_neither_stops_a_job_nor_stays_behind_to_stop_the_next(tmp_path, make_row):
    made = [make_row("Say it", "a" * n) for n in (1, 2)]
    write_job(tmp_path, [made], Plan())
    (tmp_path / HELD).write_text(json.dumps([made[0].content_hash, 1.0, None, "ok", "why \ud83d"]) + "\n")
    assert [score.detail for part in read_parts(tmp_path) for score in part.values()] == ["why \ufffd"]
    score_folder(
        tmp_path,
        Events(tmp_path),
        lambda rows: iter([{row.content_hash: Score(2.0, label="\ud83d", detail="so \udc00") for row in rows}]),
        "counting",
    )
    found = {key: score for part in read_parts(tmp_path) for key, score in part.items()}
    assert found[made[0].content_hash].detail == "why \ufffd"
    assert found[made[1].content_hash] == Score(2.0, label="\ufffd", detail="so \ufffd")
    assert not (tmp_path / HELD).exists()
