"""Running a recipe from the app: which, under what name, what each step would drop, and then the run itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filters.errors import Wipeout
from filters.step import Progress
from workbench.consent import Calls, ConsentNeeded
from workbench.curation import RecipeFile, RunReport
from workbench.errors import Stopped
from workbench.store.recipe_runs import StepRow
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.dialogs import ask_text, choose, confirm
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

T = TypeVar("T")

_TOLD_STEPS = 4
_LATER = "The same recipe and name go on later behind the steps that are done."


class RecipeFlow:
    """Runs recipes over what is in view."""

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app

    async def run(self, recipe: str = "", base: str = "") -> str:
        """Ask, try, and make the version; returns its name, empty where none was made."""
        app, base = self._app, base or self._app.base
        recipe = recipe or await choose_recipe(app, f"Run over {base}", ":run FILE takes any other.")
        if not recipe:
            return ""
        called = Path(recipe).stem
        detail = "Next it is tried: you see what each step would drop before a version is made."
        name = await ask_text(app, f"Run {called} over {base}: name of the version", f"{base}-{called}", detail=detail)
        if not name:
            return ""
        try:
            return name if await self._try_and_run(recipe, called, base, name) else ""
        except Stopped:
            app.say("Stopped. The same recipe and name go on behind the steps that were done.")
            return ""

    async def _try_and_run(self, recipe: str, called: str, base: str, name: str) -> bool:
        app, workspace = self._app, self._app.workspace

        leave = Leave(app)

        def run(dry: bool) -> Callable[[Progress, Cancelled], RunReport]:
            return lambda progress, cancelled: workspace.run_recipe(
                recipe,
                [base],
                name,
                dry_run=dry,
                allow_wipeout=leave.wipeout,
                progress=progress,
                cancelled=cancelled,
                agrees=leave.agrees,
            )

        tried = await leave.asked(f"trying {called}", run(True), if_stopped="No version is made.")
        if tried is None:
            return False
        await app.tasks.until_free()
        kept = f"{tried.rows_out:,} of {tried.rows_in:,} rows would be left."
        dialog = ReportDialog(
            f"{called} over {base}",
            lambda width: step_lines(tried.steps, width),
            detail=kept,
            foot=f"enter makes {flat(name)} · esc makes nothing",
        )
        if not await app.push_screen_wait(dialog):
            app.say("No version was made.")
            return False
        report = await app.tasks.run(f"running {called}", run(False), if_stopped=_LATER)
        app.tasks.land(name, run_told(report))
        return True


class Leave:
    """What a person lets a recipe do: drop more rows than a step may, ask endpoints."""

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self._agreed: set[str] = set()
        self.wipeout = False

    def agrees(self, calls: Calls) -> bool:
        """Whether an endpoint may be asked that."""
        return calls.fingerprint in self._agreed

    async def asked(self, title: str, work: Callable[[Progress, Cancelled], T], *, if_stopped: str) -> T | None:
        """Do `work` as a task, again whenever a person lets it do more; None where they do not.

        Raises as `Tasks.run`.
        """
        app = self._app
        while True:
            try:
                return await app.tasks.run(title, work, if_stopped=if_stopped)
            except Wipeout as wipeout:
                await app.tasks.until_free()
                detail = f"{wipeout.where}: {wipeout.what}.\n\nYes lets steps drop that much in this run."
                if not await confirm(app, "The recipe would drop too much: let it?", detail):
                    app.say("No version was made.")
                    return None
                self.wipeout = True
            except ConsentNeeded as needed:
                if not await agree(app, needed.calls):
                    app.say("Nothing was asked. No version was made.")
                    return None
                self._agreed.add(needed.calls.fingerprint)


async def agree(app: WorkbenchApp, calls: Calls) -> bool:
    """Whether a person lets an endpoint be asked, which is shown with what it takes."""
    await app.tasks.until_free()
    return await confirm(app, f"Ask {flat(calls.model)} at {flat(calls.base_url)}?", f"{calls.scorer}: {calls}")


async def choose_recipe(app: WorkbenchApp, title: str, others: str) -> str:
    """The recipe that a person chose, by its name or path; empty where none was. `others` says how to get others."""
    known = await asyncio.to_thread(app.workspace.recipes)
    width = max(len(Path(file.name).name) for file in known)
    options = [(file.name, f"{Path(file.name).name:<{width}}  {_about(file)}") for file in known]
    return (
        await choose(app, title, options, detail=f"Recipes (.yaml) of this workspace and those that ship. {others}")
        or ""
    )


def _about(file: RecipeFile) -> str:
    if file.steps is None:
        return "cannot be read; choosing it says why"
    return ", ".join(file.steps)


def step_lines(steps: list[StepRow], width: int) -> list[Line]:
    """A line a step: rows in, dropped, left, and why."""
    named = max([len(flat(step.name)) for step in steps] + [4])
    lines: list[Line] = [[(f"{'step':<{named}} {'in':>10} {'dropped':>9} {'left':>10}  why", "muted")]]
    room = max(width - named - 34, 12)
    for step in steps:
        why = [f"{count:,} {reason}" for reason, count in step.reasons.items()]
        why += step.notes
        first, *more = wrap(", ".join(why), room)
        numbers = f" {step.rows_in:>10,} {step.dropped:>9,} {step.rows_in - step.dropped:>10,}  "
        lines.append([(fit(flat(step.name), named), "strong"), (numbers, "text"), (first, "text")])
        lines += [[(" " * (named + 34) + line, "text")] for line in more]
    return lines


def run_told(report: RunReport) -> str:
    """What a run made, in a sentence: the steps that dropped the most first."""
    kept = f"{report.version}: {report.rows_out:,} of {report.rows_in:,} rows"
    if not report.new:
        return f"{kept}; it was there already, with this content."
    most = sorted((step for step in report.steps if step.dropped), key=lambda step: -step.dropped)
    dropped = ", ".join(f"{step.dropped:,} by {step.name}" for step in most[:_TOLD_STEPS])
    more = f", {sum(step.dropped for step in most[_TOLD_STEPS:]):,} by others" if len(most) > _TOLD_STEPS else ""
    steps = f"{report.resumed} finished step{'s' * (report.resumed != 1)}"
    took = f" {steps} came from a run that was stopped." if report.resumed else ""
    return f"{kept}; dropped {dropped}{more}.{took}" if most else f"{kept}; no step dropped any.{took}"
