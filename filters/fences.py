"""Code fences of Markdown: where they open and close, what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What follows an opening fence holds no backtick: ```this``` is code inside a line. A list item may open with one.
_MARK = re.compile(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}(?=[^`]*$)|~{3,})(.*)")
_GLUED = re.compile(r"\S[ \t]*(?:`{3,}|~{3,})[ \t]*$")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block. `language` is the first word behind the opening marks, in lower case, or "".

    `glued`: a line inside ends with the marks of a fence, which closes nothing. `inner`: the languages of fences that
    seem to open inside.
    """

    language: str
    body: str
    closed: bool
    glued: bool = False
    inner: tuple[str, ...] = ()


def fences(text: str) -> list[Fence]:
    """The fenced blocks of `text` in order, as CommonMark reads them (section 4.5), but at any indentation.

    A fence is closed by a line of its own with as many of the same marks and nothing behind them; only the last
    block of a text can be open.
    """
    found: list[Fence] = []
    opened: tuple[str, str] | None = None  # marks, language
    body: list[str] = []
    for line in text.splitlines():
        match = _MARK.match(line)
        if opened is None:
            if match:
                words = match[2].split()
                opened, body = (match[1], words[0].lower() if words else ""), []
        elif match and match[1][0] == opened[0][0] and len(match[1]) >= len(opened[0]) and not match[2].strip():
            found.append(_fence(opened[1], body, closed=True))
            opened = None
        else:
            body.append(line)
    if opened is not None:
        found.append(_fence(opened[1], body, closed=False))
    return found


def _fence(language: str, body: list[str], *, closed: bool) -> Fence:
    inner = tuple(match[2].split()[0].lower() for line in body if (match := _MARK.match(line)) and match[2].strip())
    return Fence(language, "\n".join(body), closed, any(_GLUED.search(line[-200:]) for line in body), inner)
