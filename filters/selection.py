"""Selectors: what a budget is, and the two that need no model: a random sample and the longest answers.

Both are controls for cleverer ones: most published selectors fail to beat one of these two at the same size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from pydantic import Field, model_validator

from filters.step import Drop, Outside, Row, SetResult, SetStep, StepParams, Survivors
from filters.text import Unit, measure
from trainer.conversation import Side
from trainer.models import DEFAULT_MODEL

NOT_SELECTED = "not selected"


class BudgetParams(StepParams):
    """`k` rows stay, or as many as it takes until their answers have `tokens` tokens.

    Rows are taken in the order of the selector; the one that reaches the number of tokens is the last. The tokens of an
    answer are those of its text by `tokenizer`, which should be the trained model's. Training counts a few more, for
    the end of each turn, and none of a row that it leaves out as too long.
    """

    k: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    tokenizer: str = DEFAULT_MODEL

    @model_validator(mode="after")
    def _one_budget(self) -> BudgetParams:
        if (self.k is None) == (self.tokens is None):
            raise ValueError("say how much is to stay: k rows or tokens, one of them")
        return self

    @property
    def budget(self) -> int:
        """How much may be spent, in the unit of `costs`."""
        return self.k or self.tokens or 0

    def costs(self, rows: Sequence[Row]) -> list[int]:
        """What each row costs of the budget: 1, or its tokens."""
        if self.tokens is None:
            return [1] * len(rows)
        return measure([row.text("response") for row in rows], "tokens", self.tokenizer)


class RandomKParams(BudgetParams):
    """A budget and a seed."""

    seed: int = 0


class RandomK(SetStep[RandomKParams]):
    """Keep rows at random: those with the smallest SHA-256 of seed and content.

    The choice hangs on the contents alone. With another row more or less in the set, at most one other row of `k`
    changes.
    """

    name = "random-k"
    kind = "selector"
    params_model = RandomKParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but the chosen."""

        def lots(batch: Sequence[Row]) -> list[str]:
            return [lot(self.params.seed, row.content_hash) for row in batch]

        return _keep_smallest(self.name, self.params, rows, lots, outside)


def lot(seed: int, content_hash: str) -> str:
    """What chance says of a content: rows in the order of their lots are in random order."""
    return hashlib.sha256(f"{seed}:{content_hash}".encode()).hexdigest()


class LongestKParams(BudgetParams):
    """A budget, and what is long; `tokenizer` counts for `unit: tokens`, too."""

    on: Side = "response"
    unit: Unit = "words"


class LongestK(SetStep[LongestKParams]):
    """Keep the rows with the longest text; of equal lengths the smaller content hash.

    A strong baseline: Zhao et al., "Long Is More for Alignment" (2024).
    """

    name = "longest-k"
    kind = "selector"
    params_model = LongestKParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but the longest."""

        def shortness(batch: Sequence[Row]) -> list[int]:
            return [
                -n
                for n in measure([row.text(self.params.on) for row in batch], self.params.unit, self.params.tokenizer)
            ]

        return _keep_smallest(self.name, self.params, rows, shortness, outside)


def _keep_smallest(
    name: str,
    params: BudgetParams,
    rows: Survivors,
    key: Callable[[Sequence[Row]], Sequence[int | str]],
    outside: Outside,
) -> SetResult:
    """The rows with the smallest (key, content hash, id) stay, as far as the budget goes."""
    ranked: list[tuple[int | str, str, int, int]] = []
    for batch in rows:
        ranked += [
            (value, row.content_hash, row.id, cost)
            for value, row, cost in zip(key(batch), batch, params.costs(batch), strict=True)
        ]
        outside.progress(len(ranked), len(rows), name)
    ranked.sort()
    keep = within([cost for *_, cost in ranked], params.budget)
    return SetResult(
        drops=[
            Drop(id_, NOT_SELECTED, float(-value) if isinstance(value, int) else None)
            for value, _, id_, _ in ranked[keep:]
        ]
    )


def within(costs: Sequence[int], budget: int) -> int:
    """How many rows stay when they are taken in order: the one that reaches the budget is the last."""
    spent = 0
    for taken, cost in enumerate(costs):
        if spent >= budget:
            return taken
        spent += cost
    return len(costs)
