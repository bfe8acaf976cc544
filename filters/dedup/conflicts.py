"""`conflicts`: prompts that ask the same and answers that do not say the same. They are shown, and nothing is dropped.

Which of two such answers is right is not told by their words: a person looks, or a judge. A model that is trained on
both learns neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from filters.dedup.jaccard import Pairs, Sets, shingles, similar_pairs
from filters.dedup.particulars import Particulars
from filters.dedup.star import worth_keeping
from filters.dedup.survivor import compared_text, frame
from filters.step import Outside, Pair, Row, SetResult, SetStep, StepParams, Survivors
from filters.text import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

_YES = frozenset(("yes", "yeah", "correct", "true", "是", "对"))
_NO = frozenset(("no", "incorrect", "false", "不", "否"))
_RESULT = 25  # words of a line
_CODE = re.compile(r"\w\(|[{}=;]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class ConflictsParams(StepParams):
    """How like two prompts are that ask the same, and how unlike two answers that differ.

    `threshold` is the Jaccard similarity of the prompts' runs of five words; at 1 they have the same words. Answers
    differ where less than `answer_threshold` of the words of the shorter stand in the other, or where they contradict
    each other: yes and no, another number in the last line.
    """

    threshold: float = Field(default=0.9, gt=0, le=1)
    answer_threshold: float = Field(default=0.4, ge=0, le=1)


class Conflicts(SetStep[ConflictsParams]):
    """Report pairs of rows that are asked the same, under the same system turn, tools and images, and answer otherwise.

    Of rows with the same prompt each is compared with the first by content hash, and with what that one is near to.
    At most 20 pairs of a row are looked at. Prompts that differ in a number or a name do not ask the same, nor do
    those whose difference comes back in the answer: "the news of Oslo" and "the news of Rome".
    """

    name = "conflicts"
    version = 2
    kind = "report"
    params_model = ConflictsParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Pairs alone; `similarity` is that of the prompts, `answer_similarity` that of the answers."""
        asked: list[tuple[str, int, NDArray[np.uint64]]] = []
        for batch in rows:
            asked += [(row.content_hash, row.id, shingles(compared_text(row, "prompt"))) for row in batch]
            outside.progress(len(asked), len(rows), self.name)
        asked.sort(key=lambda entry: entry[:2])
        ids = [id_ for _, id_, _ in asked]
        sets = Sets.of([found for *_, found in asked])
        del asked  # as large again
        near = worth_keeping(
            similar_pairs(
                sets,
                self.params.threshold,
                lambda done, total: outside.progress(done, total, f"{self.name}: comparing"),
            )
        )
        wanted = {ids[place] for place in np.unique(np.concatenate([near.first, near.second])).tolist()}
        turns = {row.id: _Turns.of(row) for batch in rows for row in batch if row.id in wanted}
        return SetResult(pairs=list(self._diverging(ids, near, turns)))

    def _diverging(self, ids: Sequence[int], near: Pairs, turns: Mapping[int, _Turns]) -> Iterator[Pair]:
        for first, second, similarity in zip(
            near.first.tolist(), near.second.tolist(), near.similarity.tolist(), strict=True
        ):
            one, other = turns[ids[first]], turns[ids[second]]
            if one.asks_as(other) and (share := one.answers_unlike(other, self.params.answer_threshold)) is not None:
                yield Pair(ids[second], ids[first], similarity, share)


@dataclass(frozen=True)
class _Turns:
    """What a row asks and answers. `frame` is what else decides the answer: system turns and tools."""

    frame: int
    prompt: str
    answer: str
    answer_words: tuple[str, ...]

    @classmethod
    def of(cls, row: Row) -> _Turns:
        answer = compared_text(row, "response")
        return cls(frame(row), compared_text(row, "prompt"), answer, _folded(answer))

    def asks_as(self, other: _Turns) -> bool:
        if self.frame != other.frame or Particulars.of(self.prompt).contradicts(Particulars.of(other.prompt)):
            return False
        asked, asked_there = set(_folded(self.prompt)), set(_folded(other.prompt))
        said, said_there = set(self.answer_words), set(other.answer_words)
        return not ((asked - asked_there) & (said - said_there) or (asked_there - asked) & (said_there - said))

    def answers_unlike(self, other: _Turns, least: float) -> float | None:
        """The share of the shorter answer's words that stand in the other, if the answers say different things."""
        if self.answer_words == other.answer_words:
            return None
        said, said_there = set(self.answer_words), set(other.answer_words)
        share = len(said & said_there) / max(1, min(len(said), len(said_there)))
        return share if share < least or self._contradicts(other) else None

    def _contradicts(self, other: _Turns) -> bool:
        if not self.answer_words or not other.answer_words:
            return False
        begun = {self.answer_words[0], other.answer_words[0]}
        if begun & _YES and begun & _NO:
            return True
        numbers, numbers_there = _last_numbers(self.answer), _last_numbers(other.answer)
        return bool(numbers - numbers_there and numbers_there - numbers)


def _folded(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in words(text))


def _last_numbers(text: str) -> set[str]:
    """The numbers of the last line, where that is short enough to be a result, and no code."""
    line = text.strip().rpartition("\n")[2]
    if len(words(line)) > _RESULT or _CODE.search(line):
        return set()
    return {number.replace(",", "") for number in _NUMBER.findall(line)}
