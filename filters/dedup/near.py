"""`minhash`: near-duplicates by their words, the step that MinHash is elsewhere; here no pair is missed or guessed.

The name is the field's. How pairs are found is told in `filters.dedup.jaccard`, and why not by MinHash in
docs/decisions/near-duplicates.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from filters.dedup.jaccard import Pairs, Sets, shingles, similar_pairs
from filters.dedup.known import known_rows
from filters.dedup.star import FLOOR, nearest, stars, threshold_for
from filters.dedup.survivor import Keep, Rank, compared_text, rank
from filters.step import Drop, FilterParams, Outside, Pair, Row, SetResult, SetStep, Survivors
from trainer.conversation import Side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEIGHBOURS = 20  # per row, the nearest


class NearParams(FilterParams):
    """What is compared, how like is near, and who survives.

    `against` names versions or sources whose rows are there already: what is near one of them falls, and they never
    do. `target` looks for the highest threshold, from 0.7 up, that leaves at most so many rows; `threshold` is then
    the highest that it may be.
    """

    on: Side = "prompt"
    threshold: float = Field(default=0.8, gt=0, le=1)
    keep: Keep = "longest"
    against: tuple[str, ...] = Field(default=(), strict=False)
    target: int | None = Field(default=None, ge=1)


class Near(SetStep[NearParams]):
    """Drop rows whose word 5-grams are, by Jaccard similarity, nearly those of a kept row: a star around each survivor.

    Texts of fewer than five words are compared whole. Rows without text are left alone. All pairs from 0.7 up are
    reported, the nearest 20 a row.
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
        pairs = similar_pairs(
            sets, least, lambda done, total: outside.progress(done, total, f"{self.name}: counting candidates")
        )
        return self._result(ids, pairs, len(known))

    def _known(self, outside: Outside) -> tuple[list[int], list[NDArray[np.uint64]]]:
        """Ids and sets of the rows that are there already."""
        ids: list[int] = []
        sets: list[NDArray[np.uint64]] = []
        for row in known_rows(self.params.against, outside, self.name):
            ids.append(row.id)
            sets.append(self._set(row))
        return ids, sets

    def _set(self, row: Row) -> NDArray[np.uint64]:
        return shingles(compared_text(row, self.params.on))

    def _result(self, ids: list[int], pairs: Pairs, known: int) -> SetResult:
        threshold = self.params.threshold
        if self.params.target is not None:
            most = len(ids) - known - self.params.target
            found = threshold_for(pairs, most, known) if most > 0 else None
            threshold = min(threshold, found if found is not None else FLOOR) if most > 0 else threshold
        result = SetResult()
        there = set(ids[:known])
        for place, (survivor, similarity) in stars(pairs, threshold, known).items():
            if ids[place] not in there:
                result.drops.append(
                    Drop(ids[place], "near duplicate", similarity, ids[survivor], f"Jaccard {similarity:.3f}")
                )
        for id_ in ids[known:]:
            if id_ in there:
                result.drops.append(Drop(id_, "known row", 1.0, id_))
        few = nearest(pairs, NEIGHBOURS)
        result.pairs += [
            Pair(ids[second], ids[first], similarity)
            for first, second, similarity in zip(
                few.first.tolist(), few.second.tolist(), few.similarity.tolist(), strict=True
            )
            if second >= known and ids[first] != ids[second]
        ]
        return result
