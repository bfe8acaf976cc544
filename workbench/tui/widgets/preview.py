"""One row beside or below the list: its messages, tokens, scores and history."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult, RenderResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from trainer.conversation import content_text
from workbench.errors import Stopped
from workbench.store.detail import ExampleDetail, ExampleHistory, StoredScore
from workbench.text_diff import differing
from workbench.tui.cells import flat, wrap
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.workers import Cancelled, background
from workbench.workspace import Workspace

TABS = ("messages", "tokens", "scores", "history")
_MOST = 400_000  # characters of a row that are laid out; the rest is counted

_PASSING = 0.05  # seconds that a row is under the cursor before it is read: a held key passes rows faster

Tokens = Callable[[ExampleDetail, int, Cancelled], Text]
"""`tokens(detail, width, cancelled)`: the tokens of a row as lines; slow the first time."""


class Tabs(Widget):
    """The names of the tabs, the open one underlined."""

    DEFAULT_CSS = """
    Tabs { height: 1; color: $muted; padding: 0 1; }
    """

    @dataclass
    class Picked(Message):
        """A tab was clicked."""

        number: int

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names
        self.open = 0
        self.note = ""

    def render(self) -> RenderResult:
        """The names, and a note on the right."""
        line = Text(no_wrap=True, end="")
        for number, name in enumerate(self.names):
            strong = Style(color=self.app.theme_variables["accent"], bold=True, underline=True)
            line.append(name, strong if number == self.open else Style())
            line.append("  ")
        room = self.size.width - line.cell_len
        line.append(self.note.rjust(room) if len(self.note) <= room else "")
        return line

    def on_click(self, event: events.Click) -> None:
        """Open the tab that was clicked."""
        x = event.get_content_offset_capture(self).x
        start = 0
        for number, name in enumerate(self.names):
            if start <= x < start + len(name):
                self.post_message(self.Picked(number))
            start += len(name) + 2


class Preview(Vertical):
    """The row under the cursor. It is read and laid out in a worker; what was passed by is called off."""

    DEFAULT_CSS = """
    Preview { background: $background; }
    Preview LineView { padding: 0 0 0 1; }
    """

    @dataclass
    class _Laid(Message):
        id: int
        lines: list[Line]
        top: int
        note: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._workspace: Workspace | None = None
        self._base = ""
        self._tokens: Tokens | None = None
        self._row_id: int | None = None
        self._search = ""

    def compose(self) -> ComposeResult:
        """Tabs over text."""
        yield Tabs(TABS)
        yield LineView()

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._lay_out())

    def set_source(self, workspace: Workspace, base: str, tokens: Tokens) -> None:
        """Show rows of a source or version. `tokens` is called in a worker."""
        self._workspace, self._base, self._tokens = workspace, base, tokens

    def show(self, id: int | None, search: str = "") -> None:
        """Show another row, scrolled to where `search` stands in it; None shows nothing."""
        self._row_id = id
        self._search = search.casefold()
        if id is None:
            self._clear()
        else:
            self._lay_out()

    @property
    def text(self) -> LineView:
        """What scrolls."""
        return self.query_one(LineView)

    def turn_tab(self, by: int) -> None:
        """Open the next tab, or the one before."""
        tabs = self.query_one(Tabs)
        self._open((tabs.open + by) % len(TABS))

    def on_tabs_picked(self, message: Tabs.Picked) -> None:
        """Open the tab."""
        message.stop()
        self._open(message.number)

    def _open(self, number: int) -> None:
        tabs = self.query_one(Tabs)
        tabs.open = number
        tabs.refresh()
        if self._row_id is not None:
            self._lay_out()

    @on(LineView.Widened)
    def _widened(self, message: LineView.Widened) -> None:
        message.stop()
        if self._row_id is not None:
            self._lay_out()

    def _clear(self) -> None:
        self.text.set_lines([])
        tabs = self.query_one(Tabs)
        tabs.note = ""
        tabs.refresh()

    def _lay_out(self) -> None:
        workspace, base, tokens = self._workspace, self._base, self._tokens
        id, search = self._row_id, self._search
        width = self.text.width
        if workspace is None or id is None or width < 4:
            return
        tab = TABS[self.query_one(Tabs).open]

        def work(cancelled: Cancelled) -> Preview._Laid:
            time.sleep(_PASSING)
            if cancelled():
                raise Stopped("passed by")
            detail = workspace.detail(base, id)
            top = 0
            if tab == "messages":
                lines, top = message_lines(detail, width, search)
            elif tab == "scores":
                lines = score_lines(workspace.scores(detail), width)
            elif tab == "history":
                lines = history_lines(detail, workspace.history(base, detail, cancelled), width)
            else:
                lines = text_lines(tokens(detail, width, cancelled)) if tokens else []
            return Preview._Laid(id, lines, top, f"{flat(detail.source)} row {detail.row:,}")

        if tab == "tokens":
            self.text.set_lines([[("reading the tokenizer …", "muted")]])
        background(self, work, lambda laid: laid, group="lay-out")

    def on_preview__laid(self, message: Preview._Laid) -> None:
        """Show what was laid out, if it is still wanted."""
        message.stop()
        if message.id == self._row_id:
            self.text.set_lines(message.lines, message.top)
            tabs = self.query_one(Tabs)
            tabs.note = message.note
            tabs.refresh()

    def on_failure(self) -> None:
        """Leave nothing that belongs to another row; the app tells what was wrong."""
        self._clear()


def message_lines(detail: ExampleDetail, width: int, search: str = "") -> tuple[list[Line], int]:
    """The turns of a row as lines of `width` cells, and the line to begin at: a little above the first hit."""
    lines, first = turn_lines(detail.messages, width, search)
    if detail.tools:
        lines += _field("tools", detail.tools, width)
    return lines, max(first - 2, 0)


def turn_lines(
    messages: Sequence[Mapping[str, Any]],
    width: int,
    search: str = "",
    beside: Sequence[Mapping[str, Any]] = (),
) -> tuple[list[Line], int]:
    """The turns of a conversation as lines of `width` cells, and the line of the first hit; -1 without one.

    With the turns of another conversation `beside` it, the words are marked that its turns lack.
    """
    lines: list[Line] = []
    first = -1
    room = _MOST
    for number, message in enumerate(messages):
        said = content_text(message.get("content"))
        lines.append([(flat(str(message["role"])), "accent"), (f"  {len(said):,} characters", "muted")])
        if number < len(beside):
            other = content_text(beside[number].get("content"))
            lines += [[("  ", "text"), *line] for line in difference_lines(said[:room], other, width - 2)]
        else:
            for piece in wrap(said[:room], width - 2):
                marked = _marked(piece, search)
                if len(marked) > 1 and first < 0:
                    first = len(lines)
                lines.append([("  ", "text"), *marked])
        if len(said) > room:
            lines.append([(f"  … {len(said) - room:,} more characters", "warning")])
        room = max(room - len(said), 0)
        for key, value in message.items():
            if key not in ("role", "content") and value is not None:
                lines += _field(key, value, width)
        lines.append([])
    return lines, first


def difference_lines(text: str, other: str, width: int) -> list[Line]:
    """A text as lines of `width` cells, the words marked that `other` lacks."""
    shown, styles = [""], [""]  # a line of text, and beside it a letter for the style of each of its characters
    for piece, lacking in differing(text, other):
        for number, part in enumerate(piece.split("\n")):
            if number:
                shown.append("")
                styles.append("")
            glyphs = flat(part)
            shown[-1] += glyphs
            styles[-1] += ("h" if lacking and not part.isspace() else "t") * len(glyphs)
    lines: list[Line] = []
    for line, style in zip(shown, styles, strict=True):
        at = 0
        for piece in wrap(line, width):
            at = line.index(piece, at)
            runs = groupby(zip(piece, style[at : at + len(piece)], strict=True), key=lambda pair: pair[1])
            lines.append([("".join(char for char, _ in run), "hit" if name == "h" else "text") for name, run in runs])
            at += len(piece)
    return lines


def score_lines(scores: Sequence[StoredScore], width: int) -> list[Line]:
    """The scores of a row, one a line, and why one is missing."""
    if not scores:
        return [
            [("No step has scored this row yet.", "muted")],
            [("Running a recipe scores what it looks at.", "muted")],
        ]
    names = max(len(score.scorer) for score in scores)
    lines: list[Line] = []
    for score in scores:
        told = f"{score.value:.4g}" if score.value is not None else (score.label or "")
        if score.value is not None and score.label:
            told += f" ({score.label})"
        line: Line = [(f"{flat(score.scorer):<{names}}  ", "muted")]
        line.append((flat(told), "strong") if score.state == "ok" else (score.state, "warning"))
        lines.append(line)
        if score.detail:
            lines += _indented(wrap(score.detail, width - 2), "muted")
    return lines


def history_lines(detail: ExampleDetail, history: ExampleHistory, width: int) -> list[Line]:
    """What happened to a row, and what else its source said of it."""
    lines: list[Line] = []
    for sentence in history.told:
        first, *more = wrap(sentence, width - 2)
        lines.append([("· ", "accent"), (first, "text")])
        lines += _indented(more, "text")
    if history.also_in:
        named = ", ".join(f"{source} row {row:,}" for source, row in history.also_in[:20])
        lines += [[], *_field("the same content is also in", named, width)]
    if detail.meta:
        lines += [[], *_field("other fields of the row", detail.meta, width)]
    lines += [
        [],
        [("id ", "muted"), (f"{detail.id}", "text")],
        [("content ", "muted"), (detail.content_hash[: width - 8], "text")],
    ]
    return lines


def text_lines(text: Text) -> list[Line]:
    """A Rich text whose lines fit already, as lines to paint."""
    lines: list[Line] = []
    for line in text.split("\n", allow_blank=True):
        pieces: Line = []
        for start, stop, style in _spans(line):
            pieces.append((flat(line.plain[start:stop]), style))  # without what joins glyphs
        lines.append(pieces)
    return lines


def _spans(line: Text) -> list[tuple[int, int, Style]]:
    cuts = sorted({0, len(line.plain), *(span.start for span in line.spans), *(span.end for span in line.spans)})
    found = []
    for start, stop in pairwise(cuts):
        style = Style()
        for span in line.spans:
            if span.start <= start and stop <= span.end:
                style += Style.parse(span.style) if isinstance(span.style, str) else span.style
        found.append((start, stop, style))
    return found


def _field(name: str, value: object, width: int) -> list[Line]:
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return [[(flat(name), "muted")], *_indented(wrap(told[:_MOST], width - 2), "muted")]


def _indented(pieces: Sequence[str], style: str) -> list[Line]:
    return [[("  " + piece, style)] for piece in pieces]


def _marked(line: str, search: str) -> Line:
    """A line with its hits marked. A hit that a line end divides is not."""
    pieces: Line = []
    folded = line.casefold()
    if search and len(folded) == len(line):
        start = 0
        while (at := folded.find(search, start)) >= 0:
            pieces += [(line[start:at], "text"), (line[at : at + len(search)], "hit")]
            start = at + len(search)
        pieces.append((line[start:], "text"))
        return pieces
    return [(line, "text")]
