"""`pii`: personal data and secrets: addresses, phone, card and account numbers, keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.rules.personal import Kind
from filters.rules.redaction import redact
from filters.step import Edit, FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.conversation import Side

_SHOWN, _SHARE = 3, 4  # characters of a hit, at most a quarter: enough to find it again, too few to pass it on
_KINDS: tuple[Kind, ...] = get_args(Kind)


class PiiParams(FilterParams):
    """`kinds`: which count. `action: drop` drops rows, `flag` only counts them; `redact` keeps them without the data.

    Redacted is what is found: `[mail]`, `[phone]`, `[card]`, `[iban]`, `[ip]` or `[key]` stands in its place.
    """

    on: Side = "both"
    kinds: list[Kind] = Field(default=list(_KINDS), min_length=1)
    action: Literal["flag", "drop", "redact"] = "drop"


class Pii(RowStep[PiiParams]):
    """Drop, flag or redact mail addresses, phone, card or bank account numbers, public IP addresses and keys.

    Cards and accounts by their check digits; keys by their issuers' shapes, or by disorder behind a name like
    `api_key`. Left alone: addresses reserved for examples, private networks, trial card numbers, film phone numbers,
    version numbers. Names and postal addresses are not looked for. An invented address looks like a real one.
    """

    name = "pii"
    version = 3
    kind = "filter"
    params_model = PiiParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """How many pieces there are; the label names their kinds, as in `mail, phone`."""
        return [pii_scorer(self.params.on)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """One of the chosen kinds, where the action is to drop."""
        (score,) = scores
        chosen = self._chosen(score)
        if self.params.action != "drop" or not chosen:
            return None
        return Finding(f"pii: {chosen[0]}", score.value, score.detail)

    def flag(self, scores: Sequence[Score]) -> str | None:
        """The surest of the chosen kinds, where the action is to flag."""
        chosen = self._chosen(scores[0])
        return f"pii: {chosen[0]}" if self.params.action == "flag" and chosen else None

    def rewrite(self, row: Row, scores: Sequence[Score]) -> Edit | None:
        """Marks in the place of the chosen kinds, where the action is to redact. Told are the kinds alone."""
        if self.params.action != "redact" or not self._chosen(scores[0]):
            return None
        messages, pieces = redact(row.messages, self.params.on, self.params.kinds)
        counts = Counter(piece.kind for piece in pieces)
        there = [kind for kind in _KINDS if counts[kind]]
        told = ", ".join(f"{counts[kind]} {kind}" for kind in there)
        return Edit(messages, f"redacted {', '.join(there)}", told)

    def _chosen(self, score: Score) -> list[Kind]:
        there = (score.label or "").split(", ")
        return [kind for kind in _KINDS if kind in there and kind in self.params.kinds]


def pii_scorer(on: Side) -> Scorer:
    """How many pieces of personal data one side of a row has."""

    def score(row: Row) -> Score:
        _, pieces = redact(row.messages, on, _KINDS)
        if not pieces:
            return Score(0.0)
        there = {piece.kind for piece in pieces}
        seen = ", ".join(f"{p.kind} {p.text[: min(_SHOWN, len(p.text) // _SHARE)]}…" for p in pieces[:3])
        return Score(float(len(pieces)), label=", ".join(kind for kind in _KINDS if kind in there), detail=seen)

    return Scorer("pii", 3, {"on": on}, each(score))
