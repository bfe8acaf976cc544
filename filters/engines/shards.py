"""Rows in Parquet files of a few thousand, and what scores one such file on any machine that sees the folder.

    rows/<first>.parquet     id, content_hash, messages, tools, source, category; `first` is the place of the first row
    parts/<first>.parquet    their scores, as those of any job (`filters.scoring`)

A file is written whole or not at all, and what is made of it has its name: work that is done twice is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from filters.remaining import BATCH, parse
from filters.scoring import write_part
from filters.step import Progress, Row, Score, Scorer
from trainer.errors import Problem

ROWS = 8192
"""Rows of a file. A worker holds one file at a time: some 20 MB of conversations."""

_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("content_hash", pa.string()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("source", pa.string()),
        ("category", pa.string()),
    ]
)


def write_shards(
    folder: Path, rows: Iterable[list[Row]], size: int, progress: Progress, what: str
) -> tuple[list[Path], int]:
    """Write `rows` in files of `size` rows; holds no more than one file's. Returns the files, and how many rows."""
    folder.mkdir(parents=True)
    written: list[Path] = []
    held: list[Row] = []
    total = 0
    for batch in rows:
        held += batch
        total += len(batch)
        while len(held) >= size:
            written.append(_write_shard(folder, held[:size], len(written) * size))
            del held[:size]
        progress(total, None, what)
    if held:
        written.append(_write_shard(folder, held, len(written) * size))
    return written, total


def _write_shard(folder: Path, rows: Sequence[Row], first: int) -> Path:
    columns = zip(
        *((row.id, row.content_hash, row.messages_json, row.tools_json, row.source, row.category) for row in rows),
        strict=True,
    )
    path = folder / f"{first:012d}.parquet"
    pq.write_table(pa.table([list(column) for column in columns], schema=_SCHEMA), path, compression="lz4")
    return path


def first_row(shard: Path) -> int:
    """The place of the first row of a file among all rows."""
    return int(shard.stem)


def read_shard(shard: Path) -> Iterable[list[Row]]:
    """The rows of a file, in batches of at most `BATCH`."""
    for batch in pq.read_table(shard).to_batches(max_chunksize=BATCH):
        yield parse(batch)


@dataclass(frozen=True)
class ScoreShard:
    """Scores the rows of a file, into the folder `parts`."""

    scorer: Scorer
    parts: Path

    def __call__(self, shard: Path) -> pa.Table:
        """One row: `shard`, the name of the file, and `rows`, how many it has. Raises Problem naming the row."""
        scores: dict[str, Score] = {}
        rows = 0
        for batch in read_shard(shard):
            scores.update(zip((row.content_hash for row in batch), self._score(batch), strict=True))
            rows += len(batch)
        write_part(self.parts / shard.name, scores)
        return pa.table({"shard": [shard.name], "rows": [rows]})

    def _score(self, rows: Sequence[Row]) -> list[Score]:
        try:
            return self.scorer.score(rows)
        except (Problem, OSError, MemoryError):  # not the fault of a row
            raise
        except Exception as error:
            raise Problem(
                f"{self.scorer.name} failed ({type(error).__name__}: {error})",
                where=self._where(rows),
                do="This is a bug of the step: report it, or take the step out of the recipe.",
            ) from error

    def _where(self, rows: Sequence[Row]) -> str:
        """The first of `rows` that it fails on alone."""
        for row in rows:
            try:
                self.scorer.score([row])
            except Exception:
                return f"example {row.id} of {row.source}"
        return f"examples {rows[0].id} to {rows[-1].id}"
