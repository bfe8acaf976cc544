"""Text to token ids with the characters that each token came from, as far as a tokenizer can say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from trainer.chat.byte_level import ByteLevel
from trainer.chat.render import RenderError
from trainer.chat.sequences import Ranges

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoding:
    """Token ids and their character ranges; `offsets` is None where the tokenizer gives none to rely on."""

    ids: list[int]
    offsets: Ranges | None


def check_unicode(text: str) -> None:
    """Raise RenderError where `text` holds a lone surrogate, which no tokenizer takes."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RenderError("the text is not valid Unicode (a lone surrogate), so it cannot be tokenised") from error


class Encoder:
    """One tokenizer's ids of rendered conversations (valid Unicode). Nothing is added, nothing cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._byte_level = ByteLevel.of(tokenizer)

    def ids(self, text: str) -> list[int]:
        """The ids of one text."""
        return self.batch([text])[0].ids

    def batch(self, texts: Sequence[str], *, offsets: bool = False) -> list[Encoding]:
        """The ids of each of `texts`, made together.

        With `offsets` also the character ranges, where the tokenizer gives some that run through the text in order.
        """
        known = _by_bytes(self._byte_level, texts, offsets) if self._byte_level else [None] * len(texts)
        others = iter(self._by_call([text for text, found in zip(texts, known, strict=True) if not found], offsets))
        return [found or next(others) for found in known]

    def _by_call(self, texts: Sequence[str], offsets: bool) -> list[Encoding]:
        if not texts:
            return []
        told = offsets and self._tokenizer.is_fast
        # verbose=False: a warning that a text is longer than the model's window is not ours to print.
        out = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=told,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ranges = out["offset_mapping"] if told else [None] * len(texts)
        return [
            Encoding(ids, Ranges.of(found) if found is not None and covers(text, found) else None)
            for text, ids, found in zip(texts, out["input_ids"], ranges, strict=True)
        ]


def _by_bytes(byte_level: ByteLevel, texts: Sequence[str], offsets: bool) -> list[Encoding | None]:
    """None for each text that must go through the whole tokenizer."""
    made: list[Encoding | None] = []
    for text, ids in zip(texts, byte_level.ids(texts), strict=True):
        ranges = byte_level.ranges(text, ids) if offsets and ids is not None else None
        made.append(None if ids is None or (offsets and ranges is None) else Encoding(ids, ranges))
    return made


def covers(text: str, offsets: Sequence[tuple[int, int]]) -> bool:
    """Whether `offsets` run through all of `text` in order.

    Gaps are allowed where nothing is lost: whitespace (trimmed offsets), and characters that normalisation
    merged into the one before (Qwen's tokenizer turns `e` and a combining accent into one character, and gives
    the range of the `e` alone).
    """
    if not offsets:
        return not text.strip()
    # As an array: a row may have 100,000 tokens, and this is asked of every row.
    spans = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(offsets)).reshape(-1, 2)
    starts, ends = spans[:, 0], spans[:, 1]
    if (ends < starts).any() or (np.diff(spans, axis=0) < 0).any():
        return False
    gaps = np.flatnonzero(np.append(starts, len(text)) > np.insert(ends, 0, 0))
    return all(_is_harmless(text, offsets, int(gap)) for gap in gaps)


def _is_harmless(text: str, offsets: Sequence[tuple[int, int]], gap: int) -> bool:
    """Whether nothing is lost between token `gap - 1` and token `gap`, which do not touch."""
    start, end = offsets[gap - 1] if gap else (0, 0)
    after = offsets[gap][0] if gap < len(offsets) else len(text)
    if not text[end:after].strip():
        return True
    piece = text[start:after]
    return unicodedata.normalize("NFC", piece) != piece
