"""Experiments: what was compared and how it ended, the job that runs, and the question that starts one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.filesize import decimal as size_text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from workbench.ablation_runs import AblationRuns, ListedAblation
from workbench.comparing import Jobs, Listed, Seen, setup
from workbench.errors import UsageProblem
from workbench.experiment_removal import Removal, foresee_removal
from workbench.tables import Value
from workbench.tui.ablate_flow import ablate
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.evalset_flow import import_evalset
from workbench.tui.experiment_list import COLUMNS, ablation_key, listed_rows
from workbench.tui.messages import Said
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.culprits import CulpritsScreen
from workbench.tui.widgets.ablation_view import AblationView
from workbench.tui.widgets.compare_dialog import CompareDialog
from workbench.tui.widgets.dialogs import ask_text, choose, confirm, dialogue
from workbench.tui.widgets.live_view import LiveView
from workbench.tui.widgets.table import Cell, Table
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.tui.workers import Cancelled, background

EXPERIMENT_ACTIONS = declare(
    Action(
        "compare", ("c",), "compare", "Train versions alike and compare them with the first.", "experiments",
        takes="BASELINE CANDIDATE..",
    ),
    Action(
        "ablate", (), "ablate", "Train with and without each step of a recipe: what each is worth.", "experiments",
        takes="RECIPE",
    ),
    Action("stop", ("x",), "stop", "Stop the job that runs; it leaves its checkpoint.", "experiments"),
    Action("resume", ("r",), "resume", "Go on with a stopped or failed experiment or ablation.", "experiments"),
    Action(
        "remove", ("X",), "delete", "Delete this one with its runs, answers and adapters.", "experiments",
        takes="EXPERIMENT",
    ),
    Action("culprits", ("C",), "culprits", "Rank the rows that may have made the item under the cursor worse.",
           "experiments"),
    Action("report", ("w",), "report", "Write its report as .html or .md.", "experiments", takes="FILE"),
    Action("evalset", (), "eval set", "Make an eval set of a file.", "experiments", takes="FILE"),
)  # fmt: skip

_WIDE = 100  # cells from which names have more room in the list

_REST = 0.15  # seconds that the cursor rests on a result before it is read


class ExperimentsScreen(BenchScreen):
    """All experiments and ablations over the one under the cursor."""

    NAME = "experiments"
    SCREEN_ACTIONS = EXPERIMENT_ACTIONS
    BINDINGS = bindings("experiments")
    HINTS = ("help", "compare", "stop", "resume", "remove", "command_palette", "back")
    DEFAULT_CSS = """
    ExperimentsScreen #about { height: auto; padding: 0 1; color: $muted; }
    ExperimentsScreen #experiments { height: auto; max-height: 40%; min-height: 3; scrollbar-size-horizontal: 0; }
    ExperimentsScreen #detail { height: 1fr; border-top: solid $rule; }
    ExperimentsScreen #detail:focus-within { border-top: solid $border; }
    ExperimentsScreen.-zoomed #experiments { display: none; }
    ExperimentsScreen.-empty #experiments, ExperimentsScreen.-empty #detail { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._listed: dict[str, Listed] = {}
        self._ablations: dict[str, ListedAblation] = {}
        self._rows: list[tuple[str, list[Value | Cell]]] | None = None
        self._go_to: str | None = None
        self._opened = ""
        self._resting: Timer | None = None

    def body(self) -> ComposeResult:
        """How many there are; the list; the one under the cursor."""
        yield Static(id="about", markup=False)
        yield Table(id="experiments")
        with Vertical(id="detail"):
            yield AblationView()
            yield LiveView()
            yield VerdictView()

    def on_mount(self) -> None:
        """Follow what is known."""
        super().on_mount()
        self.bench.experiments.changed.subscribe(self, self._show)
        self._show(self.bench.experiments.seen)

    def home(self) -> Widget:
        """The list, or what is open in its place: commands typed on the `:` line are meant for that."""
        return self._inside() or self.table if self.has_class("-zoomed") else self.table

    def _inside(self) -> Widget | None:
        """What takes the keys within what is open."""
        views = (self.query_one(AblationView), self.query_one(VerdictView))
        return next((view.home() for view in views if view.display), None)

    @property
    def table(self) -> Table:
        """The list."""
        return self.query_one("#experiments", Table)

    @property
    def current(self) -> Listed | None:
        """The experiment under the cursor."""
        return self._listed.get(self.table.current or "")

    @property
    def ablation(self) -> ListedAblation | None:
        """The ablation under the cursor."""
        return self._ablations.get(self.table.current or "")

    def arrive(self, **args: Any) -> None:
        """Look at what there is; go to the experiment of id `show`, or ask for a comparison.

        `compare` is the baseline and its candidates, or empty: then it is asked which.
        """
        self._go_to = args.get("show") or self._go_to
        self.bench.experiments.look()
        if compare := args.get("compare"):
            self._ask(compare)
        elif compare is not None:
            self.action_compare()

    # What there is

    def _show(self, seen: Seen) -> None:
        ablations = self.bench.experiments.ablations
        self._listed = {listed.id: listed for listed in seen.experiments}
        self._ablations = {ablation_key(listed.id): listed for listed in ablations}
        rows = listed_rows(seen.experiments, ablations, narrow=self.size.width < _WIDE)
        if rows != self._rows:
            self._rows = rows
            self.table.show(COLUMNS, rows)
        if self._go_to in self._listed or self._go_to in self._ablations:
            self.table.go_to(self._go_to)
            self._go_to = None
        opened = self._listed.get(self._opened)
        if opened is None or opened.state != "done":
            self._opened = ""  # deleted; asked again, the same question has the same id
        self.set_class(not rows, "-empty")
        self._show_current()

    def on_resize(self) -> None:
        """Fit the list, and what is told of the one under the cursor."""
        self._show(self.bench.experiments.seen)

    def _summed(self) -> str:
        seen, ablations = self.bench.experiments.seen, len(self.bench.experiments.ablations)
        count = len(seen.experiments)
        if not count and not ablations:
            return (
                "No experiment yet: c trains two versions alike and tells whether the difference is real, "
                ":ablate tells what each step of a recipe is worth."
            )
        running = sum(listed.state == "running" for listed in seen.experiments)
        parts = [f"{count:,} experiment{'s' * (count != 1)}"]
        parts += [f"{ablations:,} ablation{'s' * (ablations != 1)}"] if ablations else []
        return " · ".join(parts + [f"{running} running"] * bool(running))

    @on(Table.Highlighted, "#experiments")
    def _highlighted(self) -> None:
        self._show_current()

    def _show_current(self) -> None:
        listed, ablation = self.current, self.ablation
        live, verdict, steps = self.query_one(LiveView), self.query_one(VerdictView), self.query_one(AblationView)
        shown = listed or ablation
        about = shown.name if shown and self.has_class("-zoomed") else self._summed()
        self.query_one("#about", Static).update(flat(about))
        steps.display = ablation is not None
        if ablation:
            steps.show(ablation)
        live.display = listed is not None and listed.state != "done"
        verdict.display = listed is not None and listed.state == "done"
        if listed is None:
            return
        if listed.state != "done":
            live.show(listed)
        elif self._opened != listed.id:
            if self._resting:
                self._resting.stop()
            self._resting = self.set_timer(_REST, self._open_result)

    def _open_result(self) -> None:
        listed = self.current
        if listed and listed.state == "done" and self._opened != listed.id:
            self._opened = listed.id
            verdict = self.query_one(VerdictView)
            verdict.show_experiment(listed.id)
            if self.has_class("-zoomed") and not verdict.has_focus_within:  # it was watched to its end
                verdict.home().focus()

    @on(Table.Chosen, "#experiments")
    def _chosen(self) -> None:
        self.add_class("-zoomed")
        self._show_current()
        if inside := self._inside():
            inside.focus()

    @on(Table.Chosen, "#steps")
    def _step_chosen(self, event: Table.Chosen) -> None:
        if id := self.query_one(AblationView).experiment(event.key):
            self.remove_class("-zoomed")
            self.table.go_to(id)
            self._chosen()
        else:
            self.say("This step has no comparison yet.")

    def escape(self) -> bool:
        """Close one thing of the result; then back to the list."""
        verdict = self.query_one(VerdictView)
        if verdict.display and verdict.has_focus_within and verdict.escape():
            return True
        if not self.has_class("-zoomed") and not self.query_one("#detail").has_focus_within:
            return False
        self._back_to_the_list()
        return True

    def _back_to_the_list(self) -> None:
        self.remove_class("-zoomed")
        self.focus_home()
        self._show_current()

    # What can be done

    @dialogue
    async def action_compare(self, versions: str = "") -> None:
        """Compare versions that are named, or ask which two."""
        named = versions.split()
        if len(named) == 1:
            raise UsageProblem("two versions are compared, or more", do="Type :compare BASELINE CANDIDATE.")
        if not named:
            there = await asyncio.to_thread(self.bench.workspace.versions)
            if not there:
                raise UsageProblem("there is no version to train on yet", do="f on the Browse screen freezes one.")
            options = [(v.name, f"{v.rows:>9,} rows  {v.name}") for v in reversed(there)]
            for title in ("Compare: which is the baseline?", "And which is the candidate?"):
                if (name := await choose(self.app, title, options)) is None:
                    return
                named.append(name)
        await self._compare(named)

    @dialogue
    async def _ask(self, versions: Sequence[str]) -> None:
        await self._compare(versions)

    async def _compare(self, versions: Sequence[str]) -> None:
        baseline, candidate, *more = versions
        begin_with = await asyncio.to_thread(setup, self.bench.workspace, baseline, candidate)
        begin_with = replace(begin_with, question=replace(begin_with.question, more=tuple(more)))
        self._go_to = await self.app.push_screen_wait(CompareDialog(begin_with))
        self.bench.experiments.look()

    @dialogue
    async def action_ablate(self, recipe: str = "") -> None:
        """Ask what each step of a recipe is worth."""
        if id := await ablate(self.bench, recipe):
            self._go_to = ablation_key(id)
        self.bench.experiments.look()

    @dialogue
    async def action_stop(self) -> None:
        """Stop the job of the experiment under the cursor, or the ablation."""
        listed: Listed | ListedAblation | None = self.current or self.ablation
        if not listed or listed.state != "running":
            self.say("No job runs here.")
            return
        detail = "The job leaves its checkpoint: r goes on where it was. Runs that are done stay done."
        if not await confirm(self.app, f"Stop {listed.name}?", detail):
            return
        self.progress("stopping …")
        try:
            await asyncio.to_thread(self._follower(listed).stop, listed.id)
        finally:
            self.progress("")
        self.bench.experiments.look()

    @dialogue
    async def action_resume(self) -> None:
        """Go on with the experiment or ablation under the cursor."""
        listed: Listed | ListedAblation | None = self.current or self.ablation
        if not listed or listed.state in ("running", "done"):
            self.say("It runs already." if listed and listed.state == "running" else "There is nothing to resume here.")
            return
        await asyncio.to_thread(self._follower(listed).start, listed.id)
        self.say(f"{listed.name} {'is started' if listed.state == 'planned' else 'goes on'}.")
        self.bench.experiments.look()

    def _follower(self, listed: Listed | ListedAblation) -> Jobs | AblationRuns:
        """What starts and stops it."""
        watch = self.bench.experiments
        return watch.runs if isinstance(listed, ListedAblation) else watch.jobs

    @dialogue
    async def action_remove(self, name: str = "") -> None:
        """Delete an experiment, or forget an ablation."""
        if not name and (ablation := self.ablation):
            await self._forget(ablation)
            return
        name = name or self.table.current or ""
        if not name:
            self.say("There is no experiment to delete.")
            return
        removal = await asyncio.to_thread(foresee_removal, self.bench.workspace, name)
        if not await confirm(self.app, f"Delete experiment {removal.name}?", _removal_told(removal)):
            return
        await asyncio.to_thread(self.bench.experiments.jobs.remove, removal.id)
        self._back_to_the_list()
        self.say(f"Deleted {removal.name}.")
        self.bench.experiments.look()

    async def _forget(self, ablation: ListedAblation) -> None:
        if ablation.state == "running":
            raise UsageProblem(f"{ablation.name} runs", do="Stop it first.")
        detail = "Only this entry goes. Its versions stay, and so do its comparisons: they have entries of their own."
        if await confirm(self.app, f"Forget {ablation.name}?", detail):
            await asyncio.to_thread(self.bench.experiments.runs.remove, ablation.id)
            self._back_to_the_list()
            self.bench.experiments.look()

    @dialogue
    async def action_report(self, file: str = "") -> None:
        """Write the report of the experiment under the cursor."""
        listed, workspace = self.current, self.bench.workspace
        if not listed or listed.state != "done":
            self.say("There is no result to report here.")
            return
        detail = "What was asked, the data, the verdict and how to repeat it, in one file: .html or .md."
        file = (
            file
            or await ask_text(self.app, f"Write the report of {listed.name} to", "report.html", detail=detail)
            or ""
        )
        if not file:
            return

        def work(cancelled: Cancelled) -> Said:
            from workbench.experiment_report import write_report  # not before it is asked for: it reads tokenizers

            path = Path(file).expanduser()
            write_report(workspace, listed.id, path)
            return Said(f"Wrote the report to {path}.")

        self.say("Writing the report …")
        background(self, work, lambda said: said, group="report")

    def action_culprits(self) -> None:
        """Show the rows that may have done it, of the item under the cursor; at first that is the worst one."""
        verdict = self.query_one(VerdictView)
        if verdict.display and verdict.shown is not None and verdict.item is not None:
            self.app.push_screen(CulpritsScreen(verdict.shown, verdict.item))
        else:
            self.say("Culprits are looked for from an item of a finished experiment.")

    @dialogue
    async def action_evalset(self, file: str = "") -> None:
        """Make an eval set of a file."""
        await import_evalset(self.bench, file)


def _removal_told(removal: Removal) -> str:
    told = (
        f"Its runs, numbers, answers and adapters go ({size_text(removal.size)} on disk). Versions and eval sets stay"
    )
    if removal.freed:
        them = "them" if len(removal.freed) > 1 else "it"
        told += f"; {' and '.join(removal.freed)} can be deleted after it, as no other experiment uses {them}"
    return f"{told}. This cannot be undone."
