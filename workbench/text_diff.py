"""What one text has that another has not, word by word: to see in what near-equal rows differ."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_MOST = 3000  # words and signs of both texts: comparing takes their product in the worst case


def differing(text: str, other: str) -> list[tuple[str, bool]]:
    """`text` in pieces, each with whether `other` lacks it, words whole; long texts come in one piece, as alike."""
    words, others = _WORD.findall(text), _WORD.findall(other)
    if text == other or len(words) + len(others) > _MOST:
        return [(text, False)]
    pieces: list[tuple[str, bool]] = []
    for tag, start, stop, _, _ in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        if start < stop:
            pieces.append(("".join(words[start:stop]), tag != "equal"))
    return pieces
