"""Rows in the order in which they are preferred; those that are there already, in another version or source, first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from filters.dedup.survivor import DedupParams, Rank, ranks
from filters.step import Outside, Row, Survivors
from trainer.errors import UsageProblem

T = TypeVar("T")


@dataclass(frozen=True)
class Lineup(Generic[T]):
    """Rows by their place in the preference: ids, and what is compared of each.

    The first `standing` rows are there already and never fall. `again` are the places of rows that are to be curated
    and stand among those, too: the very same rows.
    """

    ids: list[int]
    compared: list[T]
    standing: int

    @property
    def again(self) -> list[int]:
        """Places of rows that are there already themselves."""
        there = set(self.ids[: self.standing])
        return [place for place in range(self.standing, len(self.ids)) if self.ids[place] in there]


def line_up(
    rows: Survivors, outside: Outside, params: DedupParams, step: str, compared: Callable[[Row], T]
) -> Lineup[T]:
    """All of `rows` behind all that `params.against` names, each the preferred first, with `compared` of each row.

    Raises UsageProblem where the caller gave no way to read those, or to look the scores of `keep: best` up.
    """
    known: list[tuple[Rank, T]] = []
    for batch in known_rows(params.against, outside, step):
        known += zip(ranks(batch, params, outside, step), map(compared, batch), strict=True)
    own: list[tuple[Rank, T]] = []
    for batch in rows:
        own += zip(ranks(batch, params, outside, step), map(compared, batch), strict=True)
        outside.progress(len(own), len(rows), step)
    for some in (known, own):
        some.sort(key=lambda entry: entry[0])
    ordered = known + own
    return Lineup([rank[-1] for rank, _ in ordered], [one for _, one in ordered], len(known))


def known_rows(names: Sequence[str], outside: Outside, step: str) -> Iterator[list[Row]]:
    """The rows of the versions and sources `names` in batches, each row once."""
    if not names:
        return
    if outside.others is None:
        raise UsageProblem(
            f"{step} is to compare with {', '.join(names)}, and the caller gave no way to read them",
            where=step,
            do="Pass others= to the pipeline.",
        )
    seen: set[int] = set()
    for name in names:
        for batch in outside.others(name):
            new = [row for row in batch if row.id not in seen]
            seen.update(row.id for row in new)
            yield new
