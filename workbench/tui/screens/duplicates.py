"""Duplicates: what fell for what and how alike they are, at any threshold; and what people decide about it."""

from __future__ import annotations

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

from workbench.duplicate_review import accept, keep_instead, reject
from workbench.duplicates import OpenDuplicates, Summary, stepped, write_clusters
from workbench.store.duplicates import ClusterRow, DedupStep
from workbench.text import counted
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.changes import Changed
from workbench.tui.duplicate_decisions import Decisions
from workbench.tui.duplicate_work import Listed, about_lines, as_shown, described, not_looked_for, open_first
from workbench.tui.messages import Said
from workbench.tui.recipe_flow import RecipeFlow
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.duplicates_actions import DUPLICATES_ACTIONS
from workbench.tui.widgets.dialogs import ask_text, dialogue
from workbench.tui.widgets.duplicate_list import ClusterHeading, ClusterList
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.pair_view import PairView
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import Cancelled, background

RECIPE = "duplicates"
"""The recipe that looks for duplicates where none has been looked for."""


@dataclass
class _Pending(Message):
    summary: Summary
    told: str


@dataclass
class _Head(Message):
    pos: int | None
    hold: int


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
    DuplicatesScreen LineView { width: 1fr; padding: 0 0 0 1; border-top: solid $rule; }
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
        self.base = base
        self._row = row
        self.opened: OpenDuplicates | None = None
        self._steps: Sequence[DedupStep] = ()
        self.shown: Summary | None = None
        self._asked: float | None = None
        self._pending = ""
        self._looking = False
        self._decisions = Decisions(self)

    def body(self) -> ComposeResult:
        """The step and its counts; the clusters; the texts of a survivor and of a row that falls for it."""
        yield Static(id="about", markup=False)
        with Horizontal(id="panes"):
            with Vertical(id="clusters"):
                yield ClusterHeading()
                yield ClusterList()
            yield PairView(id="texts")

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
        self.arrive(base=self.base, row=self._row)

    def on_unmount(self) -> None:
        """Let go of the list, once what was decided by it is done."""
        if self.opened:
            self.bench.changes.behind(self.opened.close)

    # Which list

    def arrive(self, **args: Any) -> None:
        """Look at the duplicates of `base`, at those of its row `row` where there are some."""
        self.base, row = args["base"], args.get("row")
        store, base = self.bench.workspace.store, self.base
        self._list(lambda cancelled: open_first(store, base, row))

    def action_step(self, by: int) -> None:
        """Show what another step found."""
        if self.opened is None or len(self._steps) < 2:
            self.say("There is no other step that looked for duplicates.")
            return
        store, base, steps = self.bench.workspace.store, self.base, self._steps
        at = [step.id for step in steps].index(self.opened.step.id)
        step = steps[(at + by) % len(steps)]
        self._list(lambda cancelled: described(OpenDuplicates(store, base, step), steps))

    def action_threshold_by(self, by: int) -> None:
        """Move the threshold by a hundredth."""
        if self._asked is not None:
            self._move(stepped(self._asked, by))
        else:
            self._no_threshold()

    def action_threshold_of_run(self) -> None:
        """Go back to the threshold of the run."""
        if self.opened and self.opened.own is not None:
            self._move(self.opened.own)
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
        if self.opened:
            self.say(f"{self.opened.step.name} has no threshold that could be moved.")

    def _move(self, threshold: float) -> None:
        opened, row, pos = self.opened, self.current, self.rows.cursor
        if opened is None or opened.own is None:
            self._no_threshold()
            return
        if threshold < opened.floor:
            do = "to look below, run the recipe with a lower threshold"
            self.say(f"Pairs are only kept from {opened.floor:g} up: {do}.")
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
            if cancelled() and listed.opened is not None and listed.opened is not self.opened:
                listed.opened.close()
            return listed

        self._looking = True
        self.progress("looking …")
        background(self, kept, lambda listed: listed, group="list")

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        self._looking = False
        self.progress("")
        opened, before = message.opened, self.opened
        self.opened, self._steps, self.shown = opened, message.steps, message.summary
        if before is not None and before is not opened:
            self.query_one(PairView).forget()
            self.bench.changes.behind(before.close)
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
                self.query_one(PairView).show(opened, None)
            if not message.found:
                self.say("That row has no duplicates: these are those of other rows.")
        self._describe()

    def on_failure(self) -> None:
        """Nothing is looked for any more; the app tells what was wrong."""
        self._looking = False
        self.progress("")
        self._asked = self.shown.threshold if self.shown else None

    def _describe(self) -> None:
        about = self.query_one("#about", Static)
        if self.opened is None or self.shown is None:
            if not self._steps:
                about.update(Text(not_looked_for(self.base)))
            return
        lines = about_lines(self.base, self.opened, self._steps, self.shown, self._asked, self._pending)
        about.update(Text("\n".join(flat(line) for line in lines)))

    # The texts

    @on(RowList.Highlighted)
    def _highlighted(self) -> None:
        if self.opened and (row := self.current):
            self.query_one(PairView).show(self.opened, row)

    def action_into(self) -> None:
        """Go from pane to pane; where nothing was looked for yet, look."""
        if self.opened is None:
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
        opened, row = self.opened, self.current
        if opened is None or row is None:
            return
        to = row.cluster + (by if by > 0 or row.is_survivor else 0)
        clusters, hold = opened.clusters, self.bench.hold_keys()  # they are meant for that cluster
        background(self, lambda cancelled: clusters.head_of(to), lambda pos: _Head(pos, hold), group="go")

    @on(_Head)
    def _go_to_head(self, message: _Head) -> None:
        if message.pos is None:
            self.say("There is no further cluster.")
        else:
            self.rows.move_to(message.pos, middle=True)
        self.bench.release_keys(message.hold)

    # Decisions

    def action_accept(self) -> None:
        """Let rows fall."""
        self._decisions.chosen(accept)

    def action_reject(self) -> None:
        """Take rows back."""
        self._decisions.chosen(reject)

    def action_survive(self) -> None:
        """Let this row survive."""
        if row := self.current:
            self._decisions.change(lambda opened: keep_instead(opened, row.id))

    @dialogue
    async def action_accept_all(self) -> None:
        """Make it as listed, after a question."""
        if self.opened and self.opened.step.reports:
            self.say("Conflicts are decided one by one: x drops this row, s keeps it and drops the one above.")
            return
        await self._decisions.all(accept, "Make it as listed?")

    @dialogue
    async def action_reject_all(self) -> None:
        """Take every row back, after a question."""
        await self._decisions.all(reject, "Take every row back?")

    def is_ready(self) -> bool:
        """Whether what was asked for is listed; says so where it is not yet. Nothing is decided about unseen rows."""
        if self.shown and self._asked != self.shown.threshold:
            self.say("The rows at that threshold are still being looked for.")
        elif self._looking:
            self.say("The duplicates are still being looked for.")
        else:
            return True
        return False

    def action_undo(self) -> None:
        """Take the last change back."""
        self._decisions.draft(lambda draft: draft.undo(), "Undid", "There is nothing to undo.")

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._decisions.draft(lambda draft: draft.redo(), "Did again", "Nothing was undone.")

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        for other in self.app.screen_stack:  # they show the same rows
            if other is not self:
                other.post_message(Changed(message.base, message.told))
        if self not in self.app.screen_stack:
            return
        self.rows.reload()
        opened, shown = self.opened, self.shown
        if opened is None or shown is None:
            return

        def work(cancelled: Cancelled) -> _Pending:
            with opened.lock:
                return _Pending(shown, as_shown(opened, shown, accept).would)

        background(self, work, lambda pending: pending, group="pending")

    @on(_Pending)
    def _is_pending(self, message: _Pending) -> None:
        if message.summary == self.shown:
            self._pending = message.told
            self._describe()

    # Elsewhere

    def action_tokens(self) -> None:
        """Show the row as tokens."""
        if row := self.current:
            self.bench.open_tokens(self.base, row.id)

    def action_recipe(self) -> None:
        """Show what a recipe would drop of these rows."""
        self.bench.go("recipe", base=self.base)

    @dialogue
    async def action_look_now(self) -> None:
        """Run a recipe that looks for duplicates, and show what it finds."""
        base = self.base
        name = await RecipeFlow(self.bench).run(RECIPE, base)
        if name and self.is_attached and self.base == base:
            self.bench.base = name
            self.arrive(base=name)

    @dialogue
    async def action_export(self, file: str = "") -> None:
        """Write the clusters as listed."""
        opened = self.opened
        if opened is None:
            self.say("There is no list to write.")
            return
        named = file or await ask_text(
            self.app, "Write the clusters to", "duplicates.csv", detail="Texts are cut short."
        )
        if not named:
            return
        path = Path(named).expanduser()

        def work(cancelled: Cancelled) -> Said:
            return Said(f"Wrote {counted(write_clusters(opened, path), 'row')} to {path}.")

        background(self, work, lambda said: said)
