"""`semantic`: texts that mean the same, by the cosine of their embeddings.

A cosine alone takes "advantages of remote work" and "disadvantages of remote work" for the same (0.92 with
all-MiniLM-L6-v2), and "convert 10 km" and "convert 25 km" nearly so (0.89). So a row falls only if, besides, nothing
particular in the two texts contradicts (`filters.dedup.particulars`) and the answers agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from filters.dedup.jaccard import Pairs
from filters.dedup.known import Lineup, line_up
from filters.dedup.particulars import Particulars
from filters.dedup.star import FLOOR, Agree, Falls, settle, walk, worth_keeping
from filters.dedup.survivor import DedupParams, compared_text, frame
from filters.neighbours import Neighbours
from filters.step import Embed, Outside, Row, SetResult, SetStep, Survivors
from filters.text import normalise, words
from trainer.conversation import Side
from trainer.errors import UsageProblem
from trainer.models import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Ints = NDArray[np.int64]

_SHORT_ANSWER = 5  # words; embeddings of so few words say little
_REMEMBERED = 8192  # rows whose words are held: 20 kB each, so not those of all


class SemanticParams(DedupParams):
    """What is compared and how near is near. `answer_threshold: 0` drops rows whatever their answers say.

    `target` takes, where `threshold` leaves more rows, a lower one, as high as it may be and at least 0.7, that
    leaves at most so many; where none does, 0.7.
    """

    on: Side = "prompt"
    threshold: float = Field(default=0.9, gt=0, le=1)
    answer_threshold: float = Field(default=0.8, ge=0, le=1)
    target: int | None = Field(default=None, ge=1)
    model: str = DEFAULT_EMBEDDER


class _Said(NamedTuple):
    """What is compared of a row; `answer` is empty where answers do not matter, `frame` 0 where frames do not."""

    text: str
    answer: str
    frame: int


class Semantic(SetStep[SemanticParams]):
    """Drop rows that say what a kept row says: a star around each survivor, never a chain.

    A dropped row points at a *kept* row with cosine `threshold` or more. Texts of one or two words are compared as
    they are. Texts that the model cannot read (its embedding is NaN) and empty ones are kept and counted as
    unscored. Pairs from 0.7 up are reported, 20 a row; of those at `threshold` or more only pairs that
    say the same.
    """

    name = "semantic"
    version = 3
    kind = "dedup"
    params_model = SemanticParams

    @property
    def references(self) -> tuple[str, ...]:
        """What `against` names."""
        return self.params.against

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Each dropped row points at a kept one that says the same."""
        if outside.embed is None:
            raise UsageProblem(
                "semantic needs embeddings, and the caller gave no way to compute them",
                where="semantic",
                do="Pass embed= to the pipeline.",
            )
        params = self.params
        lineup = line_up(rows, outside, params, self.name, self._said)
        vectors = embed_unique(outside.embed, [normalise(said.text) for said in lineup.compared], params.model)
        places = np.flatnonzero(np.isfinite(vectors.sum(axis=1)))
        if len(places) < len(vectors):
            vectors = vectors[places]
        floor = min(FLOOR, params.threshold)
        judged = floor if params.target is not None else params.threshold  # from here up pairs are looked at closely

        def progress(done: int, total: int) -> None:
            outside.progress(done, total, f"{self.name}: comparing")

        near = Neighbours(vectors, floor)
        kept: list[Pairs] = []
        alike = np.zeros(len(vectors), dtype=np.bool_)
        for pairs in near.chunks(progress):
            kept.append(worth_keeping(pairs))
            over = pairs.similarity >= judged
            alike[pairs.first[over]] = alike[pairs.second[over]] = True
        recall = near.recall
        del near  # an index holds the vectors once more
        candidates = np.flatnonzero(alike)
        same = _Sameness(lineup, places[candidates], outside.embed, params)
        again = Neighbours(vectors[candidates], judged)

        def fallen(threshold: float) -> Falls:
            chunks = (_at(places[candidates], chunk) for chunk in again.chunks())
            return walk(chunks, threshold, lineup.standing, same.agree)

        threshold, falls = _enough(lineup, fallen, params.threshold, floor, params.target)
        reported = [_true(_at(places, pairs), judged, same.agree) for pairs in kept]
        result = settle(
            lineup,
            _with(reported, falls, len(lineup.ids)),
            "semantic duplicate",
            "cosine",
            threshold,
        )
        if params.target is not None:
            result.settled["threshold"] = threshold
        result.unscored = len(lineup.ids) - lineup.standing - int(np.count_nonzero(places >= lineup.standing))
        if recall is not None:
            result.settled |= {"index_recall": round(recall.share, 4), "index_checked_rows": recall.rows}
        return result

    def _said(self, row: Row) -> _Said:
        params = self.params
        answers = params.answer_threshold > 0 and params.on != "response"
        return _Said(
            compared_text(row, params.on),
            normalise(compared_text(row, "response")) if answers else "",
            frame(row) if params.on == "prompt" else 0,
        )


