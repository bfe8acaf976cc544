"""`keywords:*` and `change_case:capital_word_frequency`: what must be in an answer, how often, or not at all."""

from __future__ import annotations

import re

from pydantic import Field

from trainer.instructions.check import Check, Relation, holds


class Existence(Check):
    """Every keyword occurs, in any case, also inside a longer word ("intern" in "internship")."""

    keywords: list[str] = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        text = answer.casefold()
        return all(keyword.casefold() in text for keyword in self.keywords)


class Frequency(Check):
    """The keyword occurs so often, in any case, also inside longer words."""

    keyword: str = Field(min_length=1)
    frequency: int
    relation: Relation

    def _follows(self, answer: str) -> bool:
        return holds(answer.casefold().count(self.keyword.strip().casefold()), self.relation, self.frequency)


class ForbiddenWords(Check):
    """None of the words occurs, in any case, as a word of its own ("rock" may be in "rocket")."""

    forbidden_words: list[str] = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        return not any(
            re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in self.forbidden_words
        )


class LetterFrequency(Check):
    """The letter (or sign) occurs so often, in any case."""

    letter: str = Field(min_length=1, max_length=1)
    let_frequency: int
    let_relation: Relation

    def _follows(self, answer: str) -> bool:
        return holds(answer.lower().count(self.letter.lower()), self.let_relation, self.let_frequency)


class CapitalWords(Check):
    """So many words are written in capitals alone; "I" is one, "COVID-19" is one."""

    capital_frequency: int
    capital_relation: Relation

    def _follows(self, answer: str) -> bool:
        return holds(sum(word.isupper() for word in answer.split()), self.capital_relation, self.capital_frequency)
