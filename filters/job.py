"""The embedding job: a run folder with texts becomes the same folder with their vectors.

It can be killed at any time: every part that was written is kept, and the next start goes on behind it.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from filters.embedding import PARTS, TEXTS, VECTORS, EmbeddingPlan, Encoder
from filters.vectors import join, read_keys, write_vectors
from trainer.errors import BadInput
from trainer.protocol import Events, read_plan

PART = 64  # texts in the first part
_LARGEST = 8192
_SECONDS = 3.0  # that a part should take: what a kill may cost


def embed_folder(folder: Path, events: Events) -> None:
    """Embed the texts of the run folder: `texts.parquet` (key, text) -> `embeddings.parquet` (key, embedding).

    Raises BadInput where the folder's files do not fit, ModelUnavailable where the model cannot be had.
    """
    plan = read_plan(folder, EmbeddingPlan)
    texts = _read_texts(folder / TEXTS)
    parts = folder / PARTS
    parts.mkdir(exist_ok=True)
    there = {key for path in parts.glob("[0-9]*.parquet") for key in read_keys(path)}
    missing = [key for key in texts if key not in there]
    done = len(texts) - len(missing)
    events.emit("progress", done=done, total=len(texts), what="embedding")
    if missing:
        encoder = Encoder(plan.model)
        # The longest first, so that the time left is not flattered.
        missing.sort(key=lambda key: (-len(texts[key]), key))
    size = PART
    while missing:
        keys, missing = missing[:size], missing[size:]
        began = time.monotonic()
        vectors = encoder.encode([texts[key] for key in keys])
        write_vectors(parts / f"{len(list(parts.iterdir())):06d}.parquet", keys, vectors)
        done += len(keys)
        events.emit("progress", done=done, total=len(texts), what="embedding")
        size = min(_LARGEST, 2 * size, max(1, int(len(keys) * _SECONDS / (time.monotonic() - began))))
    join(sorted(parts.glob("[0-9]*.parquet")), folder / VECTORS)
    shutil.rmtree(parts)


def _read_texts(path: Path) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["key", "text"])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise BadInput(
            f"the texts cannot be read ({error})",
            where=str(path),
            do="It must be Parquet with the columns key and text.",
        ) from error
    return dict(zip(table.column("key").to_pylist(), table.column("text").to_pylist(), strict=True))
