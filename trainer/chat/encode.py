"""Text to token ids with the characters that each token came from, as far as a tokenizer can say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.chat.render import RenderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoding:
    """Token ids and their character ranges; `offsets` is None where the tokenizer gives none to rely on."""

    ids: list[int]
    offsets: list[tuple[int, int]] | None


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a rendered conversation: nothing added, nothing cut."""
    return _call(tokenizer, text, offsets=False).ids


def encode_with_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoding:
    """Like `encode`, with offsets that were checked to run through the whole text in order."""
    encoding = _call(tokenizer, text, offsets=tokenizer.is_fast)
    if encoding.offsets is not None and not covers(text, encoding.offsets):
        return Encoding(encoding.ids, None)
    return encoding


def _call(tokenizer: PreTrainedTokenizerBase, text: str, *, offsets: bool) -> Encoding:
    try:
        # verbose=False: a warning that the text is longer than the model's window is not ours to print.
        out = tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=offsets,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
    except (TypeError, UnicodeEncodeError) as error:
        raise RenderError("the text is not valid Unicode (a lone surrogate), so it cannot be tokenised") from error
    return Encoding(list(out["input_ids"]), list(out["offset_mapping"]) if offsets else None)


def covers(text: str, offsets: Sequence[tuple[int, int]]) -> bool:
    """Whether `offsets` run through all of `text` in order.

    Gaps are allowed where nothing is lost: whitespace (trimmed offsets), and characters that normalisation
    merged into the one before (Qwen's tokenizer turns `e` and a combining accent into one character, and gives
    the range of the `e` alone).
    """
    if not offsets:
        return not text.strip()
    if any(end < start for start, end in offsets):
        return False
    if any(b[0] < a[0] or b[1] < a[1] for a, b in pairwise(offsets)):
        return False
    fenced = [(0, 0), *offsets, (len(text), len(text))]
    for (start, end), (after, _) in pairwise(fenced):
        if after > end and text[end:after].strip():
            piece = text[start:after]
            if unicodedata.normalize("NFC", piece) == piece:
                return False
    return True
