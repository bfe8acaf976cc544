"""Rows that are there already, in a version or source beside the rows that are curated: only what is new is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filters.step import Outside, Row
from trainer.errors import UsageProblem


def known_rows(names: Sequence[str], outside: Outside, step: str) -> Iterator[Row]:
    """All rows of the versions and sources `names`, each row once."""
    others = outside.others
    if others is None:
        if names:
            raise UsageProblem(
                f"{step} is to compare with {', '.join(names)}, and the caller gave no way to read them",
                where=step,
                do="Pass others= to the pipeline.",
            )
        return
    seen: set[int] = set()
    for name in names:
        for batch in others(name):
            for row in batch:
                if row.id not in seen:
                    seen.add(row.id)
                    yield row
