"""Where the work of steps is done: here, batch after batch, or on other machines. What is decided is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from filters.dedup.jaccard import Pairs
    from filters.dedup.known import Lineup
    from filters.dedup.near import NearParams
    from filters.step import Outside, Row, Score, Scorer, Survivors


class Engine(Protocol):
    """Does the work of row steps and of `minhash` elsewhere, and gives what the same work gives here.

    All other steps are done here.
    """

    name: str

    def takes(self, scorer: Scorer) -> bool:
        """Whether the scorer can be sent elsewhere; one that cannot is asked here."""
        ...

    def score(self, scorer: Scorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        """The scores of `rows` by content hash, in parts as they come, those of one row more than once if need be."""
        ...

    def near_pairs(
        self, rows: Survivors, outside: Outside, params: NearParams, step: str, least: float
    ) -> tuple[Lineup[Any], Pairs]:
        """`rows` and all that `params.against` names by preference, and the pairs with Jaccard `least` or more."""
        ...
