"""The diagnosis of a finished experiment: the failures found, what likely lies behind each, and the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.report.failures import SAID, cells_of, ids_told, verdict_of
from workbench.report.pairs import arms
from workbench.text import counted
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat, wrap
from workbench.tui.messages import Failure, Said
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.result_pane import ResultPane, name_cell
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import LETTERS
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.report.failures import Diagnosis, Finding, Look
    from workbench.results import Finished
    from workbench.tables import Value
    from workbench.tui.app import WorkbenchApp

DIAGNOSIS_ACTIONS = declare(
    Action("tokens", ("t",), "tokens", "Show a row behind the finding as tokens, or the first of its version.",
           "diagnosis"),
    Action("versions", ("v",), "versions", "Go to the versions, to see in which rows two of them differ.", "diagnosis"),
)  # fmt: skip


@dataclass
class _Row:
    """A line of the table: a finding, or what was looked for and not found."""

    look: Look
    finding: Finding | None = None


class DiagnosisPane(ResultPane):
    """A table of what was looked for, findings first, over what is known of the one under the cursor.

    It is made when the tab is first opened, as it reads the training rows.
    """

    NAME = "diagnosis"
    KEY = "8"
    HELP = "Look for the classic failures of fine-tuning, with likely causes and where to look."
    HINT = "enter rows · t tokens · v versions"
    SCREEN_ACTIONS = DIAGNOSIS_ACTIONS
    BINDINGS = bindings("diagnosis")
    DEFAULT_CSS = """
    DiagnosisPane Static { height: auto; max-height: 3; color: $muted; padding: 0 1; }
    DiagnosisPane Table { height: auto; max-height: 50%; scrollbar-size-horizontal: 0; }
    DiagnosisPane LineView { padding: 0 0 0 1; border-top: solid $rule; }
    DiagnosisPane LineView:focus { border-top: solid $border; }
    """

    @dataclass
    class _Told(Message):
        id: str
        text: str

    @dataclass
    class _Made(Message):
        found: Diagnosis

    @dataclass
    class _First(Message):
        """The first row of a version."""

        version: str
        id: int

    def __init__(self) -> None:
        super().__init__()
        self._experiment = ""
        self._found: Diagnosis | None = None
        self._making = ""
        self._names: dict[str, str] = {}
        self._rows: dict[str, _Row] = {}

    def compose(self) -> ComposeResult:
        """What was found in a line; the table; what is known of a line of it."""
        yield Static(markup=False)
        yield Table()
        yield LineView()

    @property
    def table(self) -> Table:
        """What was looked for."""
        return self.query_one(Table)

    @property
    def found(self) -> Diagnosis | None:
        """The diagnosis, where it is made already."""
        return self._found if self._found and self._found.experiment == self._experiment else None

    @property
    def current(self) -> _Row | None:
        """What is under the cursor."""
        return self._rows.get(self.table.current or "")

    def home(self) -> Widget:
        """The table."""
        return self.table

    def show(self, shown: Finished | None) -> None:
        """Begin anew with another result; another pair of the same experiment has the same diagnosis."""
        self._experiment = shown.id if shown else ""
        self._names = arms(shown.whole) if shown else {}
        self._rows.clear()
        self.table.show([], [])
        self.query_one(LineView).set_lines([])
        self.query_one(Static).update("")
        self._fill()
        if self.display:
            self._make()

    def on_show(self) -> None:
        """The tab is opened: look."""
        self._make()

    def _make(self) -> None:
        id = self._experiment
        if not id or self.found is not None or self._making == id:
            return
        self._making = id
        workspace = cast("WorkbenchApp", self.app).workspace
        self.query_one(Static).update("looking …")

        def progress(done: int, total: int | None, what: str) -> None:
            self.post_message(DiagnosisPane._Told(id, f"{what} {done:,} of {total:,} …" if total else f"{what} …"))

        def work(cancelled: Cancelled) -> DiagnosisPane._Made:
            from workbench.failures.diagnose import diagnose  # it knows of statistics, which take a second to load

            return DiagnosisPane._Made(diagnose(workspace, id, progress))

        background(self, work, lambda made: made, group="diagnose")

    @on(_Told)
    def _tell(self, message: _Told) -> None:
        message.stop()
        if message.id == self._making:
            self.query_one(Static).update(flat(message.text))

    @on(_Made)
    def _is_made(self, message: _Made) -> None:
        """Show it, if it is still that of the result in view."""
        message.stop()
        self._found = message.found
        if message.found.experiment == self._making:
            self._making = ""
        self._fill()

    def _fill(self) -> None:
        if (found := self.found) is None:
            return
        columns, rows, self._rows = diagnosis_rows(found, self._names)
        self.table.show(columns, rows)
        self.query_one(Static).update("\n".join(flat(line) for line in _summed(found)))
        self._describe()

    def on_failure(self, message: Failure) -> None:
        """It could not be made."""
        if self._making:
            self._making = ""
            self.query_one(Static).update(flat(message.text))

    # Of the line under the cursor

    @on(Table.Highlighted)
    def _highlighted(self, message: Table.Highlighted) -> None:
        message.stop()
        self._describe()

    @on(LineView.Widened)
    def _describe(self) -> None:
        text, row, found = self.query_one(LineView), self.current, self.found
        if row is not None and found is not None and text.width >= 20:
            text.set_lines(row_lines(row, found, text.width, self._names))

    @on(Table.Chosen)
    def _chosen(self, message: Table.Chosen) -> None:
        """Browse the rows behind a finding."""
        message.stop()
        cause = self.current.finding.cause if self.current and self.current.finding else None
        if cause is None or not cause.rows:
            self._say("No row is named here.")
            return
        app = cast("WorkbenchApp", self.app)
        app.base = cause.of
        app.go("browse", base=cause.of, row=cause.rows[0])

    def action_tokens(self) -> None:
        """Show a row as tokens."""
        row, found = self.current, self.found
        if row is None or found is None:
            return
        if row.finding is not None and row.finding.cause.rows:
            self._show_tokens(DiagnosisPane._First(row.finding.cause.of, row.finding.cause.rows[0]))
            return
        version = found.versions[row.finding.arm if row.finding else list(found.versions)[-1]]
        workspace = cast("WorkbenchApp", self.app).workspace

        def work(cancelled: Cancelled) -> DiagnosisPane._First:
            return DiagnosisPane._First(version, next(iter(workspace.rows(version))).column("id")[0].as_py())

        background(self, work, lambda first: first, group="first")

    @on(_First)
    def _show_tokens(self, message: _First) -> None:
        message.stop()
        cast("WorkbenchApp", self.app).open_tokens(message.version, message.id)

    def action_versions(self) -> None:
        """Go to the versions."""
        cast("WorkbenchApp", self.app).go("versions")

    def _say(self, text: str) -> None:
        self.app.post_message(Said(text))


def diagnosis_rows(
    found: Diagnosis, names: Mapping[str, str]
) -> tuple[list[Column], list[tuple[str, list[Value | Cell]]], dict[str, _Row]]:
    """What was looked for as columns and rows of a `Table`, findings first, and what each row stands for.

    Of two arms the columns are A and B, as everywhere; of more, B is another one in each pair, so these have `names`,
    as many as there is room for.
    """
    looks = {look.failure: look for look in found.looks}
    entries = [_Row(looks[finding.failure], finding) for finding in found.findings]
    failed = {finding.failure for finding in found.findings}
    entries += [_Row(look) for look in found.looks if look.failure not in failed]
    measured = list(dict.fromkeys(reading.column for look in found.looks for reading in look.readings))
    order = [name for name in ("base", *found.versions, "references") if name in measured]
    many = len(found.versions) > 2
    letters = {arm: str(name_cell(name, _ARM).text) for arm, name in names.items()} if many else LETTERS
    titles = [
        Column(letters.get(name, name), right=True, optional=name == "references" or (many and name != "base"))
        for name in order
    ]
    columns = [Column(""), Column("failure"), Column("in"), *titles]
    rows: list[tuple[str, list[Value | Cell]]] = []
    for number, entry in enumerate(entries):
        finding = entry.finding
        mark = "▼" if finding else "?" if entry.look.missing else "·"
        title = name_cell(entry.look.title, _TITLE) if many else entry.look.title
        arm = letters.get(finding.arm, finding.arm) if finding else ""
        rows.append((str(number), [mark, title, arm, *cells_of(entry.look, order)]))
    return columns, rows, {str(number): entry for number, entry in enumerate(entries)}


def _arm(finding: Finding, found: Diagnosis, names: Mapping[str, str]) -> str:
    return names.get(finding.arm, found.versions[finding.arm])


def row_lines(row: _Row, found: Diagnosis, width: int, names: Mapping[str, str]) -> list[Line]:
    """A finding with its cause and where to look, or what is to be said of what was not found."""
    finding = row.finding
    if finding is None:
        told = f"not measured: {row.look.missing}" if row.look.missing else row.look.note or "Not found."
        return [[(piece, "muted")] for piece in wrap(told, width)]
    head = f"{_arm(finding, found, names)}: {row.look.title} · {SAID[finding.kind]}"
    lines: list[Line] = [[(piece, "strong")] for piece in wrap(head, width)]
    parts = [("measured", finding.sentence), ("likely cause", finding.cause.why)]
    parts += [("rows", f"{ids_told(finding.cause)} of {finding.cause.of}")] if finding.cause.rows else []
    parts += [(f"item {shown.item}", shown.piece) for shown in finding.shown]
    parts += [("to look", told) for told in dict.fromkeys(_key(command) for command in finding.cause.look)]
    for name, text in parts:
        first, *more = wrap(text, width - _NAME)
        lines.append([(f"{name:{_NAME}}", "accent"), (first, "text")])
        lines += [[(" " * _NAME + piece, "text")] for piece in more]
    return lines


_KEYS = (
    ("workbench examples", "enter shows these rows in Browse"),
    ("workbench tokens", "t shows a row as tokens, and what of it is trained"),
    ("workbench versions", "v goes to the versions, where d shows how two differ"),
    ("workbench dupes", "D on the Versions screen shows its duplicates"),
    ("workbench experiments show", "1 has the verdict with settings and checks, 3 the answers"),
)
"""What does in the app what a command of the shell does, which would find the workspace in use."""


def _key(command: str) -> str:
    return next((key for begins, key in _KEYS if command.startswith(begins)), command)


_NAME = 14  # cells of what a line is about
_TITLE, _ARM = 30, 14  # cells of a failure and of the name of an arm, where these are many


def _summed(found: Diagnosis) -> list[str]:
    if not found.findings:
        head = verdict_of(found)
    else:
        failures = len({finding.failure for finding in found.findings})
        head = f"{counted(failures, 'failure')} found in {counted(len(found.looks), 'look')}."
    missing = sum(bool(look.missing) for look in found.looks)
    return [f"{head} {counted(found.items, 'item')}; findings speak of {found.scope}."] + (
        [f"? could not be measured: {missing}."] if missing else []
    )
