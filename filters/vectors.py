"""Files of embeddings: what a job writes, and a cache that is read from disk only where it is asked.

A job writes Parquet, which anything can read: `key` (SHA-256 of the text, hex) and `embedding` (list of float32, null
for a text that the model cannot read). The cache holds the same as Arrow files with sorted keys and rows of one
length, which are mapped into memory: 100,000 vectors of 384 numbers cost what is looked up of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Keys = NDArray[np.bytes_]

_DIGEST = 32  # bytes of SHA-256


def text_key(text: str) -> str:
    """SHA-256 (hex) of a text: its name in a run folder."""
    return _digest(text).hex()


def text_keys(texts: Sequence[str]) -> Keys:
    """SHA-256 of each text, as bytes: its name in the cache."""
    return np.array([_digest(text) for text in texts], dtype=f"S{_DIGEST}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def write_vectors(path: Path, keys: Sequence[str], vectors: Vectors) -> None:
    """Write a job's Parquet file, there whole or not at all. Rows of NaN become null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = vectors.shape[1]
    bad = np.isnan(vectors).any(axis=1)
    ends = np.cumsum(np.where(bad, 0, size))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32(), mask=np.append(bad, False))
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors[~bad].ravel(), pa.float32()))
    part = path.with_name(f".{path.name}.part")
    pq.write_table(pa.table({"key": pa.array(list(keys), pa.string()), "embedding": lists}), part)
    part.replace(path)


def read_keys(path: Path) -> list[str]:
    """The keys of a job's Parquet file."""
    import pyarrow.parquet as pq

    keys: list[str] = pq.read_table(path, columns=["key"]).column("key").to_pylist()
    return keys


def read_vectors(path: Path) -> tuple[list[str], Vectors]:
    """Keys and vectors (n, d) of a job's Parquet file; NaN where it has null. d is 1 where all are null."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    column = table.column("embedding").combine_chunks()
    bad = column.is_null().to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    good = int((~bad).sum())
    vectors = np.full((len(bad), len(flat) // good if good else 1), np.nan, dtype=np.float32)
    vectors[~bad] = flat.reshape(good, -1) if good else vectors[~bad]
    return table.column("key").to_pylist(), vectors


def join(parts: Sequence[Path], out: Path) -> None:
    """Put the Parquet files `parts` together as `out`, one after the other."""
    import pyarrow.parquet as pq

    part = out.with_name(f".{out.name}.part")
    with pq.ParquetWriter(part, pq.read_schema(parts[0])) as writer:
        for path in parts:
            writer.write_table(pq.read_table(path))
    part.replace(out)


class VectorCache:
    """The vectors of one model in a folder of Arrow files, looked up by the text's hash."""

    def __init__(self, folder: Path) -> None:
        """Open what is there. The folder need not exist. A file that was cut short goes: its texts are read again."""
        self._folder = folder
        self._files = [file for path in sorted(folder.glob("*.arrow")) if (file := _File.opened(path))]

    def missing(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of `keys` are not there."""
        absent = np.ones(len(keys), dtype=np.bool_)
        for file in self._files:
            absent &= ~file.find(keys)[1]
        return absent

    def look_up(self, keys: Keys) -> Vectors:
        """Float32 (len(keys), d); NaN for a text that the model cannot read. Raises KeyError where one is missing."""
        if self.missing(keys).any():
            raise KeyError("no vector for a text")
        size = max((file.vectors.shape[1] for file in self._files), default=1)
        out = np.full((len(keys), size), np.nan, dtype=np.float32)
        for file in self._files:
            places, there = file.find(keys)
            if file.vectors.shape[1] == size:  # a file of nothing but unreadable texts does not know the length
                out[there] = file.vectors[places[there]]
        return out

    def take(self, paths: Sequence[Path]) -> None:
        """Add what the Parquet files `paths` of a job hold and the cache does not."""
        keys: list[str] = []
        found: list[Vectors] = []
        for path in paths:
            some, vectors = read_vectors(path)
            keys += some
            found.append(vectors)
        size = max((vectors.shape[1] for vectors in found), default=1)
        whole = [v if v.shape[1] == size else np.full((len(v), size), np.nan, dtype=np.float32) for v in found]
        digests = np.array([bytes.fromhex(key) for key in keys], dtype=f"S{_DIGEST}")
        digests, first = np.unique(digests, return_index=True)
        new = self.missing(digests)
        if new.any():
            self._files.append(_File.write(self._folder, digests[new], np.concatenate(whole)[first[new]]))


class _File:
    """One Arrow file, mapped: sorted keys, and vectors (n, d) beside them."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        self.keys: Keys = np.frombuffer(batch.column("key").buffers()[1], dtype=f"S{_DIGEST}")[: batch.num_rows]
        self.vectors: Vectors = batch.column("embedding").flatten().to_numpy().reshape(batch.num_rows, -1)

    @classmethod
    def opened(cls, path: Path) -> _File | None:
        """The file at `path`; None where it is damaged, and then it is deleted."""
        import pyarrow as pa

        try:
            return cls(path)
        except (pa.ArrowInvalid, OSError, ValueError):
            path.unlink(missing_ok=True)
            return None

    @classmethod
    def write(cls, folder: Path, keys: Keys, vectors: Vectors) -> _File:
        """Write sorted `keys` and their vectors, there whole or not at all."""
        import pyarrow as pa

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.arrow"
        part = path.with_name(f".{path.name}.part")
        key = pa.FixedSizeBinaryArray.from_buffers(pa.binary(_DIGEST), len(keys), [None, pa.py_buffer(keys.tobytes())])
        flat = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float32())
        batch = pa.record_batch({"key": key, "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
        with part.open("wb") as file:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        return cls(path)

    def find(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each of `keys` a place, and whether it stands there."""
        places = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        there: NDArray[np.bool_] = self.keys[places] == keys
        return places, there
