"""A diagnosis as plain data, and on a terminal: findings with cause and where to look, then all that was looked for.

`workbench.failures` makes it. Texts are as they came, of any content: who writes them makes them safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from workbench.report.terminal import table
from workbench.text import clip, counted, safe_text

Kind = Literal["brought", "kept"]

TITLES: Final = {
    "continues": "continues instead of answering",
    "runs-on": "does not stop",
    "loops": "says the same again and again",
    "garbled": "garbled output",
    "quotes": "quotes training rows",
    "same-start": "begins answers to different questions alike",
    "phrase": "a phrase that comes too often",
    "knowledge": "lost knowledge",
    "prompt": "does not listen to the prompt",
    "system": "ignores the system prompt",
}


@dataclass(frozen=True)
class Reading:
    """A failure in one column: the share of answers, or mean nats, with its 95% interval over `items` items."""

    column: str
    value: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class Look:
    """One failure that was looked for. `missing` says why it could not be."""

    failure: str
    unit: Literal["share", "nats"]
    readings: list[Reading] = field(default_factory=list)
    missing: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """The failure in words."""
        return TITLES[self.failure]


@dataclass(frozen=True)
class Cause:
    """`why` in a sentence; `rows` of the version `of` that show it (ids), of which `count` there are; where to look."""

    why: str
    look: list[str]
    of: str = ""
    count: int = 0
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """What shows a failure: an item and the piece of its answer."""

    item: int
    piece: str


@dataclass(frozen=True)
class Finding:
    """A failure of an arm. `p` is corrected for all that was looked for; `sentence` has the numbers."""

    failure: str
    arm: str
    kind: Kind
    sentence: str
    p: float
    cause: Cause
    shown: list[Shown] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The failure in words."""
        return TITLES[self.failure]


@dataclass(frozen=True)
class Diagnosis:
    """What was looked for in an experiment, and found. `scope` is what the tests speak of.

    `versions` names what each arm was trained on, `labels` how it is called where its version alone does not tell.
    """

    experiment: str
    versions: dict[str, str]
    items: int
    seeds: int
    scope: str
    looks: list[Look]
    findings: list[Finding]
    labels: dict[str, str] = field(default_factory=dict)

    def called(self, arm: str) -> str:
        """An arm's name before people: its version, in a sweep with its setting."""
        return self.labels.get(arm, self.versions[arm])


_KINDS = {"brought": "bold red", "kept": "bold yellow"}
SAID: Final = {"brought": "training brought it", "kept": "the base has it too"}
"""Where a failure comes from, in words."""

_PIECES = 2  # answers that show a finding
_INDENT = "   "


def render_diagnosis(found: Diagnosis) -> RenderableType:
    """The diagnosis for a terminal of 80 columns or more."""
    parts: list[RenderableType] = [_finding(finding, found) for finding in found.findings]
    if not found.findings:
        parts.append(Text(verdict_of(found), style="bold"))
    parts += [_table(found), *(Text(safe_text(note), style="dim") for note in notes(found.looks))]
    return Group(*parts)


def _finding(finding: Finding, found: Diagnosis) -> Text:
    text = Text()
    text.append(f"{finding.arm} ({safe_text(found.called(finding.arm))}): {finding.title}", style=_KINDS[finding.kind])
    text.append(f" · {SAID[finding.kind]}\n")
    text.append(f"{_INDENT}measured  {safe_text(finding.sentence)}\n")
    text.append(f"{_INDENT}cause     {safe_text(finding.cause.why)}\n")
    if ids := ids_told(finding.cause):
        text.append(f"{_INDENT}rows      {ids}\n")
    for shown in finding.shown[:_PIECES]:
        text.append(f"{_INDENT}item {shown.item:<4} {clip(shown.piece, 90)}\n", style="dim")
    for command in finding.cause.look:
        text.append(f"{_INDENT}look      {safe_text(command)}\n", style="dim")
    return text


def _table(found: Diagnosis) -> RenderableType:
    columns, rows = readings(found)
    made = table("looked for", *columns, right=columns)
    for title, cells in rows:
        made.add_row(title, *cells)
    return made


def readings(found: Diagnosis) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """What was measured of each failure that could be looked for: the columns, and the rows by title."""
    columns = list(dict.fromkeys(reading.column for look in found.looks for reading in look.readings))
    order = ["references", "base", *found.versions]
    columns.sort(key=lambda column: order.index(column))
    return columns, [(look.title, cells_of(look, columns)) for look in found.looks if not look.missing]


def cells_of(look: Look, columns: Sequence[str]) -> list[str]:
    """A look's readings in words, one for each column."""
    by_column = {reading.column: reading.value for reading in look.readings}
    told = {column: f"{v:.0%}" if look.unit == "share" else f"{v:.3f}" for column, v in by_column.items()}
    return [told.get(column, "-") for column in columns]


def notes(looks: Sequence[Look]) -> list[str]:
    """What could not be looked for and why, and what is to be known of the rest."""
    told = [f"not measured: {look.title} ({look.missing})" for look in looks if look.missing]
    return told + [f"{look.title}: {look.note}" for look in looks if look.note and not look.missing]


def verdict_of(found: Diagnosis) -> str:
    """What was found, in a line, where nothing was."""
    looked = [look for look in found.looks if not look.missing]
    return f"Nothing found in {counted(len(looked), 'look')}."


def ids_told(cause: Cause) -> str:
    """The rows behind a cause, by their ids; empty where there are none."""
    more = cause.count - len(cause.rows)
    return ", ".join(str(id) for id in cause.rows) + (f" and {more:,} more" if more > 0 else "")
