"""Text from data made safe to show: it may hold anything, and a terminal would obey some of it."""

from __future__ import annotations

import unicodedata

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe_text(text: str, *, newlines: bool = False) -> str:
    """`text` with control, escape, bidi and surrogate characters as visible glyphs.

    Newlines become `⏎` unless `newlines`; tabs become `⇥`. The result is plain text: print it, never parse it
    as markup.
    """
    if text.isprintable() and not _BIDI.intersection(text):
        return text
    return "".join(_visible(char, newlines) for char in text)


def _visible(char: str, newlines: bool) -> str:
    if char == "\n":
        return "\n" if newlines else "⏎"
    if char == "\t":
        return "⇥"
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if char in _BIDI or unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}:
        return f"⟨{code:04X}⟩"
    return char


def counted(count: int, noun: str) -> str:
    """`count` things in words: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def clip(text: str, width: int) -> str:
    """`text` on one line, at most `width` characters, with an ellipsis where it was cut."""
    line = safe_text(text)
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def clip_start(text: str, width: int) -> str:
    """`text` on one line, at most `width` characters of its end, which tells paths apart, behind an ellipsis."""
    line = safe_text(text)
    return line if len(line) <= width else "…" + line[len(line) - max(width - 1, 0) :]
