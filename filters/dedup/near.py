"""`minhash`: near-duplicates by their words, the step that MinHash is elsewhere; here no pair is missed or guessed.

The name is the field's. How pairs are found is told in `filters.dedup.jaccard`, and why not by MinHash in
docs/decisions/near-duplicates.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from filters.dedup.jaccard import Pairs, Sets, shingles, similar_pairs
from filters.dedup.known import Lineup, line_up
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
        params, least = self.params, min(FLOOR, self.params.threshold)
        lineup, pairs = (
            outside.engine.near_pairs(rows, outside, params, self.name, least)
            if outside.engine
            else self._near_pairs(rows, outside, least)
        )
        result = settle(lineup, pairs, "near duplicate", "Jaccard", params.threshold, params.target)
        if outside.engine:
            result.settled["engine"] = outside.engine.name
        return result

    def _near_pairs(self, rows: Survivors, outside: Outside, least: float) -> tuple[Lineup[Hashes], Pairs]:
        lineup = line_up(rows, outside, self.params, self.name, lambda row: elements(row, self.params.on))
        sets = Sets.of(lineup.compared)
        lineup.compared.clear()  # as large again
        return lineup, similar_pairs(
            sets, least, lambda done, total: outside.progress(done, total, f"{self.name}: comparing")
        )


def elements(row: Row, on: Side) -> Hashes:
    """What is counted of a row, as sorted hashes; prompts under different frames have nothing in common."""
    found = shingles(compared_text(row, on))
    return np.sort(found ^ np.uint64(frame(row))) if on == "prompt" else found
