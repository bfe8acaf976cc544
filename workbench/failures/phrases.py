"""Phrases that a model's answers have far more often than they should: beside the base's answers, and the references.

A phrase is a run of one to six words. It counts once for an item, however often an answer has it: loops are another
failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from workbench.failures.symptoms import plain_words

LONGEST = 6
"""Words of the longest phrase looked for."""

LEAST_SHARE = 0.1
"""Share of the items, at least, that a phrase must mark: what a person sees who reads ten answers."""

ALPHA = 0.05
"""Level of the test, corrected for every phrase that was looked at (Bonferroni)."""

_ALIKE = 0.8  # a longer phrase is the better name for what it has in so many of the same items
_SHARED = 0.5  # a phrase that has so many of its items in common with one already named tells of the same quirk


@dataclass(frozen=True)
class Phrase:
    """A phrase and how many items' answers have it: the arm's, the base's, the references.

    `p` is that of the weaker of the exact tests against base and references, corrected for all phrases looked at.
    """

    words: tuple[str, ...]
    items: int
    base: int
    references: int
    p: float

    @property
    def text(self) -> str:
        """The phrase in words."""
        return " ".join(self.words)

    def is_in(self, text: str) -> bool:
        """Whether a text has it, case and punctuation aside."""
        return f" {self.text} " in f" {' '.join(plain_words(text))} "


def over_represented(
    arm: Sequence[Sequence[str]], base: Sequence[str], references: Sequence[str | None]
) -> list[Phrase]:
    """Phrases that an arm's answers have and those of the base and the references have not, the surest first.

    One entry an item: the answers of the arm's runs (a phrase counts where half of them have it), the base's answer,
    the reference or None. A phrase is tested where it marks `LEAST_SHARE` of the items: McNemar's exact test against
    the base, and against the references, both of which must speak (intersection-union). Of phrases that mark the same
    items one is named.
    """
    said = [_most_have([_phrases(text) for text in texts]) for texts in arm]
    counts = Counter(phrase for found in said for phrase in found)
    least = max(2, LEAST_SHARE * len(said))
    candidates = {phrase for phrase, count in counts.items() if count >= least}
    if not candidates:
        return []
    there: dict[tuple[str, ...], set[int]] = {phrase: set() for phrase in candidates}
    for item, found in enumerate(said):
        for words in found & candidates:
            there[words].add(item)
    in_base = [_phrases(text) & candidates for text in base]
    in_references = [None if text is None else _phrases(text) & candidates for text in references]
    tested = [_test(phrase, items, in_base, in_references) for phrase, items in there.items()]
    sure = sorted((p for p in tested if p.p * len(candidates) < ALPHA), key=lambda p: (p.p, -len(p.words), p.words))
    named: list[Phrase] = []
    taken: set[int] = set()
    for phrase in sure:
        items = there[phrase.words]
        if len(items & taken) >= _SHARED * len(items):
            continue
        best = _longest(phrase, sure, there)
        taken |= items
        named.append(Phrase(best.words, best.items, best.base, best.references, min(1.0, best.p * len(candidates))))
    return named


def _longest(phrase: Phrase, sure: Iterable[Phrase], there: dict[tuple[str, ...], set[int]]) -> Phrase:
    """The longest phrase that marks nearly the same items."""
    items = there[phrase.words]
    alike = [other for other in sure if len(there[other.words] & items) >= _ALIKE * len(items)]
    return max(alike, key=lambda other: (len(other.words), other.items, other.words))


def _phrases(text: str) -> set[tuple[str, ...]]:
    said = plain_words(text)
    return {tuple(said[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(said) - n + 1)}


def _most_have(found: Sequence[set[tuple[str, ...]]]) -> set[tuple[str, ...]]:
    if len(found) == 1:
        return found[0]
    counts = Counter(phrase for one in found for phrase in one)
    return {phrase for phrase, count in counts.items() if 2 * count >= len(found)}


def _test(
    words: tuple[str, ...],
    items: set[int],
    base: Sequence[set[tuple[str, ...]]],
    references: Sequence[set[tuple[str, ...]] | None],
) -> Phrase:
    in_base = {item for item, found in enumerate(base) if words in found}
    known = {item for item, found in enumerate(references) if found is not None}
    in_references = {item for item, found in enumerate(references) if found is not None and words in found}
    p = _more(len(items - in_base), len(in_base - items))
    if known:
        p = max(p, _more(len((items & known) - in_references), len(in_references - items)))
    return Phrase(words, len(items), len(in_base), len(in_references), p)


def _more(only_ours: int, only_theirs: int) -> float:
    """McNemar's exact test, one-sided: the chance of so many items of ours alone among those that differ."""
    differ = only_ours + only_theirs
    return float(stats.binomtest(only_ours, differ, alternative="greater").pvalue) if differ else 1.0
