"""Culprits: the rows in which two versions differ, ranked for one eval item, beside what was answered to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.draft import Draft
from workbench.errors import Stopped
from workbench.text import counted
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.changes import Changed
from workbench.tui.messages import BaseChanged, Failure
from workbench.tui.screen import BenchScreen
from workbench.tui.widgets.culprit_rows import OURS, TOLD, culprit_rows, row_lines, version_of
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.table import Table
from workbench.tui.widgets.verdict_lines import item_lines
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.culprits import Culprits, Suspect, Way
    from workbench.results import Finished, ItemAnswers

CULPRITS_ACTIONS = declare(
    Action("drop", ("x",), "drop", "Drop the row, or those marked, in the draft of the version it is in.", "culprits"),
    Action("restore", ("r",), "restore", "Take the row, or those marked, back into the draft.", "culprits"),
    Action("undo", ("u",), "undo", "Take the last change of that draft back.", "culprits"),
    Action("redo", ("ctrl+r",), "redo", "Do again what was undone.", "culprits"),
    Action("by_other", ("m",), "method", "Rank by gradients, a job the first time; then by neighbours.", "culprits"),
    Action("tokens", ("t",), "tokens", "Show the row as tokens, and which of them are trained.", "culprits"),
    Action("browse", ("b",), "rows", "Browse the version with its draft, where f freezes it.", "culprits"),
    Action("into", ("tab",), "read", "Go into the texts, to scroll them; esc comes back.", "culprits"),
    Action("call_off", ("ctrl+c",), "call off", "Stop the job; what it has done is kept.", "culprits"),
)  # fmt: skip


@dataclass
class _Ranked(Message):
    found: Culprits
    dropped: set[int]
    answers: ItemAnswers


@dataclass
class _Standing(Message):
    dropped: set[int]


@dataclass
class _Doing(Message):
    """How far a ranking is; with `ended`, it was called off."""

    told: str
    ended: bool = False


@dataclass
class _Texts(Message):
    about: object
    texts: list[list[Line]]


class CulpritsScreen(BenchScreen):
    """The suspects of one item of a result. It lies over the screen that asks."""

    NAME = "culprits"
    SCREEN_ACTIONS = CULPRITS_ACTIONS
    BINDINGS = bindings("culprits")
    HINTS = ("help", "drop", "restore", "undo", "by_other", "tokens", "browse", "back")
    DEFAULT_CSS = """
    CulpritsScreen #about { height: auto; max-height: 3; padding: 0 1; color: $muted; }
    CulpritsScreen #suspects { height: 1fr; scrollbar-size-horizontal: 0; }
    CulpritsScreen #beside { height: 55%; }
    CulpritsScreen LineView { width: 1fr; padding: 0 0 0 1; border-top: solid $rule; }
    CulpritsScreen LineView:focus { border-top: solid $border; }
    CulpritsScreen #row { border-left: solid $rule; }
    CulpritsScreen.-none { & #suspects, & #beside { display: none; } & #about { max-height: 12; } }
    """

    def __init__(self, shown: Finished, item: int) -> None:
        """Of item number `item` of a result."""
        super().__init__()
        self._result, self._item = shown, item
        self._found: dict[Way, Culprits] = {}
        self._by: Way = "neighbours"
        self._wanted: Way | None = None
        self._doing = ""
        self._failure = ""
        self._called_off = False
        self._stopped: Way | None = None
        self._dropped: set[int] = set()
        self._answers: ItemAnswers | None = None

    def body(self) -> ComposeResult:
        """What is ranked and how; the rows; the item and the row under the cursor beside each other."""
        yield Static(id="about", markup=False)
        yield Table(marks=True, id="suspects")
        with Horizontal(id="beside"):
            yield LineView(id="item")
            yield LineView(id="row")

    def home(self) -> Widget:
        """The rows."""
        return self.table

    @property
    def table(self) -> Table:
        """The rows, by id."""
        return self.query_one("#suspects", Table)

    @property
    def found(self) -> Culprits | None:
        """The ranking in view."""
        return self._found.get(self._by)

    @property
    def current(self) -> Suspect | None:
        """The row under the cursor."""
        key, found = self.table.current, self.found
        return next((one for one in found.suspects if str(one.row.id) == key), None) if found else None

    def on_mount(self) -> None:
        """Rank by neighbours, which takes seconds."""
        super().on_mount()
        self._rank("neighbours")

    # Ranking

    def action_by_other(self) -> None:
        """Rank the other way."""
        other: Way = self._stopped or ("gradients" if self._by == "neighbours" else "neighbours")
        if self._wanted:
            self.say("The rows are still being ranked: ctrl+c stops that.")
        elif other in self._found:
            self._by = other
            self._fill()
        else:
            self._rank(other)

    def _rank(self, by: Way) -> None:
        workspace, shown, item = self.bench.workspace, self._result, self._item
        self._wanted, self._stopped, self._called_off, self._failure = by, None, False, ""
        self._doing = "starting"
        self._describe()

        def progress(done: int, total: int | None, what: str) -> None:
            self.post_message(_Doing(f"{what} {done:,} of {total:,}" if total else what))

        def work(cancelled: Cancelled) -> Message:
            from workbench.culprits import dropped_rows, find_culprits
            from workbench.results import item_answers

            try:
                found = find_culprits(
                    workspace, shown.id, item, number=shown.number, by=by, progress=progress,
                    wish=lambda: "stop" if cancelled() or self._called_off else "watch",
                )  # fmt: skip
            except Stopped:
                return _Doing("", ended=True)
            return _Ranked(found, dropped_rows(workspace, found), item_answers(workspace, shown, item))

        background(self, work, lambda message: message, group="rank")

    @on(_Doing)
    def _tell(self, message: _Doing) -> None:
        self._doing = message.told
        if message.ended:
            self._stopped, self._wanted = self._wanted, None
            self.say("Stopped; what was done is kept: m goes on with it.")
        self._describe()

    @on(_Ranked)
    def _show(self, message: _Ranked) -> None:
        self._found[message.found.by] = message.found
        self._by = message.found.by
        self._dropped, self._answers = message.dropped, message.answers
        self._doing, self._failure, self._wanted = "", "", None
        self._fill()

    def on_failure(self, message: Failure) -> None:
        """Where nothing could be ranked, say so here too, and why."""
        if self._wanted:
            self._doing, self._wanted = "", None
            self._failure = message.text
            self._describe()

    def action_call_off(self) -> None:
        """Stop the job."""
        if self._wanted:
            self._called_off = True

    # Showing

    def _fill(self) -> None:
        if found := self.found:
            self.table.show(*culprit_rows(found, self._found, self._dropped))
            self._describe()
            self._read()

    def _describe(self) -> None:
        """Say what is ranked, and what is being done."""
        found = self.found
        self.set_class(found is None and bool(self._failure), "-none")
        about = f"item {self._item} of {self._result.name}"
        if found:
            about += f" · rows of {found.version} (B) and {found.baseline} (A) that differ: {found.differing:,}"
            about += f" · by {found.by}"
            about += f" · {found.unread:,} could not be ranked" if found.unread else ""
        lines = [about]
        if self._doing:
            lines.append(f"… {self._wanted}: {self._doing} · ctrl+c stops it")
        elif self._failure:
            lines.append(self._failure)
        elif found:
            lines.append(TOLD[found.by])
        self.query_one("#about", Static).update("\n".join(flat(line) for line in lines))

    @on(Table.Highlighted)
    @on(LineView.Widened)
    def _read(self) -> None:
        """Lay out the item and the row under the cursor."""
        suspect, answers, found = self.current, self._answers, self.found
        widths = [view.width for view in self.query(LineView)]
        if suspect is None or answers is None or found is None or min(widths) < 10:
            return
        shown, about = self._result, (suspect.row.id, self._by, *widths)

        def work(cancelled: Cancelled) -> _Texts:
            return _Texts(about, [item_lines(shown, answers, widths[0]), row_lines(suspect, found, widths[1])])

        background(self, work, lambda texts: texts, group="texts")

    @on(_Texts)
    def _paint(self, message: _Texts) -> None:
        for view, lines in zip(self.query(LineView), message.texts, strict=True):
            view.set_lines(lines, int(view.scroll_offset.y) if view.id == "item" else 0)

    def action_into(self) -> None:
        """Go from the table to the item, to the row, and back."""
        panes: list[Widget] = [self.table, *self.query(LineView)]
        at = next((number for number, pane in enumerate(panes) if pane is self.focused), 0)
        panes[(at + 1) % len(panes)].focus()

    @on(Table.Chosen)
    def _chosen(self) -> None:
        self.query_one("#row", LineView).focus()

    def escape(self) -> bool:
        """Back to the table; then marks; then out."""
        if self.focused is not self.table:
            self.focus_home()
            return True
        return self.table.unmark()

    # Deciding

    def action_drop(self) -> None:
        """Drop rows, with the item as the reason."""
        from workbench.culprits import reason_of

        if found := self.found:
            reason = reason_of(found)
            self._change(lambda draft, ids: f"Dropped {counted(draft.drop(ids, reason), 'row')} in the draft of "
                                            f"{found.version}; b goes there, f freezes it.")  # fmt: skip

    def action_restore(self) -> None:
        """Take rows back."""
        self._change(lambda draft, ids: f"Restored {counted(draft.restore(ids), 'row')}.")

    def action_undo(self) -> None:
        """Take the last change back."""
        self._redo(lambda draft: draft.undo(), "Undid", "There is nothing to undo.")

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._redo(lambda draft: draft.redo(), "Did again", "Nothing was undone.")

    def _change(self, change: Callable[[Draft, Sequence[int]], str]) -> None:
        found, table = self.found, self.table
        if found is None:
            return
        keys = set(table.marked or [table.current or ""])
        ids = [one.row.id for one in found.suspects if str(one.row.id) in keys and one.row.side == OURS]
        if ids:
            self.bench.changes.put(self, found.version, lambda draft: change(draft, ids))
        else:
            self.say(f"{found.version} does not have that row: it may have missed what the row teaches.")

    def _redo(self, change: Callable[[Draft], str | None], what: str, nothing: str) -> None:
        def work(draft: Draft) -> str:
            done = change(draft)
            return f"{what}: {done}." if done else nothing

        if found := self.found:
            self.bench.changes.put(self, found.version, work)

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        if (found := self.found) is None:
            return
        workspace = self.bench.workspace

        def work(cancelled: Cancelled) -> _Standing:
            from workbench.culprits import dropped_rows

            return _Standing(dropped_rows(workspace, found))

        background(self, work, lambda standing: standing, group="standing")

    @on(_Standing)
    def _stands(self, message: _Standing) -> None:
        self._dropped = message.dropped
        self._fill()

    # Elsewhere

    def action_tokens(self) -> None:
        """Show the row as tokens."""
        if (suspect := self.current) and (found := self.found):
            self.bench.open_tokens(version_of(suspect, found), suspect.row.id)

    def action_browse(self) -> None:
        """Browse the version that rows are dropped of."""
        if found := self.found:
            self.bench.post_message(BaseChanged(found.version))
