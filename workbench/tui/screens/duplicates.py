"""Duplicates: what fell for what and how alike they are, at any threshold; and what people decide about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.draft import Draft
from workbench.duplicate_review import Decision, accept, carry_out, keep_instead, reject
from workbench.duplicates import OpenDuplicates, Summary, stepped, write_clusters
from workbench.store.duplicates import ClusterRow, DedupStep
from workbench.text import counted
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.changes import Changed
from workbench.tui.duplicate_work import (
    Decide,
    Listed,
    Texts,
    about_lines,
    as_shown,
    described,
    open_first,
    texts_beside,
)
from workbench.tui.messages import Said
from workbench.tui.recipe_flow import RecipeFlow
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.duplicates_actions import DUPLICATES_ACTIONS
from workbench.tui.widgets.dialogs import ask_text, confirm, dialogue
from workbench.tui.widgets.duplicate_list import ClusterHeading, ClusterList
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import Cancelled, background

RECIPE = "duplicates"
"""The recipe that looks for duplicates where none has been looked for."""

_EMPTY = """

d looks now: a recipe for equal and nearly equal prompts runs over these rows. It says first what would fall, and \
makes a new version only then; these rows stay as they are. What fell stands here beside the row that was kept, and \
can be taken back."""


@dataclass
class _Pending(Message):
    summary: Summary
    told: str


@dataclass
class _Head(Message):
    pos: int


class DuplicatesScreen(BenchScreen):
    """The duplicates that fell on the way to a version. It lies over the screen that asks."""

    NAME = "duplicates"
    SCREEN_ACTIONS = DUPLICATES_ACTIONS
    BINDINGS = bindings("duplicates")
    HINTS = ("help", "accept", "reject", "survive", "threshold_by(-1)", "threshold_by(1)", "cluster(1)", "undo", "back")
    DEFAULT_CSS = """
    DuplicatesScreen #about { height: auto; max-height: 3; padding: 0 1; color: $muted; }
    DuplicatesScreen #panes { height: 1fr; layout: vertical; }
    DuplicatesScreen #clusters { height: 1fr; }
    DuplicatesScreen #texts { height: 50%; }
    DuplicatesScreen LineView { width: 1fr; padding: 0 0 0 1; border-top: solid $rule; scrollbar-gutter: stable; }
    DuplicatesScreen LineView:focus { border-top: solid $border; }
    DuplicatesScreen #member { border-left: solid $rule; }
    DuplicatesScreen.-wide {
        & #panes { layout: horizontal; }
        & #clusters { width: 40%; height: 100%; }
        & #texts { width: 1fr; height: 100%; }
        & LineView { border-top: none; border-left: solid $rule; }
        & LineView:focus { border-top: none; border-left: solid $border; }
    }
    DuplicatesScreen.-none { & #panes { display: none; } & #about { max-height: 12; color: $foreground; } }
    """

    def __init__(self, base: str, row: int | None = None) -> None:
        """`row` is the id of a row whose cluster is looked for first."""
        super().__init__()
        self._base = base
        self._row = row
        self._opened: OpenDuplicates | None = None
        self._steps: Sequence[DedupStep] = ()
        self._shown: Summary | None = None
        self._asked: float | None = None
        self._pending = ""

    def body(self) -> ComposeResult:
        """The step and its counts; the clusters; the texts of a survivor and of a row that falls for it."""
        yield Static(id="about", markup=False)
        with Horizontal(id="panes"):
            with Vertical(id="clusters"):
                yield ClusterHeading()
                yield ClusterList()
            with Horizontal(id="texts"):
                yield LineView(id="survivor")
                yield LineView(id="member")

    def home(self) -> Widget:
        """The list."""
        return self.rows

    @property
    def rows(self) -> ClusterList:
        """The list."""
        return self.query_one(ClusterList)

    @property
    def current(self) -> ClusterRow | None:
        """The row under the cursor, where it is known already."""
        row = self.rows.current
        return row if isinstance(row, ClusterRow) else None

    def on_mount(self) -> None:
        """Open what was asked for."""
        super().on_mount()
        self.arrive(base=self._base, row=self._row)

    def on_unmount(self) -> None:
        """Let go of the list."""
        if self._opened:
            self._opened.close()

    # Which list

    def arrive(self, **args: Any) -> None:
        """Look at the duplicates of `base`, at those of its row `row` where there are some."""
        self._base, row = args["base"], args.get("row")
        store, base = self.bench.workspace.store, self._base
        self._list(lambda cancelled: open_first(store, base, row))

    def action_step(self, by: int) -> None:
        """Show what another step found."""
        if self._opened is None or len(self._steps) < 2:
            self.say("There is no other step that looked for duplicates.")
            return
        at = [step.id for step in self._steps].index(self._opened.step.id)
        step, store, base, steps = (
            self._steps[(at + by) % len(self._steps)],
            self.bench.workspace.store,
            self._base,
            self._steps,
        )
        self._list(lambda cancelled: described(OpenDuplicates(store, base, step), steps))

    def action_threshold_by(self, by: int) -> None:
        """Move the threshold by a hundredth."""
        if self._asked is not None:
            self._move(stepped(self._asked, by))
        else:
            self._no_threshold()

    def action_threshold_of_run(self) -> None:
        """Go back to the threshold of the run."""
        if self._opened and self._opened.own is not None:
            self._move(self._opened.own)
        else:
            self._no_threshold()

    def action_threshold_to(self, number: str = "") -> None:
        """Move the threshold to a number."""
        if not number:
            self.open_command_line(":", "threshold ")
            return
        try:
            self._move(float(number))
        except ValueError:
            self.say(f"{number!r} is no number between 0 and 1.")

    def _no_threshold(self) -> None:
        if self._opened:
            self.say(f"{self._opened.step.name} has no threshold that could be moved.")

    def _move(self, threshold: float) -> None:
        opened, row, pos = self._opened, self.current, self.rows.cursor
        if opened is None or opened.own is None:
            self._no_threshold()
            return
        if threshold < opened.floor:
            self.say(
                f"Pairs are only kept from {opened.floor:g} up: to look below, run the recipe with a lower threshold."
            )
            return
        if not threshold <= 1:
            self.say("1 is the highest threshold: texts that are quite alike.")
            return
        self._asked = threshold
        self.say("")
        self._describe()
        steps = self._steps

        def work(cancelled: Cancelled) -> Listed:
            with opened.lock:
                opened.move(threshold, cancelled)
                return described(opened, steps, row, pos)

        self._list(work)

    def _list(self, work: Callable[[Cancelled], Listed]) -> None:
        def kept(cancelled: Cancelled) -> Listed:
            listed = work(cancelled)
            if cancelled() and listed.opened is not None and listed.opened is not self._opened:
                listed.opened.close()
            return listed

        self.progress("looking …")
        background(self, kept, lambda listed: listed, group="list")

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        self.progress("")
        opened, before = message.opened, self._opened
        self._opened, self._steps, self._shown = opened, message.steps, message.summary
        if before is not None and before is not opened:
            before.close()
        self._pending = message.pending
        self._asked = message.summary.threshold if message.summary else None
        self.set_class(opened is None, "-none")
        if opened is not None:
            rows = self.rows
            rows.side = "response" if opened.step.reports else opened.step.params.get("on", "prompt")
            rows.reported = opened.step.reports
            rows.clear_marks()
            clusters = opened.clusters
            rows.set_source(
                message.lines, lambda *where: [*clusters.window(*where)], clusters.ids, cursor=message.cursor
            )
            if not message.lines:
                self._show([[[("No row falls here.", "muted")]], []])
            if not message.found:
                self.say("That row has no duplicates: these are those of other rows.")
        self._describe()

    def on_failure(self) -> None:
        """Nothing is looked for any more; the app tells what was wrong."""
        self.progress("")
        self._asked = self._shown.threshold if self._shown else None

    def _describe(self) -> None:
        about = self.query_one("#about", Static)
        if self._opened is None or self._shown is None:
            if not self._steps:
                about.update(Text(flat(f"{self._base}: no step on the way here has looked for duplicates.") + _EMPTY))
            return
        lines = about_lines(self._base, self._opened, self._steps, self._shown, self._asked, self._pending)
        about.update(Text("\n".join(flat(line) for line in lines)))

    # The texts

    @on(RowList.Highlighted)
    def _highlighted(self) -> None:
        self._read()

    def on_resize(self) -> None:
        """Lay the texts out again."""
        self.call_after_refresh(self._read)

    def _read(self) -> None:
        opened, row = self._opened, self.current
        widths = [
            self.query_one(f"#{side}", LineView).scrollable_content_region.width for side in ("survivor", "member")
        ]
        if opened is None or row is None or min(widths) < 10:
            return
        background(self, lambda cancelled: texts_beside(opened, row, widths), lambda texts: texts, group="row")

    @on(Texts)
    def _read_texts(self, message: Texts) -> None:
        if (row := self.current) and row.id == message.id:
            self._show(message.texts)

    def _show(self, texts: list[list[Line]]) -> None:
        for side, lines in zip(("survivor", "member"), texts, strict=True):
            self.query_one(f"#{side}", LineView).set_lines(lines)

    def action_into(self) -> None:
        """Go from pane to pane; where nothing was looked for yet, look."""
        if self._opened is None:
            self.action_look_now()
            return
        panes: list[Widget] = [self.rows, *self.query(LineView)]
        at = next((number for number, pane in enumerate(panes) if pane is self.focused), 0)
        panes[(at + 1) % len(panes)].focus()

    def escape(self) -> bool:
        """Back to the list; then marks; then out."""
        if self.focused is not self.rows:
            self.focus_home()
            return True
        return self.rows.clear_marks()

    def action_cluster(self, by: int) -> None:
        """Go to the survivor of another cluster; backwards, first to that of this one."""
        opened, row = self._opened, self.current
        if opened is None or row is None:
            return
        to = row.cluster + (by if by > 0 or row.is_survivor else 0)
        clusters = opened.clusters

        def found(pos: int | None) -> Message:
            return Said("There is no further cluster.") if pos is None else _Head(pos)

        background(self, lambda cancelled: clusters.head_of(to), found, group="go")

    @on(_Head)
    def _go_to_head(self, message: _Head) -> None:
        self.rows.move_to(message.pos, middle=True)

    # Decisions

    def action_accept(self) -> None:
        """Let rows fall."""
        self._decide_chosen(accept)

    def action_reject(self) -> None:
        """Take rows back."""
        self._decide_chosen(reject)

    def _decide_chosen(self, decide: Callable[[OpenDuplicates, Sequence[int], Sequence[int]], Decision]) -> None:
        marks, row = sorted(self.rows.marks), self.current
        if marks:
            self._change(lambda opened: decide(opened, marks, marks))  # a marked survivor stands for its cluster
        elif row is not None:
            survivors, ids = ([row.id], []) if row.is_survivor else ([], [row.id])
            self._change(lambda opened: decide(opened, survivors, ids))
        else:
            self.say("There is no row here.")

    def action_survive(self) -> None:
        """Let this row survive."""
        if row := self.current:
            self._change(lambda opened: keep_instead(opened, row.id))

    @dialogue
    async def action_accept_all(self) -> None:
        """Make it as listed, after a question."""
        if self._opened and self._opened.step.reports:
            self.say("Conflicts are decided one by one: x drops this row, s keeps it and drops the one above.")
            return
        await self._decide_all(accept, "Make it as listed?")

    @dialogue
    async def action_reject_all(self) -> None:
        """Take every row back, after a question."""
        await self._decide_all(reject, "Take every row back?")

    async def _decide_all(self, decide: Decide, question: str) -> None:
        if not (self._is_ready() and self._opened and self._shown):
            return
        opened, shown = self._opened, self._shown
        told = (await asyncio.to_thread(as_shown, opened, shown, decide)).would
        if not told:
            self.say("Nothing would change: the rows stand so already.")
        elif await confirm(self.app, question, f"It {told}. u undoes it."):
            self._change(decide)

    def _is_ready(self) -> bool:
        if self._shown is None or self._asked == self._shown.threshold:
            return True
        self.say("The rows at that threshold are still being looked for.")
        return False

    def _change(self, decide: Decide) -> None:
        opened, shown = self._opened, self._shown
        if opened is None or shown is None or not self._is_ready():
            return

        def work(draft: Draft) -> str:
            with opened.lock:
                return carry_out(draft, opened, as_shown(opened, shown, decide))

        self.bench.changes.put(self, self._base, work)
        self.rows.clear_marks()

    def action_undo(self) -> None:
        """Take the last change back."""
        self._draft(lambda draft: draft.undo(), "Undid", "There is nothing to undo.")

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._draft(lambda draft: draft.redo(), "Did again", "Nothing was undone.")

    def _draft(self, change: Callable[[Draft], str | None], what: str, nothing: str) -> None:
        def work(draft: Draft) -> str:
            done = change(draft)
            return f"{what}: {done}." if done else nothing

        self.bench.changes.put(self, self._base, work)

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        for below in self.app.screen_stack[:-1]:  # which show the same rows
            if below is not self:
                below.post_message(Changed(message.base, message.told))
        self.rows.reload()
        opened, shown = self._opened, self._shown
        if opened is None or shown is None:
            return

        def work(cancelled: Cancelled) -> _Pending:
            with opened.lock:
                return _Pending(shown, as_shown(opened, shown, accept).would)

        background(self, work, lambda pending: pending, group="pending")

    @on(_Pending)
    def _is_pending(self, message: _Pending) -> None:
        if message.summary == self._shown:
            self._pending = message.told
            self._describe()

    # Elsewhere

    def action_tokens(self) -> None:
        """Show the row as tokens."""
        if row := self.current:
            self.bench.open_tokens(self._base, row.id)

    def action_recipe(self) -> None:
        """Show what a recipe would drop of these rows."""
        self.bench.go("recipe", base=self._base)

    @dialogue
    async def action_look_now(self) -> None:
        """Run a recipe that looks for duplicates, and show what it finds."""
        base = self._base
        name = await RecipeFlow(self.bench).run(RECIPE, base)
        if name and self.is_attached and self._base == base:
            self.bench.base = name
            self.arrive(base=name)

    @dialogue
    async def action_export(self, file: str = "") -> None:
        """Write the clusters as listed."""
        opened = self._opened
        file = (
            file
            or await ask_text(self.app, "Write the clusters to", "duplicates.csv", detail="Texts are cut short.")
            or ""
        )
        if not (file and opened):
            return
        path = Path(file).expanduser()

        def work(cancelled: Cancelled) -> Said:
            return Said(f"Wrote {counted(write_clusters(opened, path), 'row')} to {path}.")

        background(self, work, lambda said: said)
