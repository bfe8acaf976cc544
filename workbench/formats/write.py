"""Writing examples: messages, Parquet and `datasets` folders lose nothing; the other forms say what they lose.

Reading a lossless form back gives the same content hashes in the same order, and the same metadata.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UsageProblem
from workbench.formats import encode
from workbench.formats.encode import Encode, Example, Lost

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("messages", "tools", "meta")

# Legal inside JSON strings, but text tools split lines at them: escaped, a line stays a line for everybody.
_LINE_BREAKS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TEXT_FORMS: dict[str, Encode] = {
    "messages": encode.messages,
    "alpaca": encode.alpaca,
    "sharegpt": encode.sharegpt,
    "prompt-completion": encode.prompt_completion,
}
FORMATS = (*_TEXT_FORMS, "parquet", "datasets")
"""What can be written. `datasets` is a folder, the others are files."""

LOSSLESS = frozenset(["messages", "parquet", "datasets"])

_MANY_DIGITS = re.compile(r"\d{19}")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


@dataclass(frozen=True)
class WriteReport:
    """How many examples were written, a line with a count for each thing lost, and what a reader should know."""

    rows: int
    lost: list[str]
    notes: list[str] = field(default_factory=list)


def check_format(format: str) -> None:
    """Raise UsageProblem for a format that cannot be written."""
    if format not in FORMATS:
        raise UsageProblem(f"there is no format {format!r} to write", do=f"Formats are {', '.join(FORMATS)}.")


def write_examples(
    batches: Iterable[pa.RecordBatch], target: Path, format: str, *, pairs_as_text: bool = False
) -> WriteReport:
    """Writes every example of `batches` to `target`: a new file, or for `datasets` into a folder that is there.

    Batches have the columns `messages`, `tools` (null where none) and perhaps `meta`, all canonical JSON text; others
    are ignored. Text formats are a JSON array where `target` ends in `.json`, else one object a line. With
    `pairs_as_text`, `prompt-completion` has text columns: only for examples that are plain pairs (`only_pairs`).
    Raises UsageProblem for an unknown format, OSError where writing fails.
    """
    check_format(format)
    if format == "parquet":
        return _write_parquet(batches, target)
    if format == "datasets":
        return _write_datasets(batches, target)
    lost: Lost = Lost()
    notes = []
    encoder = _TEXT_FORMS[format]
    if pairs_as_text and format == "prompt-completion":
        encoder = encode.prompt_completion_text
        notes.append("Every row is a plain pair, so the columns are text, on which TRL puts no chat template.")
    rows = _write_text(_examples(batches), target, encoder, lost)
    return WriteReport(rows, [f"{what}: {count:,}" for what, count in sorted(lost.items())], notes)


def only_pairs(batches: Iterable[pa.RecordBatch]) -> bool:
    """Whether every example is one user turn and one answer, with nothing more to them; stops at the first other."""
    return all(encode.is_plain_pair(example) for example in _examples(batches))


def _write_text(examples: Iterable[Example], target: Path, encoder: Encode, lost: Lost) -> int:
    array = target.suffix.lower() == ".json"
    rows = 0
    with target.open("w", encoding="utf-8", newline="\n") as file:
        if array:
            file.write("[")
        for example in examples:
            text = encoder(example, lost)
            if text is None:
                continue
            for char, escape in _LINE_BREAKS.items():
                text = text.replace(char, escape)
            file.write(("," if rows else "") + "\n" + text if array else text + "\n")
            rows += 1
        if array:
            file.write("\n]\n")
    return rows


def _write_parquet(batches: Iterable[pa.RecordBatch], target: Path) -> WriteReport:
    import pyarrow.parquet as pq

    count = _Count()
    with target.open("wb") as file, pq.ParquetWriter(file, _schema(), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(_json_columns(batch, count))
    return count.report()


def _write_datasets(batches: Iterable[pa.RecordBatch], folder: Path) -> WriteReport:
    """The folder of `Dataset.save_to_disk`; that library shards and describes what was first written in one piece."""
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    count = _Count()
    scratch = folder / "scratch"  # the library refuses to read from the folder that it writes to
    scratch.mkdir()
    with (scratch / "rows.arrow").open("wb") as file, pa.ipc.new_stream(file, _schema()) as writer:
        for batch in batches:
            writer.write_batch(_json_columns(batch, count))
    Dataset.from_file(str(scratch / "rows.arrow")).save_to_disk(str(folder))
    shutil.rmtree(scratch)
    return count.report()


@dataclass
class _Count:
    rows: int = 0
    large: int = 0  # rows with an integer that `datasets` cannot decode

    def report(self) -> WriteReport:
        notes = []
        if self.large:
            notes.append(f"Rows with an integer beyond 64 bits, at which the library `datasets` fails: {self.large:,}")
        return WriteReport(self.rows, [], notes)


def _schema() -> pa.Schema:
    """JSON columns: text to every reader, Python values to `datasets` (docs/decisions/json-columns.md)."""
    import pyarrow as pa

    return pa.schema([(name, pa.json_()) for name in COLUMNS])


def _json_columns(batch: pa.RecordBatch, count: _Count) -> pa.RecordBatch:
    import pyarrow as pa

    texts = _columns(batch)
    count.rows += batch.num_rows
    count.large += sum(any(map(_has_large_integer, row)) for row in zip(*texts, strict=True))
    columns = [pa.ExtensionArray.from_storage(pa.json_(), pa.array(text, pa.string())) for text in texts]
    return pa.record_batch(columns, schema=_schema())


def _has_large_integer(text: str | None) -> bool:
    if text is None or not _MANY_DIGITS.search(text):
        return False
    found = False

    def look(digits: str) -> int:
        nonlocal found
        value = int(digits)
        found = found or not _INT64_MIN <= value <= _UINT64_MAX
        return value

    json.loads(text, parse_int=look)
    return found


def _columns(batch: pa.RecordBatch) -> list[list[str | None]]:
    """The texts of `messages`, `tools` and `meta`; empty metadata is None."""
    messages, tools = batch.column("messages").to_pylist(), batch.column("tools").to_pylist()
    metas = batch.column("meta").to_pylist() if "meta" in batch.schema.names else [None] * batch.num_rows
    return [messages, tools, [None if meta == "{}" else meta for meta in metas]]


def _examples(batches: Iterable[pa.RecordBatch]) -> Iterator[Example]:
    for batch in batches:
        for messages, tools, meta in zip(*_columns(batch), strict=True):
            yield Example(messages or "[]", tools, meta)
