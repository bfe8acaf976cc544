"""Rows in clusters by their embeddings: k-means, titles that can be read, rows far from all others, and a plane map.

Everything here depends on the vectors and their order alone. Callers hand over rows in the order of their content
hashes, so that the order of input decides nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from filters.text import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_SEED = 0
_ITERATIONS = 25
_STARTS = 3  # k-means ends where it began: the best of so many
_TRAINED_ON = 512  # rows for each cluster that k-means looks at; more moves no centre by much
_CELLS = 2**24  # cosines held at a time: 64 MB
_MOST = 100  # clusters, where nobody says how many
_WHISKER = 1.5  # Tukey's
_LEAST = 0.05  # of a cluster's rows have a word of its title
_TELLING = 2.0  # times as frequent in the cluster as elsewhere
_LONGEST_WORD = 30


def default_clusters(rows: int) -> int:
    """The number of clusters where nobody says one: the root of half the rows, at most 100."""
    return max(1, min(_MOST, round(math.sqrt(rows / 2))))


@dataclass(frozen=True)
class Clustering:
    """Rows in clusters: `labels` (n,) int64, 0 the largest cluster, over unit `vectors` (n, d)."""

    vectors: Vectors
    labels: Ints

    @cached_property
    def sizes(self) -> Ints:
        """Rows of each cluster."""
        return np.bincount(self.labels)

    @cached_property
    def _sums(self) -> Vectors:
        sums = np.zeros((len(self.sizes), self.vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, self.labels, self.vectors)
        return sums

    @cached_property
    def nearness(self) -> Vectors:
        """(n,) the cosine of each row with the nearest centre that *other* rows make; -1 where there are no others.

        A row that is a cluster by itself is its own centre, and would look like the best placed row of all.
        """
        centres = _units(self._sums)
        nearest = np.full(len(self.vectors), -1.0, dtype=np.float32)
        step = max(1, _CELLS // len(centres))
        for start in range(0, len(self.vectors), step):
            some, own = self.vectors[start : start + step], self.labels[start : start + step]
            cosines = some @ centres.T
            others = _units(self._sums[own] - some)
            cosines[np.arange(len(some)), own] = np.where(self.sizes[own] > 1, (others * some).sum(axis=1), -1.0)
            nearest[start : start + step] = cosines.max(axis=1)
        return nearest

    @cached_property
    def outliers(self) -> Bools:
        """(n,) the rows below Tukey's lower fence of `nearness`: a quartile less 1.5 interquartile ranges."""
        low, high = np.percentile(self.nearness, [25, 75])
        return np.asarray(self.nearness < low - _WHISKER * (high - low))

    def typical(self, cluster: int) -> int:
        """The row of a cluster that is nearest to its centre."""
        members = np.flatnonzero(self.labels == cluster)
        return int(members[np.argmax(self.vectors[members] @ self._sums[cluster])])


def cluster(vectors: Vectors, count: int) -> Clustering:
    """Put unit `vectors` (n, d), n at least 1, into at most `count` clusters by spherical k-means with a fixed seed.

    Empty clusters are left out, so there are fewer where rows are alike.
    """
    import faiss

    count = min(count, len(vectors))
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    means = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=_ITERATIONS,
        nredo=_STARTS,
        seed=_SEED + 1,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAINED_ON,
    )
    means.train(vectors)
    _, found = means.index.search(vectors, 1)
    _, first, labels, sizes = np.unique(found.ravel(), return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return Clustering(vectors, rank[labels])


def titles(texts: Sequence[str], labels: Ints, count: int = 4) -> list[str]:
    """For each cluster the `count` words that tell it from the others, by class-based TF-IDF.

        weight(word, cluster) = tf(word, cluster) log(1 + A / f(word))

    tf is the share of the cluster's rows that have the word, f how many rows have it in all, A the mean number of words
    of a cluster (Grootendorst, "BERTopic", arXiv:2203.05794; there words are counted, here rows with them, so that one
    long row makes no title). Words that fewer than two rows or a twentieth of the cluster have are left out, and those
    that are less than twice as frequent there as in other rows.
    """
    sizes = np.bincount(labels)
    found: list[Counter[str]] = [Counter() for _ in sizes]
    for text, label in zip(texts, labels.tolist(), strict=True):
        found[label].update(_title_words(text))
    everywhere = sum(found, Counter[str]())
    rows = int(sizes.sum())
    mean = everywhere.total() / len(sizes)
    made = []
    for counts, size in zip(found, sizes.tolist(), strict=True):

        def weight(word: str, counts: Counter[str] = counts, size: int = size) -> float:
            return counts[word] / size * math.log(1 + mean / everywhere[word])

        telling = [
            word
            for word, n in counts.items()
            if n >= min(size, max(2, _LEAST * size))
            and n / size >= _TELLING * (everywhere[word] - n) / max(1, rows - size)
        ]
        made.append(", ".join(sorted(telling, key=lambda word: (-weight(word), word))[:count]))
    return made


def _title_words(text: str) -> set[str]:
    folded = {word.casefold() for word in words(text)}
    return {word for word in folded if _LONGEST_WORD >= len(word) > (2 if word.isascii() else 0) and word[0].isalpha()}


def plane(vectors: Vectors) -> Vectors:
    """(n, 2) the rows on the two axes along which they differ most (principal components), by their covariance."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    chosen = axes[:, ::-1][:, :2]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), range(chosen.shape[1])])  # else either way round
    placed = centred @ chosen.astype(np.float32)
    return placed if placed.shape[1] == 2 else np.column_stack([placed, np.zeros(len(placed), dtype=np.float32)])


def _units(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return units
