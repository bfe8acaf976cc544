"""The rows that a step would drop, read by windows: the beginnings of their texts, and why each falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from filters.step import Drop
from workbench.store.database import Store
from workbench.store.previews import RowPreview, preview


@dataclass(frozen=True, slots=True)
class FallenRow(RowPreview):
    """A row that falls: the step's `score` of it, the row `of` that it is a duplicate of, what was seen."""

    source: str
    row: int
    score: float | None
    of: int | None
    detail: str | None


@dataclass(frozen=True)
class RowText:
    """The text of a row: where it came from, and its messages as JSON."""

    source: str
    row: int
    messages: str


def row_texts(store: Store, ids: Sequence[int]) -> dict[int, RowText]:
    """The texts of some rows by id; one that is gone is not among them."""
    if not ids:
        return {}
    # The range is what DuckDB can skip by; an IN of a list is looked up for every row.
    found = store.rows(
        f"""SELECT e.id, s.name, e.row, e.messages FROM examples e JOIN sources s ON s.id = e.source_id
            WHERE e.id >= {min(ids)} AND e.id <= {max(ids)} AND e.id IN (SELECT unnest(?))""",
        [list(ids)],
    )
    return {id: RowText(source, row, messages) for id, source, row, messages in found}


def fallen_rows(store: Store, drops: Sequence[Drop], start: int, count: int) -> list[FallenRow]:
    """The rows of a window of `drops`, in their order."""
    window = drops[start : start + count]
    texts = row_texts(store, [drop.id for drop in window])
    rows = []
    for pos, drop in enumerate(window, start):
        if (text := texts.get(drop.id)) is None:
            continue
        shown = asdict(preview(pos, drop.id, text.messages)) | {"reason": drop.reason}
        rows.append(
            FallenRow(
                **shown, source=text.source, row=text.row, score=drop.score, of=drop.duplicate_of, detail=drop.detail
            )
        )
    return rows
