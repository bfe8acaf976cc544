"""The draft of a source or version: what people do by hand, each action committed at once and undoable for good.

A freeze of the base, or a recipe run on it, applies the draft first, as a step named `manual`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from filters.step import StepOutcome
from trainer.conversation import Message, canonical_json
from workbench.errors import BadInput
from workbench.store import drafts, duplicates
from workbench.store.database import Store
from workbench.store.drafts import MANUAL, Change, DraftCounts
from workbench.store.members import Members, resolve

LABELS = ("good", "bad", "1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Duplicate:
    """A row that says what another says: its id, the other's, how alike they are, and that in words.

    `step` is the id of the step whose list it was decided in.
    """

    id: int
    of: int
    similarity: float
    reason: str
    step: int


class Draft:
    """What people did to one source or version. Rows are named by the id they came with, edited or not."""

    def __init__(self, store: Store, base: str) -> None:
        """Raises NotFound where `base` names no source or version."""
        self._store = store
        self.base = resolve(store, base)

    def drop(self, ids: Sequence[int], reason: str) -> int:
        """Drop rows, with a reason that stays readable in every version; returns how many were not dropped yet.

        Rows that a recipe dropped on the way to the base are left as they are, unless they were restored.
        """
        reason = " ".join(reason.split())
        if not reason:
            raise BadInput("a drop needs a reason", do="Say in a word or two why the rows should go.")
        with self._store.transaction() as cursor:
            there = drafts.inside(cursor, self.base, ids, or_restored=True)
            changes: list[Change] = [(id, "dropped", reason) for id in ids if id in there]
            changes += [(id, "duplicate_of", None) for id in ids]
            return drafts.record(cursor, self.base, "drop", lambda n: f"dropped {_rows(n)} ({reason})", changes)

    def dropped(self, ids: Sequence[int]) -> set[int]:
        """Those of rows `ids` that the draft drops."""
        return drafts.dropped_of(self._store, self.base, ids)

    def down_for(self, ids: Sequence[int]) -> int:
        """How many rows are down as duplicates of rows `ids`."""
        return duplicates.down_for(self._store, self.base, ids)

    def restore(self, ids: Sequence[int]) -> int:
        """Take rows back in, whether a person or a recipe dropped them; returns how many came back."""
        with self._store.transaction() as cursor:
            inside = drafts.inside(cursor, self.base, ids)
            changes = _kept(ids, inside)
            return drafts.record(cursor, self.base, "restore", lambda n: f"restored {_rows(n)}", changes)

    def settle(self, what: str, falls: Sequence[Duplicate], back: Sequence[int], as_came: Sequence[int] = ()) -> int:
        """Drop rows as duplicates, take others `back`, and leave rows `as_came`, all as one action told by `what`.

        Rows `as_came` are again where the base has them: in it, or dropped by the recipe that made it. Returns how
        many rows changed.
        """
        with self._store.transaction() as cursor:
            inside = drafts.inside(cursor, self.base, [*back, *(fall.id for fall in falls)])
            changes = _kept(back, inside)
            for fall in falls:
                pointed = canonical_json({"of": fall.of, "similarity": fall.similarity, "step": fall.step})
                changes += [(fall.id, "dropped", fall.reason), (fall.id, "duplicate_of", pointed)]
                if fall.id not in inside:  # a recipe dropped it, for another row: the later word is a person's
                    changes.append((fall.id, "restored", "yes"))
            for id in as_came:
                changes += [(id, "dropped", None), (id, "duplicate_of", None), (id, "restored", None)]
            return drafts.record(cursor, self.base, "duplicates", lambda _: what, changes)

    def edit(self, id: int, messages: Sequence[Message]) -> int:
        """Put other messages in the place of a row's. The row stays as it was; returns the id of the new example.

        Raises BadInput where no assistant turn is left to learn from or a turn is not one.
        """
        for number, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise BadInput("a turn has no role", where=f"messages[{number}]", do="Give role and content.")
        if not any(message["role"] == "assistant" for message in messages):
            raise BadInput("no assistant turn is left", do="Drop the row instead, or keep an answer.")
        text = canonical_json(list(messages))
        with self._store.transaction(rows=True) as cursor:
            new, row = drafts.write_edit(cursor, id, text)
            drafts.record(cursor, self.base, "edit", lambda _: f"edited row {row}", [(id, "replaced", str(new))])
        return new

    def label(self, ids: Sequence[int], label: str | None) -> int:
        """Label rows, or take their label away; returns how many labels changed. Raises BadInput for other labels."""
        if label is not None and label not in LABELS:
            raise BadInput(f"{label!r} is no label", do=f"Labels are {', '.join(LABELS)}.")

        def what(rows: int) -> str:
            return f"labelled {_rows(rows)} {label}" if label else f"took the label of {_rows(rows)}"

        with self._store.transaction() as cursor:
            return drafts.record(cursor, self.base, "label", what, [(id, "label", label) for id in ids])

    def undo(self) -> str | None:
        """Take back the last action; says which, or None where there is none."""
        with self._store.transaction() as cursor:
            operation = drafts.undo(cursor, self.base)
        return operation.what if operation else None

    def redo(self) -> str | None:
        """Do again what was undone last; says what, or None where there is nothing."""
        with self._store.transaction() as cursor:
            operation = drafts.redo(cursor, self.base)
        return operation.what if operation else None

    def summary(self) -> DraftCounts:
        """What the draft adds up to."""
        return drafts.counts(self._store, self.base)

    def log(self, limit: int = 20) -> list[str]:
        """The last actions, the newest first, undone ones and their undoing among them."""
        told = {"undo": "undid: ", "redo": "did again: "}
        return [told.get(entry.kind, "") + entry.what for entry in drafts.log(self._store, self.base, limit)]


def manual_step(store: Store, members: Members) -> list[StepOutcome]:
    """The step that stands in a ledger for the drafts of what `members` (read as drafted) were chosen from.

    An empty list where people changed no row.
    """
    changed = {base.name: drafts.counts(store, base) for base in members.names}
    changed = {name: counts for name, counts in changed.items() if counts.changes_rows}
    if not changed:
        return []
    found = {drop.id: drop for base in members.names for drop in drafts.dropped(store, base)}
    gone = members.absent(list(found))  # a row may be dropped in one of the inputs and stay in another
    drops = [drop for id, drop in found.items() if id in gone]
    # What the drops do not tell.
    params = {name: {"edited": counts.edited, "restored": counts.restored} for name, counts in changed.items()}
    return [StepOutcome(0, MANUAL, "filter", params, members.rows + len(drops), drops, [], 0.0)]


def _kept(ids: Iterable[int], inside: set[int]) -> list[Change]:
    """What makes rows stand as kept; those that are not `inside` the base were dropped on the way to it."""
    changes: list[Change] = []
    for id in ids:
        changes += [(id, "dropped", None), (id, "duplicate_of", None)]
        if id not in inside:
            changes.append((id, "restored", "yes"))
    return changes


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
