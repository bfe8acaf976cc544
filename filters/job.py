"""The embedding job: a run folder with texts becomes the same folder with their vectors.

It can be killed at any time: every part that was written is kept, and the next start goes on behind it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from filters.embedding import PARTS, TEXTS, VECTORS, EmbeddingPlan, Encoder, read_vectors, write_vectors
from trainer.errors import BadInput
from trainer.protocol import Events, read_plan

PART = 256  # texts between two writes: a few seconds of work on two cores


def embed_folder(folder: Path, events: Events) -> None:
    """Embed the texts of the run folder: `texts.parquet` (key, text) -> `embeddings.parquet` (key, embedding).

    Raises BadInput where the folder's files do not fit, ModelUnavailable where the model cannot be had.
    """
    plan = read_plan(folder, EmbeddingPlan)
    texts = _read_texts(folder / TEXTS)
    parts = folder / PARTS
    parts.mkdir(exist_ok=True)
    vectors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for path in [folder / VECTORS, *sorted(parts.glob("[0-9]*.parquet"))]:
        if path.exists():
            vectors.update(read_vectors(path))
    missing = [key for key in texts if key not in vectors]
    done = len(texts) - len(missing)
    events.emit("progress", done=done, total=len(texts), what="embedding")
    if missing:
        encoder = Encoder(plan.model)
        # Texts of like length together waste no padding; the longest first, so that the time left is not flattered.
        missing.sort(key=lambda key: (-len(texts[key]), key))
        for start in range(0, len(missing), PART):
            keys = missing[start : start + PART]
            found = dict(zip(keys, encoder.encode([texts[key] for key in keys], plan.batch), strict=True))
            write_vectors(parts / f"{len(list(parts.iterdir())):06d}.parquet", found)
            vectors.update(found)
            done += len(keys)
            events.emit("progress", done=done, total=len(texts), what="embedding")
    write_vectors(folder / VECTORS, {key: vectors[key] for key in texts})
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
