"""A tokenizer together with its chat template, under one policy: what it takes to render, cut and label."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from trainer.chat.encode import Encoder, Encoding
from trainer.chat.example import MaskPolicy
from trainer.chat.forged import MARK, Unwritable, encode_parted
from trainer.chat.probe import AddedTokens, TemplateFacts, probe
from trainer.chat.render import Renderer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_KEPT, _SHORT = 4096, 256
"""How many texts tokenised alone are remembered, and up to which length: headers of turns repeat, prompts do not."""


@dataclass(frozen=True)
class ChatFormat:
    """A tokenizer and its chat template under one policy, and what probing found out about the two."""

    tokenizer: PreTrainedTokenizerBase
    policy: MaskPolicy
    renderer: Renderer
    added: AddedTokens
    facts: TemplateFacts
    encoder: Encoder
    _alone: dict[str, list[int]] = field(default_factory=dict)

    def ids_alone(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Each of `texts` tokenised by itself, as at inference; the short ones are remembered."""
        wanted = set(texts)
        unknown = [text for text in wanted if text not in self._alone and not self.is_marked(text)]
        fresh = dict(zip(unknown, (e.ids for e in self.encoder.batch(unknown)), strict=True))
        for text in wanted - self._alone.keys() - fresh.keys():
            try:
                fresh[text] = self.encode_marked(text).ids
            except Unwritable:
                fresh[text] = []
        found = fresh | {text: self._alone[text] for text in wanted - fresh.keys()}
        if len(self._alone) < _KEPT:
            self._alone.update((text, ids) for text, ids in fresh.items() if len(text) <= _SHORT)
        return found

    def is_marked(self, text: str) -> bool:
        """Whether special tokens that were typed into the row are to be written as plain text in `text`."""
        return self.policy.special == "text" and MARK in text

    def encode_marked(self, text: str) -> Encoding:
        """The ids of a marked text with its ranges. Raises Unwritable where the tokenizer cannot do that."""
        return encode_parted(self.encoder, self._blind, text, self.added.special)

    @cached_property
    def _blind(self) -> Tokenizer:
        from tokenizers import Tokenizer

        # A copy: the backend itself may be at work in another thread, where its settings must not change.
        blind: Tokenizer = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        blind.encode_special_tokens = True
        return blind


_FORMATS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[object, ...], ChatFormat]] = WeakKeyDictionary()


def chat_format(tokenizer: PreTrainedTokenizerBase, policy: MaskPolicy | None = None) -> ChatFormat:
    """The format of `tokenizer` under `policy`, probed once. Raises ModelUnavailable where it has no template."""
    policy = policy or MaskPolicy()
    date = policy.date or datetime.date.today().isoformat()
    template = tokenizer.chat_template
    named = template if isinstance(template, str) else repr(template)
    key = (named, len(tokenizer), bool(tokenizer.split_special_tokens), repr(policy), date)
    formats = _FORMATS.setdefault(tokenizer, {})
    if key not in formats:
        renderer = Renderer(tokenizer, dict(policy.template_args), date)
        added = AddedTokens(tokenizer)
        facts = probe(renderer, added, policy.stop_ids)
        formats[key] = ChatFormat(tokenizer, policy, renderer, added, facts, Encoder(tokenizer))
    return formats[key]
