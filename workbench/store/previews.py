"""The rows of a window of a long list: the beginnings of their texts, and where they stand by draft and recipes.

A window is what a person waits for, so it is read in short queries by id, whose ranges DuckDB can skip by: at a million
rows the one query that would join it all took four times as long.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.conversation import Message, side_text
from workbench.store.database import Connection, fetch
from workbench.store.members import Base

State = Literal["kept", "dropped", "edited", "restored"]

PREVIEW = 200  # characters of each side that a window carries

ListedRow = tuple[int, int, str | None, str | None]
"""A row of a list: its position and id, and the step of a recipe that dropped it, with the reason."""


@dataclass(frozen=True, slots=True)
class RowPreview:
    """One row of a list: the first characters of its prompt and response, and where it stands.

    `step` is what dropped it (`manual` where a person did), `reason` why. `chars` counts the stored text.
    """

    pos: int
    id: int
    prompt: str
    response: str
    turns: int
    chars: int
    state: State
    label: str | None
    step: str | None
    reason: str | None


def preview(pos: int, id: int, messages: str) -> RowPreview:
    """A row of a list by its `messages` (JSON) alone."""
    return _row(pos, id, messages, {}, None, None)


def previews(cursor: Connection, base: Base, rows: Sequence[ListedRow]) -> list[RowPreview]:
    """Rows of a list, in their order. One whose example is gone meanwhile is left out."""
    if not rows:
        return []
    drafts = _drafts(cursor, base, [id for _, id, *_ in rows])
    shown = {id: int(drafts.get(id, {}).get("replaced") or id) for _, id, *_ in rows}
    texts = dict(_by_id(cursor, "id, messages", "examples", "id", list(shown.values())))
    return [
        _row(pos, id, texts[shown[id]], drafts.get(id, {}), step, reason)
        for pos, id, step, reason in rows
        if shown[id] in texts
    ]


def _drafts(cursor: Connection, base: Base, ids: list[int]) -> dict[int, dict[str, str]]:
    """What people did to rows: id -> field -> value."""
    draft = f"(FROM draft_rows WHERE base_kind = '{base.kind}' AND base_id = {base.id})"
    found: dict[int, dict[str, str]] = {}
    for id, field, value in _by_id(cursor, "example_id, field, value", draft, "example_id", ids):
        found.setdefault(id, {})[field] = value
    return found


def _by_id(cursor: Connection, columns: str, table: str, id: str, ids: list[int]) -> list[tuple[Any, ...]]:
    """Columns of the rows with these ids: by their range, which DuckDB can skip by and which often says it all."""
    low, high = min(ids), max(ids)
    within = f"SELECT {columns} FROM {table} t WHERE t.{id} >= {low} AND t.{id} <= {high}"
    if high - low + 1 == len(ids):
        return fetch(cursor, within)
    # A list in an IN is looked up for every row: half a second where a join takes ten milliseconds.
    return fetch(cursor, f"{within} AND t.{id} IN (SELECT unnest(?))", [ids])


def _row(pos: int, id: int, messages: str, draft: dict[str, str], step: str | None, reason: str | None) -> RowPreview:
    by_hand = draft.get("dropped")
    state: State = "kept"
    if by_hand or (step and "restored" not in draft):
        state = "dropped"
    elif "replaced" in draft:
        state = "edited"
    elif "restored" in draft:
        state = "restored"
    turns: list[Message] = json.loads(messages)
    return RowPreview(
        pos=pos,
        id=id,
        prompt=side_text(turns, "prompt")[:PREVIEW],
        response=side_text(turns, "response")[:PREVIEW],
        turns=len(turns),
        chars=len(messages),
        state=state,
        label=draft.get("label"),
        step="manual" if by_hand else step if state == "dropped" else None,
        reason=by_hand or (reason if state == "dropped" else None),
    )
