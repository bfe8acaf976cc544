"""Which answers of a case show which failure: for each a mark of every answer, or that it cannot be told.

A failure is looked for in the references too. They are what the eval set holds right, so what they show is no failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from workbench.failures import symptoms
from workbench.failures.case import Case, Floats, Given, TrainingRow

REFERENCES = "references"
"""The column of the reference answers, beside the base and the arms."""

LEAST_ITEMS = 10
"""Items on which a failure must be measurable: with fewer no exact test could speak, corrected for all looks."""

QUOTED_FROM = 0.5
"""Share of an answer's runs of eight words that stand in training answers, from which it is quoted from them."""

_LEAST_RUNS = 3  # an answer of ten words; a shorter one may be the one way to say it
_ALIKE = 3  # answers to different questions with one start

Mark = Callable[[str, Given], str | None]


@dataclass(frozen=True)
class Signs:
    """Tables (runs x items) by column: 1 where an answer shows the failure, 0 where not, NaN where it cannot be told.

    `pieces` has for (column, item, run) what shows it; `missing` says why nothing could be told.
    """

    tables: dict[str, Floats] = field(default_factory=dict)
    pieces: dict[tuple[str, int, int], str] = field(default_factory=dict)
    missing: str = ""


def answers_of(case: Case) -> dict[str, list[list[Given]]]:
    """The answers by column, the references among them where there are any, each as one run."""
    given = dict(case.given)
    if any(case.references):
        given[REFERENCES] = [[Given(text or "", "stop")] for text in case.references]
    return given


def mark(case: Case, sees: Mark) -> Signs:
    """The signs that `sees(question, answer)` finds."""
    signs = _no_signs(case)
    for column, items in answers_of(case).items():
        for item, runs in enumerate(items):
            for run, given in enumerate(runs):
                known = not np.isnan(signs.tables[column][run, item])
                if known and (piece := sees(case.questions[item], given)):
                    signs.tables[column][run, item] = 1
                    signs.pieces[column, item, run] = piece
    return signs


def _no_signs(case: Case) -> Signs:
    """Tables without any sign. An item without a reference is unknown in the column of these."""
    given = answers_of(case)
    signs = Signs({column: np.zeros((len(items[0]), len(items))) for column, items in given.items()})
    if REFERENCES in given:
        signs.tables[REFERENCES][:, [reference is None for reference in case.references]] = np.nan
    return signs


def runs_on(case: Case) -> Signs:
    """Answers that the limit of new tokens ended where the reference is at most half as long: others may be so long."""
    limit = case.plan.evaluation.max_new_tokens
    short = np.nan_to_num(case.reference_tokens, nan=np.inf) <= limit / 2
    if short.sum() < LEAST_ITEMS:
        return Signs(
            missing=f"{int(short.sum())} items have a reference of at most {limit // 2} tokens, half the limit of new "
            f"tokens; it takes {LEAST_ITEMS} (compare with a larger --max-new-tokens)"
        )
    signs = mark(case, lambda _, given: symptoms.piece(given.text[-60:]) if given.finish == "length" else None)
    for table in signs.tables.values():
        table[:, ~short] = np.nan
    return signs


def same_start(case: Case) -> Signs:
    """Answers that begin as those to two other questions of other clusters do; see `symptoms.start`."""
    signs = _no_signs(case)
    for column, items in answers_of(case).items():
        for run in range(len(items[0])):
            starts = [symptoms.start(runs[run].text) for runs in items]
            alike: dict[tuple[str, ...], set[str]] = {}
            for item, words in enumerate(starts):
                if words:
                    alike.setdefault(words, set()).add(case.clusters[item])
            for item, words in enumerate(starts):
                if words and len(alike[words]) >= _ALIKE:
                    signs.tables[column][run, item] = 1
                    signs.pieces[column, item, run] = " ".join(words)
    return signs


class Quotes:
    """What of the answers stands in the training answers: each arm's in its own, base and references in any arm's."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._asked = [symptoms.runs(question) for question in case.questions]
        self._runs: dict[tuple[str, int, int], list[tuple[str, ...]]] = {}
        for column, items in answers_of(case).items():
            for item, runs in enumerate(items):
                for run, given in enumerate(runs):
                    self._runs[column, item, run] = sorted(symptoms.runs(given.text) - self._asked[item])
        self._wanted = {words for found in self._runs.values() for words in found}
        self._rows: dict[str, dict[tuple[str, ...], list[int]]] = {arm: {} for arm in case.versions}

    def read(self, arm: str, rows: Iterable[TrainingRow]) -> None:
        """Take in the training rows of an arm."""
        there = self._rows[arm]
        for row in rows:
            said = {words for _, answer in row.answers for words in symptoms.runs(answer)}
            for words in said & self._wanted:
                there.setdefault(words, []).append(row.id)

    def signs(self) -> Signs:
        """The answers that are quoted, `QUOTED_FROM` of their runs or more. Runs of the prompt do not count."""
        everywhere = {words for there in self._rows.values() for words in there}
        signs = _no_signs(self._case)
        for column, items in answers_of(self._case).items():
            there = self._rows.get(column, everywhere)
            for item, runs in enumerate(items):
                for run in range(len(runs)):
                    found = self._runs[column, item, run]
                    quoted = [words for words in found if words in there]
                    if len(found) >= _LEAST_RUNS and len(quoted) >= QUOTED_FROM * len(found):
                        signs.tables[column][run, item] = 1
                        signs.pieces[column, item, run] = " ".join(quoted[0])
        return signs

    def quoted_rows(self, arm: str, signs: Signs) -> Counter[int]:
        """The rows that the arm's quoting answers have most runs of, with how many answers quote each."""
        rows: Counter[int] = Counter()
        for column, item, run in signs.pieces:
            if column == arm:
                shared = Counter(id for words in self._runs[arm, item, run] for id in self._rows[arm].get(words, ()))
                rows[min(shared, key=lambda id: (-shared[id], id))] += 1
        return rows
