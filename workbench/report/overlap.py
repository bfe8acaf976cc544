"""Two texts side by side, the words that both have underlined."""

from __future__ import annotations

import re

from rich.table import Table
from rich.text import Text

from workbench.text import safe_text

_BEFORE, _LONGEST = 60, 400  # characters: shown before the shared words, and in all


def side_by_side(titles: tuple[str, str], texts: tuple[str, str], shared: str) -> Table:
    """A table of two columns. `shared` is a run of words of both texts, folded and with single blanks between."""
    made = Table(box=None, pad_edge=False, show_edge=False, expand=True)
    for title in titles:
        made.add_column(safe_text(title), ratio=1, overflow="fold", header_style="bold")
    made.add_row(*(_around(text, shared) for text in texts))
    made.add_row()
    return made


def _around(text: str, shared: str) -> Text:
    """The part of `text` that holds the words of `shared`, these underlined."""
    words = r"\W*".join(map(re.escape, shared.split()))
    found = re.search(words, text, re.IGNORECASE) if words else None
    start, end = found.span() if found else (0, 0)
    first = max(0, start - _BEFORE)
    last = first + _LONGEST
    shown = Text("…" if first else "")
    shown.append(safe_text(text[first:start]))
    shown.append(safe_text(text[start : min(end, last)]), style="underline")
    shown.append(safe_text(text[end:last]) if end < last else "")
    return shown.append("…" if last < len(text) else "")
