"""Recipe: its steps with what each drops of the rows in view, counted while it is changed, before anything is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Static

from workbench.errors import Problem
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.recipe_edits import RecipeEdits
from workbench.tui.recipe_watch import Came, Counted, RecipeWatch
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.recipe_actions import RECIPE_ACTIONS
from workbench.tui.widgets.dialogs import confirm, dialogue
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.recipe_fallen import FallenList, FallenPane
from workbench.tui.widgets.recipe_steps import (
    PARAM_COLUMNS,
    STEP_COLUMNS,
    PlainTable,
    about_lines,
    param_rows,
    step_rows,
)
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.widgets.table import Table

if TYPE_CHECKING:
    from workbench.recipe_counts import StepCount
    from workbench.recipe_draft import RecipeDraft

_EMPTY = """\
No step yet: every row would stay.

a adds a step and shows at once what it would drop · O opens a recipe: one that ships, or one of this workspace."""


class RecipeScreen(BenchScreen):
    """A recipe over the source or version in view. It stays as it was left until the app ends."""

    NAME = "recipe"
    SCREEN_ACTIONS = RECIPE_ACTIONS
    BINDINGS = bindings("recipe")
    HINTS = ("help", "add", "edit", "remove", "undo", "open_recipe", "save", "freeze", "overlap", "back")
    DEFAULT_CSS = """
    RecipeScreen #about { height: auto; max-height: 5; padding: 0 1; color: $muted; }
    RecipeScreen #panes { height: 1fr; layout: vertical; }
    RecipeScreen #left { height: 50%; layout: horizontal; }
    RecipeScreen #right { height: 1fr; layout: vertical; }
    RecipeScreen #steps { width: 58%; height: 100%; scrollbar-size-horizontal: 0; }
    RecipeScreen #params { width: 1fr; height: 100%; border-left: solid $rule; scrollbar-size-horizontal: 0; }
    RecipeScreen #params:focus { border-left: solid $border; }
    RecipeScreen #falls { height: 1fr; border-top: solid $rule; }
    RecipeScreen #falls:focus-within { border-top: solid $border; }
    RecipeScreen FallenList { height: 1fr; }
    RecipeScreen LineView { display: none; padding: 0 0 0 1; border-left: solid $rule; }
    RecipeScreen LineView:focus { border-left: solid $border; }
    RecipeScreen.-medium {
        & #right { layout: horizontal; }
        & #falls { width: 1fr; height: 100%; }
        & LineView { display: block; width: 45%; height: 100%; border-top: solid $rule; }
    }
    RecipeScreen.-wide {
        & #panes { layout: horizontal; }
        & #left { width: 72; height: 100%; layout: vertical; }
        & #steps { width: 100%; height: 60%; }
        & #params { width: 100%; height: 1fr; border-left: none; border-top: solid $rule; }
        & #params:focus { border-left: none; border-top: solid $border; }
        & #right { width: 1fr; height: 100%; border-left: solid $rule; }
        & #falls { border-top: none; }
        & #falls:focus-within { border-top: none; }
        & LineView { display: block; height: 1fr; border-left: none; border-top: solid $rule; }
        & LineView:focus { border-left: none; border-top: solid $border; }
    }
    RecipeScreen.-none { & #panes { display: none; } & #about { max-height: 12; color: $foreground; } }
    """

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.draft: RecipeDraft | None = None
        self.let: set[str] = set()  # steps that may drop what the guard would not allow
        self._begin: set[str] = set()  # steps that may begin their job
        self._edits = RecipeEdits(self)

    def body(self) -> ComposeResult:
        """The recipe and its outcome; steps and parameters; rows that fall, and the text of one."""
        yield Static(id="about", markup=False)
        with Container(id="panes"):
            with Container(id="left"):
                yield PlainTable(id="steps")
                yield PlainTable(id="params")
            yield FallenPane(id="right")

    def on_mount(self) -> None:
        """Set up what needs the workspace."""
        self.count_watch = RecipeWatch(self, self.bench.workspace)
        super().on_mount()

    def home(self) -> Widget:
        """The steps."""
        return self.steps

    @property
    def steps(self) -> PlainTable:
        """The steps."""
        return self.query_one("#steps", PlainTable)

    @property
    def params(self) -> PlainTable:
        """The parameters of the step under the cursor."""
        return self.query_one("#params", PlainTable)

    @property
    def fallen(self) -> FallenList:
        """The rows that fall at the step under the cursor."""
        return self.query_one(FallenPane).rows

    @property
    def counts(self) -> dict[int, StepCount]:
        """What is known of the steps, by their position."""
        return self.count_watch.counts

    @property
    def position(self) -> int:
        """The number of the step under the cursor; -1 without steps."""
        there = self.draft is not None and bool(self.draft.steps)
        return int(self.steps.current or 0) if there else -1

    @property
    def is_counted(self) -> bool:
        """Whether it is known of every step what it drops."""
        steps = self.draft.steps if self.draft else ()
        return all(at in self.counts and self.counts[at].state == "counted" for at in range(len(steps)))

    def arrive(self, **args: Any) -> None:
        """Look at the rows of `base`, or at those in view, through the recipe that is open."""
        self.base = args.get("base") or self.bench.base
        if self.draft is None:
            self._edits.begin_empty()
        else:
            self.show_recipe(self.draft)

    def show_recipe(self, draft: RecipeDraft, position: int | None = None) -> None:
        """Show a recipe as it is now, with the cursor on the step at `position`, and count it."""
        if draft is not self.draft:
            self.let.clear()
            self._begin.clear()
        self.draft = draft
        self.set_class(not draft.steps, "-none")
        if draft.steps:
            self.steps.show(STEP_COLUMNS, [(str(at), [""] * len(STEP_COLUMNS)) for at in range(len(draft.steps))])
            if position is not None:
                self.steps.go_to(str(min(max(position, 0), len(draft.steps) - 1)))
        self.count()

    # Counting

    def count(self) -> None:
        """Count what each step drops; a count that runs is called off."""
        if self.draft is not None:
            self.count_watch.start(self.draft.recipe, self.base, let=self.let, begin=self._begin)
            self._show()

    @on(Counted)
    def _step_counted(self, message: Counted) -> None:
        if self.count_watch.take(message):
            if message.count is None:
                self.progress("")
            self._show()

    @on(Came)
    def _came(self, message: Came) -> None:
        if told := self.count_watch.told(message):
            self.progress(told)

    def on_failure(self) -> None:
        """Nothing more is known for now; the app tells why."""
        self.count_watch.counting = None
        self.progress("")
        self._show()

    def escape(self) -> bool:
        """Back to the steps; then stop counting; then out."""
        if self.focused is not self.steps:
            self.focus_home()
            return True
        if not self.count_watch.stop():
            return False
        self.progress("")
        self._show()
        self.say("Stopped counting. r counts on.")
        return True

    def action_recount(self) -> None:
        """Count on."""
        self.count()

    @dialogue
    async def action_begin(self) -> None:
        """Begin the job that a step needs."""
        count = next((count for count in self.counts.values() if count.state == "waits"), None)
        if count is None:
            self.say("No step here waits for a job.")
        elif await confirm(self.app, f"Begin the job of {count.name}?", f"{count.told} esc stops it."):
            self._begin.add(count.key)
            self.count()

    def action_let(self) -> None:
        """Let the step pass that the guard stopped."""
        count = next((count for count in self.counts.values() if count.state == "guarded"), None)
        if count is None:
            self.say("No step here would drop too much.")
            return
        self.let.add(count.key)
        self.say(f"{count.name} may drop that much this time. To allow it for good, raise its max_drop.")
        self.count()

    @dialogue
    async def action_overlap(self) -> None:
        """Show what each step would drop by itself."""
        await self._edits.overlap()

    # What is shown

    def _show(self) -> None:
        """Show recipe and counts as they are now."""
        draft = self.draft
        if draft is None:
            return
        muted, warning = (Style(color=self.app.theme_variables[name]) for name in ("muted", "warning"))
        if draft.steps:
            names = [step.name for step in draft.steps]
            self.steps.show(STEP_COLUMNS, step_rows(names, self.counts, self.count_watch.counting, muted, warning))
            self.params.show(PARAM_COLUMNS, param_rows(draft.params(self.position), muted))
            self.query_one(FallenPane).show(self.counts.get(self.position))
        self._describe()

    def _describe(self) -> None:
        draft = self.draft
        if draft is None:
            return
        name = f"{draft.name}{' (not saved)' if draft.unsaved else ''}"
        width = max(self.size.width - 2, 20)
        lines = about_lines(name, self.base, self.counts, width, done=self.is_counted)
        if not draft.steps:
            lines += ["", *_EMPTY.splitlines()]
        self.query_one("#about", Static).update(Text("\n".join(flat(line) for line in lines)))

    @on(Table.Highlighted, "#steps")
    def _highlighted_step(self) -> None:
        self._show()

    def on_resize(self) -> None:
        """Wrap what is told again."""
        self.call_after_refresh(self._describe)

    # Going about

    @property
    def _panes(self) -> list[Widget]:
        return [pane for pane in (self.steps, self.params, self.fallen, self.query_one(LineView)) if pane.display]

    def action_pane(self, by: int) -> None:
        """Go from pane to pane."""
        panes = self._panes
        at = panes.index(self.focused) if self.focused in panes else 0
        panes[(at + by) % len(panes)].focus()

    @on(Table.Chosen, "#steps")
    def _step_chosen(self) -> None:
        self.params.focus()

    @on(Table.Chosen, "#params")
    def _param_chosen(self) -> None:
        self.action_edit()

    @dialogue
    async def action_into(self) -> None:
        """Read the row that falls: beside the list, or over it where there is no room."""
        pane = self.query_one(FallenPane)
        if pane.text.display:
            pane.text.focus()
        elif read := pane.reader(max(min(self.size.width - 10, 100), 20)):
            lines = await asyncio.to_thread(read)
            await self.app.push_screen_wait(ReportDialog("What falls", lambda _: lines))

    def action_tokens(self) -> None:
        """Show the row that falls as tokens."""
        if row := self.fallen.current:
            self.bench.open_tokens(self.base, row.id)

    # Changing it

    def change(self, change: Callable[[RecipeDraft], None], position: int | None = None) -> str:
        """Change the recipe and count it; returns the sentence of what was wrong, where nothing was changed."""
        draft = self.draft
        if draft is None:
            return ""
        try:
            change(draft)
        except Problem as problem:
            return str(problem)
        self.say("")
        self.show_recipe(draft, position)
        return ""

    def _change(self, change: Callable[[RecipeDraft], None], position: int | None = None) -> None:
        if self.position < 0:
            self.say("There is no step yet.")
        elif trouble := self.change(change, position):
            self.fail(trouble)

    @property
    def _param(self) -> str:
        """The parameter under the cursor, where the parameters have the focus."""
        return (self.params.current or "") if self.params.has_focus else ""

    def action_remove(self) -> None:
        """Take the step out."""
        at = self.position
        self._change(lambda draft: draft.remove(at), at)

    def action_move(self, by: int) -> None:
        """Move the step."""
        at, to = self.position, self.position + by
        if self.draft and 0 <= to < len(self.draft.steps):
            self._change(lambda draft: draft.move(at, to), to)

    def action_turn(self, by: int) -> None:
        """Give the parameter its next value."""
        at, name = self.position, self._param
        found = [param for param in (self.draft.params(at) if self.draft and name else []) if param.name == name]
        if found and (choices := found[0].choices):
            value = choices[(choices.index(found[0].value) + by) % len(choices)]
            self._change(lambda draft: draft.set_param(at, name, value))
        else:
            self.say("This has many values: enter types one." if name else "enter goes to the parameters.")

    def action_reset(self) -> None:
        """Let the parameter have its default."""
        if name := self._param:
            at = self.position
            self._change(lambda draft: draft.reset_param(at, name))

    def action_undo(self) -> None:
        """Take the last change back."""
        self._back_and_forth(lambda draft: draft.undo(), "Undid", "There is nothing to undo.")

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._back_and_forth(lambda draft: draft.redo(), "Did again", "Nothing was undone.")

    def _back_and_forth(self, change: Callable[[RecipeDraft], str | None], what: str, nothing: str) -> None:
        if self.draft is None or (told := change(self.draft)) is None:
            self.say(nothing)
            return
        self.show_recipe(self.draft)
        self.say(f"{what}: {flat(told)}.")

    @dialogue
    async def action_add(self, name: str = "") -> None:
        """Add a step."""
        await self._edits.add(name)

    @dialogue
    async def action_edit(self, params: str = "") -> None:
        """Type parameters."""
        await self._edits.edit(self._param, params)

    @dialogue
    async def action_open_recipe(self, name: str = "") -> None:
        """Open another recipe."""
        await self._edits.open(name)

    @dialogue
    async def action_new_recipe(self) -> None:
        """Begin without steps."""
        if await self._edits.may_leave():
            self._edits.begin_empty()

    @dialogue
    async def action_save(self, file: str = "") -> None:
        """Write it to its file."""
        await self._edits.save(file)

    @dialogue
    async def action_save_as(self) -> None:
        """Write it to another file."""
        await self._edits.save("", ask=True)

    @dialogue
    async def action_freeze(self, name: str = "") -> None:
        """Run it, and freeze what is left."""
        await self._edits.freeze(name)
