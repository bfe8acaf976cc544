"""A step of one's own: `- shouting: {max_share: 0.3}` drops answers of which too many letters are capitals."""

from collections.abc import Sequence
from functools import cached_property

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each


class ShoutingParams(FilterParams):
    """Answers with more than `max_share` capitals among their letters leave."""

    max_share: float = 0.3


class Shouting(RowStep[ShoutingParams]):
    """Drop answers that shout."""

    name, kind, params_model = "shouting", "filter", ShoutingParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The share of capitals: nothing but the text decides it, so it has no parameters."""
        return [Scorer("capitals", version=1, params={}, score=each(capitals))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Whether the row leaves. Called only where its score is a number."""
        share = scores[0].value or 0.0
        return Finding("shouting", share) if share > self.params.max_share else None


def capitals(row: Row) -> Score:
    """The share of capitals among the letters of the answer."""
    letters = [c for c in row.text("response") if c.isalpha()]
    return Score(sum(map(str.isupper, letters)) / len(letters)) if letters else Score.unscored("no letters")
