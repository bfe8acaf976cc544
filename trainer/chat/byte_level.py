"""Ids and positions from a byte-level tokenizer, in less time than it takes the tokenizer to tell positions itself.

The tokens of a byte-level BPE (GPT-2, Radford et al. 2019; so also Llama 3, Qwen, SmolLM2) are runs of bytes. Where
the bytes of a text's tokens, put together, are the text in UTF-8, they say which characters each token came from;
where they are not, as when the tokenizer changed or dropped something, nothing is said.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.chat.sequences import Ranges

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_BYTES = {chr(byte): byte for byte in _PRINTABLE}
_BYTES |= {chr(256 + n): byte for n, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))}
"""The byte that each character of a byte-level vocabulary stands for."""

_REMEMBERED = 100_000
"""Words whose tokens are remembered: some tens of megabytes."""

_NEVER = b"\xff"
"""No text in UTF-8 holds this byte, so a token that stands for no known bytes fits nowhere."""


class TokenBytes(dict[int, bytes]):
    """The bytes of each id, looked up when first asked for: vocabularies are large, and texts use little of them."""

    def __init__(self, backend: Tokenizer) -> None:
        super().__init__({id_: token.content.encode() for id_, token in backend.get_added_tokens_decoder().items()})
        self._backend = backend

    def __missing__(self, id_: int) -> bytes:
        token = self._backend.id_to_token(id_) or ""
        known = all(character in _BYTES for character in token)
        self[id_] = bytes(_BYTES[character] for character in token) if known and token else _NEVER
        return self[id_]


class ByteLevel:
    """The backend of a byte-level tokenizer, for texts that its normalizer leaves as they are."""

    def __init__(self, plain: Tokenizer, *, composes: bool) -> None:
        """`plain` has the model, the splitting and the added tokens of the tokenizer: nothing that changes or adds.

        `composes`: the tokenizer has a normalizer, Unicode's NFC.
        """
        self._plain = plain
        self._composes = composes
        self._bytes = TokenBytes(plain)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ByteLevel | None:
        """That of `tokenizer`; None where it is of another kind, or does anything that is not known here."""
        from tokenizers import Tokenizer, decoders, normalizers
        from transformers import TokenizersBackend

        if not isinstance(tokenizer, TokenizersBackend) or not tokenizer.is_fast:
            return None
        if type(tokenizer)._encode_plus is not TokenizersBackend._encode_plus:
            return None  # it works on the text in Python
        backend: Any = tokenizer.backend_tokenizer
        added = backend.get_added_tokens_decoder()
        if not isinstance(backend.decoder, decoders.ByteLevel) or not isinstance(
            backend.normalizer, (type(None), normalizers.NFC)
        ):
            return None
        if backend.encode_special_tokens or tokenizer.split_special_tokens:
            return None
        if any(token.lstrip or token.rstrip for token in added.values()):
            return None  # such a token takes whitespace with it
        plain = Tokenizer(backend.model)  # shared, not copied
        plain.pre_tokenizer = backend.pre_tokenizer
        plain.add_tokens([added[id_] for id_ in sorted(added)])
        if plain.get_added_tokens_decoder() != added:
            return None
        # By default the model stops to remember words after 10,000, which a few hundred conversations have. The method
        # is not of the public interface; without it the ids are the same, and come later.
        if resize := getattr(plain.model, "_resize_cache", None):
            resize(_REMEMBERED)
        found = cls(plain, composes=backend.normalizer is not None)
        sample = "a b"  # a tokenizer that puts a space before the first word shows it here
        return found if found.ranges(sample, found.ids([sample])[0] or []) else None

    def ids(self, texts: Sequence[str]) -> list[list[int] | None]:
        """The ids of each text, nothing added, nothing cut; None where the normalizer may change the text."""
        fit = [not self._composes or _is_composed(text) for text in texts]
        given = [text for text, fits in zip(texts, fit, strict=True) if fits]
        made = iter(self._plain.encode_batch_fast(given))
        return [next(made).ids if fits else None for fits in fit]

    def ranges(self, text: str, ids: Sequence[int]) -> Ranges | None:
        """The characters of `text` that each of its `ids` came from; None where the bytes of the ids are others.

        A character's bytes may be in several tokens: each of them has all of it.
        """
        pieces = list(map(self._bytes.__getitem__, ids))
        raw = text.encode()
        if b"".join(pieces) != raw:
            return None
        lengths = np.fromiter(map(len, pieces), np.int32, len(pieces))
        ends = np.cumsum(lengths, dtype=np.int32)
        starts = ends - lengths
        if len(raw) != len(text):
            begins = (np.frombuffer(raw, np.uint8) & 0xC0) != 0x80  # the first byte of a character
            character = np.cumsum(begins, dtype=np.int32) - 1
            starts, ends = character[starts], character[ends - 1] + 1
        return Ranges(array("i", starts.tobytes()), array("i", ends.tobytes()))


def _is_composed(text: str) -> bool:
    """Whether NFC leaves `text` as it is by every version of Unicode, the tokenizer's own included.

    Versions agree on the characters that both know; those that Python does not know are left to the tokenizer.
    """
    if text.isascii():
        return True
    return unicodedata.is_normalized("NFC", text) and all(unicodedata.category(c) != "Cn" for c in set(text))
