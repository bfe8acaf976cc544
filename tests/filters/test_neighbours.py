from __future__ import annotations

import numpy as np
import pytest

from filters import neighbours
from filters.neighbours import Neighbours


def clustered(rows, seed=0, dimensions=24, spread=0.35):
    """Unit vectors in clusters, as texts lie: most have near ones, and some are nearly the same."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, rows // 12), dimensions))
    vectors = centres[random.integers(len(centres), size=rows)] + spread * random.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def found(vectors, least, **options):
    chunks = list(Neighbours(vectors, least, **options).chunks())
    return {
        (int(a), int(b)): float(c)
        for chunk in chunks
        for a, b, c in zip(chunk.first, chunk.second, chunk.similarity, strict=True)
    }


def brute_force(vectors, least):
    cosines = np.round((vectors.astype(np.float64) @ vectors.T.astype(np.float64)), 4)
    return {(i, j): cosines[i, j] for j in range(len(vectors)) for i in range(j) if cosines[i, j] >= least}


@pytest.mark.parametrize("least", [0.5, 0.7, 0.9, 1.0])
def test_all_pairs_and_no_other_are_found(least):
    vectors = clustered(300)
    vectors[17] = vectors[3]
    expected = brute_force(vectors, least)
    assert found(vectors, least) == pytest.approx(expected, abs=1e-4)
    assert (3, 17) in expected


def test_small_blocks_give_what_one_block_gives(monkeypatch):
    vectors = clustered(90)
    whole = found(vectors, 0.7)
    monkeypatch.setattr(neighbours, "_CELLS", 150)
    monkeypatch.setattr(neighbours, "_MANY", 3)
    chunks = list(Neighbours(vectors, 0.7).chunks())
    assert len(chunks) > 90
    seen = [int(second) for chunk in chunks for second in np.unique(chunk.second)]
    assert seen == sorted(set(seen))  # all of a row in one part, lower rows first
    assert found(vectors, 0.7) == pytest.approx(whole, abs=1e-4)


def test_the_index_invents_nothing_and_says_what_it_misses():
    vectors = clustered(2200, seed=1)
    near = Neighbours(vectors, 0.7, index_from=1000)
    by_index = found(vectors, 0.7, index_from=1000)
    exact = found(vectors, 0.7)
    assert set(by_index) <= set(exact)
    assert by_index == pytest.approx({pair: exact[pair] for pair in by_index}, abs=1.5e-4)
    assert near.recall is not None
    assert near.recall.rows == 2000
    assert near.recall.share >= 0.99
    assert len(by_index) / len(exact) == pytest.approx(near.recall.share, abs=0.01)


def test_an_index_looks_further_until_it_finds_enough(monkeypatch):
    vectors = clustered(3000, seed=2, spread=0.6)  # no clear clusters: near ones lie in many cells
    few = Neighbours(vectors, 0.6, index_from=1000)
    monkeypatch.setattr(neighbours, "_ENOUGH", 0.0)
    first_look = Neighbours(vectors, 0.6, index_from=1000)
    assert first_look.recall.share < 0.99
    assert few.recall.share >= 0.99


def test_small_sets_are_compared_without_an_index():
    assert Neighbours(clustered(50), 0.7).recall is None
    assert list(Neighbours(np.empty((0, 1), np.float32), 0.7).chunks()) == []
