"""Clusters of vectors whose places are known: who belongs together, what they are called, who stands alone."""

from __future__ import annotations

import numpy as np
import pytest

from filters.clusters import cluster, default_clusters, plane, titles


def around(*centres, spread=0.05, seed=0):
    """Unit vectors: for each (axis, rows) so many rows around that axis of sixteen."""
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([np.repeat(np.eye(16)[[axis]], rows, axis=0) for axis, rows in centres])
    vectors = vectors + spread * rng.normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_rows_around_one_centre_are_one_cluster_and_the_largest_is_the_first():
    found = cluster(around((0, 20), (1, 60), (2, 40)), 3)
    assert found.sizes.tolist() == [60, 40, 20]
    assert found.labels.tolist() == [2] * 20 + [0] * 60 + [1] * 40
    again = cluster(around((0, 20), (1, 60), (2, 40)), 3)
    assert (again.labels == found.labels).all()


def test_fewer_rows_than_clusters_and_rows_that_are_all_the_same():
    assert cluster(around((0, 1)), 5).sizes.tolist() == [1]
    assert cluster(around((0, 30), spread=0), 5).sizes.sum() == 30
    assert [default_clusters(n) for n in (1, 2, 375, 1000, 10**6)] == [1, 1, 14, 22, 100]


@pytest.mark.parametrize("clusters", [3, 4])
def test_a_row_alone_is_an_outlier_even_where_it_is_a_cluster_of_its_own(clusters):
    vectors = around((0, 60), (1, 50), (2, 40), (9, 1))
    found = cluster(vectors, clusters)
    assert (found.sizes == 1).any() == (clusters == 4)
    assert np.flatnonzero(found.outliers).tolist() == [150]
    assert found.nearness[150] < 0.5 < found.nearness[:150].min()


def test_how_near_a_row_is_does_not_count_the_row_itself():
    pair = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    assert cluster(pair, 1).nearness.tolist() == pytest.approx([0.6, 0.6])


def test_nobody_is_near_where_there_is_nobody_else():
    assert cluster(around((0, 1)), 1).nearness.tolist() == [-1.0]


def test_the_typical_row_is_the_one_nearest_to_the_centre():
    vectors = around((0, 9), spread=0.3)
    centre = vectors.sum(axis=0)
    assert cluster(vectors, 1).typical(0) == int(np.argmax(vectors @ centre))


def test_a_title_has_the_words_that_tell_a_cluster_from_the_others():
    about = ["bake the bread in the oven", "the bread and the dough", "bread of the baker"] * 4
    about += ["solve the equation for x", "the equation has the root", "an equation of the second degree"] * 4
    first, second = titles(about, np.repeat([0, 1], 12))
    assert first.split(", ")[0] == "bread"
    assert second.split(", ")[0] == "equation"
    assert "the" not in f"{first}, {second}".split(", ")
    assert titles(["one row"], np.array([0])) == ["one, row"]
    assert titles(["你好 世界", "你好 吗"], np.array([0, 0]))[0].startswith("你")


def test_one_long_row_makes_no_title():
    texts = ["about cats", "about cats", "about cats", "zebra " * 50, "on dogs", "on dogs"]
    assert "zebra" not in titles(texts, np.array([0, 0, 0, 0, 1, 1]))[0]


def test_the_plane_is_that_of_principal_components():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 6)) * [5, 3, 1, 0.5, 0.2, 0.1]).astype(np.float32)
    placed = plane(vectors)
    centred = vectors - vectors.mean(axis=0)
    _, spreads, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    assert np.allclose(np.abs(placed), np.abs(centred @ axes[:2].T), atol=1e-3)
    assert np.allclose(placed.std(axis=0) * np.sqrt(200), spreads[:2], rtol=1e-3)
    assert np.array_equal(plane(vectors), placed)
    assert plane(vectors[:, :1]).shape == (200, 2)
