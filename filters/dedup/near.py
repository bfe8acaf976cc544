"""`minhash`: near-duplicates by their words, the step that MinHash is elsewhere; here no pair is missed or guessed.

The name is the field's. How pairs are found is told in `filters.dedup.jaccard`, and why not by MinHash in
docs/decisions/near-duplicates.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from filters.dedup.jaccard import Pairs, Sets, shingles, similar_pairs
from filters.dedup.known import known_rows
from filters.dedup.star import FLOOR, stars, threshold_for, worth_keeping
from filters.dedup.survivor import Keep, Rank, compared_text, rank
from filters.step import Drop, FilterParams, Outside, Pair, Row, SetResult, SetStep, Survivors
from trainer.conversation import Side

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NearParams(FilterParams):
    """What is compared, how like is near, and who survives.

    `against` names versions or sources whose rows are there already: what is near one of them falls, and they never
    do. `target` takes, where `threshold` leaves more rows, a lower one, as high as it may be and at least 0.7, that
    leaves at most so many; where none does, 0.7.
    """

    on: Side = "prompt"
    threshold: float = Field(default=0.8, gt=0, le=1)
    keep: Keep = "longest"
    against: tuple[str, ...] = Field(default=(), strict=False)
    target: int | None = Field(default=None, ge=1)


class Near(SetStep[NearParams]):
    """Drop rows whose word 5-grams are, by Jaccard similarity, nearly those of a kept row: a star around each survivor.

    Texts of fewer than five words are compared whole. Rows without text are left alone. Pairs from 0.7 up are
    reported, 20 a row: the most preferred and the nearest.
    """

    name = "minhash"
    kind = "dedup"
    params_model = NearParams

    @property
    def references(self) -> tuple[str, ...]:
        """What `against` names."""
        return self.params.against

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Each dropped row points at a kept one with Jaccard `threshold` or more."""
        known, known_sets = self._known(outside)
        ranked: list[tuple[Rank, NDArray[np.uint64]]] = []
        for batch in rows:
            ranked += [(rank(row, self.params.keep), self._set(row)) for row in batch]
            outside.progress(len(ranked), len(rows), self.name)
        ranked.sort(key=lambda entry: entry[0])
        ids = known + [place[-1] for place, _ in ranked]
        sets = Sets.of(known_sets + [found for _, found in ranked])
        del ranked, known_sets
        least = min(FLOOR, self.params.threshold)
        pairs = similar_pairs(sets, least, lambda done, total: outside.progress(done, total, f"{self.name}: comparing"))
        return self._result(ids, pairs, len(known))

    def _known(self, outside: Outside) -> tuple[list[int], list[NDArray[np.uint64]]]:
        """Ids and sets of the rows that are there already, the preferred first."""
        found = [
            (rank(row, self.params.keep), self._set(row)) for row in known_rows(self.params.against, outside, self.name)
        ]
        found.sort(key=lambda entry: entry[0])
        return [place[-1] for place, _ in found], [one for _, one in found]

    def _set(self, row: Row) -> NDArray[np.uint64]:
        return shingles(compared_text(row, self.params.on))

    def _result(self, ids: list[int], pairs: Pairs, known: int) -> SetResult:
        """What falls. The first `known` of `ids` are there already; some may come again among the others."""
        there = set(ids[:known])
        again = np.array([place >= known and id_ in there for place, id_ in enumerate(ids)], dtype=np.bool_)
        new = ~(again[pairs.first] | again[pairs.second])
        pairs = Pairs(pairs.first[new], pairs.second[new], pairs.similarity[new])
        result = SetResult()
        result.drops += [Drop(ids[place], "known row", 1.0, ids[place]) for place in np.flatnonzero(again).tolist()]
        threshold = self.params.threshold
        if self.params.target is not None:
            most = len(ids) - known - len(result.drops) - self.params.target
            if most > len(stars(pairs, threshold, known)):
                threshold = threshold_for(pairs, most, standing=known) or min(FLOOR, threshold)
            result.settled = {"threshold": threshold}
        for place, (survivor, similarity) in stars(pairs, threshold, known).items():
            detail = f"Jaccard {similarity:.3f}"
            result.drops.append(Drop(ids[place], "near duplicate", similarity, ids[survivor], detail))
        own = pairs.second >= known
        few = worth_keeping(Pairs(pairs.first[own], pairs.second[own], pairs.similarity[own]))
        result.pairs += [
            Pair(ids[second], ids[first], similarity)
            for first, second, similarity in zip(
                few.first.tolist(), few.second.tolist(), few.similarity.tolist(), strict=True
            )
        ]
        return result
