from __future__ import annotations

import pytest

from filters.step import Score
from workbench.store.database import Store
from workbench.store.scores import StoredScores


@pytest.fixture
def scores(tmp_path):
    store = Store.open(tmp_path / "workbench.duckdb")
    cache = StoredScores(store)
    yield cache
    cache.close()
    store.close()


def test_scores_come_back_as_they_were_put(scores):
    put = {
        "a": Score(0.1, "en", detail="why"),
        "b": Score.error("broke"),
        "c": Score.unscored("nothing to say"),
    }
    scores.put(put, "length", "f1")
    assert scores.get(["c", "b", "a", "missing"], "length", "f1") == put


def test_a_score_is_known_by_scorer_and_fingerprint_too(scores):
    scores.put({"a": Score(1.0)}, "length", "f1")
    assert scores.get(["a"], "length", "f2") == {}
    assert scores.get(["a"], "other", "f1") == {}


def test_a_new_score_replaces_the_old_one_alone(scores):
    scores.put({"a": Score.error("x"), "b": Score(2.0)}, "length", "f1")
    scores.put({"a": Score(1.0)}, "length", "f1")
    assert scores.get(["a", "b"], "length", "f1") == {"a": Score(1.0), "b": Score(2.0)}
    scores.put({}, "length", "f1")
    assert scores.get([], "length", "f1") == {}
