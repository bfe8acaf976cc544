"""Versions: everything with rows in the workspace, how one came from the other, and what can be done with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.store.catalogue import Entry
from workbench.store.drafts import MANUAL
from workbench.tables import Value
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.messages import BaseChanged
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.diff import DiffScreen
from workbench.tui.widgets.dialogs import confirm, dialogue
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.version_lines import source_lines, version_lines
from workbench.tui.workers import Cancelled, background

VERSIONS_ACTIONS = declare(
    Action("diff", ("d",), "diff", "Show what lies between the two marked, or this one and its origin.", "versions"),
    Action("compare", ("c",), "compare", "Train the marked versions and compare; the first is the baseline.",
           "versions"),
    Action("recipe", ("R",), "recipe", "Change a recipe over this one, and see what each step drops.", "versions"),
    Action("export", ("w",), "export", "Write this one with its dataset card.", "versions", takes="FILE"),
    Action("remove", ("x",), "delete", "Delete this one, unless something needs it.", "versions", takes="NAME"),
    Action("read", ("right", "tab"), "read", "Go into the ledger, to scroll it; esc comes back.", "versions"),
)  # fmt: skip

_COLUMNS = (
    Column("name"),
    Column("kind"),
    Column("rows", right=True),
    Column("used", right=True),
    Column("how it was made"),
    Column("made (UTC)", optional=True),
)
_EMPTY = (
    "No version yet. A version is a frozen set of rows with a name: what is trained, compared and exported.",
    "f in Browse (B) freezes the rows that are kept; p runs a recipe over them and freezes what it leaves.",
)


@dataclass
class _Listed(Message):
    lines: list[tuple[str, Entry]]


@dataclass
class _Read(Message):
    name: str
    lines: list[Line]


class VersionsScreen(BenchScreen):
    """The list of sources and versions, and the ledger of the one under the cursor."""

    NAME = "versions"
    SCREEN_ACTIONS = VERSIONS_ACTIONS
    BINDINGS = bindings("versions")
    HINTS = ("help", "select_cursor", "mark", "diff", "compare", "export", "remove", "command_palette")
    DEFAULT_CSS = """
    VersionsScreen #about { height: auto; max-height: 3; padding: 0 1; color: $muted; }
    VersionsScreen #panes { height: 1fr; layout: vertical; }
    VersionsScreen Table { scrollbar-size-horizontal: 0; }
    VersionsScreen LineView { height: 55%; padding: 0 0 0 1; border-top: solid $rule; }
    VersionsScreen LineView:focus { border-top: solid $border; }
    VersionsScreen.-wide {
        & #panes { layout: horizontal; }
        & Table { width: 1fr; height: 100%; }
        & LineView { width: 45%; height: 100%; border-top: none; border-left: solid $rule; }
        & LineView:focus { border-top: none; border-left: solid $border; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[str, Entry]] = []
        self._entries: dict[str, Entry] = {}
        self._tasks_running = 0

    def body(self) -> ComposeResult:
        """What is there and marked, in a line; then the list and the ledger."""
        yield Static(id="about", markup=False)
        with Horizontal(id="panes"):
            yield Table(marks=True)
            yield LineView()

    def home(self) -> Widget:
        """The list."""
        return self.table

    @property
    def table(self) -> Table:
        """The list."""
        return self.query_one(Table)

    def on_mount(self) -> None:
        """Look out for versions that an import or a recipe brings."""
        super().on_mount()
        self.set_interval(1.0, self._look_for_news)

    def arrive(self, **args: Any) -> None:
        """List what there is now."""
        self._reload()

    def _look_for_news(self) -> None:
        before, self._tasks_running = self._tasks_running, len(self.bench.tasks.running)
        if self._tasks_running < before and self.is_current:
            self._reload()

    # The list

    def _reload(self) -> None:
        workspace = self.bench.workspace
        background(self, lambda cancelled: _Listed(workspace.catalogue()), lambda listed: listed, group="list")

    @on(_Listed)
    def _listed(self, message: _Listed) -> None:
        first = not self._entries
        self._lines = message.lines
        self._entries = {entry.name: entry for _, entry in message.lines}
        self._fill()
        if first:
            self.table.go_to(self.bench.base)
        self._describe()
        if self.table.current:
            self._read(self.table.current)

    def _fill(self) -> None:
        rows = [(entry.name, self._cells(branch, entry)) for branch, entry in self._lines]
        if rows:
            self.table.show(_COLUMNS, rows)

    def _cells(self, branch: str, entry: Entry) -> Sequence[Value | Cell]:
        muted = self.app.theme_variables["muted"]
        name = Text.assemble((branch, muted), (flat(entry.name), "bold" if entry.name == self.bench.base else ""))
        if entry.kind == "source":
            how = f"imported, {entry.license or 'licence not stated'}"
        else:
            how = ", ".join("by hand" if step == MANUAL else step for step in entry.steps) or "frozen as it was"
            how += f"; with {', '.join(entry.inputs[1:])}" if len(entry.inputs) > 1 else ""
        used = len(entry.experiments)
        return (
            Cell(entry.name, name),
            entry.kind,
            entry.rows,
            Cell(used, f"{used} exp." if used else ""),
            Cell(how, flat(how) if len(how) <= 40 else flat(how[:39]) + "…"),
            f"{entry.created_at:%Y-%m-%d %H:%M}",
        )

    def _describe(self) -> None:
        versions = sum(entry.kind == "version" for entry in self._entries.values())
        sources = len(self._entries) - versions
        told = f"{versions:,} version{'s' * (versions != 1)}, {sources:,} source{'s' * (sources != 1)}"
        match self.table.marked:
            case []:
                told += " · space marks versions, the baseline first" if versions else ""
            case [one]:
                told += f" · marked: {one}"
            case [a, b]:
                told += f" · marked: {a}, then {b}: d shows what lies between, c trains both"
            case marked:
                told += f" · marked: {marked[0]}, then {', '.join(marked[1:])}: c trains all {len(marked)}"
        lines = [flat(told), *(() if versions else _EMPTY)]
        self.query_one("#about", Static).update(Text("\n".join(lines)))

    @on(Table.MarksChanged)
    def _marks_changed(self) -> None:
        self._describe()

    # The ledger

    @on(Table.Highlighted)
    def _highlighted(self, message: Table.Highlighted) -> None:
        self._read(message.key)

    def _read(self, name: str) -> None:
        entry, workspace = self._entries.get(name), self.bench.workspace
        width = self.query_one(LineView).width
        if entry is None or width < 20:
            return

        def work(cancelled: Cancelled) -> _Read:
            if entry.kind == "source":
                return _Read(name, source_lines(entry, workspace.show_source(name), width))
            return _Read(name, version_lines(entry, workspace.show_version(name), width))

        background(self, work, lambda read: read, group="read")

    @on(_Read)
    def _show(self, message: _Read) -> None:
        if message.name == self.table.current:
            self.query_one(LineView).set_lines(message.lines)

    @on(LineView.Widened)
    def _lay_out(self) -> None:
        if self.table.current:
            self._read(self.table.current)

    def action_recipe(self) -> None:
        """Show what a recipe would drop of this one."""
        self.bench.go("recipe", base=self.table.current)

    def action_read(self) -> None:
        """Go into the ledger, or back."""
        self.query_one(LineView).focus() if self.table.has_focus else self.focus_home()

    def escape(self) -> bool:
        """Back to the list; then take the marks away."""
        if self.focused is not self.table:
            self.focus_home()
            return True
        return self.table.unmark()

    # What is done with them

    @on(Table.Chosen)
    def _chosen(self, message: Table.Chosen) -> None:
        self.app.post_message(BaseChanged(message.key))

    def _meant(self) -> list[str]:
        """Those that are marked; where that is one, it and the one under the cursor."""
        marked, current = self.table.marked, self.table.current
        if len(marked) == 1 and current not in (None, *marked):
            marked.append(current or "")
        return marked

    def action_diff(self) -> None:
        """Show what lies between two; without marks, between what this one was made from and it."""
        two, entry = self._meant(), self._entries.get(self.table.current or "")
        if not two and entry and entry.inputs and entry.inputs[0] in self._entries:
            two = [entry.inputs[0], entry.name]
        if len(two) == 2:
            self.app.push_screen(DiffScreen(*two))
        else:
            self.say("Mark the two to look between with space: first the older one, then the newer.")

    def action_compare(self) -> None:
        """Train versions and compare them."""
        meant = self._meant()
        if len(meant) < 2:
            self.say("Mark versions with space: the first is the baseline, the others are candidates.")
        elif source := next((name for name in meant if self._entries[name].kind == "source"), None):
            self.say(f"{source} is a source: enter opens it, and f there freezes it as a version that can be trained.")
        else:
            self.bench.go("experiments", compare=meant)

    @dialogue
    async def action_export(self, file: str = "") -> None:
        """Write the one under the cursor."""
        from workbench.tui.export_flow import export  # not before it is asked for: the app would open later

        if name := self.table.current:
            await export(self.bench, name, file)

    @dialogue
    async def action_remove(self, name: str = "") -> None:
        """Delete a source or version."""
        name, workspace = name or self.table.current or "", self.bench.workspace
        if not name:
            return
        await asyncio.to_thread(workspace.check_removable, name)
        known = {entry.name: entry for _, entry in await asyncio.to_thread(workspace.catalogue)}
        entry = known.pop(name)
        detail = "Its rows stay in their sources. " if entry.kind == "version" else "Its rows and rejects go with it. "
        detail += "What was done to it by hand goes too. This cannot be undone."
        if not await confirm(self.app, f"Delete {entry.kind} {name} ({entry.rows:,} rows)?", detail):
            return
        await asyncio.to_thread(workspace.remove, name)
        if self.bench.base == name:
            if not known:
                self.bench.open_newest()
                return
            self.bench.base = next((origin for origin in entry.inputs if origin in known), [*known][-1])
        self.say(f"Deleted {entry.kind} {name}.")
        self._reload()
