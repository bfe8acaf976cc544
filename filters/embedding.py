"""Sentence embeddings: the model, and the run folder through which another process computes them.

`Encoder` loads the model into this process: right in a notebook and in the job, wrong in a terminal program, which
writes a folder with `write_job`, has `python -m filters FOLDER` run on it, and takes its vectors over
(`filters.vectors`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from filters.vectors import text_key
from trainer.errors import ModelUnavailable, Problem
from trainer.models import DEFAULT_EMBEDDER, resolve_model
from trainer.protocol import PLAN, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

TEXTS = "texts.parquet"
VECTORS = "embeddings.parquet"
PARTS = "parts"

_TOKENS = {"cuda": 65_536, "cpu": 2_048}
"""Tokens in a batch, padding included. On a processor more gains nothing (docs/embeddings.md)."""

_MOST_UNKNOWN = 0.2  # share of pieces the vocabulary does not have
_MOST_SPELLED = 0.6  # share of pieces that are single letters
_MARKS = re.compile(r"^(?:##|▁|Ġ)")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")


class EmbeddingPlan(BaseModel):
    """What the embedding job is to do; its texts lie beside it in `texts.parquet` (`key`, `text`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["embed"] = "embed"
    model: str = DEFAULT_EMBEDDER


class _Window(NamedTuple):
    """A piece of text that the model sees at once, and how many tokens it has."""

    text: str
    tokens: int


class Encoder:
    """A sentence-transformers model in this process, on the fastest device that is there."""

    def __init__(self, model: str) -> None:
        """Load `model`. Raises ModelUnavailable where it cannot be had or is no embedding model."""
        source = resolve_model(model)
        import torch
        from sentence_transformers import SentenceTransformer

        cuda = torch.cuda.is_available()
        try:
            self._model: Any = SentenceTransformer(
                source.path, device="cuda" if cuda else "cpu", model_kwargs={"dtype": _dtype(cuda)}
            )
        except Exception as error:
            raise ModelUnavailable(
                "no embedding model could be loaded from it",
                where=f"model {model}",
                do="Give a sentence-transformers model.",
            ) from error
        self._name = model
        longest = self._model.max_seq_length or 512
        self._static = math.isinf(longest)  # a table of vectors by token: no layers, and no length that is too long
        self._window = None if self._static else max(8, int(longest) - 2)  # two for the special tokens
        self._budget = 2**17 if self._static else _TOKENS["cuda" if cuda else "cpu"]

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dimensions); NaN for a text the model cannot read.

        A text longer than the model's window is cut into windows, whose vectors are averaged by their tokens: the
        model alone would see only the beginning, and take two questions on one long passage for the same. Windows of
        like length are encoded together, so that little is spent on padding.

        Raises Problem where the memory does not do for a single window.
        """
        windows: list[_Window] = []
        owners: list[int] = []
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for i, (pieces, offsets) in enumerate(self._tokenize(texts)):
            if not readable(pieces, self._unknown):
                vectors[i] = np.nan
                continue
            for window in self._cut(texts[i], offsets):
                windows.append(window)
                owners.append(i)
        order = sorted(range(len(windows)), key=lambda w: -windows[w].tokens)
        start = 0
        while start < len(order):
            batch = order[start : start + max(1, self._budget // windows[order[start]].tokens)]
            found = self._encoded([windows[w] for w in batch])
            if found is None:
                continue
            weights = np.array([windows[w].tokens for w in batch], dtype=np.float32)
            np.add.at(vectors, [owners[w] for w in batch], found * weights[:, None])
            start += len(batch)
        return _unit(vectors)

    def _encoded(self, batch: Sequence[_Window]) -> Vectors | None:
        """Unit vectors of a batch; None where it did not fit, and the next one will be smaller."""
        import torch

        try:
            found = self._model.encode(
                [window.text for window in batch],
                batch_size=len(batch),
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(batch) == 1:
                raise Problem(
                    f"there is not enough memory to embed a text of {batch[0].tokens} tokens",
                    where=f"model {self._name}",
                    do="Free some memory, or take a smaller model.",
                ) from error
            self._budget = max(1, len(batch) // 2) * batch[0].tokens
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return None
        return _unit(found.float().cpu().numpy())

    @property
    def _unknown(self) -> str | None:
        tokenizer = self._model.tokenizer
        found: str | None = getattr(tokenizer, "unk_token", None) or getattr(
            getattr(tokenizer, "model", None), "unk_token", None
        )
        return found

    def _tokenize(self, texts: Sequence[str]) -> Iterator[tuple[list[str], list[tuple[int, int]]]]:
        """(pieces, first and last character + 1 of each) of each text, without special tokens."""
        tokenizer = self._model.tokenizer
        if self._static:
            yield from ((one.tokens, one.offsets) for one in tokenizer.encode_batch(texts, add_special_tokens=False))
        elif not tokenizer.is_fast:  # gives no offsets: such a text is one window
            for text in texts:
                pieces = tokenizer.tokenize(text)
                yield pieces, [(0, len(text))] * len(pieces)
        else:
            for text in texts:
                one = tokenizer(
                    text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
                )
                yield tokenizer.convert_ids_to_tokens(one["input_ids"]), one["offset_mapping"]

    def _cut(self, text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[_Window]:
        size = self._window or len(offsets)
        if offsets[0] == offsets[-1]:  # no offsets are known
            size = len(offsets)
        for start in range(0, len(offsets), size):
            window = offsets[start : start + size]
            yield _Window(text[window[0][0] : window[-1][1]], len(window))


def _dtype(cuda: bool) -> Any:
    """fp16 on a GPU; on a processor that multiplies bf16 itself bf16, which is 2.5 times as fast; else fp32.

    How little the cosines move: docs/embeddings.md.
    """
    import torch

    if cuda:
        return torch.float16
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)


def _unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; NaN for rows of nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, lengths, out=np.full_like(vectors, np.nan), where=lengths > 0)
    return unit


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


def write_job(folder: Path, texts: Sequence[str], plan: EmbeddingPlan) -> None:
    """Fill the run folder `folder` with the distinct `texts` and the plan, which is written last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    distinct = {text_key(text): text.encode("utf-8", "replace").decode() for text in texts}
    pq.write_table(pa.table({"key": list(distinct), "text": list(distinct.values())}), folder / TEXTS)
    write_atomic(folder / PLAN, plan.model_dump_json())
