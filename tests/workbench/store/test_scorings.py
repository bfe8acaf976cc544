"""Two settings of one scorer are two scores wherever people look at them: counts, histogram, filter, order, preview."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from filters.step import Score
from workbench.store.detail import example_scores
from workbench.store.scores import StoredScores, scoring
from workbench.store.windows import ViewQuery, open_view
from workbench.workspace import Workspace

FIRST, SECOND = "aaaa000000000000", "bbbb000000000000"


@pytest.fixture
def rated(tmp_path):
    """rated(fingerprint, ratings): six rows of `rated.ws` get these ratings by `judge` under a setting."""
    lines = [{"prompt": f"Question {n}?", "completion": "Yes."} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with closing(Workspace.init(tmp_path / "ws")) as ws:
        ws.import_file(tmp_path / "rows.jsonl", name="rows")
        hashes = [key for batch in ws.rows("rows") for key in batch.column("content_hash").to_pylist()]

        def rate(fingerprint, ratings):
            with closing(StoredScores(ws.store)) as scores:
                given = {key: Score(float(r)) for key, r in zip(hashes, ratings, strict=False) if r is not None}
                scores.put(given, "judge", fingerprint)

        rate.ws, rate.hashes = ws, hashes
        yield rate


def rows(ws, **query):
    with closing(open_view(ws.store, ViewQuery("rows", **query))) as view:
        return [row.id - 1 for row in view.window(0, 10)]


def test_one_setting_goes_by_the_name_of_its_scorer(rated):
    rated(FIRST, [1, 2, 3, 4, 5, None])
    assert rated.ws.facets("rows").scorers == [("judge", 5)]
    assert rows(rated.ws, sort="judge", descending=True) == [4, 3, 2, 1, 0, 5]


def test_two_settings_are_never_mixed(rated):
    rated(FIRST, [5, 4, 3, 2, 1, None])
    rated(SECOND, [1, 2, 1, 2, None, None])
    ws = rated.ws
    assert ws.facets("rows").scorers == [("judge@bbbb", 4), ("judge@aaaa", 5)], "the one that scored last comes first"
    assert [count for *_, count in ws.histogram("rows", "judge@bbbb", 2)] == [2, 2]
    assert [count for *_, count in ws.histogram("rows", "judge@aaaa", 5)] == [1] * 5
    assert rows(ws, score=("judge@bbbb", 2, 6)) == [1, 3]
    assert rows(ws, score=("judge@aaaa", 2, 6)) == [0, 1, 2, 3]
    assert rows(ws, sort="judge@aaaa") == [4, 3, 2, 1, 0, 5]
    assert rows(ws, sort="judge@bbbb") == [0, 2, 1, 3, 4, 5]
    told = [(score.scorer, score.value) for score in example_scores(ws.store, rated.hashes[0])]
    assert told == [("judge@bbbb", 1.0), ("judge@aaaa", 5.0)]


def test_a_name_from_before_there_was_a_second_setting_is_the_one_that_scored_last(rated):
    rated(FIRST, [5, 4, 3])
    rated(SECOND, [1, 2, 3])
    assert rows(rated.ws, sort="judge")[:3] == [0, 1, 2]
    rated(FIRST, [5, 4, 3])
    assert rows(rated.ws, sort="judge")[:3] == [2, 1, 0]
    assert rows(rated.ws, score=("nobody", 0, 9)) == []
    assert rows(rated.ws, sort="nobody") == [0, 1, 2, 3, 4, 5]


def test_as_much_of_a_fingerprint_is_shown_as_tells_it_from_the_others(rated):
    rated(FIRST, [1])
    rated(f"aaaa00ff{FIRST[8:]}", [2])
    with rated.ws.store.reading() as cursor:
        assert scoring(cursor, "judge@aaaa000").fingerprint == FIRST
    assert [name for name, _ in rated.ws.facets("rows").scorers] == ["judge@aaaa00f", "judge@aaaa000"]
