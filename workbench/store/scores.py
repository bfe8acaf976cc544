"""Scores by content and fingerprint: what was computed once is not computed again.

Two fingerprints of one scorer are two settings or models, and their numbers are not comparable. Wherever people look at
scores, each is a `Scoring` by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from filters.step import Score
from workbench.store.database import Connection, Store, fetch, insert

_SCORES = pa.schema(
    [
        ("content_hash", pa.string()),
        ("scorer", pa.string()),
        ("fingerprint", pa.string()),
        ("value", pa.float64()),
        ("label", pa.string()),
        ("state", pa.string()),
        ("detail", pa.string()),
    ]
)

_DIGITS = 4  # of a fingerprint that tell two settings apart: more where they are equal


@dataclass(frozen=True)
class Scoring:
    """A scorer under one setting. `name` is the scorer's, and where the workspace has several settings of it, with `@`
    and the beginning of the fingerprint behind it.
    """

    name: str
    scorer: str
    fingerprint: str


def scorings(cursor: Connection) -> list[Scoring]:
    """All that have scored anything, by the names of their scorers; of one scorer's the one that scored last first."""
    found: dict[str, list[str]] = {}
    for scorer, fingerprint in fetch(
        cursor, "SELECT scorer, fingerprint FROM scores GROUP BY ALL ORDER BY scorer, max(rowid) DESC"
    ):
        found.setdefault(scorer, []).append(fingerprint)
    return [Scoring(_name(scorer, one, of), scorer, one) for scorer, of in found.items() for one in of]


def scoring(cursor: Connection, name: str) -> Scoring | None:
    """The one of that name; by the name of a scorer with several settings the one that scored last."""
    known = scorings(cursor)
    named = [one for one in known if one.name == name] or [one for one in known if one.scorer == name]
    return named[0] if named else None


def _name(scorer: str, fingerprint: str, of: Sequence[str]) -> str:
    if len(of) == 1:
        return scorer
    sizes = range(_DIGITS, len(fingerprint) + 1)
    told = next(size for size in sizes if sum(other.startswith(fingerprint[:size]) for other in of) == 1)
    return f"{scorer}@{fingerprint[:told]}"


class StoredScores:
    """The table `scores` as a `filters.pipeline.ScoreCache`. Every `put` is committed at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = store.cursor()

    def close(self) -> None:
        """Let go of the reading cursor."""
        self._reader.close()

    def get(self, hashes: Sequence[str], scorer: str, fingerprint: str) -> Mapping[str, Score]:
        """The known scores among `hashes`."""
        self._reader.register("wanted", pa.table({"content_hash": pa.array(hashes, pa.string())}))
        try:
            found = fetch(
                self._reader,
                """SELECT content_hash, value, label, state, detail FROM scores
                   WHERE scorer = ? AND fingerprint = ? AND content_hash IN (SELECT content_hash FROM wanted)""",
                [scorer, fingerprint],
            )
        finally:
            self._reader.unregister("wanted")
        return {
            key: Score.measured(value, label, detail) if state == "ok" else Score(value, label, state, detail)
            for key, value, label, state, detail in found
        }

    def put(self, scores: Mapping[str, Score], scorer: str, fingerprint: str) -> None:
        """Keep these scores (content hash -> score), replacing older ones."""
        values = list(scores.values())
        table = pa.table(
            [
                list(scores),
                [scorer] * len(values),
                [fingerprint] * len(values),
                [score.value for score in values],
                [score.label for score in values],
                [score.state for score in values],
                [score.detail for score in values],
            ],
            schema=_SCORES,
        )
        with self._store.transaction() as cursor:
            cursor.register("fresh", table)
            cursor.execute(
                """DELETE FROM scores WHERE scorer = ? AND fingerprint = ?
                   AND content_hash IN (SELECT content_hash FROM fresh)""",
                [scorer, fingerprint],
            )
            cursor.unregister("fresh")
            insert(cursor, "scores", table)

    def scorers(self) -> Mapping[str, Sequence[str]]:
        """The fingerprints that scores are kept under, by the scorer's name."""
        found: dict[str, list[str]] = {}
        for scorer, fingerprint in fetch(self._reader, "SELECT DISTINCT scorer, fingerprint FROM scores ORDER BY ALL"):
            found.setdefault(scorer, []).append(fingerprint)
        return found
