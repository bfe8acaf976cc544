"""What to import, how it is read, and what came of its first rows: nothing is written before that was seen."""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import Suggester, SuggestFromList
from textual.timer import Timer
from textual.widgets import Input, Static

from workbench.errors import Problem
from workbench.formats.hub import HUB
from workbench.formats.shapes import SHAPES
from workbench.importing import name_for, parse_mapping
from workbench.paths import complete_path
from workbench.preview import Preview, preview
from workbench.tui.advice import in_app
from workbench.tui.cells import flat, wrap
from workbench.tui.sample_lines import sample_lines
from workbench.tui.widgets.dialogs import Dialog
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.workers import Cancelled, background

_PAUSE = 0.3  # seconds without a key before a file is looked at
_SHOWN = 3  # conversations and rejects
_ABOUT = "JSON, JSON lines, CSV or Parquet. What comes of the first rows is shown here; nothing is imported before."
_NAMES = 40  # paths that are listed while one is typed


@dataclass(frozen=True)
class Wish:
    """What a person wants imported: what is left empty is told from the data."""

    target: str = ""
    name: str = ""
    license: str = ""
    format: str = ""
    mapping: str = ""

    @property
    def reading(self) -> tuple[str, str, str]:
        """What a preview depends on."""
        return self.target, self.format, self.mapping

    @property
    def columns(self) -> dict[str, str] | None:
        """The columns that were named. Raises UsageProblem where they cannot be read."""
        return parse_mapping(self.mapping) if self.mapping else None


class _Paths(Suggester):
    """The first path that goes on from what is typed."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        found = await asyncio.to_thread(complete_path, value)
        return next((path for path in found if path != value and flat(path) == path), None)


class _PathInput(Input):
    """Tab takes what is suggested, and where nothing is, goes on to the next field."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", "complete", show=False)]

    def action_complete(self) -> None:
        before = self.value
        self.action_end()
        self.action_cursor_right()
        if self.value == before:
            self.screen.focus_next()


class ImportDialog(Dialog[Wish]):
    """Fields over a preview. Enter looks, and where the first rows can be used, imports; esc gives None."""

    DEFAULT_CSS = """
    ImportDialog > Vertical { width: 110; height: 90%; }
    ImportDialog Horizontal { height: 1; }
    ImportDialog Horizontal Static { width: 10; color: $muted; }
    ImportDialog Horizontal Input { width: 1fr; }
    ImportDialog LineView { height: 1fr; margin: 1 0 0 0; background: $surface; }
    """
    _FIELDS = (
        ("target", "path", "a file, a folder, a glob, or hf:NAME"),
        ("name", "name", "as the file"),
        ("license", "licence", "of the data, for the record"),
        ("format", "format", "told from the rows"),
        ("mapping", "columns", "prompt=COLUMN,response=COLUMN where the format is not known"),
    )

    @dataclass
    class _Seen(Message):
        wish: Wish
        lines: list[Line]
        usable: bool
        name: str

    def __init__(self, wish: Wish) -> None:
        super().__init__("Import", foot="enter looks, then imports · tab completes · esc cancel")
        self._wish = wish
        self._seen: ImportDialog._Seen | None = None
        self._pause: Timer | None = None

    def inside(self) -> ComposeResult:
        """The fields, one a line, and the preview."""
        for field, title, placeholder in self._FIELDS:
            with Horizontal():
                yield Static(title, markup=False)
                given = getattr(self._wish, field)
                made: Input
                if field == "target":
                    made = _PathInput(given, placeholder=placeholder, suggester=_Paths(), id=field, compact=True)
                else:
                    names = SuggestFromList(sorted(SHAPES)) if field == "format" else None
                    made = Input(given, placeholder=placeholder, suggester=names, id=field, compact=True)
                made.select_on_focus = False
                yield made
        yield LineView()

    def on_mount(self) -> None:
        """Begin with the path."""
        super().on_mount()
        self.query_one("#target", Input).focus()

    @on(LineView.Widened)
    def _wrap(self) -> None:
        """Say what comes, or wrap what was understood again."""
        view = self.query_one(LineView)
        if self._seen:
            self._look(self._seen.usable)
        elif not self.wish.target:
            view.set_lines([[(line, "muted")] for line in wrap(_ABOUT, max(view.width, 20))])

    @property
    def wish(self) -> Wish:
        """What the fields say."""
        return Wish(**{field: self.query_one(f"#{field}", Input).value.strip() for field, *_ in self._FIELDS})

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.id in ("target", "format", "mapping"):
            if self._pause:
                self._pause.stop()
            self._pause = self.set_timer(_PAUSE, self._look)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        wish = self.wish
        if self._seen and self._seen.wish.reading == wish.reading and self._seen.usable:
            self.dismiss(wish)
        elif wish.target:
            self.query_one(LineView).set_lines([[("looking …", "muted")]])
            self._look(asked=True)

    def _look(self, asked: bool = False) -> None:
        """Read the first rows. Unasked, while a path is typed, only those of a file."""
        wish, width = self.wish, max(self.query_one(LineView).width, 20)
        if self._pause:
            self._pause.stop()

        def work(cancelled: Cancelled) -> ImportDialog._Seen:
            if not asked and not _is_file(wish.target):
                return self._Seen(wish, _paths(wish.target, width), False, "")
            try:
                seen = preview(
                    wish.target, format=wish.format or None, mapping=wish.columns, trees="best", shown=_SHOWN
                )
            except Problem as problem:
                return self._Seen(wish, [[(line, "error")] for line in wrap(in_app(str(problem)), width)], False, "")
            return self._Seen(
                wish, [*_verdict(seen, width), *sample_lines(seen, width)], seen.usable, name_for(wish.target)
            )

        background(self, work, lambda seen: seen, group="look")

    def on_import_dialog__seen(self, message: ImportDialog._Seen) -> None:
        """Show what was understood."""
        message.stop()
        self._seen = message
        self.query_one(LineView).set_lines(message.lines)
        self.query_one("#name", Input).placeholder = message.name or "as the file"


def _is_file(target: str) -> bool:
    try:
        return bool(target) and not target.startswith(HUB) and Path(os.path.expanduser(target)).is_file()
    except (OSError, ValueError):  # a NUL in it
        return False


def _verdict(seen: Preview, width: int) -> list[Line]:
    if seen.usable:
        return [[("enter imports this.", "accent")], []]
    text = "More than half of the rows is rejected: it would not be imported. Another format, or columns, may help."
    lines: list[Line] = [[(line, "warning")] for line in wrap(text, width)]
    return [*lines, []]


def _paths(text: str, width: int) -> list[Line]:
    """What can be typed on."""
    if text.startswith(HUB):
        return [[("enter looks at it on the hub.", "muted")]]
    found: Sequence[str] = complete_path(text)
    if not found and glob.has_magic(text):
        return [[("enter looks at the files that this matches.", "muted")]]
    if not found:
        return [[("There is no such file here; enter says more.", "muted")]] if text else []
    names = [path.rstrip("/").rpartition("/")[2] + "/" * path.endswith("/") for path in found]
    lines: list[Line] = [[(line, "muted")] for name in names[:_NAMES] for line in wrap(name, width)[:1]]
    if len(found) > _NAMES:
        lines.append([(f"… {len(found) - _NAMES:,} more", "muted")])
    return lines
