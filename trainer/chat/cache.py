"""Tokenised rows on disk, so that no conversation is rendered and tokenised twice in the same way.

    cache folder/
      <model>-<fingerprint>/     one tokenizer with its template under one policy: a shelf
        about.json               what the fingerprint stands for, for people
        <random>.arrow           rows, appended a file at a time; a file is there whole or not at all

A row is found by what was said (messages and tools), so versions share what they have in common. The fingerprint
covers everything else that decides: tokenizer, template with its date, policy, library versions and this package's
own source. Any shelf may be deleted at any time; those unused for longest go when the folder outgrows LIMIT.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from trainer.chat.chat_format import ChatFormat
from trainer.chat.example import Issue, Tokenised, TrainingExample
from trainer.chat.sequences import Ranges, Runs
from trainer.conversation import Message

LIMIT = 4 << 30
"""Bytes that the folder may hold before whole shelves are given up; 30 million tokens take about 150 MB."""

_CHECK = 4  # bytes of a row's check sum: a flipped bit must not be trained on
_SHARD = 64 << 20  # bytes of compressed rows that are held in memory before they are written
_SCHEMA = pa.schema({"key": pa.binary(32), "size": pa.int64(), "row": pa.large_binary()})


class TokenCache:
    """A folder of tokenised rows, for any number of tokenizers, policies, versions and processes."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        """`folder` is made when the first rows are written. `limit` is in bytes."""
        self.folder = folder
        self.limit = limit

    def shelf(self, chat: ChatFormat) -> Shelf | None:
        """The rows of one format; None for a slow tokenizer, whose behaviour no file describes."""
        about = _about(chat)
        if about is None:
            return None
        fingerprint = _digest(about)
        name = chat.tokenizer.name_or_path or "tokenizer"
        path = self.folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', Path(name).name)[:60]}-{fingerprint}"
        self._make_room(path)
        return Shelf(path, chat, {"tokenizer": name, **about})

    def _make_room(self, wanted: Path) -> None:
        """Give up the shelves that were unused for longest, never `wanted`, until the rest fits the limit."""
        with suppress(OSError):  # another process may be at the same
            shelves = [(path.parent.stat().st_mtime, path.parent) for path in self.folder.glob("*/about.json")]
            sizes = {path: sum(file.stat().st_size for file in path.glob("*.arrow")) for _, path in shelves}
            total = sum(sizes.values())
            for _, path in sorted(shelves):
                if total > self.limit and path != wanted:
                    shutil.rmtree(path, ignore_errors=True)
                    total -= sizes[path]


class Shelf:
    """The cached rows of one tokenizer and template under one policy."""

    def __init__(self, path: Path, chat: ChatFormat, about: dict[str, Any]) -> None:
        """Read what is there. Files that are damaged are passed over."""
        self.path = path
        self._chat = chat
        self._about = about
        self._rows: dict[bytes, tuple[pa.LargeBinaryArray, int, int]] = {}
        self._new: dict[bytes, tuple[int, bytes]] = {}
        self._held = 0
        self._codec = pa.Codec("zstd", compression_level=1)
        if path.is_dir():
            os.utime(path)  # in use
        for file in sorted(path.glob("*.arrow")):
            try:
                table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
                columns = [table.column(name).combine_chunks() for name in _SCHEMA.names]
            except (pa.ArrowInvalid, OSError):
                continue
            keys, sizes, rows = columns
            self._rows |= {
                key: (rows, i, size)
                for i, (key, size) in enumerate(zip(keys.to_pylist(), sizes.to_pylist(), strict=True))
            }

    def __len__(self) -> int:
        return len(self._rows.keys() | self._new.keys())

    def get(self, key: bytes | None) -> Tokenised | None:
        """The row of `key`, as it was put in; one that was damaged on disk is forgotten."""
        if key is None:
            return None
        if key in self._new:
            size, packed = self._new[key]
            return self._unpacked(pa.py_buffer(packed), size)
        if key in self._rows:
            rows, i, size = self._rows[key]
            done = self._unpacked(rows[i].as_buffer(), size)
            if done is None:
                del self._rows[key]
            return done
        return None

    def put(self, key: bytes, done: Tokenised) -> None:
        """Keep a row; it is on disk after the next `flush`, or earlier where many wait."""
        raw = _pack(done)
        packed = crc32(raw).to_bytes(_CHECK, "little") + self._codec.compress(raw, asbytes=True)
        self._new[key] = (len(raw), packed)
        self._held += len(packed)
        if self._held >= _SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what waits. A crash before leaves the shelf as it was."""
        if not self._new:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        about = self.path / "about.json"
        if not about.exists():
            about.write_text(json.dumps(self._about, indent=1, sort_keys=True), encoding="utf-8")
        keys = pa.array(list(self._new), pa.binary(32))
        sizes = pa.array([size for size, _ in self._new.values()], pa.int64())
        rows = pa.array([packed for _, packed in self._new.values()], pa.large_binary())
        name = uuid.uuid4().hex
        part = self.path / f".{name}.part"
        with part.open("wb") as file:
            with pa.ipc.new_file(file, _SCHEMA) as writer:
                writer.write_table(pa.table([keys, sizes, rows], schema=_SCHEMA))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path / f"{name}.arrow")
        self._rows |= {key: (rows, i, size) for i, (key, (size, _)) in enumerate(self._new.items())}
        self._new, self._held = {}, 0

    def _unpacked(self, packed: pa.Buffer, size: int) -> Tokenised | None:
        """A row out of its check sum and its compressed bytes; None where the two do not fit."""
        try:
            raw = self._codec.decompress(packed.slice(_CHECK), size, asbytes=True)
        except OSError:
            return None
        if crc32(raw) != int.from_bytes(packed[:_CHECK], "little"):
            return None
        return _unpack(raw, self._chat.added.special)


