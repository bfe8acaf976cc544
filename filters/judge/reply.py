"""What a judge's answer says. Only the form that was asked for counts, and only at the very end of the answer."""

from __future__ import annotations

import re
from typing import Literal

Preference = Literal["A", "B", "tie"]

_RATING = re.compile(r"[*_]*rating:[*_]*\s*[*_]*(\d{1,3})[*_]*\.?", re.IGNORECASE)
_BETTER = re.compile(r"[*_]*better:[*_]*\s*[*_]*(A|B|tie)[*_]*\.?", re.IGNORECASE)
_REASON = 600  # characters of a reason that are kept


def rating(text: str, scale: range) -> int | None:
    """The rating that `text` ends with, or None where its last line is not `Rating: N` with N of the scale."""
    match = _RATING.fullmatch(_last_line(text))
    return int(match[1]) if match and int(match[1]) in scale else None


def preference(text: str) -> Preference | None:
    """Which answer `text` ends with: its last line is `Better: A`, `Better: B` or `Better: tie`, else None."""
    match = _BETTER.fullmatch(_last_line(text))
    if match is None:
        return None
    said = match[1].upper()
    return "A" if said == "A" else "B" if said == "B" else "tie"


def reason(text: str) -> str | None:
    """What stands before the last line, on one line and shortened; None where there is nothing."""
    lines = text.rstrip().splitlines()[:-1]
    told = " ".join(" ".join(lines).split())
    return told[: _REASON - 1] + "…" if len(told) > _REASON else told or None


def _last_line(text: str) -> str:
    lines = text.rstrip().splitlines()
    return lines[-1].strip() if lines else ""
