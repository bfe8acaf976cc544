"""From conversations to tokens, and which of them are trained. One path for view, training and evaluation."""

from __future__ import annotations

from trainer.chat.audit import Audit, audit
from trainer.chat.example import IGNORED, ISSUES, TURNS, Issue, MaskPolicy, Tokenised, TrainingExample
from trainer.chat.mask import prompt_ids, stop_ids, tokenise
from trainer.chat.render import RenderError

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
    "audit",
    "prompt_ids",
    "stop_ids",
    "tokenise",
]
