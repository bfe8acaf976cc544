"""`decontaminate`: rows that hold the prompts of eval sets, in whole or for the most part.

A row falls when more than `share` of the words of an eval prompt lie in runs of `ngram` words that both have: half of
them in runs of 8 is the rule of Tulu 3 (Lambert et al., arXiv:2411.15124, section 3.2); `ngram: 13, share: 0` is any
run of 13 words, as GPT-3 had it (Brown et al., arXiv:2005.14165, appendix C).

Words count the less, the more rows have the run that they stand in: "write a function in Python that takes a list" is
in hundreds of rows, and says little about whether this prompt is. Where the whole prompt is in many rows, all of its
words count the less, and its share stays 1.

The prompt of a conversation is its user turns, one after the other. A row holds it in another way: with answers between
the turns. So the user turns of a row are searched as one text as well, beside all of its turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from xxhash import xxh3_64_intdigest

from filters.step import Drop, FilterParams, Outside, Row, SetResult, SetStep, Survivors
from filters.text import normalise, words_and_signs
from trainer.conversation import Side
from trainer.errors import UsageProblem
from trainer.models import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_COMMON = 10
"""Rows that may share a run of words before it counts less: a prompt that leaked comes in a few copies."""

_KNOWN_WORDS = 2**20  # whose hashes are remembered: words repeat
_ROWS = 4096  # compared with all prompts at a time
_SHOWN = 160  # characters of the shared text in a reason


class DecontaminateParams(FilterParams):
    """`against` names eval sets; `on` is the side of the rows that is searched for their prompts.

    `semantic` is a cosine: rows whose prompt lies that near to an eval prompt by the embeddings of `model` fall, too.
    """

    against: list[str] = Field(min_length=1)
    on: Side = "both"
    ngram: int = Field(default=8, ge=2, le=64)
    share: float = Field(default=0.5, ge=0, lt=1)
    semantic: float | None = Field(default=None, gt=0, le=1)
    model: str = DEFAULT_EMBEDDER


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt that must not be trained on: the `item` of `evalset`."""

    evalset: str
    item: int
    text: str


@dataclass(frozen=True)
class Overlap:
    """Row `id` holds `share` of the words of `prompt`, weighted by rarity; `text` is the longest run of them."""

    id: int
    prompt: EvalPrompt
    share: float
    text: str


