"""An arm's rows, tokenised, and the eval items: what an experiment's folder holds, read from its Parquet files."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.chat import MaskPolicy, TokenCache, Truncation, fit, tokenise_many
from trainer.conversation import Message
from trainer.errors import BadInput
from trainer.evaluate import EvalItem
from trainer.instructions import from_json
from trainer.schedule import TrainRow

if TYPE_CHECKING:
    from trainer.base import Base

VALIDATION_ROWS = 24


@dataclass(frozen=True)
class Arm:
    """The tokenised rows of one version, and what was left out or cut of them: counts by reason."""

    rows: list[TrainRow]
    left_out: dict[str, int]

    @property
    def trained_tokens(self) -> int:
        """Trained tokens of one pass over the arm."""
        return sum(row.trained for row in self.rows)


def read_arm(
    base: Base,
    path: Path,
    policy: MaskPolicy,
    max_length: int,
    truncate: Truncation = "drop",
    cache: TokenCache | None = None,
) -> Arm:
    """Tokenise the conversations of a Parquet file (`content_hash`, `messages`, `tools`).

    Rows with nothing to train are left out and counted. Longer ones than `max_length` tokens are treated as
    `truncate` says, and counted whether they were cut or left out. Raises BadInput for a token that the model does not
    have.
    """
    rows: list[TrainRow] = []
    left_out: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    waiting: deque[tuple[str, list[Message], list[Any] | None]] = deque()

    def conversations() -> Iterator[tuple[list[Message], list[Any] | None]]:
        for record in _records(path):
            messages, tools = json.loads(record["messages"]), json.loads(record["tools"] or "null")
            waiting.append((record["content_hash"], messages, tools))
            yield messages, tools

    for done in tokenise_many(base.tokenizer, conversations(), policy, cache=cache):
        content_hash, messages, tools = waiting.popleft()
        copy = seen[content_hash]
        seen[content_hash] += 1
        fitted = fit(base.tokenizer, done, messages, tools, policy, max_length, truncate)
        if not done.examples:
            left_out["template-error"] += 1
        for cut in fitted.cuts:
            left_out["longer than max_length" if cut.kept == 0 else "cut to max_length"] += 1
        for number, example in enumerate(fitted.examples):
            base.check_ids(example.input_ids)
            row = TrainRow(f"{content_hash}/{copy}/{number}", example.input_ids, example.labels)
            if row.trained:
                rows.append(row)
            else:
                left_out["zero-trained"] += 1
    return Arm(rows, dict(left_out))


def read_items(path: Path) -> list[EvalItem]:
    """The eval items of a Parquet file (`item`, `messages`, `tools`, `cluster`, and perhaps `instructions`)."""
    return [
        EvalItem(
            item=int(record["item"]),
            messages=json.loads(record["messages"]),
            tools=json.loads(record["tools"]) if record["tools"] else None,
            cluster=str(record["cluster"]),
            instructions=tuple(from_json(record["instructions"])) if record.get("instructions") else (),
        )
        for record in _records(path)
    ]


def validation_rows(arm: Arm) -> list[TrainRow]:
    """Rows of an arm to watch its training by, the first by key: up to 24, at most a twentieth of the arm.

    They are taken out of its training, and are never the set that the verdict is about. They depend on the arm alone,
    so that a run is the same run whichever other arm it is compared with.
    """
    size = min(VALIDATION_ROWS, len(arm.rows) // 20)
    return sorted(arm.rows, key=lambda row: row.key)[:size]


def without(arm: Arm, validation: Sequence[TrainRow]) -> Arm:
    """The arm without the rows that watch its training, and without their copies; they count as left out."""
    keys = {row.key for row in validation}
    # A copy of a validation row (same content, another place) would leak it.
    contents = {key.split("/")[0] for key in keys}
    rows = [row for row in arm.rows if row.key.split("/")[0] not in contents]
    held_out = len(arm.rows) - len(rows)
    return Arm(rows, arm.left_out | ({"held out to watch training": held_out} if held_out else {}))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput("not a readable Parquet file", where=str(path)) from error
    for batch in file.iter_batches(batch_size=1024):
        yield from batch.to_pylist()
