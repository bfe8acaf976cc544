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
    from scipy.sparse import csr_matrix

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Floats32 = NDArray[np.float32]
    Counters = NDArray[np.uint32]

NGRAM = 5  # words; what the literature on near-duplicates of web text and instructions mostly uses
CROWD = 256
"""Candidates a row that a large set may have on average. Where all would be more, and more than `_MEETINGS`, a 5-gram
that many rows share is looked up among the best-ranked of them only: a set of 50,000 copies would otherwise have a
billion pairs. Their star needs only its middle, which is among the best."""

_SLACK = 1e-9  # of products like 0.8 * 15, which floating point gives as 12.000000000000002
_MEETINGS = 2**24  # candidates that any set may have in all; if all are near, the pairs are 400 MB
_FEWEST = 16  # rows of a crowd that are looked at, however long the texts
_CHUNK = 2**20  # candidate pairs looked at together
_BLOCK = 2**24  # pairs of a block that is multiplied whole: 64 MB
_SLAB = 2**12  # elements of a block at a time
_PRODUCTS = 100  # of a block in the time that looking at one element of one pair takes
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

    A text of fewer words is one element, all its words: ten different one-word answers are ten answers. One that has
    marks alone is itself, and an empty one has none. The numbers are the same in every process: they decide which of a
    crowd are looked at.
    """
    whole = normalise(text, ignore_case=True)
    tokens = words_and_signs(whole)
    if len(tokens) < size:
        short = "\n".join(tokens) or whole
        return np.array([_hash(f"whole\n{short}")] if short else [], dtype=np.uint64)
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
    leaders, leader_of = equal_sets(marks(sets))
    apart = sets.take(leaders)
    hashes, rows = prefixes(apart, counters(apart.hashes), least)
    sketched = sketches(apart)
    found = []
    # A few rows at a time: in data made from a template every row meets a crowd by each of its words.
    for first, second in meetings(hashes, rows, len(apart)):
        likely = possible(apart.sizes, sketched, first, second, least)
        found.append(verified(apart, first[likely], second[likely], least))
        progress(int(second.max()) + 1, len(apart))
    first, second, similarity = (
        np.concatenate([getattr(one, side) for one in found] or [np.empty(0, dtype=kind)])
        for side, kind in (("first", np.int64), ("second", np.int64), ("similarity", np.float64))
    )
    return with_copies(Pairs(leaders[first], leaders[second], similarity), leader_of)


def marks(sets: Sets) -> Hashes:
    """Three numbers for each set (n, 3), equal for equal sets: its size, and two that its elements come to."""
    found = np.zeros((len(sets), 3), dtype=np.uint64)
    filled = np.flatnonzero(sets.sizes)
    if len(filled):
        starts = sets.starts[:-1][filled]
        # The elements are mixed once more: those of texts in another order may have the same sum as they are.
        mixed = _mixed(sets.hashes)
        found[filled, 0] = sets.sizes[filled]
        found[filled, 1] = np.add.reduceat(mixed, starts)
        found[filled, 2] = np.bitwise_xor.reduceat(mixed, starts)
    return found


def equal_sets(marked: Hashes) -> tuple[Ints, Ints]:
    """The first of each group of equal sets, and for every set the index of its first (-1 for empty sets).

    `marked` are the `marks` of the sets.
    """
    filled = np.flatnonzero(marked[:, 0])
    leader_of = np.full(len(marked), -1, dtype=np.int64)
    if not len(filled):
        return filled, leader_of
    _, at, group = np.unique(marked[filled], axis=0, return_index=True, return_inverse=True)
    leader_of[filled] = filled[at[group.reshape(-1)]]
    return np.sort(filled[at]), leader_of


def _mixed(numbers: Hashes) -> Hashes:
    """Each number well mixed (the finaliser of SplitMix64: Steele, Lea and Flood 2014)."""
    mixed: Hashes = numbers + _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def with_copies(near: Pairs, leader_of: Ints) -> Pairs:
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


def how_many_counters(elements: int) -> int:
    """How many counters tell which of so many elements are rare: a power of two, 256 MB of them at the most."""
    return int(2 ** min(26, max(10, int(4 * elements).bit_length())))


def counters(hashes: Hashes) -> Counters:
    """How many of `hashes` have the same low bits, by these."""
    many = how_many_counters(len(hashes))
    return np.bincount(counter_of(hashes, many), minlength=many).astype(np.uint32)


def counter_of(hashes: Hashes, many: int) -> Ints:
    """Which of so `many` counters counts each of `hashes`."""
    return (hashes & np.uint64(many - 1)).astype(np.int64)


def prefixes(sets: Sets, counted: Counters, least: float) -> tuple[Hashes, Ints]:
    """The rarest elements of each set, of which it must share one with any set that is near; and whose they are.

    `counted` are the `counters` of the elements of all sets. Two elements may share one: the order is the same for all
    sets, which is all that is asked of it, and a counter of 1 still means an element that nobody shares.
    """
    counts = counted[counter_of(sets.hashes, len(counted))]
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


def meetings(hashes: Hashes, rows: Ints, sets: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of the `sets` that have a hash in common, none twice: all of them, but of a crowd only with its best rows.

    A row that would meet more than there are before it, through all the words that it shares, meets each of those
    once instead. The pairs come in chunks, all of one second row in the same one, lower rows first.
    """
    hashes, rows = _without_twins(hashes, rows)
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, dtype=np.int64)
    begin = np.repeat(begins, np.diff(np.r_[begins, len(hashes)]))  # of the group that an entry is in
    before = np.arange(len(hashes)) - begin  # each row meets the best of those before it
    before = np.minimum(before, _crowd(before, rows, sets))
    costs = _costs(before, rows, sets)
    by_row = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[by_row], np.arange(sets + 1))
    ends = np.cumsum(costs)
    row = 0
    while row < sets:
        stop = max(row + 1, int(np.searchsorted(ends, (ends[row - 1] if row else 0) + _CHUNK, side="right")))
        here = np.arange(row, stop)
        all_before = here[costs[here] == here]
        entries = by_row[starts[row] : starts[stop]]
        entries = entries[costs[rows[entries]] < rows[entries]]
        pair, place = _ranges(before[entries])
        keys = np.unique(rows[entries][pair] * np.int64(sets) + rows[begin[entries][pair] + place])
        pair, place = _ranges(all_before)
        keys = np.concatenate([keys, all_before[pair] * np.int64(sets) + place])
        if len(keys):
            yield keys % sets, keys // sets
        row = stop


