"""From conversations to tokens, and which of them are trained. One path for view, training and evaluation."""

from __future__ import annotations

from trainer.chat.audit import NOTES, Audit, audit, differing_rows
from trainer.chat.cache import TokenCache
from trainer.chat.example import (
    IGNORED,
    ISSUES,
    SPECIAL,
    TURNS,
    Issue,
    MaskPolicy,
    Special,
    Tokenised,
    TrainingExample,
    Turns,
)
from trainer.chat.mask import conversation_ids, prompt_ids, stop_ids, tokenise, tokenise_many
from trainer.chat.plain_formats import PLAIN_FORMATS, with_template
from trainer.chat.render import RenderError
from trainer.chat.stops import configured_stops
from trainer.chat.tags import tag_issues
from trainer.chat.truncate import TRUNCATIONS, Cut, Fitted, Truncation, fit, window

__all__ = [
    "IGNORED",
    "ISSUES",
    "NOTES",
    "PLAIN_FORMATS",
    "SPECIAL",
    "TRUNCATIONS",
    "TURNS",
    "Audit",
    "Cut",
    "Fitted",
    "Issue",
    "MaskPolicy",
    "RenderError",
    "Special",
    "TokenCache",
    "Tokenised",
    "TrainingExample",
    "Truncation",
    "Turns",
    "audit",
    "configured_stops",
    "conversation_ids",
    "differing_rows",
    "fit",
    "prompt_ids",
    "stop_ids",
    "tag_issues",
    "tokenise",
    "tokenise_many",
    "window",
    "with_template",
]
