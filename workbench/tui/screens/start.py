"""The first run: no workspace yet, or nothing in it. Three ways on, and none needs a manual."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from workbench.importing import ImportReport
from workbench.tui.cells import flat
from workbench.tui.import_flow import import_told
from workbench.tui.screen import BenchScreen
from workbench.tui.widgets.dialogs import ask_text, dialogue
from workbench.tui.workers import Cancelled, background
from workbench.workspace import Workspace


@dataclass
class _Made(Message):
    workspace: Workspace


@dataclass
class _Imported(Message):
    report: ImportReport
    base: str


class StartScreen(BenchScreen):
    """What to do where there is nothing to look at yet."""

    NAME = "start"
    HINTS = ("help", "command_palette", "quit")
    DEFAULT_CSS = """
    StartScreen .body { align: center middle; }
    StartScreen #start { width: 72; max-width: 96%; height: auto; }
    StartScreen #about { color: $muted; margin: 0 0 1 1; }
    StartScreen OptionList { height: auto; border: none; background: $background; padding: 0; }
    StartScreen OptionList:focus { border: none; background-tint: transparent; }
    """

    def body(self) -> ComposeResult:
        """What this is, and the ways on."""
        with Vertical(id="start"):
            yield Static(id="about", markup=False)
            yield OptionList(id="ways")

    def home(self) -> Widget:
        """The ways on."""
        return self.query_one("#ways")

    def arrive(self, **args: object) -> None:
        """Offer what can be done now."""
        self._offer()

    def _offer(self) -> None:
        about = Text("Curate the data that fine-tuning is made of, see which tokens are trained, ")
        about.append("and measure what each choice does to the model.\n\n")
        if self.bench.has_workspace:
            about.append(f"{flat(str(self.bench.workspace.root.resolve()))} is an empty workspace.")
            ways = [
                ("starter", "Open the starter set", "a small set with known flaws, to try everything on"),
                ("import", "Import a file", "JSONL, JSON, CSV or Parquet; a folder; hf:NAME from the hub"),
                ("keys", "Read the keys", "? shows them at any time, ctrl+p finds any action"),
            ]
        else:
            here = flat(str(self.bench.folder))
            about.append("There is no workspace here yet: a folder that holds your data, versions and runs.")
            ways = [
                ("here", "Make one here", here),
                ("folder", "Make one in another folder", "you name it; it may be new"),
                ("keys", "Read the keys", "? shows them at any time, ctrl+p finds any action"),
            ]
        self.query_one("#about", Static).update(about)
        listed = self.query_one("#ways", OptionList)
        listed.clear_options()
        muted = self.app.theme_variables["muted"]
        listed.add_options(
            Option(Text.assemble((f" {title}\n", "bold"), (f"   {what}\n", muted)), id=name)
            for name, title, what in ways
        )
        listed.highlighted = 0
        self.focus_home()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go that way."""
        event.stop()
        match event.option_id:
            case "here":
                self._make(self.bench.folder)
            case "folder":
                self.ask_folder()
            case "starter":
                self._bring_in_starter()
            case "import":
                self.bench.action_import_file()
            case _:
                self.bench.action_help()

    @dialogue
    async def ask_folder(self) -> None:
        """Make a workspace in a folder that is named."""
        if folder := await ask_text(self.app, "Make a workspace in", "my-data", placeholder="a folder"):
            self._make(Path(folder).expanduser())

    def _make(self, folder: Path) -> None:
        self.progress("making the workspace …")
        background(self, lambda cancelled: Workspace.init(folder), _Made, group="make")

    def on__made(self, message: _Made) -> None:
        """Work in the workspace that was made."""
        self.progress("")
        self.bench.use_workspace(message.workspace)
        self.say(f"{message.workspace.root.resolve()} is a workspace.")
        self.bench.open_newest()

    def _bring_in_starter(self) -> None:
        self.progress("importing the starter set …")
        workspace = self.bench.workspace

        def work(cancelled: Cancelled) -> _Imported:
            from workbench.demo import RAW, bring_in  # it knows of training and statistics, which take seconds to load

            return _Imported(bring_in(workspace), RAW)

        background(self, work, lambda imported: imported, group="import")

    def on__imported(self, message: _Imported) -> None:
        """Look at what came in."""
        self.progress("")
        self.bench.tasks.land(message.base, import_told(message.report))

    def on_failure(self) -> None:
        """Nothing is being done any more; the app tells why."""
        self.progress("")
