"""`semantic`: texts that mean the same, by the cosine of their embeddings.

A cosine alone takes "advantages of remote work" and "disadvantages of remote work" for the same (0.92 with
all-MiniLM-L6-v2), and "convert 10 km" and "convert 25 km" nearly so (0.89). So a row falls only if, besides, the
numbers in both texts do not contradict each other and the answers agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from filters.dedup.star import FLOOR, KEPT
from filters.dedup.survivor import DedupParams, Rank, ranks
from filters.step import Drop, Embed, Outside, Pair, SetResult, SetStep, Survivors
from filters.text import normalise, words
from trainer.conversation import Side
from trainer.errors import UsageProblem
from trainer.models import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_BLOCK_CELLS = 2**24  # similarities held at a time: 64 MB
_SHORT_ANSWER = 5  # words; embeddings of so few words say little
_SHORT_TEXT = 2
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class SemanticParams(DedupParams):
    """What is compared and how near is near. `answer_threshold: 0` drops rows whatever their answers say."""

    on: Side = "prompt"
    threshold: float = Field(default=0.9, gt=0, le=1)
    answer_threshold: float = Field(default=0.8, ge=0, le=1)
    model: str = DEFAULT_EMBEDDER


@dataclass(frozen=True)
class _Entry:
    rank: Rank
    id: int
    text: str


class Semantic(SetStep[SemanticParams]):
    """Drop rows that say what a kept row says: a star around each survivor, never a chain.

    A dropped row points at a *kept* row with cosine `threshold` or more. Texts of one or two words are compared as
    they are. Texts that the model cannot read (its embedding is NaN) and empty ones are kept and counted as
    unscored. Pairs from 0.7 up are reported, 20 a row; of those at `threshold` or more only pairs that
    say the same.
    """

    name = "semantic"
    kind = "dedup"
    params_model = SemanticParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Compare all rows with all, in blocks, best survivor first."""
        if outside.embed is None:
            raise UsageProblem(
                "semantic needs embeddings, and the caller gave no way to compute them",
                where="semantic",
                do="Pass embed= to the pipeline.",
            )
        result = SetResult()
        entries, vectors = self._embedded(rows, outside, outside.embed, result)
        candidates = self._neighbours(entries, vectors, result, outside)
        if len(candidates):
            answers = _Answers(rows, {entries[i].id for i in candidates}, outside.embed, self.params)
            self._walk(entries, vectors, candidates, answers, result)
            texts = {entries[i].id: entries[i].text for i in candidates}
            result.pairs = [pair for pair in result.pairs if self._may_fall(pair, texts, answers)]
        return result

    def _may_fall(self, pair: Pair, texts: Mapping[int, str], answers: _Answers) -> bool:
        """Whether a pair says the same, as far as it was looked at: answers are not below the threshold."""
        if pair.similarity < self.params.threshold:
            return True
        one, other = pair.id, pair.duplicate_of
        return says_the_same(texts[one], texts[other]) and answers.agree(one, other)

    def _embedded(
        self, rows: Survivors, outside: Outside, embed: Embed, result: SetResult
    ) -> tuple[list[_Entry], Vectors]:
        """Rows with a usable vector, best survivor first, and their vectors (n, d)."""
        entries = [
            _Entry(rank, row.id, normalise(row.text(self.params.on)))
            for batch in rows
            for row, rank in zip(batch, ranks(batch, self.params, outside, self.name), strict=True)
        ]
        entries.sort(key=lambda entry: entry.rank)
        vectors = embed_unique(embed, [entry.text for entry in entries], self.params.model)
        usable: NDArray[np.bool_] = np.isfinite(vectors.sum(axis=1))
        result.unscored = int((~usable).sum())
        return [entry for entry, good in zip(entries, usable, strict=True) if good], vectors[usable]

    def _neighbours(
        self, entries: Sequence[_Entry], vectors: Vectors, result: SetResult, outside: Outside
    ) -> NDArray[np.int64]:
        """Report the pairs from `FLOOR` up, and give back the rows that have one from `threshold` up."""
        floor = min(FLOOR, self.params.threshold)
        near = np.zeros(len(entries), dtype=np.bool_)
        for start, block in similarity_blocks(vectors):
            for offset, line in enumerate(block):
                i = start + offset
                better = line[:i]  # pairs once: each row with those that are preferred to it
                found = np.flatnonzero(better >= floor)
                if not len(found):
                    continue
                over = found[better[found] >= self.params.threshold]
                near[over] = True
                near[i] |= len(over) > 0
                # As in `worth_keeping`: those that the row may fall for, and the nearest of the others.
                preferred, rest = found[: KEPT // 2], found[KEPT // 2 :]
                nearest = rest[np.lexsort((rest, -better[rest]))][: KEPT - KEPT // 2]
                result.pairs += [
                    Pair(entries[i].id, entries[j].id, float(round(float(better[j]), 4)))
                    for j in (*preferred.tolist(), *nearest.tolist())
                ]
            outside.progress(start + len(block), len(entries), self.name)
        return np.flatnonzero(near)

    def _walk(
        self,
        entries: Sequence[_Entry],
        vectors: Vectors,
        candidates: NDArray[np.int64],
        answers: _Answers,
        result: SetResult,
    ) -> None:
        """From the best survivor down: a row falls if a row kept so far says the same."""
        kept = np.zeros(len(candidates), dtype=np.bool_)
        for start, block in similarity_blocks(vectors[candidates]):
            for offset, line in enumerate(block):
                i = start + offset
                row = entries[candidates[i]]
                over = np.flatnonzero((line[:i] >= self.params.threshold) & kept[:i])
                for j in over[np.lexsort((over, -line[over]))]:
                    other = entries[candidates[j]]
                    if says_the_same(row.text, other.text) and answers.agree(row.id, other.id):
                        cosine = float(round(float(line[j]), 4))
                        result.drops.append(
                            Drop(row.id, "semantic duplicate", cosine, other.id, f"cosine {cosine:.3f}")
                        )
                        break
                else:
                    kept[i] = True


class _Answers:
    """The responses of the candidate rows and how near they are."""

    def __init__(self, rows: Survivors, ids: set[int], embed: Embed, params: SemanticParams) -> None:
        self._least = 0.0 if params.on == "response" else params.answer_threshold
        self._texts: dict[int, str] = {}
        self._vectors: dict[int, Vectors] = {}
        if not self._least:
            return
        for batch in rows:
            for row in batch:
                if row.id in ids:
                    calls = [str(m["tool_calls"]) for m in row.messages if m.get("tool_calls")]
                    self._texts[row.id] = normalise("\n".join([row.text("response"), *calls]))
        ordered = sorted(self._texts)
        vectors = embed_unique(embed, [self._texts[id_] for id_ in ordered], params.model)
        self._vectors = dict(zip(ordered, vectors, strict=True))

    def agree(self, one: int, other: int) -> bool:
        """Whether two answers say the same; short ones by their words, unreadable ones only if equal."""
        if not self._least:
            return True
        first, second = _bare(self._texts[one]), _bare(self._texts[other])
        if first == second:
            return True
        if min(len(first), len(second)) <= _SHORT_ANSWER:
            short, long = sorted((first, second), key=len)
            return len(short) > 0 and any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))
        cosine = float(self._vectors[one] @ self._vectors[other])  # NaN where unreadable: not at or above anything
        return round(cosine, 4) >= self._least


