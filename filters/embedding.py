"""Sentence embeddings: the model, and the run folder through which another process computes them.

`Encoder` loads the model into this process: right in a notebook and in the job, wrong in a terminal program, which
writes a folder with `write_job`, has `python -m filters FOLDER` run on it, and reads it with `read_vectors`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from trainer.errors import ModelUnavailable
from trainer.models import DEFAULT_EMBEDDER, resolve_model
from trainer.protocol import PLAN, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

TEXTS = "texts.parquet"
VECTORS = "embeddings.parquet"
PARTS = "parts"

_MOST_UNKNOWN = 0.2  # share of pieces the vocabulary does not have
_MOST_SPELLED = 0.6  # share of pieces that are single letters
_MARKS = re.compile(r"^(?:##|▁|Ġ)")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")


class EmbeddingPlan(BaseModel):
    """What the embedding job is to do; its texts lie beside it in `texts.parquet` (`key`, `text`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["embed"] = "embed"
    model: str = DEFAULT_EMBEDDER
    batch: int = Field(default=32, ge=1)


class Encoder:
    """A sentence-transformers model in this process."""

    def __init__(self, model: str) -> None:
        """Load `model`. Raises ModelUnavailable where it cannot be had or is no embedding model."""
        source = resolve_model(model)
        from sentence_transformers import SentenceTransformer

        try:
            self._model: Any = SentenceTransformer(source.path)
        except Exception as error:
            raise ModelUnavailable(
                "no embedding model could be loaded from it",
                where=f"model {model}",
                do="Give a sentence-transformers model.",
            ) from error
        self._tokenizer: Any = self._model.tokenizer
        self._window = max(8, int(self._model.max_seq_length or 512) - 2)  # two for the special tokens

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], batch: int = 32) -> Vectors:
        """Unit vectors, float32 (len(texts), dimensions); NaN for a text the model cannot read.

        A text longer than the model's window is cut into windows, whose vectors are averaged by their tokens: the
        model alone would see only the beginning, and take two questions on one long passage for the same.
        """
        windows: list[str] = []
        owners: list[int] = []
        weights: list[int] = []
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for i, text in enumerate(texts):
            encoded = self._tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
            )
            if not readable(self._tokenizer.convert_ids_to_tokens(encoded["input_ids"]), self._tokenizer.unk_token):
                vectors[i] = np.nan
                continue
            for start, end, tokens in self._cut(encoded["offset_mapping"]):
                windows.append(text[start:end])
                owners.append(i)
                weights.append(tokens)
        if windows:
            found = self._model.encode(windows, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
            np.add.at(
                vectors, owners, np.asarray(found, dtype=np.float32) * np.asarray(weights, dtype=np.float32)[:, None]
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = np.divide(vectors, lengths, out=np.full_like(vectors, np.nan), where=lengths > 0)
        return unit

    def _cut(self, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """(first character, last character + 1, tokens) of each window."""
        for start in range(0, len(offsets), self._window):
            window = offsets[start : start + self._window]
            yield window[0][0], window[-1][1], len(window)


def readable(pieces: Sequence[str], unknown: str | None) -> bool:
    """Whether the model's vocabulary has words for a text, or only spells it.

    all-MiniLM-L6-v2 has an unknown token for most Chinese characters and single letters for Cyrillic, Greek, Arabic
    or Korean. What it makes of such texts is much the same for all of them: of 1,000 different Chinese prompts it
    takes 812 pairs for duplicates at 0.9, and the capitals of France and Italy, asked in Greek, at 0.98.
    """
    if not pieces:
        return False
    bare = [_MARKS.sub("", piece) for piece in pieces if piece != unknown]
    wordlike = [piece for piece in bare if any(char.isalpha() for char in piece)]
    unknowns = len(pieces) - len(bare)
    spelled = sum(len(piece) == 1 and not _HAN.match(piece) for piece in wordlike)
    return unknowns <= _MOST_UNKNOWN * len(pieces) and spelled <= _MOST_SPELLED * max(len(wordlike), 1)


@lru_cache(maxsize=1)
def _loaded(model: str) -> Encoder:
    return Encoder(model)


def embed_here(texts: Sequence[str], model: str = DEFAULT_EMBEDDER) -> Vectors:
    """Embed in this process, the model kept for the next call (`filters.step.Embed`): for a notebook."""
    return _loaded(model).encode(texts)


def text_key(text: str) -> str:
    """SHA-256 (hex) of a text: its name in a run folder and in a cache."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_job(folder: Path, texts: Sequence[str], plan: EmbeddingPlan) -> None:
    """Fill the run folder `folder` with the distinct `texts` and the plan, which is written last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    distinct = {text_key(text): text.encode("utf-8", "replace").decode() for text in texts}
    pq.write_table(pa.table({"key": list(distinct), "text": list(distinct.values())}), folder / TEXTS)
    write_atomic(folder / PLAN, plan.model_dump_json())


def read_vectors(path: Path) -> dict[str, Vectors]:
    """The vectors of an embeddings file by text key; NaN where the file has null."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    keys = table.column("key").to_pylist()
    lists = table.column("embedding").to_pylist()
    size = next((len(found) for found in lists if found is not None), 1)
    blank = np.full(size, np.nan, dtype=np.float32)
    return {
        key: blank if found is None else np.asarray(found, dtype=np.float32)
        for key, found in zip(keys, lists, strict=True)
    }


def write_vectors(path: Path, vectors: Mapping[str, Vectors]) -> None:
    """Write `key`, `embedding` (list of float32, null for NaN) so that the file is there whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = [None if np.isnan(vector).any() else vector for vector in vectors.values()]
    table = pa.table(
        {"key": pa.array(list(vectors), pa.string()), "embedding": pa.array(lists, pa.list_(pa.float32()))}
    )
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part)
    part.replace(path)


def stack(vectors: Mapping[str, Vectors], texts: Sequence[str]) -> Vectors:
    """The vectors of `texts` in their order, float32 (len(texts), d). Raises KeyError for a text without one."""
    if not texts:
        return np.empty((0, 1), dtype=np.float32)
    return _even([vectors[text_key(text)] for text in texts])


def _even(found: Sequence[Vectors]) -> Vectors:
    """Stack vectors of which unreadable ones may be shorter (a file of nothing but nulls does not know its size)."""
    size = max(len(vector) for vector in found)
    return np.stack([vector if len(vector) == size else np.full(size, np.nan, dtype=np.float32) for vector in found])