class Decontaminate(SetStep[DecontaminateParams]):
    """Drop rows that hold a prompt of an eval set, for the most part or in other words."""

    name = "decontaminate"
    version = 2
    kind = "filter"
    params_model = DecontaminateParams

    @property
    def evalsets(self) -> tuple[str, ...]:
        """The eval sets that it reads."""
        return tuple(self.params.against)

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Compare all rows with all prompts."""
        prompts = eval_prompts(self.params.against, outside)
        found = overlaps(rows, prompts, self.params, outside)
        drops = [
            Drop(
                overlap.id,
                "eval prompt",
                round(overlap.share, 4),
                detail=f"{overlap.share:.0%} of item {overlap.prompt.item} of {overlap.prompt.evalset}: "
                f"“{_clipped(overlap.text)}”",
            )
            for overlap in found
        ]
        if self.params.semantic is not None:
            fallen = {drop.id for drop in drops}
            drops += [drop for drop in _alike(rows, prompts, self.params, outside) if drop.id not in fallen]
        return SetResult(drops=drops)


def eval_prompts(names: Sequence[str], outside: Outside) -> list[EvalPrompt]:
    """The prompts of the eval sets `names`. Raises UsageProblem where the caller gave no way to read them."""
    if outside.items is None:
        raise UsageProblem(
            f"decontaminate is to compare with {', '.join(names)}, and the caller gave no way to read eval sets",
            where="decontaminate",
            do="Pass items= to the pipeline.",
        )
    return [
        EvalPrompt(name, row.id, row.text("prompt")) for name in names for batch in outside.items(name) for row in batch
    ]


def overlaps(
    rows: Survivors, prompts: Sequence[EvalPrompt], params: DecontaminateParams, outside: Outside
) -> list[Overlap]:
    """For each row that holds more than the share of a prompt the prompt of which it holds most, in order of rows.

    A prompt of fewer words than `ngram` is held by a row of which it is a whole turn, or all user turns.
    """
    index = _Index(prompts, params.ngram)
    ids: list[int] = []
    hits: list[NDArray[np.int64]] = []  # (row, gram) pairs, each once
    whole: dict[int, int] = {}
    for batch in rows:
        texts = [row.turns(params.on) for row in batch]
        asked = {i: text for i, row in enumerate(batch) if (text := _asked(row, params.on)) is not None}
        owners = np.array([*range(len(batch)), *asked])
        for place, gram in index.grams_in(["\n".join(turns) for turns in texts] + [*asked.values()]):
            hits.append(np.unique(np.stack([owners[place] + len(ids), gram]), axis=1))
        for i, turns in enumerate(texts):
            if (short := index.short_prompt([*turns, asked[i]] if i in asked else turns)) is not None:
                whole[i + len(ids)] = short
        ids += [row.id for row in batch]
        outside.progress(len(ids), len(rows), "decontaminate")
    found = {row: Overlap(ids[row], prompts[at], 1.0, prompts[at].text) for row, at in whole.items()}
    if hits:
        for row, at, share, start, end in index.best(np.concatenate(hits, axis=1), params.share):
            if row not in found:
                found[row] = Overlap(ids[row], prompts[at], share, index.words(at, start, end))
    return [found[row] for row in sorted(found)]


def _asked(row: Row, on: Side) -> str | None:
    """The user turns as one text, where there are several and they are searched."""
    turns = row.turns("prompt") if on != "response" else []
    return "\n".join(turns) if len(turns) > 1 else None


class _Index:
    """The runs of `size` words of all prompts, to be looked up by their hashes."""

    def __init__(self, prompts: Sequence[EvalPrompt], size: int) -> None:
        self._size = size
        self._hashes: dict[str, int] = {}
        self._words = [words_and_signs(normalise(prompt.text, ignore_case=True)) for prompt in prompts]
        self._short = {
            " ".join(words): at for at, words in reversed(list(enumerate(self._words))) if 0 < len(words) < size
        }
        self._longest_short = max((len(text) for text in self._short), default=0)
        grams, owners, places = [], [], []
        for at, words in enumerate(self._words):
            mine = self._grams(self._hashed(words))
            grams.append(mine)
            owners.append(np.full(len(mine), at, dtype=np.int64))
            places.append(np.arange(len(mine), dtype=np.int64))
        every = np.concatenate(grams) if grams else np.empty(0, dtype=np.uint64)
        self._distinct, gram_of = np.unique(every, return_inverse=True)
        order = np.argsort(gram_of, kind="stable")  # postings: gram by gram, its prompts and places in them
        self._owner = np.concatenate(owners)[order] if owners else np.empty(0, dtype=np.int64)
        self._place = np.concatenate(places)[order] if places else np.empty(0, dtype=np.int64)
        self._starts = np.searchsorted(gram_of[order], np.arange(len(self._distinct) + 1))
        self._gram_of = gram_of  # prompt by prompt, in order of place
        self._first_gram = np.concatenate([[0], np.cumsum([len(mine) for mine in grams])]).astype(np.int64)

    def words(self, prompt: int, start: int, end: int) -> str:
        """Words `start` to `end` of a prompt."""
        return " ".join(self._words[prompt][start:end])

    def short_prompt(self, turns: Sequence[str]) -> int | None:
        """The first prompt of fewer words than a run that is one of `turns`."""
        for turn in turns:
            if self._short and len(turn) <= 4 * self._longest_short:  # a turn has blanks and marks besides its words
                at = self._short.get(" ".join(words_and_signs(normalise(turn, ignore_case=True))))
                if at is not None:
                    return at
        return None

    def grams_in(self, texts: Sequence[str]) -> Iterator[tuple[Ints, Ints]]:
        """(place of the text, gram) for every gram that a text shares with a prompt, each once: one piece, or none."""
        split = [words_and_signs(normalise(text, ignore_case=True)) for text in texts]
        hashed = self._hashed([word for words in split for word in words])
        mixed = self._grams(hashed)
        if not len(mixed) or not len(self._distinct):
            return
        owner = np.repeat(np.arange(len(split)), [len(words) for words in split])
        inside = owner[: len(mixed)] == owner[self._size - 1 :]
        at = np.searchsorted(self._distinct, mixed)
        at[at == len(self._distinct)] = 0
        found = inside & (self._distinct[at] == mixed)
        if found.any():
            pairs = np.unique(np.stack([owner[: len(mixed)][found], at[found]]), axis=1)
            yield pairs[0], pairs[1]

    def best(self, hits: NDArray[np.int64], least: float) -> Iterator[tuple[int, int, float, int, int]]:
        """(row, prompt, share, first and last + 1 word of the longest run) of each row with a share above `least`.

        `hits` (2, n) holds the (row, gram) pairs, each once. Of equal shares the first prompt is taken.
        """
        rows_with = np.bincount(hits[1], minlength=len(self._distinct))
        weight = [self._weights(at, rows_with) for at in range(len(self._words))]
        before = [np.concatenate([[0.0], np.cumsum(each)]) for each in weight]
        chosen: dict[int, tuple[float, int, int, int]] = {}
        for row, prompt, places in self._meetings(hits):
            total = before[prompt][-1]
            runs = list(_runs(places, self._size))
            share = float(sum(before[prompt][end] - before[prompt][start] for start, end in runs) / total)
            if share > least and (row not in chosen or share > chosen[row][0] + 1e-12):
                start, end = max(runs, key=lambda run: run[1] - run[0])
                chosen[row] = (share, prompt, start, end)
        for row, (share, prompt, start, end) in chosen.items():
            yield row, prompt, share, start, end

    def _meetings(self, hits: NDArray[np.int64]) -> Iterator[tuple[int, int, Ints]]:
        """Each row with each prompt that it shares a gram with, and the places of these grams in the prompt, sorted."""
        counts = (self._starts[1:] - self._starts[:-1])[hits[1]]
        # Postings of all hits, one after the other: the start of each hit's, and how far behind it.
        starts = np.repeat(self._starts[:-1][hits[1]], counts)
        behind = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        postings = starts + behind
        rows = np.repeat(hits[0], counts)
        owners, places = self._owner[postings], self._place[postings]
        order = np.lexsort((places, owners, rows))
        rows, owners, places = rows[order], owners[order], places[order]
        new = np.flatnonzero((np.diff(rows, prepend=-1) != 0) | (np.diff(owners, prepend=-1) != 0))
        for start, end in zip(new, [*new[1:], len(rows)], strict=True):
            yield int(rows[start]), int(owners[start]), places[start:end]

    def _weights(self, prompt: int, rows_with: Ints) -> Floats:
        """What each word of a prompt counts: less, the more rows have a run that it stands in, from `_COMMON` rows."""
        first, last = self._first_gram[prompt], self._first_gram[prompt + 1]
        held = rows_with[self._gram_of[first:last]]
        commonest = np.zeros(len(self._words[prompt]), dtype=np.int64)
        for offset in range(self._size):
            here = commonest[offset : offset + len(held)]
            np.maximum(here, held, out=here)
        weights: Floats = _COMMON / np.maximum(commonest, _COMMON)
        return weights

    def _hashed(self, words: Sequence[str]) -> Hashes:
        known = self._hashes
        if len(known) > _KNOWN_WORDS:
            known.clear()
        for word in set(words) - known.keys():
            known[word] = xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))

    def _grams(self, hashed: Hashes) -> Hashes:
        """One hash for each run of words; its order counts."""
        runs = max(0, len(hashed) - self._size + 1)
        mixed = np.zeros(runs, dtype=np.uint64)
        for offset in range(self._size if runs else 0):
            mixed = (mixed ^ hashed[offset : offset + runs]) * _ODD + _SPREAD
        return mixed


def _runs(places: Iterable[int], size: int) -> Iterator[tuple[int, int]]:
    """Words covered by grams at `places` (sorted): (first, last + 1) of each unbroken run."""
    start = end = -1
    for place in places:
        if place > end:
            if end >= 0:
                yield int(start), int(end)
            start = place
        end = place + size
    if end >= 0:
        yield int(start), int(end)


def _alike(
    rows: Survivors, prompts: Sequence[EvalPrompt], params: DecontaminateParams, outside: Outside
) -> Iterator[Drop]:
    """Drops of the rows whose prompt means what an eval prompt means, by cosine."""
    if outside.embed is None or params.semantic is None:
        raise UsageProblem(
            "decontaminate needs embeddings, and the caller gave no way to compute them",
            where="decontaminate",
            do="Pass embed= to the pipeline, or leave `semantic` out.",
        )
    ids: list[int] = []
    texts: list[str] = []
    for batch in rows:
        ids += [row.id for row in batch]
        texts += [normalise(row.text("prompt")) for row in batch]
    known = outside.embed([normalise(prompt.text) for prompt in prompts], params.model)
    vectors = outside.embed(texts, params.model)  # in one call: each may be a job
    for start in range(0, len(ids), _ROWS):
        cosines = np.nan_to_num(vectors[start : start + _ROWS] @ known.T, nan=-1.0)
        nearest = cosines.argmax(axis=1)
        for id, at, cosine in zip(ids[start : start + _ROWS], nearest, cosines.max(axis=1), strict=True):
            if cosine >= params.semantic:
                where = f"item {prompts[at].item} of {prompts[at].evalset}"
                yield Drop(id, "like an eval prompt", round(float(cosine), 4), detail=f"cosine to {where}")


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
