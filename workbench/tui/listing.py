"""What a screen of rows shows, in words and as a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from workbench.store.drafts import DraftCounts
from workbench.store.previews import RowPreview
from workbench.store.windows import ViewQuery
from workbench.tables import write_table

ORDERS = {"prompt_chars": "prompt length", "response_chars": "response length", "turns": "turns"}
"""What rows can be ordered by beside scores: the name in a `ViewQuery`, and its words."""

_COLUMNS = ("pos", "id", "state", "label", "step", "reason", "turns", "chars", "prompt", "response")


def described(query: ViewQuery) -> list[str]:
    """What a list is filtered by, a few words each; the order is not among them."""
    parts: list[str] = []
    if query.which != "all":
        parts.append(query.which)
    for name in ("source", "language"):
        if value := getattr(query, name):
            parts.append(f"{name} {value}")
    if query.step:
        parts.append(f"dropped by {query.step}")
    if query.score:
        name, low, high = query.score
        parts.append(f"{name} {low:.3g}–{high:.3g}")
    if query.search:
        parts.append(f"“{query.search}”")
    if query.where:
        parts.append(f"where {query.where}")
    return parts


def draft_told(counts: DraftCounts) -> str:
    """What people did by hand, in a few words; empty where they did nothing."""
    named = ("dropped", counts.dropped), ("edited", counts.edited), ("restored", counts.restored)
    return ", ".join(f"{count:,} {what}" for what, count in (*named, ("labelled", counts.labelled)) if count)


def write_rows(rows: Iterable[RowPreview], path: Path) -> int:
    """Write rows as they are listed, texts cut short, as a table; returns how many. Raises as `write_table` does."""
    return write_table(path, _COLUMNS, ([getattr(row, name) for name in _COLUMNS] for row in rows))
