"""From conversations to tokens, and which of them are trained. One path for view, training and evaluation."""

from __future__ import annotations

from trainer.chat.audit import Audit, audit
from trainer.chat.example import IGNORED, ISSUES, TURNS, Issue, MaskPolicy, Tokenised, TrainingExample, Turns
from trainer.chat.mask import prompt_ids, stop_ids, tokenise
from trainer.chat.render import RenderError
from trainer.chat.stops import configured_stops

__all__ = [
    "IGNORED",
    "ISSUES",
    "TURNS",
    "Audit",
    "Issue",
    "MaskPolicy",
    "RenderError",
    "Tokenised",
    "TrainingExample",
    "Turns",
    "audit",
    "configured_stops",
    "prompt_ids",
    "stop_ids",
    "tokenise",
]