def format_fingerprint(chat: ChatFormat) -> str | None:
    """16 hex digits over all besides the row that decides how it is tokenised; None for a slow tokenizer."""
    about = _about(chat)
    return None if about is None else _digest(about)


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def row_key(messages: Sequence[Message], tools: Sequence[Any] | None) -> bytes | None:
    """What a row is found by; None for one that JSON cannot hold, which is not cached.

    The order of keys counts: a template that prints a tool call prints its arguments in that order.
    """
    try:
        text = json.dumps([messages, tools], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).digest()
    except (TypeError, ValueError):  # the latter also for a lone surrogate
        return None


def _about(chat: ChatFormat) -> dict[str, Any] | None:
    """Everything besides the row that decides how it is tokenised."""
    tokenizer = chat.tokenizer
    if not tokenizer.is_fast:
        return None
    backend = tokenizer.backend_tokenizer.to_str()
    own = sorted(Path(__file__).parent.glob("*.py"))
    return {
        "backend": hashlib.sha256(backend.encode()).hexdigest(),
        "class": type(tokenizer).__name__,
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        "special_tokens": {name: str(text) for name, text in tokenizer.special_tokens_map.items()},
        # The day counts only where it is in the template, and there it is written in.
        "templates": [chat.renderer.template(with_tools) for with_tools in (False, True)],
        "policy": repr(replace(chat.policy, date=None)),
        "libraries": {name: version(name) for name in ("transformers", "tokenizers", "jinja2")},
        "source": hashlib.sha256(b"".join(path.read_bytes() for path in own)).hexdigest(),
    }


def _pack(done: Tokenised) -> bytes:
    """A row as bytes: a line of JSON, then for each example its text and three arrays of int32, a token each.

    Ranges are kept as steps between starts and as widths, small numbers that compress well.
    """
    heads: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for example in done.examples:
        text = example.text.encode("utf-8")
        count = len(example.input_ids)
        starts, ends = np.asarray(example.offsets.starts, np.int32), np.asarray(example.offsets.ends, np.int32)
        steps, widths = np.diff(starts, prepend=np.int32(0)), ends - starts
        heads.append(
            {
                "bytes": len(text),
                "tokens": count,
                "turns": example.turns,
                "trained": _runs(example.trained),
                "roles": list(zip(example.roles.words, example.roles.ends, strict=True)),
            }
        )
        parts += [text, np.array(example.input_ids, np.int32).tobytes(), steps.tobytes(), widths.tobytes()]
    head = json.dumps({"issues": [astuple(issue) for issue in done.issues], "examples": heads})
    return b"".join([head.encode(), b"\n", *parts])


def _unpack(raw: bytes, special: frozenset[int]) -> Tokenised:
    at = raw.index(b"\n") + 1
    head = json.loads(raw[:at])
    examples = []
    for said in head["examples"]:
        text = raw[at : at + said["bytes"]].decode("utf-8")
        at += said["bytes"]
        ids, steps, widths = np.frombuffer(raw, np.uint8, 12 * said["tokens"], at).view(np.int32).reshape(3, -1)
        at += 12 * said["tokens"]
        starts = np.cumsum(steps, dtype=np.int32)
        ends = starts + widths
        examples.append(
            TrainingExample(
                input_ids=ids.tolist(),
                trained=_unrun(said["trained"]),
                roles=Runs.of(said["roles"]),
                offsets=Ranges(array("i", starts.tobytes()), array("i", ends.tobytes())),
                text=text,
                turns=tuple(said["turns"]),
                special_ids=special,
            )
        )
    return Tokenised(examples, [Issue(*issue) for issue in head["issues"]])


def _runs(values: Sequence[Any]) -> list[tuple[Any, int]]:
    return [(value, sum(1 for _ in same)) for value, same in groupby(values)]


def _unrun(runs: Sequence[tuple[Any, int]]) -> list[Any]:
    values: list[Any] = []
    for value, count in runs:
        values += [value] * count
    return values
