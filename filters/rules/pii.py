"""`pii`: personal data and secrets: addresses, phone, card and account numbers, keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.rules.personal import Kind, find
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.conversation import Side, canonical_json, content_text

_SHOWN = 3  # characters of a hit: enough to find it again, too few to pass it on in a report


class PiiParams(FilterParams):
    """`kinds`: which count. `action: flag` only scores, so that the rows can be looked at; `drop` drops them."""

    on: Side = "both"
    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)
    action: Literal["flag", "drop"] = "drop"


class Pii(RowStep[PiiParams]):
    """Drop or flag rows with mail addresses, phone, card or bank account numbers, public IP addresses or keys.

    Cards and accounts by their check digits; keys by their issuers' shapes, or by disorder behind a name like
    `api_key`. Left alone: addresses reserved for examples, private networks, trial card numbers, film phone numbers,
    version numbers. Names and postal addresses are not looked for. An invented address looks like a real one.
    """

    name = "pii"
    kind = "filter"
    params_model = PiiParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """How many pieces there are; the label names their kinds, as in `mail, phone`."""
        return [pii_scorer(self.params.on)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """One of the chosen kinds, where the action is to drop."""
        (score,) = scores
        there = (score.label or "").split(", ")
        chosen = [kind for kind in get_args(Kind) if kind in there and kind in self.params.kinds]
        if self.params.action == "flag" or not chosen:
            return None
        return Finding(f"pii: {chosen[0]}", score.value, score.detail)


def pii_scorer(on: Side) -> Scorer:
    """How many pieces of personal data one side of a row has."""

    def score(row: Row) -> Score:
        pieces = [(piece.kind, text[piece.start : piece.end]) for text in texts(row, on) for piece in find(text)]
        if not pieces:
            return Score(0.0)
        counts = Counter(kind for kind, _ in pieces)
        seen = ", ".join(f"{kind} {piece[:_SHOWN]}…" for kind, piece in pieces[:3])
        return Score(float(len(pieces)), label=", ".join(kind for kind in get_args(Kind) if counts[kind]), detail=seen)

    return Scorer("pii", 1, {"on": on}, each(score))


def texts(row: Row, on: Side) -> list[str]:
    """The turns of a side, and with answers what they hand to tools; with both sides also what tools gave back."""
    found = row.turns(on)
    for message in row.messages:
        if on != "prompt" and message["role"] == "assistant" and message.get("tool_calls"):
            found.append(canonical_json(message["tool_calls"]))
        if on == "both" and message["role"] == "tool":
            found.append(content_text(message.get("content")))
    return found
