"""The rows that are left at a point of a run: one bit a row, and the batches read again from the caller."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from filters.step import Rewrite, Row

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Rows = Callable[[], "Iterator[pa.RecordBatch]"]
BATCH = 1024  # rows parsed at a time, whatever the size of the batches that come in


class Remaining:
    """Which rows are left, by position in the input; iterating reads them in batches (`filters.step.Survivors`).

    Holds per row an id, a bit and one small number for each grouping, and no text but that of rewritten rows.
    """

    def __init__(self, rows: Rows) -> None:
        """Read all rows once to learn ids and groups. Raises ValueError if an id comes twice."""
        self._rows = rows
        ids: list[NDArray[np.int64]] = []
        self._group_names: dict[str, dict[str | None, int]] = {"source": {}, "category": {}}
        codes: dict[str, list[int]] = {"source": [], "category": []}
        for batch in rows():
            ids.append(batch.column("id").to_numpy(zero_copy_only=False).astype(np.int64))
            for group, names in self._group_names.items():
                codes[group].extend(names.setdefault(name, len(names)) for name in batch.column(group).to_pylist())
        self.ids: NDArray[np.int64] = np.concatenate(ids) if ids else np.empty(0, dtype=np.int64)
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("rows must have ids of their own")
        self._codes = {group: np.array(code, dtype=np.int32) for group, code in codes.items()}
        self._left: NDArray[np.bool_] = np.ones(len(self.ids), dtype=np.bool_)
        self._rewritten: dict[int, Rewrite] = {}
        self._came_with: dict[int, str] = {}
        self._between: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return int(self._left.sum())

    def __iter__(self) -> Iterator[list[Row]]:
        return self.read(self._left)

    def drop(self, ids: Collection[int]) -> None:
        """Take these rows out."""
        self._left &= ~self.mask(ids)

    def rewrite(self, rewrites: Iterable[Rewrite]) -> None:
        """Give these rows other messages from now on; a later rewrite of a row takes the place of an earlier one."""
        for rewrite in rewrites:
            if earlier := self._rewritten.get(rewrite.id):
                self._between.setdefault(rewrite.id, []).append(earlier.content_hash)
            self._rewritten[rewrite.id] = rewrite

    def hashes(self, row: Row) -> list[str]:
        """The content hashes that a row which was read from here has had, from the one it came with to its own now."""
        if row.id not in self._came_with:
            return [row.content_hash]
        return [self._came_with[row.id], *self._between.get(row.id, ()), row.content_hash]

    def mask(self, ids: Collection[int]) -> NDArray[np.bool_]:
        """One bit per input row: is its id among `ids`?"""
        return np.isin(self.ids, np.fromiter(ids, dtype=np.int64, count=len(ids)))

    def emptied_groups(self, dropped: NDArray[np.bool_], smallest: int) -> list[tuple[str, str, int]]:
        """Sources and categories of at least `smallest` rows of which no row would be left: (grouping, name, rows)."""
        found = []
        for group, names in self._group_names.items():
            before = np.bincount(self._codes[group][self._left], minlength=len(names))
            falling = np.bincount(self._codes[group][dropped & self._left], minlength=len(names))
            found += [
                (group, name, int(before[code]))
                for name, code in names.items()
                if name is not None and before[code] >= smallest and before[code] == falling[code]
            ]
        return found

    def surviving(self, dropped: NDArray[np.bool_]) -> Iterator[list[Row]]:
        """Batches of the rows that would be left if those of `dropped` were taken out."""
        return self.read(self._left & ~dropped)

    def read(self, mask: NDArray[np.bool_]) -> Iterator[list[Row]]:
        """The rows of `mask` in batches of at most `BATCH`, in input order.

        Raises ValueError when the caller's rows are not those of the first reading.
        """
        import pyarrow as pa

        start = 0
        for whole in self._rows():
            for offset in range(0, whole.num_rows, BATCH):
                batch = whole.slice(offset, BATCH)
                here = slice(start, start + batch.num_rows)
                start += batch.num_rows
                if not np.array_equal(batch.column("id").to_numpy(zero_copy_only=False), self.ids[here]):
                    raise ValueError("rows() must give the same rows in the same order each time")
                if mask[here].any():
                    yield [self._as_it_is(row) for row in parse(batch.filter(pa.array(mask[here])))]
        if start != len(self.ids):
            raise ValueError("rows() must give the same rows in the same order each time")

    def _as_it_is(self, row: Row) -> Row:
        now = self._rewritten.get(row.id)
        if now is None:
            return row
        self._came_with[row.id] = row.content_hash
        return replace(row, messages_json=now.messages_json, content_hash=now.content_hash)


def parsed(rows: Rows) -> Iterator[list[Row]]:
    """All of `rows`, in batches of at most `BATCH`."""
    for whole in rows():
        for offset in range(0, whole.num_rows, BATCH):
            yield parse(whole.slice(offset, BATCH))


def parse(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch that has the columns of `Rows`."""
    columns = (
        batch.column(name).to_pylist() for name in ("id", "content_hash", "messages", "tools", "source", "category")
    )
    return [Row(*values) for values in zip(*columns, strict=True)]
