"""Text from data inside Markdown and shell commands: whatever it holds, it stays text."""

from __future__ import annotations

import re
from collections.abc import Collection

from workbench.text import safe_text

# What CommonMark, its tables, raw HTML and the hub's formulas read as more than text. Any of them may be escaped.
_MARKUP = re.compile(r"([\\`*_\[\]<>&|~#$!])")
_START = re.compile(r"^(\d*)([-+=.)])")  # at the start of a line these begin lists and headings


def plain(text: str) -> str:
    """`text` on one line as Markdown that shows exactly that; control characters become visible glyphs."""
    return _START.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", safe_text(text).strip()))


def code_block(text: str, language: str) -> str:
    """`text` as a fenced block whose fence no line in it can close."""
    shown = safe_text(text, newlines=True).strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def table(header: list[str], rows: list[list[str]], right: Collection[int] = ()) -> str:
    """A table of cells that are Markdown already; the columns in `right` hold numbers."""
    rule = ["---:" if i in right else "---" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