def says_the_same(one: str, other: str) -> bool:
    """Whether two near texts can mean the same: no number in each that the other lacks; short ones word for word."""
    first, second = _bare(one), _bare(other)
    if min(len(first), len(second)) <= _SHORT_TEXT:
        return first == second
    numbers, others = set(_NUMBER.findall(one)), set(_NUMBER.findall(other))
    return not (numbers - others and others - numbers)


def embed_unique(embed: Embed, texts: Sequence[str], model: str) -> Vectors:
    """Vectors (len(texts), d) of `texts`, each distinct text embedded once; NaN for empty texts.

    The distinct texts go in sorted order, so that the numbers do not hang on the order of rows.
    """
    distinct = sorted({text for text in texts if text})
    found = np.asarray(embed(distinct, model), dtype=np.float32) if distinct else np.empty((0, 1), dtype=np.float32)
    place = {text: i for i, text in enumerate(distinct)}
    vectors = np.full((len(texts), found.shape[1]), np.nan, dtype=np.float32)
    for i, text in enumerate(texts):
        if text:
            vectors[i] = found[place[text]]
    return vectors


def similarity_blocks(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Cosines of the unit rows `vectors` (n, d) in blocks: (first row, block (rows, first row + rows)).

    Rounded to 4 digits, so that a threshold means what is shown. Only rows up to the block's own are compared: the
    other half of the matrix is the same. Never more than 64 MB of them at a time, for up to 16 million rows.
    """
    rows = max(1, min(1024, _BLOCK_CELLS // max(len(vectors), 1)))
    for start in range(0, len(vectors), rows):
        block = vectors[start : start + rows] @ vectors[: start + rows].T
        yield start, np.round(block, 4)


def _bare(text: str) -> list[str]:
    return [word.casefold() for word in words(text)]
