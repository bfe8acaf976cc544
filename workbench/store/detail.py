"""One example with all that is known of it: scores, what happened to it, where else it stands.

Each part is read by itself: what a person looks at comes at once, whatever the rest costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.conversation import Message
from workbench.errors import NotFound
from workbench.store.database import Connection, Store, fetch, interruptible
from workbench.store.members import Base
from workbench.store.scores import scorings
from workbench.store.sources import also_in


@dataclass(frozen=True)
class ExampleDetail:
    """An example as it stands in a source or version by its draft.

    `id` is the id that the row came with; `shown_id` the one whose text is shown, another where it was edited.
    """

    id: int
    shown_id: int
    source: str
    row: int
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    meta: dict[str, Any]
    content_hash: str


@dataclass(frozen=True)
class StoredScore:
    """A score of the content. `value` and `label` are None unless `state` is ok.

    `scorer` is the name of its `Scoring`: two settings of one scorer stand apart.
    """

    scorer: str
    value: float | None
    label: str | None
    state: str
    detail: str | None


@dataclass(frozen=True)
class ExampleHistory:
    """What happened to an example, in sentences, the oldest first, and the rows of equal content: (source, row)."""

    told: list[str]
    also_in: list[tuple[str, int]]


def example_detail(store: Store, base: Base, id: int) -> ExampleDetail:
    """Example `id` as `base` has it. Raises NotFound where there is no such example."""
    with store.reading() as cursor:
        replaced = _draft_value(cursor, base, id, "replaced")
        shown = int(replaced) if replaced else id
        rows = fetch(
            cursor,
            "SELECT source_id, row, messages, tools, meta, content_hash FROM examples WHERE id = ?",
            [shown],
        )
        if not rows:
            raise NotFound(f"there is no example {id}")
        [(source_id, row, messages, tools, meta, content_hash)] = rows
        [(source,)] = fetch(cursor, "SELECT name FROM sources WHERE id = ?", [source_id])
    return ExampleDetail(
        id=id,
        shown_id=shown,
        source=source,
        row=row,
        messages=json.loads(messages),
        tools=json.loads(tools) if tools else None,
        meta=json.loads(meta or "{}"),
        content_hash=content_hash,
    )


def example_scores(store: Store, content_hash: str) -> list[StoredScore]:
    """The scores of a content, by the names of their scorers."""
    with store.reading() as cursor:
        rows = fetch(
            cursor,
            "SELECT scorer, fingerprint, value, label, state, detail FROM scores WHERE content_hash = ?",
            [content_hash],
        )
        found = {(scorer, fingerprint): rest for scorer, fingerprint, *rest in rows}
        known = scorings(cursor) if found else []
    return [StoredScore(one.name, *rest) for one in known if (rest := found.get((one.scorer, one.fingerprint)))]


def example_history(
    store: Store, base: Base, example: ExampleDetail, cancelled: Callable[[], bool] = lambda: False
) -> ExampleHistory:
    """What happened to an example of `base`. It looks through the hashes of all rows; Stopped once `cancelled()`."""
    with store.reading() as cursor:

        def read() -> ExampleHistory:
            copies = also_in(cursor, [example.content_hash]).get(example.content_hash, [])
            others = [copy for copy in copies if copy != (example.source, example.row)]
            return ExampleHistory(_history(cursor, base, example), others)

        return interruptible(cursor, read, cancelled)


def _draft_value(cursor: Connection, base: Base, id: int, field: str) -> str | None:
    rows = fetch(
        cursor,
        "SELECT value FROM draft_rows WHERE base_kind = ? AND base_id = ? AND example_id = ? AND field = ?",
        [base.kind, base.id, id, field],
    )
    return str(rows[0][0]) if rows else None


def _history(cursor: Connection, base: Base, example: ExampleDetail) -> list[str]:
    """What happened to an example: its origin, recipes, people, versions."""
    id, shown = example.id, example.shown_id
    [(license,)] = fetch(cursor, "SELECT license FROM sources WHERE name = ?", [example.source])
    origin = f"row {example.row} of source {example.source}"
    told = [f"came as {origin}" + (f", under {license}" if license else "")]
    kin = _kin(cursor, [id, shown])
    for version, step, reason, detail in fetch(
        cursor,
        """SELECT r.version_name, s.name, w.reason, w.detail FROM rewrites w JOIN steps s ON s.id = w.step_id
           JOIN recipe_runs r ON r.id = s.recipe_run_id WHERE w.new_id IN (SELECT unnest(?))
           ORDER BY r.id, s.position""",
        [kin],
    ):
        more = f" ({detail})" if detail else ""
        told.append(f"rewritten on the way to {_goal(version)} by {step}: {reason}{more}")
    for version, step, reason, detail, kept_source, kept_row in fetch(
        cursor,
        """SELECT r.version_name, s.name, d.reason, d.detail, ks.name, k.row FROM decisions d
           JOIN steps s ON s.id = d.step_id JOIN recipe_runs r ON r.id = s.recipe_run_id
           LEFT JOIN examples k ON k.id = d.duplicate_of LEFT JOIN sources ks ON ks.id = k.source_id
           WHERE d.example_id IN (SELECT unnest(?)) ORDER BY r.id""",
        [kin],
    ):
        survivor = f", in favour of row {kept_row} of {kept_source}" if kept_source else ""
        more = f" ({detail})" if detail else ""
        told.append(f"dropped on the way to {_goal(version)} by {step}: {reason}{more}{survivor}")
    for kind, what, inverse in fetch(
        cursor,
        """SELECT o.kind, o.what, o.inverse_of FROM operations o
           SEMI JOIN (FROM operation_rows WHERE example_id = ?) x ON x.operation_id = o.id
           WHERE o.base_kind = ? AND o.base_id = ? ORDER BY o.id""",
        [id, base.kind, base.id],
    ):
        told.append(f"{kind}: {what}" if inverse is not None else f"by hand in {base.name}: {what}")
    holding = fetch(
        cursor,
        """SELECT v.name FROM versions v WHERE EXISTS (FROM version_examples x WHERE x.version_id = v.id
           AND x.example_id IN (SELECT unnest(?))) ORDER BY v.id""",
        [[shown, *(id for id in kin if id != example.id)]],
    )
    if holding:
        told.append(f"in version{'s' * (len(holding) > 1)} {', '.join(str(name) for (name,) in holding)}")
    return told


def _kin(cursor: Connection, ids: Sequence[int]) -> list[int]:
    """These examples with what steps rewrote them from and into."""
    found = fetch(
        cursor,
        """WITH RECURSIVE links AS (SELECT example_id AS a, new_id AS b FROM rewrites
                                    UNION ALL SELECT new_id, example_id FROM rewrites),
           kin AS (SELECT unnest(?) AS id UNION SELECT b FROM kin JOIN links ON a = id)
           FROM kin""",
        [list(ids)],
    )
    return [int(id) for (id,) in found]


def _goal(version: str | None) -> str:
    return f"version {version}" if version else "a run that was not finished"
