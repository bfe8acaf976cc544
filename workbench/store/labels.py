"""Labels that people gave to rows: in the draft of a source or version, or in the metadata that came with them."""

from __future__ import annotations

import json
from contextlib import closing

from workbench.store.database import Store, fetch
from workbench.store.members import Members, Named


def labelled(store: Store, base: Named, field: str | None = None) -> dict[str, str]:
    """Content hash -> label, of the rows of `base` that have one; with `field`, that field of their metadata.

    Of a content that was labelled twice and differently nothing is told.
    """
    if field is None:
        asked = "SELECT content_hash, label FROM labels WHERE base_kind = ? AND base_id = ?"
        with store.reading() as cursor:
            found = fetch(cursor, asked, [base.kind, base.id])
    else:
        found = _from_metadata(store, base, field)
    labels: dict[str, set[str]] = {}
    for key, label in found:
        if label:
            labels.setdefault(key, set()).add(label)
    return {key: next(iter(given)) for key, given in labels.items() if len(given) == 1}


def _from_metadata(store: Store, base: Named, field: str) -> list[tuple[str, str | None]]:
    with closing(Members(store, [base], drafted=True)) as members:
        return [
            (row["content_hash"], _word(json.loads(row["meta"]).get(field)))
            for batch in members.batches(("content_hash", "meta"))
            for row in batch.to_pylist()
            if row["meta"] is not None
        ]


def _word(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip().lower()