def _without_twins(hashes: Hashes, rows: Ints) -> tuple[Hashes, Ints]:
    """The entries by hash and row; of hashes that stand in the very same rows one, and none that stands in one row.

    A passage that a hundred rows quote would else make each two of them meet once for each of its words.
    """
    by_hash = np.lexsort((rows, hashes))
    hashes, rows = hashes[by_hash], rows[by_hash]
    if not len(hashes):
        return hashes, rows
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    sizes = np.diff(np.r_[begins, len(hashes)])
    twin = _twins(rows, begins)
    kept = np.zeros(len(begins), dtype=np.bool_)
    kept[np.unique(twin, return_index=True)[1]] = True
    entries = np.repeat(kept & (sizes > 1), sizes)
    return hashes[entries], rows[entries]


def _twins(rows: Ints, begins: Ints) -> Ints:
    """A number for each group of `rows` (the groups begin at `begins`), the same for groups of the very same rows."""
    mixed = _mixed(rows.astype(np.uint64))
    one, other = np.add.reduceat(mixed, begins), np.bitwise_xor.reduceat(mixed, begins)
    order = np.lexsort((one, other))
    new = np.r_[True, (one[order][1:] != one[order][:-1]) | (other[order][1:] != other[order][:-1])]
    twin = np.empty(len(begins), dtype=np.int64)
    twin[order] = np.cumsum(new) - 1
    return twin


def _crowd(before: Ints, rows: Ints, sets: int) -> int:
    """How many rows of a crowd each is compared with: as many as `_MEETINGS`, or `CROWD` a row, allow, by halves."""
    low, high = _FEWEST, max(_FEWEST, int(before.max(initial=0)))
    allowed = max(_MEETINGS, CROWD * sets)
    if _costs(before, rows, sets).sum() <= allowed:
        return high
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        if _costs(np.minimum(before, middle), rows, sets).sum() <= allowed:
            low = middle
        else:
            high = middle
    return low


def _costs(before: Ints, rows: Ints, sets: int) -> Ints:
    """How many pairs each of the `sets` rows is looked at in, as the second: never more than there are before it."""
    met = np.bincount(rows, weights=before, minlength=sets)
    return np.minimum(met, np.arange(sets)).astype(np.int64)


def _ranges(many: Ints) -> tuple[Ints, Ints]:
    """`0..many[k] - 1` for each `k`, one after the other, and the `k` of each number: (k, number)."""
    which = np.repeat(np.arange(len(many)), many)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(many) - many, many)


