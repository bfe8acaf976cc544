"""Scoring jobs: a run folder with rows becomes the same folder with their scores.

    plan.json         a model whose `kind` names the work (`filters.job`)
    rows.parquet      content_hash, messages, tools: distinct contents
    parts/*.parquet   content_hash, value, label, state, detail: scores, as they come
    held.jsonl        the same, one JSON list a line: scores that are not in a part yet

It can be killed at any time: every score that was there is kept, and the next start goes on behind it. An answer of a
service may have been paid for.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from filters.step import Row, Score
from trainer.errors import BadInput
from trainer.protocol import PLAN, Events, write_atomic

ROWS = "rows.parquet"
PARTS = "parts"
HELD = "held.jsonl"

ScoreRows = Callable[[Sequence[Row]], Iterator[Mapping[str, Score]]]
"""Scores rows of distinct contents, by content hash, a few at a time as they are known."""

_EVERY = 2.0  # seconds between two parts
_HALF = re.compile("[\ud800-\udfff]")  # of a character: a model may say it, Parquet refuses it
_ROWS = pa.schema([("content_hash", pa.string()), ("messages", pa.string()), ("tools", pa.string())])
_SCORES = pa.schema(
    [
        ("content_hash", pa.string()),
        ("value", pa.float64()),
        ("label", pa.string()),
        ("state", pa.string()),
        ("detail", pa.string()),
    ]
)


def write_job(folder: Path, rows: Iterable[list[Row]], plan: BaseModel) -> int:
    """Fill the run folder with the distinct contents of `rows` and the plan, which is written last.

    Returns how many contents there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    with pq.ParquetWriter(folder / ROWS, _ROWS) as writer:
        for batch in rows:
            fresh = {row.content_hash: row for row in batch if row.content_hash not in seen}
            seen.update(fresh)
            columns = zip(*((key, row.messages_json, row.tools_json) for key, row in fresh.items()), strict=True)
            if fresh:
                writer.write_batch(pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=_ROWS))
    write_atomic(folder / PLAN, plan.model_dump_json())
    return len(seen)


def score_folder(folder: Path, events: Events, score: ScoreRows, what: str) -> None:
    """Score the rows of the run folder that have no score yet. Raises BadInput where the folder's files do not fit.

    `what` names the work in the progress events, which count rows.
    """
    rows = _read_rows(folder / ROWS)
    (folder / PARTS).mkdir(exist_ok=True)
    known = {key for part in read_parts(folder) for key in part}
    missing = [row for row in rows if row.content_hash not in known]
    done, total = len(rows) - len(missing), len(rows)
    events.emit("progress", done=done, total=total, what=what)
    if not missing:
        return
    _next_part(folder, _read_held(folder))  # of a killed process; its last line may be half a one
    held: dict[str, Score] = {}
    written = time.monotonic()
    try:
        for found in score(missing):
            part = {key: _writable(score) for key, score in found.items()}
            held.update(part)
            _hold(folder, part)
            if time.monotonic() - written > _EVERY:
                done += _next_part(folder, held)
                events.emit("progress", done=done, total=total, what=what)
                written = time.monotonic()
    finally:  # stopped or failed: what is known is kept
        done += _next_part(folder, held)
        events.emit("progress", done=done, total=total, what=what)


def read_parts(folder: Path) -> Iterator[dict[str, Score]]:
    """The scores that the job of `folder` has written so far, part by part."""
    for path in sorted((folder / PARTS).glob("[0-9]*.parquet")):
        yield read_part(path)
    if held := _read_held(folder):
        yield held


def read_part(path: Path) -> dict[str, Score]:
    """The scores of one part."""
    columns = pq.read_table(path).to_pydict()
    keys = columns.pop("content_hash")
    return {
        key: Score(*values) for key, *values in zip(keys, *(columns[name] for name in _SCORES.names[1:]), strict=True)
    }


def write_part(path: Path, scores: Mapping[str, Score]) -> None:
    """Write scores as a part, which is there whole or not at all."""
    values = list(scores.values())
    columns: list[Sequence[object]] = [list(scores), *([getattr(v, n) for v in values] for n in _SCORES.names[1:])]
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.table(columns, schema=_SCORES), part)
    part.replace(path)


def _hold(folder: Path, scores: Mapping[str, Score]) -> None:
    """Put scores down at once, at the price of a line each: a kill loses none."""
    with (folder / HELD).open("a", encoding="utf-8") as file:
        for key, score in scores.items():
            file.write(json.dumps([key, score.value, score.label, score.state, score.detail]) + "\n")


def _read_held(folder: Path) -> dict[str, Score]:
    """The scores that are in no part yet."""
    held = {}
    if (folder / HELD).exists():
        for line in (folder / HELD).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # half a line of a killed process
                key, *values = json.loads(line)
                held[key] = _writable(Score(*values))
    return held


def _writable(score: Score) -> Score:
    """The score with its words in valid Unicode."""
    label, detail = (text and _HALF.sub("\N{REPLACEMENT CHARACTER}", text) for text in (score.label, score.detail))
    return replace(score, label=label, detail=detail)


def _next_part(folder: Path, held: dict[str, Score]) -> int:
    """Write `held` as the next part, empty it, and return how many scores it held."""
    if not held:
        (folder / HELD).unlink(missing_ok=True)
        return 0
    written = len(held)
    write_part(folder / PARTS / f"{sum(1 for _ in (folder / PARTS).glob('[0-9]*.parquet')):06d}.parquet", held)
    (folder / HELD).unlink(missing_ok=True)
    held.clear()
    return written


def _read_rows(path: Path) -> list[Row]:
    try:
        table = pq.read_table(path, schema=_ROWS)
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(
            f"the rows cannot be read ({error})",
            where=str(path),
            do="It must be Parquet with the columns content_hash, messages and tools.",
        ) from error
    columns = (table.column(name).to_pylist() for name in _ROWS.names)
    return [Row(i, *values) for i, values in enumerate(zip(*columns, strict=True))]
