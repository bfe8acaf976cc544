"""Which texts share most of their word 5-grams: every pair from a threshold up, found by a join rather than a sketch.

Two sets with Jaccard `t` or more must share one of the rarest `n - ceil(t n) + 1` elements of each (prefix filtering:
Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). Most 5-grams stand in one text only, so nearly all
rows have nothing to look up, and no pair is missed as the bands of MinHash miss some. Each candidate is then counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64_intdigest

from filters.text import normalise, words_and_signs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

NGRAM = 5  # words; what the literature on near-duplicates of web text and instructions mostly uses
CROWD = 256
"""A 5-gram that more rows share than this is looked up among the best-ranked so many only: a set of 50,000 copies
would otherwise have a billion pairs. Their star needs only its middle, which is among the best. In a set of few rows
a crowd may be larger, up to `_MEETINGS` divided by the rows."""

_SLACK = 1e-9  # of products like 0.8 * 15, which floating point gives as 12.000000000000002
_MEETINGS = 2**23  # that a set of one crowd may have in all; kept as pairs they are 200 MB
_CHUNK = 2**20  # candidate pairs looked at together
_BITS = 256  # of the sketch that rules candidates out: at 8 bits a byte, 32 bytes a row
_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F],
    dtype=np.uint64,
)


@dataclass(frozen=True)
class Sets:
    """Sets of 64-bit hashes, one after the other: set `i` is `hashes[starts[i]:starts[i + 1]]`, sorted, none twice."""

    hashes: Hashes
    starts: Ints

    @classmethod
    def of(cls, sets: Sequence[Hashes]) -> Sets:
        """From one array for each set."""
        starts = np.zeros(len(sets) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in sets], out=starts[1:])
        return cls(np.concatenate(sets) if sets else np.empty(0, dtype=np.uint64), starts)

    @property
    def sizes(self) -> Ints:
        """How many elements each set has."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Hashes:
        return self.hashes[self.starts[index] : self.starts[index + 1]]

    def take(self, indices: Ints) -> Sets:
        """The sets of `indices`, in that order."""
        sizes = self.sizes[indices]
        starts = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(sizes, out=starts[1:])
        places = np.arange(starts[-1]) + np.repeat(self.starts[indices] - starts[:-1], sizes)
        return Sets(self.hashes[places], starts)


@dataclass(frozen=True)
class Pairs:
    """Pairs of sets by index: `first[k] < second[k]`, with their Jaccard similarity."""

    first: Ints
    second: Ints
    similarity: Floats


def shingles(text: str, size: int = NGRAM) -> Hashes:
    """The distinct runs of `size` words of `text` as sorted 64-bit hashes; case and marks of prose do not count.

    A text of fewer words is one element, itself: ten different one-word answers are ten answers. Empty for an empty
    text. The numbers are the same in every process: they decide which of a crowd are looked at.
    """
    whole = normalise(text, ignore_case=True)
    tokens = words_and_signs(whole)
    if len(tokens) < size:
        return np.array([_hash(f"whole\n{whole}")] if whole else [], dtype=np.uint64)
    hashed = np.fromiter(map(_hash, tokens), np.uint64, len(tokens))
    runs = len(tokens) - size + 1
    mixed = np.zeros(runs, dtype=np.uint64)
    for place in range(size):
        mixed += hashed[place : place + runs] * _MIX[place % len(_MIX)] + np.uint64(place)
    return np.unique(mixed)


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def similar_pairs(sets: Sets, least: float, progress: Callable[[int, int], None] = lambda *_: None) -> Pairs:
    """All pairs of `sets` with Jaccard `least` (above 0) or more; empty sets are like nothing.

    The order of the sets is the order of preference, best first: it decides which pairs of a crowd are looked at, and
    of sets that are equal each is paired with the first only, and with what that one is paired with.
    `progress(done, total)` counts distinct sets that were compared.
    """
    leaders, leader_of = _equal_sets(sets)
    apart = sets.take(leaders)
    hashes, rows = _prefixes(apart, least)
    sketches = _sketches(apart)
    found = []
    # A few rows at a time: in data made from a template every row meets a crowd by each of its words.
    for first, second in _meetings(hashes, rows, len(apart)):
        possible = _possible(apart.sizes, sketches, first, second, least)
        found.append(_verified(apart, first[possible], second[possible], least))
        progress(int(second[-1]) + 1, len(apart))
    first, second, similarity = (
        np.concatenate([getattr(one, side) for one in found] or [np.empty(0, dtype=kind)])
        for side, kind in (("first", np.int64), ("second", np.int64), ("similarity", np.float64))
    )
    return _with_copies(Pairs(leaders[first], leaders[second], similarity), leader_of)


