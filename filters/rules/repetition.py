"""`repetition`: answers that run in a loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import code_share, normalise, without_code, words
from trainer.conversation import Side

_LONGEST_UNIT = 40  # words of a loop's unit; longer repeats are whole sentences and found as such
# Only what is ended by a mark is a sentence: lines of a song or of a training plan may come back.
_SENTENCE_END = re.compile(r"([.!?。！？]+|\n)")
_HAS_LETTER = re.compile(r"[^\W\d_]")  # a row of zeros is a matrix
_SHORTEST_SENTENCE = 4  # words: "Yes." or "}" may come as often as they like
_ASKED_FOR = re.compile(
    r"\brepeat|\bagain and again|\b\d+ times\b|\b(?:three|four|five|six|seven|eight|nine|ten|twenty"
    r"|hundred) times\b|\brefrain\b|\bchorus\b"
    r"|wiederhol|mal hintereinander|\brép[eè]t|\brepit|\brepet|重复|繰り返",
    re.IGNORECASE,
)
_MOSTLY_CODE = 0.5


class RepetitionParams(FilterParams):
    """`threshold`: the share of repeated words from which a row falls."""

    on: Side = "response"
    threshold: float = Field(default=0.3, gt=0, le=1)


class Repetition(RowStep[RepetitionParams]):
    """Drop rows of which `threshold` or more is said again: the same words in a row, or the same sentences or lines.

    Code, and prompts that ask for a repetition, are let pass.
    """

    name = "repetition"
    kind = "filter"
    params_model = RepetitionParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The largest share of repeated words among the turns."""
        on = self.params.on
        return [Scorer("repetition", 2, {"on": on}, each(lambda row: _score(row, on)))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """At or above the threshold."""
        (score,) = scores
        if (score.value or 0.0) < self.params.threshold:
            return None
        return Finding("repetition", score.value, score.detail)


def _score(row: Row, on: Side) -> Score:
    if _ASKED_FOR.search(row.text("prompt")):
        return Score(0.0, detail="the prompt asks for a repetition")
    worst, detail = 0.0, None
    for text in row.turns(on):
        if code_share(text) > _MOSTLY_CODE:
            continue
        prose = without_code(text)
        for share, what in (loop_share(prose), sentence_share(prose)):
            if share > worst:
                worst, detail = share, what
    return Score(round(worst, 4), detail=detail)


def loop_share(text: str) -> tuple[float, str | None]:
    """Share of words that only say the words before them again, and the largest repeated unit.

    A loop is a unit of 1 to 40 words that comes at least three times in a row (a single word: five times, because
    "very, very, very" and "ha ha ha" are speech).
    """
    tokens = [word.casefold() for word in words(text)]
    repeated = bytearray(len(tokens))
    best, example = 0, None
    for unit in range(1, min(_LONGEST_UNIT, len(tokens) // 3) + 1):
        least = 5 if unit == 1 else 3
        run = 0  # how many tokens up to here equal the one `unit` before
        for i in range(unit, len(tokens) + 1):
            if i < len(tokens) and tokens[i] == tokens[i - unit]:
                run += 1
                continue
            if run >= (least - 1) * unit and any(map(_HAS_LETTER.search, tokens[i - unit : i])):
                repeated[i - run : i] = b"\x01" * run
                if run > best:
                    best, example = run, " ".join(tokens[i - run : i - run + unit])
            run = 0
    share = sum(repeated) / len(tokens) if tokens else 0.0
    return share, f"again and again: {example}" if example else None


def sentence_share(text: str) -> tuple[float, str | None]:
    """Share of words in sentences that stood there before, and the sentence that comes most often."""
    pieces = _SENTENCE_END.split(text)  # piece, mark, piece, mark, ..., rest
    sentences = [
        normalise(piece, ignore_case=True)
        for piece, mark in zip(pieces[::2], pieces[1::2], strict=False)
        if mark != "\n"
    ]
    lengths = {sentence: len(words(sentence)) for sentence in set(sentences)}
    counts = Counter(sentence for sentence in sentences if lengths[sentence] >= _SHORTEST_SENTENCE)
    again = sum((count - 1) * lengths[sentence] for sentence, count in counts.items())
    if not again:
        return 0.0, None
    sentence, count = counts.most_common(1)[0]
    return again / len(words(text)), f"{count} times: {sentence}"
