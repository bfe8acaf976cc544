"""The terminal app: which screens there are, how one gets from one to the other, and what holds on all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from textual import events
from textual.app import App, SystemCommand
from textual.dom import DOMNode
from textual.reactive import reactive
from textual.screen import Screen

from workbench.errors import Problem
from workbench.formats.whole import new_file
from workbench.tui.actions import APP_ACTIONS, Action, bindings
from workbench.tui.bases import bases, newest
from workbench.tui.changes import ChangeQueue
from workbench.tui.crash import Crash
from workbench.tui.evalset_flow import hold_out
from workbench.tui.experiment_watch import ExperimentsSeen, ExperimentWatch
from workbench.tui.held_keys import HeldKeys
from workbench.tui.import_flow import ImportFlow
from workbench.tui.messages import BaseChanged, Failure, Said
from workbench.tui.recipe_flow import RecipeFlow
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.browse import BrowseScreen
from workbench.tui.screens.duplicates import DuplicatesScreen
from workbench.tui.screens.experiments import ExperimentsScreen
from workbench.tui.screens.help import HelpScreen
from workbench.tui.screens.recipe import RecipeScreen
from workbench.tui.screens.start import StartScreen
from workbench.tui.screens.tokens import TokensScreen
from workbench.tui.screens.versions import VersionsScreen
from workbench.tui.tasks import Tasks
from workbench.tui.theme import APP_CSS, DARK, LIGHT, terminal_is_light
from workbench.tui.unheard import hush
from workbench.tui.widgets.dialogs import ask_text, choose, dialogue
from workbench.tui.workers import THREADS, Cancelled, background, keep_what_stays
from workbench.workspace import Workspace

# Name -> what makes the screen, in the order of the bar. `tokens` is opened on a row: it takes (name, id).
SCREENS: dict[str, Callable[..., BenchScreen]] = {
    "browse": BrowseScreen,
    "tokens": TokensScreen,
    "recipe": RecipeScreen,
    "versions": VersionsScreen,
    "experiments": ExperimentsScreen,
}

LOG = "app.log"
"""File in the workspace's cache that holds the tracebacks of what went wrong."""