def _equal_sets(sets: Sets) -> tuple[Ints, Ints]:
    """The first of each group of equal sets, and for every set the index of its first (-1 for empty sets)."""
    filled = np.flatnonzero(sets.sizes)
    starts = sets.starts[:-1][filled]
    if not len(filled):
        return np.empty(0, dtype=np.int64), np.full(len(sets), -1, dtype=np.int64)
    # Size, sum and exclusive or of well-mixed hashes: sets that differ agree in all three once in 2 to the 128.
    marks = np.stack(
        [
            sets.sizes[filled].astype(np.uint64),
            np.add.reduceat(sets.hashes, starts),
            np.bitwise_xor.reduceat(sets.hashes, starts),
        ],
        axis=1,
    )
    _, at, group = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    leader_of = np.full(len(sets), -1, dtype=np.int64)
    leader_of[filled] = filled[at[group.reshape(-1)]]
    return np.sort(filled[at]), leader_of


def _with_copies(near: Pairs, leader_of: Ints) -> Pairs:
    """The pairs of the leaders, and those of the sets that equal one: with it, and with all that it is paired with."""
    copies = np.flatnonzero((leader_of >= 0) & (leader_of != np.arange(len(leader_of))))
    if not len(copies):
        return near
    first, second, similarity = [near.first, leader_of[copies]], [near.second, copies], [near.similarity]
    similarity.append(np.ones(len(copies)))
    by_leader = copies[np.argsort(leader_of[copies], kind="stable")]
    led = leader_of[by_leader]
    for side, other in ((near.first, near.second), (near.second, near.first)):
        begin, end = np.searchsorted(led, side), np.searchsorted(led, side, side="right")
        many = end - begin
        pair = np.repeat(np.arange(len(side)), many)
        copy = by_leader[np.arange(len(pair)) - np.repeat(np.cumsum(many) - many, many) + np.repeat(begin, many)]
        first.append(np.minimum(copy, other[pair]))
        second.append(np.maximum(copy, other[pair]))
        similarity.append(near.similarity[pair])
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(similarity))


def _prefixes(sets: Sets, least: float) -> tuple[Hashes, Ints]:
    """The rarest elements of each set, of which it must share one with any set that is near; and whose they are.

    Rarity is counted in a table by the low bits of the hash. Two elements may share a counter: the order is the same
    for all sets, which is all that is asked of it, and a counter of 1 still means an element that nobody shares.
    """
    bits = np.uint64(2 ** min(26, max(10, int(4 * len(sets.hashes)).bit_length())) - 1)
    seen = np.bincount((sets.hashes & bits).astype(np.int64), minlength=int(bits) + 1).astype(np.uint32)
    counts = seen[(sets.hashes & bits).astype(np.int64)]
    del seen
    sizes = sets.sizes
    lengths = sizes - np.ceil(sizes * least - _SLACK).astype(np.int64) + 1
    alone = np.add.reduceat(counts == 1, sets.starts[:-1], dtype=np.int64) if len(sets) else sizes
    kept: list[Hashes] = []
    owners: list[int] = []
    for row in np.flatnonzero(alone < lengths):
        here = slice(sets.starts[row], sets.starts[row + 1])
        rarest = np.lexsort((sets.hashes[here], counts[here]))[alone[row] : lengths[row]]
        kept.append(sets.hashes[here][rarest])
        owners.append(int(row))
    if not kept:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    return np.concatenate(kept), np.repeat(np.array(owners, dtype=np.int64), [len(one) for one in kept])