def sketches(sets: Sets) -> Hashes:
    """256 bits for each set (n, 4), bit `h % 256` set for each element: sets whose bits differ much differ as much."""
    bits = np.zeros((len(sets), _BITS), dtype=np.bool_)
    bits[np.repeat(np.arange(len(sets)), sets.sizes), (sets.hashes >> np.uint64(32)) % np.uint64(_BITS)] = True
    return np.packbits(bits, axis=1).view(np.uint64)


def possible(sizes: Ints, sketches: Hashes, first: Ints, second: Ints, least: float) -> NDArray[np.bool_]:
    """Which pairs can still have Jaccard `least`, by their sizes and by how many bits of their sketches differ."""
    small, large = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
    possible: NDArray[np.bool_] = small >= large * least - _SLACK
    there = np.flatnonzero(possible)
    # Each bit that one sketch has alone is an element that one set has alone.
    differ = np.bitwise_count(sketches[first[there]] ^ sketches[second[there]]).sum(axis=1, dtype=np.int64)
    both = small[there] + large[there]
    possible[there] = (both - differ) * (1 + least) + _SLACK >= 2 * least * both
    return possible


def verified(sets: Sets, first: Ints, second: Ints, least: float) -> Pairs:
    """Those of the candidates that have Jaccard `least` or more, counted element by element."""
    from scipy.sparse import csr_matrix

    used, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    members = sets.take(used)
    columns, weights = _columns(members)
    inside = columns >= 0
    starts = np.r_[0, np.cumsum(inside)][members.starts]
    matrix = csr_matrix(
        (np.ones(starts[-1], dtype=np.float32), columns[inside], starts), shape=(len(used), len(weights))
    )
    one, other = places[: len(first)], places[len(first) :]
    work = np.diff(starts)[one] + np.diff(starts)[other]
    cells = len(np.unique(one)) * len(np.unique(other))
    if cells <= _BLOCK and cells * len(weights) < _PRODUCTS * work.sum():
        common = _common_of_all(matrix, weights, one, other)
    else:
        common = _common_of_each(matrix, weights, one, other, np.cumsum(work))
    similarity = common / (members.sizes[one] + members.sizes[other] - common)
    near = similarity >= least
    return Pairs(first[near], second[near], similarity[near])


def _columns(members: Sets) -> tuple[Ints, Floats32]:
    """A number for each element of `members`, -1 for those of one set, and how many elements each number stands for.

    Elements that stand in the very same sets, as those of a passage that they all quote, are counted as one.
    """
    owners = np.repeat(np.arange(len(members)), members.sizes)
    order = np.argsort(members.hashes, kind="stable")
    hashes = members.hashes[order]
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[begins, len(hashes)])
    columns = np.full(len(hashes), -1, dtype=np.int64)
    shared = np.repeat(sizes > 1, sizes)
    order, sizes = order[shared], sizes[sizes > 1]
    if not len(order):
        return columns, np.empty(0, dtype=np.float32)
    begins = np.cumsum(sizes) - sizes
    twin = _twins(owners[order], begins)
    _, stands_for, weights = np.unique(twin, return_index=True, return_counts=True)
    kept = np.full(len(sizes), -1, dtype=np.int64)
    kept[stands_for] = np.arange(len(stands_for))
    columns[order] = np.repeat(kept, sizes)
    return columns, weights.astype(np.float32)


def _common_of_all(matrix: csr_matrix, weights: Floats32, one: Ints, other: Ints) -> Ints:
    """How many elements each pair of rows has in common, by products of whole blocks: for pairs in a crowd."""
    firsts, at = np.unique(one, return_inverse=True)
    seconds, there = np.unique(other, return_inverse=True)
    common = np.zeros((len(seconds), len(firsts)), dtype=np.float32)  # exact below 2**24
    for start in range(0, len(weights), _SLAB):
        some = matrix[:, start : start + _SLAB]
        common += (some[seconds].toarray() * weights[start : start + _SLAB]) @ some[firsts].toarray().T
    return common[there, at].astype(np.int64)


def _common_of_each(matrix: csr_matrix, weights: Floats32, one: Ints, other: Ints, work: Ints) -> Ints:
    """As `_common_of_all`, pair by pair; `work` is the running sum of elements to be looked at."""
    common = np.empty(len(one), dtype=np.int64)
    start = 0
    while start < len(one):
        done = work[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(work, done + 4 * _CHUNK, side="right")))
        both = matrix[one[start:stop]].multiply(matrix[other[start:stop]]).tocsr()
        common[start:stop] = both @ weights
        start = stop
    return common
