"""Which vectors lie near each other: all pairs from a cosine up, by comparing all with all, or by an index in big sets.

Either way the cosine of a pair is counted, never estimated: an index can miss a pair and cannot invent one. How many
it misses is measured at every use, against all with all on a sample, and it looks further until few enough are.
Why this index, and where it begins to pay: docs/decisions/nearest-neighbours.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from filters.dedup.jaccard import Pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Ints = NDArray[np.int64]

INDEX_FROM = 80_000
"""Rows from which the index is faster than comparing all with all."""

_DIGITS = 4  # of a cosine: a threshold means what is shown
_ENOUGH = 0.99  # share of the pairs in the sample that an index must find
_SAMPLE = 2000  # rows on which that is measured
_CELLS = 2**24  # cosines held at a time: 64 MB
_ROWS = 1024  # compared at a time; more saves nothing
_MANY = 2**22  # pairs handed over at a time, where a crowd has so many: 100 MB
_TRAINED_ON = 64  # rows for each cell of the index
_SEED = 0


@dataclass(frozen=True)
class Recall:
    """How many of the `pairs` of `rows` sampled rows an index `found`."""

    rows: int
    pairs: int
    found: int

    @property
    def share(self) -> float:
        """1.0 where there was nothing to find."""
        return self.found / self.pairs if self.pairs else 1.0


class Neighbours:
    """All pairs of the unit rows of `vectors` (n, d) with cosine `least` or more. The order of rows is a preference."""

    def __init__(self, vectors: Vectors, least: float, index_from: int | None = None) -> None:
        """Builds an index where there are `index_from` rows or more (default: `INDEX_FROM`)."""
        self._vectors = vectors
        self._least = least - 0.5 * 10.0**-_DIGITS
        indexed = len(vectors) >= (INDEX_FROM if index_from is None else index_from)
        self._index = _index(vectors) if indexed else None
        self.recall = None if self._index is None else self._widen(self._index)
        """What the index finds; None where all is compared with all."""

    def chunks(self, progress: Callable[[int, int], None] = lambda *_: None) -> Iterator[Pairs]:
        """The pairs, `first` the preferred, in parts: all of one `second` row in the same part, lower rows first."""
        start = 0
        while start < len(self._vectors):
            rows = min(_ROWS, _CELLS // len(self._vectors)) if self._index is None else _ROWS // 4
            end = min(len(self._vectors), start + max(1, rows))
            yield from self._compared(start, end) if self._index is None else self._searched(self._index, start, end)
            progress(end, len(self._vectors))
            start = end

    def _compared(self, start: int, end: int) -> Iterator[Pairs]:
        cosines = self._vectors[start:end] @ self._vectors[:end].T
        cosines[:, start:][np.triu_indices(end - start)] = -1.0  # each pair once, nobody with itself
        near = cosines >= self._least
        parts = np.cumsum(near.sum(axis=1)) // _MANY
        for part in range(int(parts[-1]) + 1):
            one, two = np.searchsorted(parts, [part, part + 1]).tolist()
            second, first = np.nonzero(near[one:two])
            yield _pairs(first, second + (start + one), cosines[second + one, first])

    def _searched(self, index: Any, start: int, end: int) -> Iterator[Pairs]:
        second, first, cosines = _within(index, self._vectors, np.arange(start, end), self._least)
        yield _pairs(first, second, cosines)

    def _widen(self, index: Any) -> Recall:
        """Let the index look into more and more cells, until it finds enough of what a sample's rows have."""
        count = len(self._vectors)
        rows = np.sort(np.random.default_rng(_SEED).choice(count, min(_SAMPLE, count), replace=False))
        true = np.concatenate(
            [self._pairs_of(some) for some in np.array_split(rows, math.ceil(len(rows) * count / _CELLS))]
        )
        while True:
            second, first, _ = _within(index, self._vectors, rows, self._least)
            recall = Recall(len(rows), len(true), int(np.isin(true, second * count + first).sum()))
            if recall.share >= _ENOUGH or index.nprobe >= index.nlist:
                return recall
            index.nprobe = min(2 * index.nprobe, index.nlist)

    def _pairs_of(self, rows: Ints) -> Ints:
        """The pairs of `rows` with preferred ones, found by comparing with all, as one number each."""
        near = self._vectors[rows] @ self._vectors.T >= self._least
        which, first = np.nonzero(near & (np.arange(len(self._vectors)) < rows[:, None]))
        return rows[which] * len(self._vectors) + first


def _pairs(first: Ints, second: Ints, cosines: Vectors) -> Pairs:
    return Pairs(first, second, cosines.astype(np.float64).round(_DIGITS))


def _index(vectors: Vectors) -> Any:
    """Rows in cells around their nearest of 4 sqrt(n) centres (k-means); vectors as they are, nothing compressed."""
    import faiss

    cells = int(4 * math.sqrt(len(vectors)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 8
    index.cp.seed = _SEED + 1
    index.cp.max_points_per_centroid = _TRAINED_ON
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(8, cells)
    return index


def _within(index: Any, vectors: Vectors, rows: Ints, least: float) -> tuple[Ints, Ints, Vectors]:
    """(row, preferred row, cosine) of the pairs of `rows` that the index finds."""
    limits, cosines, found = index.range_search(vectors[rows], float(np.nextafter(np.float32(least), np.float32(-1))))
    second = np.repeat(rows, np.diff(limits).astype(np.int64))
    preferred = found < second
    return second[preferred], found[preferred], cosines[preferred]
