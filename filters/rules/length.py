"""`length`: too short or too long, in words, characters or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Self

from pydantic import Field, model_validator

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer
from filters.text import Unit, measure
from trainer.conversation import Side
from trainer.models import DEFAULT_MODEL, resolve_model


class LengthParams(FilterParams):
    """Bounds are inclusive. At least one is needed."""

    on: Side = "response"
    min_words: int | None = Field(default=None, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    min_chars: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    tokenizer: str = DEFAULT_MODEL

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not self.units:
            raise ValueError("needs at least one of min_words, max_words, min_chars, max_chars, min_tokens, max_tokens")
        for unit in self.units:
            low, high = self.bounds(unit)
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is more than max_{unit} {high}: no row could pass")
        return self

    @property
    def units(self) -> list[Unit]:
        """The units that have a bound."""
        all_units: tuple[Unit, ...] = ("words", "chars", "tokens")
        return [unit for unit in all_units if any(bound is not None for bound in self.bounds(unit))]

    def bounds(self, unit: Unit) -> tuple[int | None, int | None]:
        """Least and most, None where open."""
        return getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")


class Length(RowStep[LengthParams]):
    """Drop rows whose text is outside the bounds.

    A response that calls a tool is unscored: its text is rightly empty. See `filters.text.words` for what a word is
    in Chinese, Japanese or Thai.
    """

    name = "length"
    kind = "filter"
    params_model = LengthParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """One score per unit with a bound: the length."""
        return [length_scorer(self.params.on, unit, self.params.tokenizer) for unit in self.params.units]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """The first bound that is broken."""
        for unit, score in zip(self.params.units, scores, strict=True):
            low, high = self.params.bounds(unit)
            length = score.value or 0.0
            found = f"{length:.0f} {unit if length != 1 else unit.removesuffix('s')}"
            if low is not None and length < low:
                return Finding("too short", length, f"{found}, at least {low}")
            if high is not None and length > high:
                return Finding("too long", length, f"{found}, at most {high}")
        return None


def length_scorer(on: Side, unit: Unit, tokenizer: str = DEFAULT_MODEL) -> Scorer:
    """The length of one side of a row in `unit`; `tokenizer` counts for tokens alone.

    Raises ModelUnavailable where the tokenizer cannot be had.
    """
    params: dict[str, object] = {"on": on}
    if unit == "tokens":
        params |= {"tokenizer": tokenizer, "revision": resolve_model(tokenizer, weights=False).revision}
    return Scorer(f"length-{unit}", 2, params, partial(_score, on=on, unit=unit, tokenizer=tokenizer))


def _score(rows: Sequence[Row], on: Side, unit: Unit, tokenizer: str) -> list[Score]:
    lengths = measure([row.text(on) for row in rows], unit, tokenizer)
    return [
        Score.unscored("the answer is a tool call") if on == "response" and row.calls_tools else Score(float(length))
        for row, length in zip(rows, lengths, strict=True)
    ]
