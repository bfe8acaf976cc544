"""What the Recipe screen asks for: a step, its parameters, a recipe, a file, the name of a version."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filters.errors import Wipeout
from filters.step import Progress, RowStep
from workbench.consent import ConsentNeeded
from workbench.curation import RunReport, find_recipe
from workbench.errors import Stopped
from workbench.resources import recipe_names
from workbench.tui.recipe_flow import agree, choose_recipe, run_told
from workbench.tui.widgets.dialogs import ask_text, choose, confirm
from workbench.tui.widgets.recipe_steps import overlap_lines
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.screens.recipe import RecipeScreen

_AS_YAML = "As in the file: max_words: 400, on: response"


class RecipeEdits:
    """Asks, over the screen, and changes its recipe."""

    def __init__(self, screen: RecipeScreen) -> None:
        self._screen = screen

    def begin_empty(self) -> None:
        """Show a recipe without steps."""
        from workbench.recipe_draft import RecipeDraft

        self._screen.show_recipe(RecipeDraft.empty(self._screen.bench.workspace.config.step_defaults()))

    async def may_leave(self) -> bool:
        """Whether what is open may be given up: it is asked where it is not saved."""
        draft = self._screen.draft
        if draft is None or not draft.unsaved:
            return True
        return await confirm(self._screen.app, f"Give up the changes of {draft.name}?", "They are not saved.")

    async def open(self, name: str) -> None:
        """Open a recipe by path or name, or one that is chosen."""
        from workbench.recipe_draft import RecipeDraft

        screen = self._screen
        name = name or await choose_recipe(screen.bench, "Open a recipe", ":open-recipe FILE takes any other.")
        if not name or not await self.may_leave():
            return
        defaults = screen.bench.workspace.config.step_defaults()
        path, shipped = find_recipe(Path(name).expanduser()), name in recipe_names()
        screen.show_recipe(await asyncio.to_thread(RecipeDraft.open, path, defaults, shipped=shipped), 0)

    async def add(self, name: str) -> None:
        """Add a step behind the one under the cursor."""
        from workbench.recipe_draft import needs, required, step_table

        screen, table = self._screen, step_table()
        if not name:
            width = max(len(step) for step, _, _ in table)
            options = [(step, f"{step:<{width}}  {about}") for step, _, about in table]
            name = await choose(screen.app, "Add a step", options) or ""
        if not name:
            return
        at = screen.position + 1
        if name not in {step for step, _, _ in table} or not (lacks := needs(name)):
            if trouble := screen.change(lambda draft: draft.add(name, at), at):
                screen.fail(trouble)
            return
        typed, lacks = required(name), f"{lacks}\n{_AS_YAML}"
        while typed := await ask_text(screen.app, f"Parameters of {name}", typed, detail=lacks) or "":
            lacks = screen.change(lambda draft, typed=typed: draft.add(name, at, typed), at)  # type: ignore[misc]
            if not lacks:
                return

    async def edit(self, param: str, typed: str) -> None:
        """Change one parameter of the step under the cursor, or all of them."""
        screen, draft, at = self._screen, self._screen.draft, self._screen.position
        if draft is None or at < 0:
            screen.say("There is no step yet.")
            return
        if typed:  # on the line below: all of them
            if trouble := screen.change(lambda draft: draft.set_params(at, typed)):
                screen.fail(trouble)
            return
        name = draft.steps[at].name
        if param:
            (now,) = [each for each in draft.params(at) if each.name == param]
            title, value, detail = f"{name}: {param}", now.value, f"The default is {now.default}."
        else:
            title, value, detail = f"Parameters of {name}", draft.given(at), _AS_YAML
        while typed := await ask_text(screen.app, title, value, detail=detail) or "":
            value = typed
            if param:
                trouble = screen.change(lambda draft, typed=typed: draft.set_param(at, param, typed))  # type: ignore[misc]
            else:
                trouble = screen.change(lambda draft, typed=typed: draft.set_params(at, typed))  # type: ignore[misc]
            if not trouble:
                return
            detail = trouble

    async def save(self, file: str, *, ask: bool = False) -> None:
        """Write the recipe to `file`, to the file it has, or to one that is asked for."""
        from workbench.recipe_draft import Overwrites

        screen, draft = self._screen, self._screen.draft
        if draft is None:
            return
        path = Path(file).expanduser() if file else draft.path
        if path is None or ask:
            folder = screen.bench.workspace.root
            suggested = draft.path or folder / f"{draft.name}.yaml"
            detail = "Recipes in this folder, or its folder recipes, are offered by p and O."
            named = await ask_text(screen.app, "Write the recipe to", str(suggested), detail=detail)
            if not named:
                return
            path = Path(named).expanduser()
        if path.suffix not in (".yaml", ".yml"):
            path = path.with_name(f"{path.name}.yaml")
        try:
            await asyncio.to_thread(draft.save, path)
        except Overwrites as there:
            if not await confirm(screen.app, f"Write over {path.name}?", f"{there.where}: {there.what}."):
                return
            await asyncio.to_thread(draft.save, path, force=True)
        screen.show_recipe(draft)
        screen.say(f"The recipe is in {path}.")

    async def overlap(self) -> None:
        """Show what each step that was counted would drop by itself."""
        screen, draft, base = self._screen, self._screen.draft, self._screen.base
        known = [at for at, count in screen.counts.items() if count.outcome is not None]
        if draft is None or not known:
            screen.say("No step is counted yet.")
            return
        behind = [step.name for at, step in enumerate(draft.steps) if at not in known]
        recipe = replace(draft.recipe, steps=tuple(draft.steps[at] for at in sorted(known)))
        try:
            found = await screen.bench.tasks.run(
                "overlap of steps", lambda progress, cancelled: screen.count_watch.overlap(recipe, base, progress)
            )
        except Stopped:
            return
        await screen.bench.tasks.until_free()
        dialog = ReportDialog(
            f"{draft.name} over {base}",
            lambda width: overlap_lines(found, behind, width),
            detail="Each step over all rows, whatever stands before it.",
        )
        await screen.app.push_screen_wait(dialog)

    async def freeze(self, name: str) -> None:
        """Make a version by the recipe as it stands, saved or not."""
        screen, draft, base = self._screen, self._screen.draft, self._screen.base
        if draft is None or not draft.steps:
            screen.say("A recipe without steps would leave the rows as they are: f in Browse freezes those.")
            return
        app, workspace, recipe = screen.bench, screen.bench.workspace, draft.recipe
        counts, let, agreed = list(screen.counts.values()), bool(screen.let), set[str]()
        for count in counts:
            if count.state == "guarded":
                if not await confirm(app, f"Let {count.name} drop that much?", f"{count.told}."):
                    return
                let = True
            elif count.state == "waits":
                if not await confirm(app, f"Begin the job of {count.name}?", count.told):
                    return
                if isinstance(step := recipe.steps[count.position], RowStep):
                    agreed.update(scorer.fingerprint for scorer in step.scorers)
            elif count.state == "failed":
                screen.fail(f"{count.name} cannot be run: {count.told}")
                return
        whole = counts[-1].outcome if screen.is_counted else None
        left = f"{whole.rows_out:,} rows are left." if whole else "What is left is not counted yet."
        title, suggested = f"Run {draft.name} over {base}: name of the version", f"{base}-{draft.name}"
        if not name and not (name := await ask_text(app, title, suggested, detail=left) or ""):
            return

        def run(progress: Progress, cancelled: Cancelled) -> RunReport:
            return workspace.run_recipe(
                recipe,
                [base],
                name,
                allow_wipeout=let,
                progress=progress,
                cancelled=cancelled,
                agrees=lambda calls: calls.fingerprint in agreed,
            )

        while True:
            try:
                later = "The same recipe and name go on later behind the steps that are done."
                report = await app.tasks.run(f"running {draft.name}", run, if_stopped=later)
                break
            except Wipeout as wipeout:
                await app.tasks.until_free()
                if not await confirm(app, "A step would drop too much: let it?", f"{wipeout.where}: {wipeout.what}."):
                    app.say("No version was made.")
                    return
                let = True
            except ConsentNeeded as needed:
                if not await agree(app, needed.calls):
                    app.say("Nothing was asked. No version was made.")
                    return
                agreed.add(needed.calls.fingerprint)
            except Stopped:
                app.say("Stopped. The same recipe and name go on behind the steps that were done.")
                return
        app.tasks.land(name, run_told(report))
