"""`minhash`: near-duplicates by their words, the step that MinHash is elsewhere; here no pair is missed or guessed.

The name is the field's. How pairs are found is told in `filters.dedup.jaccard`, and why not by MinHash in
docs/decisions/near-duplicates.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from filters.dedup.jaccard import Sets, shingles, similar_pairs
from filters.dedup.known import line_up
from filters.dedup.star import FLOOR, settle
from filters.dedup.survivor import DedupParams, compared_text, frame
from filters.step import Outside, Row, SetResult, SetStep, Survivors
from trainer.conversation import Side

if TYPE_CHECKING:
    from filters.dedup.jaccard import Hashes


class NearParams(DedupParams):
    """What is compared, how like is near, and who survives.

    `target` takes, where `threshold` leaves more rows, a lower one, as high as it may be and at least 0.7, that
    leaves at most so many; where none does, 0.7.
    """

    on: Side = "prompt"
    threshold: float = Field(default=0.8, gt=0, le=1)
    target: int | None = Field(default=None, ge=1)


class Near(SetStep[NearParams]):
    """Drop rows whose word 5-grams are, by Jaccard similarity, nearly those of a kept row: a star around each survivor.

    Prompts are compared under the same system turns, tools and images only: under others they are other tasks.
    Texts of fewer than five words are compared whole. Rows without text are left alone. Pairs from 0.7 up are
    reported, 20 a row: the most preferred and the nearest.
    """

    name = "minhash"
    version = 3
    kind = "dedup"
    params_model = NearParams

    @property
    def references(self) -> tuple[str, ...]:
        """What `against` names."""
        return self.params.against

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Each dropped row points at a kept one with Jaccard `threshold` or more."""
        params = self.params
        lineup = line_up(rows, outside, params, self.name, self._elements)
        sets = Sets.of(lineup.compared)
        lineup.compared.clear()  # as large again
        pairs = similar_pairs(
            sets,
            min(FLOOR, params.threshold),
            lambda done, total: outside.progress(done, total, f"{self.name}: comparing"),
        )
        return settle(lineup, pairs, "near duplicate", "Jaccard", params.threshold, params.target)

    def _elements(self, row: Row) -> Hashes:
        """What is counted of a row; prompts under different frames have nothing in common."""
        found = shingles(compared_text(row, self.params.on))
        return np.sort(found ^ np.uint64(frame(row))) if self.params.on == "prompt" else found
