"""Selectors that need no model: a random sample and the longest answers. Both are controls for cleverer ones.

Most published selectors fail to beat one of these two at the same size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from pydantic import Field

from filters.step import Drop, Outside, Row, SetResult, SetStep, StepParams, Survivors
from filters.text import Unit, measure
from trainer.conversation import Side
from trainer.models import DEFAULT_MODEL


class RandomKParams(StepParams):
    """`k` rows stay."""

    k: int = Field(ge=1)
    seed: int = 0


class RandomK(SetStep[RandomKParams]):
    """Keep `k` rows at random: those with the smallest SHA-256 of seed and content.

    The choice hangs on the contents alone. With another row more or less in the set, at most one other row changes.
    """

    name = "random-k"
    kind = "selector"
    params_model = RandomKParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but the chosen."""

        def lots(batch: Sequence[Row]) -> list[str]:
            return [hashlib.sha256(f"{self.params.seed}:{row.content_hash}".encode()).hexdigest() for row in batch]

        return _keep_smallest(self.name, self.params.k, rows, lots, outside)


class LongestKParams(StepParams):
    """`k` rows stay; `tokenizer` counts for `unit: tokens` alone."""

    k: int = Field(ge=1)
    on: Side = "response"
    unit: Unit = "words"
    tokenizer: str = DEFAULT_MODEL


class LongestK(SetStep[LongestKParams]):
    """Keep the `k` rows with the longest text; of equal lengths the smaller content hash.

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

        return _keep_smallest(self.name, self.params.k, rows, shortness, outside)


def _keep_smallest(
    name: str, k: int, rows: Survivors, key: Callable[[Sequence[Row]], Sequence[int | str]], outside: Outside
) -> SetResult:
    """All but the `k` rows with the smallest (key, content hash, id) fall."""
    ranked: list[tuple[int | str, str, int]] = []
    for batch in rows:
        ranked += [(value, row.content_hash, row.id) for value, row in zip(key(batch), batch, strict=True)]
        outside.progress(len(ranked), len(rows), name)
    ranked.sort()
    return SetResult(
        drops=[
            Drop(id_, "not selected", float(-value) if isinstance(value, int) else None) for value, _, id_ in ranked[k:]
        ]
    )
