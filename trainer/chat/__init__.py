"""From conversations to tokens, and which of them are trained. One path for view, training and evaluation."""

from __future__ import annotations

from trainer.chat.audit import NOTES, Audit, audit, differing_rows
from trainer.chat.example import IGNORED, ISSUES, TURNS, Issue, MaskPolicy, Tokenised, TrainingExample, Turns
from trainer.chat.mask import prompt_ids, stop_ids, tokenise, tokenise_many
from trainer.chat.render import RenderError
from trainer.chat.stops import configured_stops
from trainer.chat.truncate import TRUNCATIONS, Cut, Fitted, Truncation, fit, window

__all__ = [
    "IGNORED",
    "ISSUES",
    "NOTES",
    "TRUNCATIONS",
    "TURNS",
    "Audit",
    "Cut",
    "Fitted",
    "Issue",
    "MaskPolicy",
    "RenderError",
    "Tokenised",
    "TrainingExample",
    "Truncation",
    "Turns",
    "audit",
    "configured_stops",
    "differing_rows",
    "fit",
    "prompt_ids",
    "stop_ids",
    "tokenise",
    "tokenise_many",
    "window",
]