def _enough(
    lineup: Lineup[_Said], fallen: Callable[[float], Falls], threshold: float, floor: float, target: int | None
) -> tuple[float, Falls]:
    """`threshold`, or the hundredth below it that is found by halves to leave at most `target` rows; and what falls.

    The rows are walked afresh at each: of the pairs that are reported a row has 20, and may fall for another. Where no
    threshold from `floor` up is enough, it is `floor`.
    """
    falls = fallen(threshold)
    again = lineup.again
    most = len(lineup.ids) - lineup.standing - len(again) - (target or 0)

    def enough(falls: Falls) -> bool:
        return target is None or len(falls.keys() - set(again)) >= most

    if enough(falls):
        return threshold, falls
    steps = [floor, *(n / 100 for n in range(1, 100) if floor < n / 100 < threshold)]
    low, high = 0, len(steps)
    found = steps[0], fallen(steps[0])
    while high - low > 1:
        middle = (low + high) // 2
        there = fallen(steps[middle])
        if enough(there):
            low, found = middle, (steps[middle], there)
        else:
            high = middle
    return found


def _at(places: Ints, pairs: Pairs) -> Pairs:
    """Pairs of `places` out of pairs of indices into them."""
    return Pairs(places[pairs.first], places[pairs.second], pairs.similarity)


def _true(pairs: Pairs, judged: float, agree: Agree) -> Pairs:
    """The pairs without those from `judged` up that do not say the same."""
    keep = pairs.similarity < judged
    for k in np.flatnonzero(~keep).tolist():
        keep[k] = agree(int(pairs.first[k]), int(pairs.second[k]))
    return Pairs(pairs.first[keep], pairs.second[keep], pairs.similarity[keep])


def _with(some: Sequence[Pairs], falls: Falls, rows: int) -> Pairs:
    """All of the pairs of `rows` rows with those of `falls`, none twice."""
    first = np.concatenate([*(pairs.first for pairs in some), [to for to, _ in falls.values()]]).astype(np.int64)
    second = np.concatenate([*(pairs.second for pairs in some), list(falls)]).astype(np.int64)
    similarity = np.concatenate([*(pairs.similarity for pairs in some), [how for _, how in falls.values()]])
    _, each = np.unique(second * rows + first, return_index=True)
    return Pairs(first[each], second[each], similarity[each])


class _Sameness:
    """Whether two rows that are near say the same: nothing particular in the texts contradicts, the answers agree.

    Prompts say the same under the same system turns, tools and images only.

    `places` are those that will be asked about.
    """

    def __init__(self, lineup: Lineup[_Said], places: Ints, embed: Embed, params: SemanticParams) -> None:
        self._particulars_of = lru_cache(_REMEMBERED)(lambda place: Particulars.of(lineup.compared[place].text))
        self._answer_of = lru_cache(_REMEMBERED)(lambda place: _folded(lineup.compared[place].answer))
        self._least = 0.0 if params.on == "response" else params.answer_threshold
        self._compared = lineup.compared
        self._row = dict(zip(places.tolist(), range(len(places)), strict=True))
        if self._least:
            self._vectors = embed_unique(
                embed, [lineup.compared[place].answer for place in places.tolist()], params.model
            )

    def agree(self, one: int, other: int) -> bool:
        """Whether the rows at two places say the same."""
        if self._compared[one].frame != self._compared[other].frame:
            return False
        if self._particulars_of(one).contradicts(self._particulars_of(other)):
            return False
        return not self._least or self._answers_agree(one, other)

    def _answers_agree(self, one: int, other: int) -> bool:
        """Short answers by their words, unreadable ones only if equal."""
        short, long = sorted((self._answer_of(one), self._answer_of(other)), key=len)
        if short == long:
            return True
        if len(short) <= _SHORT_ANSWER:
            return len(short) > 0 and any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))
        cosine = float(self._vectors[self._row[one]] @ self._vectors[self._row[other]])  # NaN is not above anything
        return round(cosine, 4) >= self._least


def _folded(text: str) -> list[str]:
    return [word.casefold() for word in words(text)]


def embed_unique(embed: Embed, texts: Sequence[str], model: str) -> Vectors:
    """Vectors (len(texts), d) of `texts`, each distinct text embedded once; NaN for empty texts.

    The distinct texts go in sorted order, so that the numbers do not hang on the order of rows.
    """
    distinct = sorted({text for text in texts if text})
    found = np.asarray(embed(distinct, model), dtype=np.float32) if distinct else np.empty((0, 1), dtype=np.float32)
    place = {text: i for i, text in enumerate(distinct)}
    at = np.array([place.get(text, -1) for text in texts], dtype=np.int64)
    vectors = np.full((len(texts), found.shape[1]), np.nan, dtype=np.float32)
    vectors[at >= 0] = found[at[at >= 0]]
    return vectors
