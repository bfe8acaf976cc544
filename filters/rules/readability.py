"""`readability`: how hard an English answer is to read, as a school grade."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from typing import Self

from pydantic import model_validator

from filters.rules.language import family, identify
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import code_share, without_code
from trainer.conversation import Side

SHORTEST = 50  # words; the formula was fitted on passages of some hundred words and swings wildly below
_MOSTLY_CODE = 0.3
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
# A line ends a sentence as a full stop does: headings and items of a list have none.
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\"”’])[.!?]+(?=[\s\"”’)]|$)|\n+", re.IGNORECASE)
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?<=[^laeiouy])e$|(?<=[aeiouy]l)e$|(?<=[^aeioutdy])ed$|(?<=[^aeiouxszcgy])es$")
_APART = re.compile(
    r"i[ao](?!u)(?<!ti[ao])(?<!si[ao])(?<!ci[ao])(?<!gi[ao])|eo(?!u)|ua|uou|eing$|[aeiou][^aeiou]+ea$|ism$|[^aeiou]ier$|ying"
)


class ReadabilityParams(FilterParams):
    """Bounds on the grade, inclusive: 5 reads like a children's book, 12 like a newspaper, 18 like a statute."""

    on: Side = "response"
    min_grade: float | None = None
    max_grade: float | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.min_grade, self.max_grade
        if low is None and high is None:
            raise ValueError("needs min_grade or max_grade")
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_grade {low} is more than max_grade {high}: no row could pass")
        return self


class Readability(RowStep[ReadabilityParams]):
    """Drop rows whose text is easier or harder than the bounds, by the Flesch-Kincaid grade.

    English prose of fifty words or more; all else is unscored and kept, because the formula is fitted to English. It
    knows the length of words and sentences and nothing of sense: nonsense in short words reads easily.
    """

    name = "readability"
    kind = "filter"
    params_model = ReadabilityParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The grade."""
        return [readability_scorer(self.params.on)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Outside of the bounds."""
        (score,) = scores
        grade, low, high = score.value or 0.0, self.params.min_grade, self.params.max_grade
        if low is not None and grade < low:
            return Finding("too easy to read", grade, f"grade {grade:.1f}, at least {low:g}")
        if high is not None and grade > high:
            return Finding("too hard to read", grade, f"grade {grade:.1f}, at most {high:g}")
        return None


def readability_scorer(on: Side) -> Scorer:
    """The Flesch-Kincaid grade of one side."""

    def score(row: Row) -> Score:
        text = row.text(on)
        prose = without_code(text)
        if len(_WORD.findall(prose)) < SHORTEST or code_share(text) > _MOSTLY_CODE:
            return Score.unscored(f"fewer than {SHORTEST} words of prose")
        found = identify(prose)
        if found is None or found[0] != family("en"):
            return Score.unscored("not English")
        return Score(round(flesch_kincaid_grade(prose), 2))

    return Scorer("flesch-kincaid-grade", 1, {"on": on, "py3langid": version("py3langid")}, each(score))


def flesch_kincaid_grade(text: str) -> float:
    """0.39 words/sentence + 11.8 syllables/word - 15.59: the school year of the USA that can read `text`.

    Kincaid, Fishburne, Rogers and Chissom, 1975, Research Branch Report 8-75. Syllables are estimated from the
    spelling. Raises ValueError for a text without words.
    """
    pieces = [piece for piece in _SENTENCE_END.split(text) if _WORD.search(piece)]
    found = _WORD.findall(text)
    if not found:
        raise ValueError("a text without words has no grade")
    return 0.39 * len(found) / len(pieces) + 11.8 * sum(map(syllables, found)) / len(found) - 15.59


@lru_cache(maxsize=50_000)
def syllables(word: str) -> int:
    """The syllables of an English word, estimated from its letters; at least one."""
    bare = word.lower().replace("’", "'").partition("'")[0]
    spoken = _SILENT.sub("", bare)
    return max(1, len(_VOWELS.findall(spoken)) + len(_APART.findall(spoken)))
