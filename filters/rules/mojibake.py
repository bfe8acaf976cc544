"""`mojibake`: text that was decoded with the wrong character set (`cafÃ©`) or has lost characters (`�`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version

from pydantic import Field

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.conversation import Side

_ABOUT_ENCODINGS = re.compile(
    r"mojibake|\butf-?(?:8|16|32)\b|\blatin-?1\b|iso-8859|cp-?1252|windows-125\d|charset|character set|encoding"
    r"|unicode|garbled"
    r"|zeichensatz|kodierung|encodage|codificaci[oó]n|codifica|кодировк|编码|乱码|文字化け",
    re.IGNORECASE,
)
_REPLACEMENT = re.compile("\ufffd+")


class MojibakeParams(FilterParams):
    """`max_bad` sequences are let pass."""

    on: Side = "both"
    max_bad: int = Field(default=0, ge=0)


class Mojibake(RowStep[MojibakeParams]):
    """Drop rows with more than `max_bad` sequences that `ftfy` takes for mojibake, or replacement characters.

    A conversation about encodings may quote such sequences and is let pass. Question marks in place of letters
    (`caf?`) cannot be told from question marks.
    """

    name = "mojibake"
    kind = "filter"
    params_model = MojibakeParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The number of bad sequences."""
        on = self.params.on
        return [Scorer("mojibake", 1, {"on": on, "ftfy": version("ftfy")}, each(lambda row: _score(row, on)))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """More bad sequences than allowed."""
        (score,) = scores
        if (score.value or 0.0) <= self.params.max_bad:
            return None
        return Finding("mojibake", score.value, score.detail)


def _score(row: Row, on: Side) -> Score:
    if _ABOUT_ENCODINGS.search(row.text("both")):
        return Score(0.0, detail="about encodings")
    found = [piece for text in row.turns(on) for piece in bad_sequences(text)]
    return Score(float(len(found)), detail=repr(found[0]) if found else None)


def bad_sequences(text: str) -> list[str]:
    """The pieces of `text` that look wrongly decoded, and runs of U+FFFD."""
    from ftfy.badness import BADNESS_RE

    return [match.group() for match in BADNESS_RE.finditer(text)] + _REPLACEMENT.findall(text)
