"""`length_constraints:*`: how many words, sentences or paragraphs an answer has."""

from __future__ import annotations

import re

from pydantic import Field

from trainer.instructions.check import Check, Relation, holds, without_empty_ends, words

_ABBREVIATIONS = (
    "mr mrs ms dr prof st sr jr vs etc inc ltd co corp dept est fig gen gov rev sen rep lt col sgt capt "
    "jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.m p.m u.s u.k ph.d"
)
_END = re.compile(r"([.!?…]+|[。！？।]+)[\"'”’)\]*_]*(?=\s|$)|[。！？](?=\S)")


class Words(Check):
    """The answer has so many words."""

    num_words: int
    relation: Relation

    def _follows(self, answer: str) -> bool:
        return holds(len(words(answer)), self.relation, self.num_words)


class Sentences(Check):
    """The answer has so many sentences."""

    num_sentences: int
    relation: Relation

    def _follows(self, answer: str) -> bool:
        return holds(sentences(answer), self.relation, self.num_sentences)


class Paragraphs(Check):
    """The answer has exactly so many paragraphs, parted by the divider `***`; none in the middle is empty."""

    num_paragraphs: int = Field(ge=1)

    def _follows(self, answer: str) -> bool:
        parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
        parts = without_empty_ends(parts)
        return all(parts) and len(parts) == self.num_paragraphs


class NthParagraphFirstWord(Check):
    """There are exactly so many paragraphs, parted by empty lines, and the nth (from 1) begins with the word."""

    num_paragraphs: int = Field(ge=1)
    nth_paragraph: int = Field(ge=1)
    first_word: str = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        parts = [part.strip() for part in answer.split("\n\n")]
        parts = [part for part in parts if part]
        if len(parts) != self.num_paragraphs or self.nth_paragraph > len(parts):
            return False
        first = re.match(r"[\"'“‘*_]*([^\s.,?!'\"’”*_]+)", parts[self.nth_paragraph - 1])
        return first is not None and first[1].casefold() == self.first_word.casefold()


def sentences(text: str) -> int:
    """How many sentences a text has: the pieces between full stops, question and exclamation marks, if they have words.

    A stop ends no sentence behind a known abbreviation or a single capital (an initial), in a number or name
    ("3.5", "example.com"), behind the number of a list's point, or before a word in small letters.
    """
    count, start = 0, 0
    for end in _END.finditer(text):
        if _inner(text, start, end):
            continue
        count += bool(words(text[start : end.end()]))
        start = end.end()
    return count + bool(words(text[start:]))


def _inner(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether what looks like the end of a sentence stands inside of it."""
    if end[0][0] != ".":
        return False
    before = text[start : end.start()].rsplit(None, 1)
    last = before[-1].lstrip("\"'“‘([*_") if before else ""
    if last.isdigit() and text[: end.start()].rsplit("\n", 1)[-1].strip(" *#-") == last:
        return True  # "1." at the beginning of a line
    if last.casefold() in _ABBREVIATIONS.split() or (len(last) == 1 and last.isupper() and last != "I"):
        return bool(text[end.end() :].strip())
    rest = text[end.end() :].lstrip(" \t")
    return rest[:1].islower()
