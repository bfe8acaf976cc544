"""What a screen of rows shows, in words and as a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from workbench.errors import BadInput
from workbench.store.drafts import DraftCounts
from workbench.store.windows import RowPreview, ViewQuery

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
    """Write rows as they are listed, texts cut short, to a new `.csv` or `.jsonl` file; returns how many.

    Raises BadInput where the file is there, or its name says neither.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise BadInput("a list is written as .csv or .jsonl", where=str(path), do="Give the file one of these endings.")
    if path.exists():
        raise BadInput("the file is there already", where=str(path), do="Name another.")
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file) if path.suffix == ".csv" else None
        if table:
            table.writerow(_COLUMNS)
        for row in rows:
            values = [getattr(row, name) for name in _COLUMNS]
            if table:
                table.writerow(values)
            else:
                file.write(json.dumps(dict(zip(_COLUMNS, values, strict=True)), ensure_ascii=False) + "\n")
            count += 1
    return count
