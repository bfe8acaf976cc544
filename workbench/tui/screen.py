"""What all screens share: bar, body, command line, status; focus that comes home; and workers that may fail."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from workbench.tui.actions import Action, actions_of, declared_scopes
from workbench.tui.messages import Failure
from workbench.tui.resizes import tell_sizes
from workbench.tui.widgets.command_line import CommandLine
from workbench.tui.widgets.status import StatusBar, TooSmall, TopBar

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


class BenchScreen(Screen[None]):
    """A screen of the workbench. A subclass gives NAME, SCREEN_ACTIONS with BINDINGS, `body()`, and its actions."""

    NAME: ClassVar[str] = ""
    SCREEN_ACTIONS: ClassVar[tuple[Action, ...]] = ()
    HINTS: ClassVar[tuple[str, ...]] = ()
    """Names of the actions whose keys the status bar shows, the most needed first."""

    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-too-narrow"), (60, "-narrow"), (100, "-medium"), (140, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-too-low"), (20, "-low"), (30, "-high")]  # noqa: RUF012
    DEFAULT_CSS = """
    BenchScreen { background: $background; color: $foreground; }
    BenchScreen > .body { height: 1fr; width: 100%; }
    BenchScreen.-too-narrow, BenchScreen.-too-low {
        & > .body, & > TopBar, & > StatusBar, & > CommandLine { display: none; }
        & > TooSmall { display: block; }
    }
    """

    @property
    def bench(self) -> WorkbenchApp:
        """The app, under its own type."""
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        """Bar, body, command line, status."""
        yield TopBar(self.NAME, self.bench.screen_titles(), self.bench.where)
        with Vertical(classes="body"):
            yield from self.body()
        yield CommandLine()
        scopes = (*declared_scopes(), self.NAME)
        known = {action.name: action for scope in scopes for action in actions_of(scope)}
        yield StatusBar([known[name] for name in self.HINTS])
        yield TooSmall()

    def body(self) -> ComposeResult:
        """What the screen is about."""
        raise NotImplementedError

    def arrive(self, **args: Any) -> None:
        """The screen was asked for by `app.go(name, **args)`; it is mounted."""

    def home(self) -> Widget | None:
        """The widget that has the focus when nothing else wants it."""
        return None

    def focus_home(self) -> None:
        """Give the focus back to where keys mean the most."""
        self.set_focus(self.home())

    def on_mount(self) -> None:
        """Begin where keys mean the most."""
        tell_sizes(self)
        self.focus_home()

    def on_screen_resume(self) -> None:
        """Say where one is: it may have changed on another screen."""
        self.query_one(TopBar).where = self.bench.where
        self.show_task(self.bench.tasks.line)

    def say(self, text: str) -> None:
        """Show a sentence in the status bar."""
        self.query_one(StatusBar).say(text)

    def fail(self, text: str) -> None:
        """Show what went wrong in the status bar; it stays until something else is said."""
        self.query_one(StatusBar).say(text, failed=True)

    def progress(self, text: str) -> None:
        """Show what is being done in the background; empty when nothing is."""
        self.query_one(StatusBar).progress = text

    def show_task(self, text: str) -> None:
        """Show what the whole app does in the background."""
        self.query_one(StatusBar).task_line = text

    def escape(self) -> bool:
        """Close or take back one thing of this screen (a search, marks); False where there is nothing to."""
        return False

    def command(self, text: str) -> bool:
        """Do something else with what was typed on the `:` line and is no command; False where it means nothing."""
        return False

    # The line at the foot

    def open_command_line(self, prompt: str, text: str = "") -> None:
        """Type behind `prompt`: `:` a command, `/` a search."""
        words = sorted(action.command for _, action in self.bench.offered(self)) if prompt == ":" else []
        self.query_one(CommandLine).open(prompt, text, words)

    def on_command_line_submitted(self, event: CommandLine.Submitted) -> None:
        """Run the command that was typed, on whatever had the focus before."""
        event.stop()
        if event.prompt == "/":
            self.search(event.text)
        elif text := event.text.strip():
            self._run_command(text)

    def search(self, text: str) -> None:
        """Search for what was typed behind `/`."""

    def _run_command(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        for node, action in self.bench.offered(self):
            if action.command == word and (action.takes or not rest):
                self.run_worker(_run(self.bench, node, action, rest.strip()), exit_on_error=False)
                return
        if not self.command(text):
            self.fail(f"{word!r} is no command here. ? shows what can be done.")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell of dialogues (`@work(exit_on_error=False)`) that failed."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.post_message(Failure(event.worker.error))


async def _run(app: WorkbenchApp, node: DOMNode, action: Action, argument: str) -> None:
    if not argument:
        await app.run_action(action.name, node)
        return
    done = getattr(node, f"action_{action.name}")(argument)
    if inspect.isawaitable(done):
        await done