class WorkbenchApp(App[None]):
    """The workbench in a terminal, over one workspace (or none yet)."""

    TITLE = "workbench"
    SCREEN_ACTIONS = APP_ACTIONS
    BINDINGS = bindings("app")
    CSS = APP_CSS

    base: reactive[str] = reactive("")
    """The source or version in view; empty where there is none."""

    def __init__(self, workspace: Workspace | None, *, folder: Path | None = None, light: bool | None = None) -> None:
        """`folder` is where a workspace could be made, where there is none."""
        super().__init__()
        self._workspace = workspace
        self.folder = folder or Path.cwd()
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = LIGHT.name if (terminal_is_light() if light is None else light) else DARK.name
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bench")
        self._held_keys = HeldKeys(self)
        self.tasks = Tasks(self)
        self.changes = ChangeQueue(self)
        self._imports = ImportFlow(self)
        self.experiments = ExperimentWatch(self)
        self._journal = logging.getLogger("workbench.tui")
        self._journal.propagate = False
        self._log_to_workspace()
        for name in sorted(SCREENS.keys() - {"tokens"}):  # which lies over another
            self.add_mode(name, SCREENS[name])
        self.add_mode("start", StartScreen)

    # The workspace

    @property
    def workspace(self) -> Workspace:
        """The open workspace. Screens other than the first are only reached with one."""
        if self._workspace is None:
            raise Problem("there is no workspace yet", do="Make one first.")
        return self._workspace

    @property
    def has_workspace(self) -> bool:
        """Whether a workspace is open."""
        return self._workspace is not None

    @property
    def log_path(self) -> Path | None:
        """Where tracebacks are written."""
        return self._workspace.cache_dir / LOG if self._workspace else None

    @property
    def where(self) -> str:
        """Workspace and base, for the bar."""
        folder = self._workspace.root.resolve().name if self._workspace else ""
        return " · ".join(part for part in (self.base, folder) if part)

    def use_workspace(self, workspace: Workspace) -> None:
        """Work in a workspace that was just made."""
        self._workspace = workspace
        self._log_to_workspace()
        self.experiments.begin(workspace)

    def close_workspace(self) -> list[str]:
        """Let go of the workspace when what still runs is done: cancelled workers end soon. The app is at its end.

        Changes by hand that waited for an import are saved now; returns what is to be told of those that failed.
        """
        self._threads.shutdown(cancel_futures=True)
        failed = self.changes.finish()
        for failure in failed:
            self._journal.error("a change was not saved", exc_info=failure.error)
        if self._workspace:
            self._workspace.close()
        return [f"A change was not saved: {failure.text}" for failure in failed]

    def _log_to_workspace(self) -> None:
        if self.log_path:
            handler = logging.FileHandler(self.log_path, delay=True, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            self._journal.handlers[:] = [handler]

    # Beginning

    def on_mount(self) -> None:
        """Find out what there is to look at."""
        hush()
        keep_what_stays()
        asyncio.get_running_loop().set_default_executor(self._threads)
        if self._workspace is None:
            self.go("start")
        else:
            self.experiments.begin(self._workspace)
            self.open_newest()

    def open_newest(self) -> None:
        """Browse the newest source or version; without any, show how to begin."""
        workspace = self.workspace
        background(self, lambda cancelled: newest(workspace), BaseChanged, group="base")

    def on_base_changed(self, message: BaseChanged) -> None:
        """Go and look at what is in view now."""
        self.base = message.base
        if message.base:
            self.go("browse", base=message.base)
        else:
            self.go("start")

    # Going about

    def screen_titles(self) -> list[tuple[str, str, str]]:
        """(name, key, title) of the screens there are, for the bar."""
        if self._workspace is None:
            return []
        keys = {action.name: action.keys[0] for action in APP_ACTIONS if action.name.startswith("go(")}
        return [(name, keys[f"go('{name}')"], name.capitalize()) for name in SCREENS if f"go('{name}')" in keys]

    def go(self, name: str, **args: Any) -> None:
        """Show a screen by name, as it was left, and hand it `args`."""
        if name not in self._modes:
            self.say(f"There is no screen {name!r}.")
            return

        async def show() -> None:
            await self.switch_mode(name)
            while len(self.screen_stack) > 1:
                await self.pop_screen()
            self.release_keys(hold)
            screen = self.screen
            if isinstance(screen, BenchScreen):
                screen.arrive(**args)  # it may hold them on

        hold = self.hold_keys()
        self.call_next(show)

    def open_tokens(self, name: str, id: int) -> None:
        """Show a row of a source or version as tokens, over the screen that asks; esc comes back."""
        self.push_screen(TokensScreen(name, id))

    def open_duplicates(self, name: str, row: int | None = None) -> None:
        """Show the duplicates of a source or version, or of one of its rows, over the screen that asks."""
        if isinstance(self.screen, DuplicatesScreen):
            self.screen.arrive(base=name, row=row)
        else:
            self.push_screen(DuplicatesScreen(name, row))

    def offered(self, screen: Screen[Any] | None = None) -> list[tuple[DOMNode, Action]]:
        """What keys do now, from the focused widget outwards; what an inner one takes is not offered again."""
        screen = screen or self.screen
        found: list[tuple[DOMNode, Action]] = []
        taken: set[str] = set()
        for node in (screen.focused or screen).ancestors_with_self:
            for action in getattr(node, "SCREEN_ACTIONS", ()):
                if self._check_action_state(action.name, node) is False:
                    continue
                if not action.keys or not taken.issuperset(action.keys):
                    found.append((node, action))
            taken.update(key for action in getattr(node, "SCREEN_ACTIONS", ()) for key in action.keys)
        return found

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is opened before there is a workspace."""
        if action in ("go", "open_base", "duplicates", "run_recipe", "rejects"):
            return bool(self.base)
        if action == "import_file":
            return self.has_workspace
        return True

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the same actions that keys, help and docs have."""
        for node, action in self.offered(screen):
            title = f"{action.title}  ({action.shown_keys})" if action.keys else action.title

            def run(node: DOMNode = node, action: Action = action) -> None:
                self.run_worker(self.run_action(action.name, node), exit_on_error=False)

            yield SystemCommand(title, action.help, run)

    # Typing ahead

    def hold_keys(self) -> int:
        """Keep the keys that are pressed until something stands to take them; a second at most. Returns the hold."""
        return self._held_keys.hold()

    def release_keys(self, hold: int | None = None) -> None:
        """End a hold, or whichever there is: the keys that were kept go to where the focus is."""
        self._held_keys.release(hold)

    async def on_event(self, event: events.Event) -> None:
        """Keep keys while they are held; everything else goes its way."""
        for due in self._held_keys.take(event):
            await super().on_event(due)

    # Saying

    def say(self, text: str) -> None:
        """Show a sentence on the screen that is open."""
        if screen := self.bench_screen():
            screen.say(text)

    def on_said(self, message: Said) -> None:
        """Show what a worker says."""
        self.say(message.text)

    def on_tasks_told(self, message: Tasks.Told) -> None:
        """Show how far a task came."""
        self.tasks.came_further(message)

    def on_experiments_seen(self, message: ExperimentsSeen) -> None:
        """Tell of the experiments, wherever one is."""
        self.experiments.take(message.seen, message.ablations)

    def on_failure(self, message: Failure) -> None:
        """Tell of a worker that failed; the app lives on."""
        text = message.text
        if not isinstance(message.error, Problem):
            self._journal.error("a worker failed", exc_info=message.error)
            text += f" (details: {self.log_path})" if self.log_path else ""
        if screen := self.bench_screen():
            screen.fail(text)

    def bench_screen(self) -> BenchScreen | None:
        """The topmost screen with a status bar: dialogs lie above it."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, BenchScreen)), None)

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print the traceback with every local variable; rows of data among them.
        self._journal.error("the app ended", exc_info=error)
        crash = Crash(error, self.log_path)
        crash.__cause__ = error
        super()._handle_exception(crash)

    # Actions

    def action_go(self, name: str) -> None:
        """Show a screen."""
        self.go(name)

    def action_help(self) -> None:
        """Show the keys that work now."""
        self.push_screen(HelpScreen(self.offered()))

    def action_command_line(self) -> None:
        """Type a command."""
        if isinstance(self.screen, BenchScreen):
            self.screen.open_command_line(":")

    @dialogue
    async def action_open_base(self, name: str = "") -> None:
        """Choose what to look at."""
        there = await asyncio.to_thread(bases, self.workspace)
        if name and name not in dict(there):
            self.say(f"There is no source or version {name!r}.")
            return
        if name := name or await choose(self, "Look at", there) or "":
            self.post_message(BaseChanged(name))

    @dialogue
    async def action_duplicates(self, name: str = "") -> None:
        """Show the duplicates of what is named, or of what is in view."""
        if name and name not in dict(await asyncio.to_thread(bases, self.workspace)):
            self.say(f"There is no source or version {name!r}.")
        else:
            pointed = self.screen.table.current if isinstance(self.screen, VersionsScreen) else None
            self.open_duplicates(name or pointed or self.base)

    @dialogue
    async def action_import_file(self, path: str = "") -> None:
        """Import a file, a folder or a data set."""
        await self._imports.run(path)

    @dialogue
    async def action_rejects(self, name: str = "") -> None:
        """Show the rows that an import rejected."""
        await self._imports.rejects(name)

    @dialogue
    async def action_run_recipe(self, recipe: str = "") -> None:
        """Run a recipe over what is in view."""
        await RecipeFlow(self).run(recipe)

    @dialogue
    async def action_hold_out(self, name: str = "") -> None:
        """Hold rows out of a source or version as an eval set."""
        await hold_out(self, name)

    @dialogue
    async def action_stop_task(self) -> None:
        """Stop an import or a recipe that runs."""
        await self.tasks.stop()

    def action_toggle_theme(self) -> None:
        """Dark or light."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name

    @dialogue
    async def action_save_screen(self, file: str = "") -> None:
        """Write the screen to a new file."""
        svg = self.export_screenshot()
        if not (named := file or await ask_text(self, "Write the screen to which SVG file?", "workbench-screen.svg")):
            return
        path = Path(named).expanduser()

        def write(cancelled: Cancelled) -> Said:
            with new_file(path) as scratch:
                scratch.write_text(svg, encoding="utf-8")
            return Said(f"The screen is in {path}.")

        background(self, write, lambda said: said)

    def action_help_quit(self) -> None:
        """Say how to leave, where ctrl+c means nothing else."""
        self.say("ctrl+q leaves the workbench.")

    async def action_quit(self) -> None:
        """Leave; where that would stop an import or a recipe, after a question or a second ctrl+q."""
        if not self.tasks.ask_to_leave():
            self.exit()

    async def action_back(self) -> None:
        """Close one thing of the screen, else the screen, else go to the rows."""
        screen = self.screen
        if isinstance(screen, BenchScreen) and screen.escape():
            return
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif self.current_mode not in ("browse", "start") and self.base:
            self.go("browse")
        elif self.tasks.running:
            self.action_stop_task()
        else:
            self.say("ctrl+q leaves the workbench.")

    def on_resize(self, event: events.Resize) -> None:
        """Tell the new size where it is all that is told."""
        for widget in self.query("TooSmall"):
            widget.refresh()
