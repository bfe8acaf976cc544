"""Rows curated by hand: wherever the focus is inside, the same keys drop, restore, edit, label, undo and freeze."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual.containers import Horizontal

from workbench.draft import LABELS, Draft
from workbench.errors import BadInput
from workbench.text import counted
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.listing import draft_told
from workbench.tui.widgets.dialogs import ask_text, choose, dialogue
from workbench.tui.widgets.edit_dialog import MOST, EditDialog
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.rows_pane import RowsPane

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

BY_HAND_ACTIONS = declare(
    Action("drop", ("x",), "drop", "Drop the row, or all marked rows, with a reason.", "by hand", takes="REASON"),
    Action("restore", ("r",), "restore", "Take dropped rows back.", "by hand"),
    Action("edit", ("e",), "edit", "Edit the turns of the row; the row as it was is kept.", "by hand"),
    Action("label", ("l",), "label", "Label rows good, bad or 1 to 5.", "by hand", takes="LABEL"),
    Action("label_as('good')", ("plus",), "good", "Label rows good.", "by hand"),
    Action("label_as('bad')", ("minus",), "bad", "Label rows bad.", "by hand"),
    *(Action(f"label_as('{n}')", (n,), f"rate {n}", f"Label rows {n}.", "by hand") for n in "12345"),
    Action("label_as('')", ("0",), "no label", "Take the label away.", "by hand"),
    Action("undo", ("u",), "undo", "Take the last change back, also one of an earlier day.", "by hand"),
    Action("redo", ("ctrl+r",), "redo", "Do again what was undone.", "by hand"),
    Action("freeze", ("f",), "freeze", "Freeze what is kept as a version with a name.", "by hand", takes="NAME"),
)


@dataclass(frozen=True)
class _Chosen:
    """Rows of one base that something is to be done to: those a person saw before a question, not those after it."""

    base: str
    ids: list[int]


class ByHand(Horizontal):
    """Around a `RowsPane` and whatever belongs to it. Each change is committed; `Changed` tells of it."""

    SCREEN_ACTIONS = BY_HAND_ACTIONS
    BINDINGS = bindings("by hand")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._reason = ""

    @property
    def _bench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    @property
    def _rows(self) -> RowList:
        return self.query_one(RowList)

    @property
    def _base(self) -> str:
        return self.query_one(RowsPane).query_shown.name

    def _chosen(self) -> _Chosen:
        return _Chosen(self._base, self._rows.chosen_ids())

    def _change(
        self,
        what: str,
        change: Callable[[Draft, Sequence[int]], int],
        chosen: _Chosen,
        after: Callable[[Draft, Sequence[int]], str] = lambda draft, ids: "",
    ) -> None:
        """Do something to the rows chosen, and go on to the next; `after` tells what comes of it."""
        ids = chosen.ids
        if not ids:
            self._bench.say("There is no row here.")
            return

        def work(draft: Draft) -> str:
            count = change(draft, ids)
            same = len(ids) - count
            rest = f"; {same:,} {'were' if same != 1 else 'was'} so already" if same else ""
            told = f"{what} {count:,} row{'s' * (count != 1)}{rest}. u undoes." if count else f"{what} no row{rest}."
            return told + after(draft, ids)

        self._bench.changes.put(self, chosen.base, work)
        current = self._rows.current
        if not self._rows.clear_marks(ids) and current and current.id in ids:
            self._rows.action_move(1)

    @dialogue
    async def action_drop(self, reason: str = "") -> None:
        """Drop rows, for a reason."""
        chosen = self._chosen()
        if count := len(chosen.ids):
            title = f"Drop {count:,} row{'s' * (count != 1)}"
            detail = "The reason stays with the rows in every version made of this."
            reason = reason or await ask_text(self.app, title, self._reason, detail=detail, placeholder="why?") or ""
        if reason:
            self._reason = reason
            self._change("Dropped", lambda draft, ids: draft.drop(ids, reason), chosen, after=_alone)

    def action_restore(self) -> None:
        """Take rows back."""
        self._change("Restored", lambda draft, ids: draft.restore(ids), self._chosen())

    @dialogue
    async def action_label(self, label: str = "") -> None:
        """Label rows with what is named, or ask."""
        chosen = self._chosen()
        if not label:
            options = [*((name, name) for name in LABELS), ("none", "no label")]
            label = await choose(self.app, "Label", options, detail="+ good, - bad, 1 to 5 and 0 do it at once.") or ""
        if label:
            self._label("" if label == "none" else label, chosen)

    def action_label_as(self, label: str) -> None:
        """Label rows; an empty label takes theirs away."""
        self._label(label, self._chosen())

    def _label(self, label: str, chosen: _Chosen) -> None:
        what = f"Labelled {label}:" if label else "Took the label of"
        self._change(what, lambda draft, ids: draft.label(ids, label or None), chosen)

    @dialogue
    async def action_edit(self) -> None:
        """Edit the row under the cursor."""
        if not (row := self._rows.current):
            return
        if row.chars > MOST:
            raise BadInput(f"this row has {row.chars:,} characters", do=f"Up to {MOST:,} can be edited here.")
        base = self._base
        detail = await asyncio.to_thread(self._bench.workspace.detail, base, row.id)
        title = f"{flat(detail.source)} row {detail.row:,}"
        edited = await self.app.push_screen_wait(EditDialog(title, detail.messages))
        if edited is None:
            self._bench.say("Nothing was changed.")
            return

        def work(draft: Draft) -> str:
            new = draft.edit(row.id, edited)
            told = f"it is example {new} now, and the row as it was is kept. u undoes."
            return (
                f"Edited 1 row.{alone} I{told[1:]}" if (alone := _alone(draft, [row.id])) else f"Edited 1 row: {told}"
            )

        self._bench.changes.put(self, base, work)

    def action_undo(self) -> None:
        """Take the last change back."""
        self._bench.changes.put(
            self, self._base, lambda draft: _told("Undid", draft.undo(), "There is nothing to undo.")
        )

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._bench.changes.put(self, self._base, lambda draft: _told("Did again", draft.redo(), "Nothing was undone."))

    @dialogue
    async def action_freeze(self, name: str = "") -> None:
        """Freeze what is kept."""
        workspace, base = self._bench.workspace, self._base
        counts = await asyncio.to_thread(workspace.facets, base)
        draft = await asyncio.to_thread(lambda: workspace.draft(base).summary())
        kept = dict(counts.states)["kept"]
        detail = f"It will hold {kept:,} rows of {base} ({counts.rows:,} rows)."
        detail += f" By hand: {told}." if (told := draft_told(draft)) else " Nothing was changed by hand."
        name = name or await ask_text(self.app, f"Freeze {base} as version", detail=detail, placeholder="a name") or ""
        if not name:
            return
        self._bench.say("Freezing …")
        version, new = await asyncio.to_thread(workspace.freeze, base, name)
        told = f"Froze {version.name}: {version.rows:,} rows." if new else f"{version.name} is there already, the same."
        self._bench.say(f"{told} o opens it.")


def _alone(draft: Draft, ids: Sequence[int]) -> str:
    """What is down as duplicates of rows that were dropped or edited just now, and what to do about it."""
    if not (down := draft.down_for(ids)):
        return ""
    of = "it is" if down == 1 else "it are"
    if len(ids) > 1:
        of = of.replace("it", "them", 1)
    return f" {counted(down, 'duplicate')} of {of} down: D, then s keeps one."


def _told(what: str, done: str | None, nothing: str) -> str:
    return f"{what}: {done}." if done else nothing
