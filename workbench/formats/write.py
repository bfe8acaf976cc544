"""Writing examples to a file: messages and Parquet lose nothing; Alpaca and ShareGPT say what they lose.

Reading a `messages` or `parquet` file back gives the same content hashes in the same order, and the same metadata.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.conversation import Message, canonical_json
from workbench.errors import UsageProblem
from workbench.formats.turns import FUNCTION_CALL

if TYPE_CHECKING:
    import pyarrow as pa

# Legal inside JSON strings, but text tools split lines at them: escaped, a line stays a line for everybody.
_LINE_BREAKS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SHAREGPT_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}


@dataclass(frozen=True)
class WriteReport:
    """How many examples were written, and a line with a count for each kind of thing the format has no place for."""

    rows: int
    lost: list[str]


@dataclass(frozen=True, slots=True)
class _Example:
    """One example as canonical JSON texts; `meta` is None when there is none."""

    messages: str
    tools: str | None
    meta: str | None


_Lost = Counter[str]
_Encode = Callable[[_Example, _Lost], str | None]


def write_examples(batches: Iterator[pa.RecordBatch], out: Path, format: str) -> WriteReport:
    """Writes every example of `batches` to `out`, whole or not at all (a temporary file beside it, then a rename).

    Batches have the columns `messages`, `tools` (null where none) and perhaps `meta`, all canonical JSON text; others
    are ignored. `format` is one of FORMATS. Text formats are a JSON array where `out` ends in `.json`, else one
    object a line. Raises UsageProblem for an unknown format or a place that cannot be written to.
    """
    if format not in FORMATS:
        raise UsageProblem(f"there is no format {format!r} to write", do=f"Formats are {', '.join(FORMATS)}.")
    lost: _Lost = Counter()
    with _replacing(out) as temporary:
        encode = _ENCODERS.get(format)
        rows = (
            _write_parquet(batches, temporary) if encode is None else _write_text(batches, temporary, out, encode, lost)
        )
    return WriteReport(rows, [f"{what}: {count}" for what, count in sorted(lost.items())])


def _encode_messages(example: _Example, lost: _Lost) -> str:
    return _object(messages=example.messages, tools=example.tools, meta=example.meta)


def _encode_alpaca(example: _Example, lost: _Lost) -> str | None:
    messages: list[Message] = json.loads(example.messages)
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    talk = messages[1:] if system is not None else messages
    roles = [message["role"] for message in talk]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not talk or any("tool_calls" in turn for turn in talk):
        lost["Examples not written, as Alpaca knows only user and assistant turns in alternation, without tools"] += 1
        return None
    if example.tools is not None:
        lost["Examples that lost their tool schemas"] += 1
    _count_fields(messages, {"role", "content"}, lost)
    if system == "":
        lost["Empty system turns, which Alpaca cannot tell from none"] += 1
    texts = [turn["content"] for turn in talk]
    return _object(
        instruction=canonical_json(texts[-2]),
        input='""',
        output=canonical_json(texts[-1]),
        system=None if system is None else canonical_json(system),
        history=canonical_json(list(zip(texts[:-2:2], texts[1:-2:2], strict=True))) if len(texts) > 2 else None,
        meta=example.meta,
    )


def _encode_sharegpt(example: _Example, lost: _Lost) -> str:
    messages: list[Message] = json.loads(example.messages)
    _count_fields(messages, {"role", "content", "tool_calls", "train"}, lost)
    turns: list[dict[str, Any]] = []
    for message in messages:
        role, content, calls = message["role"], message["content"], message.get("tool_calls")
        weight = {} if message.get("train", True) else {"weight": 0}
        if role == "developer":
            lost["Turns whose role `developer` became `system`"] += 1
        if content or not calls:
            turns.append({"from": _SHAREGPT_ROLES[role], "value": content, **weight})
        if calls:
            if content:
                lost["Turns with text and tool calls that became two turns"] += 1
            turns.append({"from": FUNCTION_CALL, "value": _call_text(calls, lost), **weight})
    return _object(
        conversations=canonical_json(turns),
        tools=None if example.tools is None else canonical_json(example.tools),
        meta=example.meta,
    )


def _call_text(calls: list[dict[str, Any]], lost: _Lost) -> str:
    flat = []
    for call in calls:
        function = call["function"]
        flat.append({"name": function["name"], "arguments": function["arguments"]})
        if call.keys() - {"type", "function"} or function.keys() - {"name", "arguments"}:
            lost["Tool calls that lost their id or other fields"] += 1
    return canonical_json(flat[0] if len(flat) == 1 else flat)


def _count_fields(messages: list[Message], kept: set[str], lost: _Lost) -> None:
    for message in messages:
        for field in message.keys() - kept:
            lost[f"Turns that lost their `{field}`"] += 1


def _object(**texts: str | None) -> str:
    """A JSON object out of members that are JSON text already; None is left out."""
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items() if text is not None) + "}"


_ENCODERS: dict[str, _Encode] = {
    "messages": _encode_messages,
    "alpaca": _encode_alpaca,
    "sharegpt": _encode_sharegpt,
}
FORMATS = (*_ENCODERS, "parquet")
"""What can be written. `messages` and `parquet` are lossless."""


def _write_text(batches: Iterator[pa.RecordBatch], temporary: Path, out: Path, encode: _Encode, lost: _Lost) -> int:
    array = out.suffix.lower() == ".json"
    rows = 0
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        if array:
            file.write("[")
        for example in _examples(batches):
            text = encode(example, lost)
            if text is None:
                continue
            for char, escape in _LINE_BREAKS.items():
                text = text.replace(char, escape)
            file.write(("," if rows else "") + "\n" + text if array else text + "\n")
            rows += 1
        if array:
            file.write("\n]\n")
    return rows


def _write_parquet(batches: Iterator[pa.RecordBatch], temporary: Path) -> int:
    """The texts as text columns: Arrow structs would fill tool arguments with nulls."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("messages", "tools", "meta")])
    rows = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch(_columns(batch), schema=schema))
            rows += batch.num_rows
    return rows


def _columns(batch: pa.RecordBatch) -> list[list[str | None]]:
    """The texts of `messages`, `tools` and `meta`; empty metadata is None."""
    messages, tools = batch.column("messages").to_pylist(), batch.column("tools").to_pylist()
    metas = batch.column("meta").to_pylist() if "meta" in batch.schema.names else [None] * batch.num_rows
    return [messages, tools, [None if meta == "{}" else meta for meta in metas]]


def _examples(batches: Iterator[pa.RecordBatch]) -> Iterator[_Example]:
    for batch in batches:
        for messages, tools, meta in zip(*_columns(batch), strict=True):
            yield _Example(messages or "[]", tools, meta)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary path beside `out` that takes its place when the block succeeds and vanishes when it does not."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise UsageProblem(
            f"cannot write this file: {error.strerror or error}",
            where=str(out),
            do="Choose a folder that exists and can be written to.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
