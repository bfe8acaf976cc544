"""The join of `filters.dedup.jaccard` over files: texts and sets of words stay in Parquet, one file's at a time.

    rows/<first>.parquet               as in `filters.engines.shards`
    sets/<first>.parquet               elements: the hashes of each row's word 5-grams
    pieces/<n>.parquet                 first, second: candidate pairs, by their numbers among the distinct sets
    exchange/<n>/<first>.parquet       number, elements: the sets that piece `n` needs, out of one file of sets

What is here are the four passes over the files that workers make, and between them what one process does with a few
numbers a row: who is preferred, which sets are equal, which rows share a rare element. The functions, and so the
numbers, are those of the join in memory; the pairs come in the same order.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.dedup.jaccard import (
    Pairs,
    Sets,
    counter_of,
    equal_sets,
    how_many_counters,
    marks,
    meetings,
    possible,
    prefixes,
    sketches,
    verified,
    with_copies,
)
from filters.dedup.known import Lineup, known_rows
from filters.dedup.near import NearParams, elements
from filters.dedup.survivor import response_length, scores_to_keep
from filters.engines.shards import ROWS, first_row, read_shard, write_shards
from filters.step import Outside, Row, Survivors

if TYPE_CHECKING:
    from filters.dedup.jaccard import Ints
    from trainer.conversation import Side

Each = Callable[[Sequence[Path], Callable[[Path], pa.Table]], Iterator[pa.Table]]
"""Has a function called on each file, anywhere and in any order, and gives what it returns as it comes."""

PIECE = 2**18  # candidate pairs that one worker verifies together
ROUND = 2**24  # candidate pairs held here: 256 MB


def near_pairs(
    folder: Path, each: Each, rows: Survivors, outside: Outside, params: NearParams, step: str, least: float,
    size: int = ROWS,
) -> tuple[Lineup[None], Pairs]:  # fmt: skip
    """As `filters.engines.Engine.near_pairs`, in the new folder `folder`, with `size` rows a file."""
    heads: list[pa.RecordBatch] = []

    def told(batches: Iterable[list[Row]], standing: bool) -> Iterator[list[Row]]:
        for batch in batches:
            heads.append(_head(batch, standing, params, outside, step))
            yield batch

    def lined_up() -> Iterator[list[Row]]:
        yield from told(known_rows(params.against, outside, step), True)
        yield from told(rows, False)

    shards, total = write_shards(folder / "rows", lined_up(), size, outside.progress, f"{step}: writing rows")
    head = pa.Table.from_batches(heads, schema=_HEAD)
    (folder / "sets").mkdir()
    numbers, lengths = np.zeros((total, 7), dtype=np.uint64), np.zeros(total, dtype=np.int64)
    done = 0
    for table in each(shards, MakeSets(folder / "sets", params.on, params.keep in _BY_LENGTH)):
        here = _numpy(table["row"])
        numbers[here] = table["numbers"].combine_chunks().flatten().to_numpy().reshape(-1, 7)
        lengths[here] = _numpy(table["length"])
        outside.progress(done := done + len(here), total, f"{step}: reading words")
    order = _preferred_first(head.append_column("length", pa.array(lengths)), params)
    sets = [folder / "sets" / shard.name for shard in shards]
    marked, sketched = numbers[order, :3], numbers[order, 3:]
    del numbers
    leaders, leader_of = equal_sets(marked)

    number_of = np.full(total, -1, dtype=np.int64)
    number_of[order[leaders]] = np.arange(len(leaders))
    np.save(folder / "numbers.npy", number_of)
    sizes, sketched = marked[leaders, 0].astype(np.int64), np.ascontiguousarray(sketched[leaders])
    counted = np.zeros(how_many_counters(int(sizes.sum())), dtype=np.uint32)
    for table in each(sets, CountElements(folder, len(counted))):
        counted[_numpy(table["counter"])] += _numpy(table["times"])
    np.save(folder / "counters.npy", counted)
    del counted
    entries = [(_numpy(table["hash"]), _numpy(table["number"])) for table in each(sets, FindPrefixes(folder, least))]
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(hashes for hashes, _ in entries)])
    owners = np.concatenate([np.empty(0, dtype=np.int64), *(owners for _, owners in entries)])

    def candidates() -> Iterator[tuple[Ints, Ints]]:
        for first, second in meetings(hashes, owners, len(leaders)):
            likely = possible(sizes, sketched, first, second, least)
            yield first[likely], second[likely]
            outside.progress(int(second.max()) + 1, len(leaders), f"{step}: comparing")

    near = [pairs for some in _rounds(candidates()) for pairs in _verify(folder, each, sets, *some, least)]
    first, second, similarity = (
        np.concatenate([np.empty(0, dtype=kind), *(getattr(pairs, side) for pairs in near)])
        for side, kind in (("first", np.int64), ("second", np.int64), ("similarity", np.float64))
    )
    ids, standing = head["id"].take(pa.array(order)).to_pylist(), pc.sum(head["standing"]).as_py() or 0
    return Lineup(ids, [], standing), with_copies(Pairs(leaders[first], leaders[second], similarity), leader_of)


_HEAD = pa.schema(
    [
        ("id", pa.int64()),
        ("content_hash", pa.string()),
        ("standing", pa.bool_()),
        ("score", pa.float64()),  # where the best by a score is kept
    ]
)
_BY_LENGTH = ("longest", "shortest", "best")


def _head(rows: Sequence[Row], standing: bool, params: NearParams, outside: Outside, step: str) -> pa.RecordBatch:
    """What it takes to tell which row is preferred, but for the length of its answer, which takes reading it."""
    scores = scores_to_keep(rows, params, outside, step)
    columns = [[row.id for row in rows], [row.content_hash for row in rows], [standing] * len(rows), scores]
    return pa.record_batch(columns, schema=_HEAD)


def _preferred_first(head: pa.Table, params: NearParams) -> Ints:
    """The order of `filters.dedup.survivor.ranks`, those that stand first."""
    up, down = "ascending", "descending"
    alike = [("content_hash", up), ("id", up)]
    keys = {
        "first": [("id", up)],
        "newest": [("id", down)],
        "longest": [("length", down), *alike],
        "shortest": [("length", up), *alike],
        "best": [("score", up if params.lowest else down), ("length", down), *alike],
    }[params.keep]
    # Rows without a score are nulls, which come last.
    order: Ints = pc.sort_indices(head, sort_keys=[("standing", down), *keys]).to_numpy().astype(np.int64)
    return order


def _rounds(candidates: Iterable[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
    """The candidates in larger parts: each costs a pass over the sets."""
    held: list[tuple[Ints, Ints]] = []
    for first, second in candidates:
        if len(first):
            held.append((first, second))
        if sum(len(one) for one, _ in held) >= ROUND:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return np.concatenate([first for first, _ in held]), np.concatenate([second for _, second in held])


def _verify(folder: Path, each: Each, sets: Sequence[Path], first: Ints, second: Ints, least: float) -> Iterator[Pairs]:
    """Those of the candidates that have Jaccard `least` or more, in their order."""
    pieces: list[Path] = []
    (folder / "pieces").mkdir()
    for start in range(0, len(first), PIECE):
        path, some = folder / "pieces" / f"{len(pieces):06d}.parquet", slice(start, start + PIECE)
        pq.write_table(pa.table({"first": first[some], "second": second[some]}), path)
        pieces.append(path)
        (folder / "exchange" / path.stem).mkdir(parents=True)
    piece = np.arange(len(first)) // PIECE
    wanted = np.unique(np.concatenate([first, second]) * len(pieces) + np.concatenate([piece, piece]))
    np.save(folder / "wanted.npy", np.stack([wanted // len(pieces), wanted % len(pieces)]))
    for _ in each(sets, Exchange(folder)):
        pass
    found: dict[int, Pairs] = {}
    for table in each(pieces, Verify(folder / "exchange", least)):
        pairs = Pairs(_numpy(table["first"]), _numpy(table["second"]), _numpy(table["similarity"]))
        found[table["piece"][0].as_py()] = pairs
    for name in ("pieces", "exchange"):
        shutil.rmtree(folder / name)
    for number in sorted(found):
        yield found[number]


@dataclass(frozen=True)
class MakeSets:
    """Makes of a file of rows one of sets."""

    sets: Path
    on: Side
    lengths: bool

    def __call__(self, shard: Path) -> pa.Table:
        """For each `row`, by its place: `numbers`, marks and sketch, and `length`, the words of its answer if asked."""
        rows = [row for batch in read_shard(shard) for row in batch]
        sets = Sets.of([elements(row, self.on) for row in rows])
        pq.write_table(pa.table({"elements": _lists(sets)}), self.sets / shard.name, compression="lz4")
        numbers = np.concatenate([marks(sets), sketches(sets)], axis=1)
        return pa.table(
            {
                "row": np.arange(len(rows)) + first_row(shard),
                "numbers": pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 7),
                "length": [response_length(row) if self.lengths else 0 for row in rows],
            }
        )


@dataclass(frozen=True)
class CountElements:
    """Counts the elements of a file of sets, of each distinct set once."""

    folder: Path
    counters: int

    def __call__(self, path: Path) -> pa.Table:
        """The `counter`s that are not 0, and how many `times` each."""
        sets, _ = _distinct(self.folder, path)
        counter, times = np.unique(counter_of(sets.hashes, self.counters), return_counts=True)
        return pa.table({"counter": counter, "times": times.astype(np.uint32)})


@dataclass(frozen=True)
class FindPrefixes:
    """Finds the rare elements by which the sets of a file may be near others."""

    folder: Path
    least: float

    def __call__(self, path: Path) -> pa.Table:
        """Each such `hash`, and the `number` of its set."""
        sets, numbers = _distinct(self.folder, path)
        hashes, owners = prefixes(sets, np.load(self.folder / "counters.npy", mmap_mode="r"), self.least)
        return pa.table({"hash": hashes, "number": numbers[owners]})


@dataclass(frozen=True)
class Exchange:
    """Hands the sets of a file on to the pieces of candidates that ask for them."""

    folder: Path

    def __call__(self, path: Path) -> pa.Table:
        """One row: how many `sets` were handed on."""
        sets, numbers = _distinct(self.folder, path)
        wanted, pieces = np.load(self.folder / "wanted.npy", mmap_mode="r")
        begin, end = np.searchsorted(wanted, numbers), np.searchsorted(wanted, numbers, side="right")
        where = np.repeat(np.arange(len(numbers)), end - begin)
        to = np.concatenate([np.empty(0, dtype=np.int64), *(pieces[b:e] for b, e in zip(begin, end, strict=True))])
        for piece in np.unique(to).tolist():
            here = where[to == piece]
            table = pa.table({"number": numbers[here], "elements": _lists(sets.take(here))})
            pq.write_table(table, self.folder / "exchange" / f"{piece:06d}" / path.name, compression="lz4")
        return pa.table({"sets": [len(where)]})


@dataclass(frozen=True)
class Verify:
    """Counts what the two sets of each candidate of a piece have in common."""

    exchange: Path
    least: float

    def __call__(self, path: Path) -> pa.Table:
        """The pairs that are near (`first`, `second`, `similarity`) and the number of the `piece`."""
        pairs = pq.read_table(path)
        first, second = _numpy(pairs["first"]), _numpy(pairs["second"])
        parts = [_read_sets(part) for part in sorted((self.exchange / path.stem).glob("*.parquet"))]
        numbers = np.concatenate([numbers for numbers, _ in parts])
        sets = Sets.of([sets[i] for _, sets in parts for i in range(len(sets))])
        by_number = np.argsort(numbers)
        one, other = (by_number[np.searchsorted(numbers, side, sorter=by_number)] for side in (first, second))
        near = verified(sets, one, other, self.least)
        return pa.table(
            {
                "piece": [int(path.stem)] * len(near.first),
                "first": numbers[near.first],
                "second": numbers[near.second],
                "similarity": near.similarity,
            }
        )


def _read_sets(path: Path) -> tuple[Ints, Sets]:
    table = pq.read_table(path)
    return _numpy(table["number"]), _sets(table)


def _distinct(folder: Path, path: Path) -> tuple[Sets, Ints]:
    """The sets of a file that are the first of their kind, and their numbers."""
    sets, first = _sets(pq.read_table(path)), first_row(path)
    numbers = np.load(folder / "numbers.npy", mmap_mode="r")[first : first + len(sets)]
    leading = np.flatnonzero(numbers >= 0)
    return sets.take(leading), np.asarray(numbers[leading])


def _lists(sets: Sets) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(sets.starts), pa.array(sets.hashes))


def _sets(table: pa.Table) -> Sets:
    lists = table["elements"].combine_chunks()
    return Sets(lists.flatten().to_numpy(), np.r_[0, np.cumsum(lists.value_lengths().to_numpy())].astype(np.int64))


def _numpy(column: pa.ChunkedArray) -> Any:
    """A column of numbers as an array (n,)."""
    return column.to_numpy()