def _meetings(hashes: Hashes, rows: Ints, sets: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of the `sets` that have a hash in common, none twice: all of them, but of a crowd only with its best rows.

    They come in chunks, all of one second row in the same one.
    """
    by_hash = np.lexsort((rows, hashes))
    hashes, rows = hashes[by_hash], rows[by_hash]
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[begins, len(hashes)])
    begin = np.repeat(begins, sizes)  # of the group that an entry is in
    crowd = max(CROWD, _MEETINGS // max(sets, 1))
    before = np.minimum(np.arange(len(hashes)) - begin, crowd)  # each row meets the best of those before it
    by_row = np.argsort(rows, kind="stable")
    ends = np.cumsum(before[by_row])
    last = np.r_[rows[by_row][1:] != rows[by_row][:-1], True] if len(rows) else np.empty(0, dtype=np.bool_)
    stops = np.flatnonzero(last) + 1
    start = 0
    while start < len(by_row):
        done = ends[start - 1] if start else 0
        reach = int(np.searchsorted(ends, done + _CHUNK, side="right"))
        stop = int(stops[max(np.searchsorted(stops, reach, side="right") - 1, np.searchsorted(stops, start, "right"))])
        entries = by_row[start:stop]
        many = before[entries]
        second = np.repeat(rows[entries], many)
        place = np.arange(len(second)) - np.repeat(np.cumsum(many) - many, many)
        if len(second):
            keys = np.unique(second * np.int64(sets) + rows[np.repeat(begin[entries], many) + place])
            yield keys % sets, keys // sets
        start = stop


def _sketches(sets: Sets) -> Hashes:
    """256 bits for each set (n, 4), bit `h % 256` set for each element: sets whose bits differ much differ as much."""
    bits = np.zeros((len(sets), _BITS), dtype=np.bool_)
    bits[np.repeat(np.arange(len(sets)), sets.sizes), (sets.hashes >> np.uint64(32)) % np.uint64(_BITS)] = True
    return np.packbits(bits, axis=1).view(np.uint64)


def _possible(sizes: Ints, sketches: Hashes, first: Ints, second: Ints, least: float) -> NDArray[np.bool_]:
    """Which pairs can still have Jaccard `least`, by their sizes and by how many bits of their sketches differ."""
    small, large = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
    possible: NDArray[np.bool_] = small >= large * least - _SLACK
    there = np.flatnonzero(possible)
    # Each bit that one sketch has alone is an element that one set has alone.
    differ = np.bitwise_count(sketches[first[there]] ^ sketches[second[there]]).sum(axis=1, dtype=np.int64)
    both = small[there] + large[there]
    possible[there] = (both - differ) * (1 + least) + _SLACK >= 2 * least * both
    return possible


def _verified(sets: Sets, first: Ints, second: Ints, least: float) -> Pairs:
    """Those of the candidates that have Jaccard `least` or more, counted element by element."""
    from scipy.sparse import csr_matrix

    used, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    members = sets.take(used)
    _, columns = np.unique(members.hashes, return_inverse=True)
    width = int(columns.max()) + 1 if len(columns) else 1
    matrix = csr_matrix((np.ones(len(columns), dtype=np.int32), columns, members.starts), shape=(len(used), width))
    one, other = places[: len(first)], places[len(first) :]
    sizes = members.sizes
    work = np.cumsum(sizes[one] + sizes[other])
    similarity = np.empty(len(first), dtype=np.float64)
    start = 0
    while start < len(first):
        done = work[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(work, done + 4 * _CHUNK, side="right")))
        a, b = one[start:stop], other[start:stop]
        common = np.asarray(matrix[a].multiply(matrix[b]).sum(axis=1)).reshape(-1).astype(np.int64)
        similarity[start:stop] = common / (sizes[a] + sizes[b] - common)
        start = stop
    near = similarity >= least
    return Pairs(first[near], second[near], similarity[near])
