"""Scores by content and fingerprint: what was computed once is not computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from filters.step import Score
from workbench.store.database import Store, fetch, insert

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
