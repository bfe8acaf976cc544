"""Text to token ids with the characters that each token came from, as far as a tokenizer can say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from trainer.chat.render import RenderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoding:
    """Token ids and their character ranges; `offsets` is None where the tokenizer gives none to rely on."""

    ids: list[int]
    offsets: list[tuple[int, int]] | None


def check_unicode(text: str) -> None:
    """Raise RenderError where `text` holds a lone surrogate, which no tokenizer takes."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RenderError("the text is not valid Unicode (a lone surrogate), so it cannot be tokenised") from error


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a rendered conversation: nothing added, nothing cut. Raises RenderError for invalid Unicode."""
    check_unicode(text)
    return encode_batch(tokenizer, [text])[0].ids


def encode_batch(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, offsets: bool = False) -> list[Encoding]:
    """The ids of each of `texts` (valid Unicode), in one call. Nothing is added, nothing cut.

    With `offsets` also the character ranges, where the tokenizer gives some that run through the text in order.
    """
    if not texts:
        return []
    told = offsets and tokenizer.is_fast
    # verbose=False: a warning that a text is longer than the model's window is not ours to print.
    out = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=told,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ranges = out["offset_mapping"] if told else [None] * len(texts)
    return [
        Encoding(ids, found if found is not None and covers(text, found) else None)
        for text, ids, found in zip(texts, out["input_ids"], ranges, strict=True)
    ]


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
