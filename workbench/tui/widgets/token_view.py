"""The tokens of one training example: gutter letters first, underlines second, colours last; a cursor on a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from workbench.report.tokens import CUT, LETTERS, MARK
from workbench.token_facts import Page
from workbench.token_heat import Losses
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.token_layout import Layout, Line

GUTTER = 10
"""Cells before the text: the message's number or the line's loss, the letter of the role, a mark, a rule."""

HOT = 6.0
"""Nats at which a token is shown as hot as any: a guess among 400."""
_SHADES = 6

TOKEN_ACTIONS = declare(
    Action("step(1)", ("l", "right"), "next token", "Go to the next token.", "token text"),
    Action("step(-1)", ("h", "left"), "previous token", "Go to the token before.", "token text"),
    Action("line(1)", ("j", "down"), "down", "Go a line down.", "token text"),
    Action("line(-1)", ("k", "up"), "up", "Go a line up.", "token text"),
    Action("page(1)", ("pagedown", "space", "ctrl+f"), "page down", "Go a page down.", "token text"),
    Action("page(-1)", ("pageup", "ctrl+b"), "page up", "Go a page up.", "token text"),
    Action("edge(False)", ("g", "home"), "first", "Go to the first token.", "token text"),
    Action("edge(True)", ("G", "end"), "last", "Go to the last token.", "token text"),
    Action("turn(1)", ("right_square_bracket",), "next turn", "Go to the next turn.", "token text"),
    Action("turn(-1)", ("left_square_bracket",), "previous turn", "Go to the turn before.", "token text"),
)


class TokenView(ScrollView, can_focus=True):
    """Lines that a worker has laid out; of them only what is on the screen is painted."""

    SCREEN_ACTIONS = TOKEN_ACTIONS
    BINDINGS = bindings("token text")
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "token-view--trained", "token-view--ignored", "token-view--gone", "token-view--muted", "token-view--strong",
        "token-view--odd",
    }  # fmt: skip
    DEFAULT_CSS = """
    TokenView {
        background: $background; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1;
        & > .token-view--trained { color: $trained; text-style: underline; }
        & > .token-view--ignored { color: $ignored; }
        & > .token-view--gone { color: $muted; text-style: dim; }
        & > .token-view--muted { color: $muted; }
        & > .token-view--odd { background: $panel; }
        & > .token-view--strong { text-style: bold; }
    }
    """

    @dataclass
    class Moved(Message):
        """The cursor came to another token."""

        token: int

    @dataclass
    class Widened(Message):
        """There is another number of cells for the text than it was laid out for."""

        width: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.page: Page | None = None
        self.layout_shown = Layout(0, [])
        self.cursor = 0
        self.losses: Losses | None = None
        self._column = 0  # where j and k want to stay
        self._styles: dict[object, Style] = {}

    def set_page(self, page: Page | None, layout: Layout, cursor: int = 0) -> None:
        """Show another example, or the same one laid out anew."""
        if page is not self.page:
            self.losses = None
        self.page, self.layout_shown = page, layout
        self.virtual_size = Size(0, len(layout.lines))
        last = len(page.example.input_ids) - 1 if page else 0
        self.cursor = max(min(cursor, last), 0)
        self._remember_column()
        self._show_cursor()
        self.refresh()

    def set_losses(self, losses: Losses | None) -> None:
        """Shade tokens by their loss, or no longer."""
        self.losses = losses
        self.refresh()

    @property
    def room(self) -> int:
        """Cells of a line that text can have."""
        return max(self.scrollable_content_region.width - GUTTER, 2)

    def notify_style_update(self) -> None:
        """Other colours: another theme."""
        super().notify_style_update()
        self._styles = {}

    def on_resize(self, event: events.Resize) -> None:
        """Ask for lines of another length where these do not fit."""
        if self.room != self.layout_shown.width:
            self.post_message(self.Widened(self.room))

    # The cursor

    def move_to(self, token: int, *, top: bool = False) -> None:
        """Put the cursor on a token; with `top`, show as much as fits of what follows it."""
        if self.page is None or not self.page.example.input_ids:
            return
        self.cursor = max(min(token, len(self.page.example.input_ids) - 1), 0)
        self._remember_column()
        self._show_cursor(top=top)
        self.refresh()
        self.post_message(self.Moved(self.cursor))

    def _show_cursor(self, *, top: bool = False) -> None:
        line_of = self.layout_shown.line_of
        if not line_of:
            return
        line = line_of[self.cursor]
        if top and line:
            self.scroll_to(y=line - 1, animate=False)
        else:
            self.scroll_to_region(Region(0, line, 1, 1), animate=False, force=True)

    def _remember_column(self) -> None:
        if self.layout_shown.line_of:
            used = 0
            for _, cells, token in self.layout_shown.lines[self.layout_shown.line_of[self.cursor]].pieces:
                if token == self.cursor:
                    break
                used += cells
            self._column = used

    def action_step(self, by: int) -> None:
        """Go to another token."""
        self.move_to(self.cursor + by)

    def action_line(self, by: int) -> None:
        """Go to another line, staying in the column."""
        if not self.layout_shown.line_of:
            return
        column, lines = self._column, self.layout_shown.lines
        at = max(min(self.layout_shown.line_of[self.cursor] + by, len(lines) - 1), 0)
        step = 1 if by > 0 else -1
        while 0 <= at < len(lines):
            token = _token_at(lines[at], column)
            if token is not None and token != self.cursor:
                self.move_to(token)
                self._column = column
                return
            at += step

    def action_page(self, by: int) -> None:
        """Go a page up or down."""
        self.action_line(by * max(self.size.height - 1, 1))

    def action_edge(self, last: bool) -> None:
        """Go to the first or the last token."""
        self.move_to(len(self.page.example.input_ids) - 1 if self.page and last else 0)

    def action_turn(self, by: int) -> None:
        """Go to where another turn begins."""
        if self.page is None or not self.page.stretches:
            return
        stretches = self.page.stretches
        at = self.page.stretch_at(self.cursor)
        if by < 0 and self.cursor > stretches[at].start:
            by = 0  # to where this turn begins
        self.move_to(stretches[max(min(at + by, len(stretches) - 1), 0)].start, top=True)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the token that was clicked."""
        place = event.get_content_offset_capture(self)
        number = place.y + self.scroll_offset.y
        if number < len(self.layout_shown.lines):
            token = _token_at(self.layout_shown.lines[number], place.x - GUTTER)
            if token is not None:
                self.move_to(token)

    # Painting

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width, base = self.scrollable_content_region.width, self._part("text")
        number = self.scroll_offset.y + y
        if number >= len(self.layout_shown.lines) or self.page is None:
            return Strip.blank(width, base)
        line = self.layout_shown.lines[number]
        if line.rule:
            rule = fit(f"── {line.rule} ".ljust(width, "─"), width)
            return Strip([Segment(rule, self._part("strong"))]).adjust_cell_length(width, base)
        segments = [*self._gutter(line, self.page), *self._text(line, self.page)]
        return Strip(segments).adjust_cell_length(width, base)

    def _gutter(self, line: Line, page: Page) -> Sequence[Segment]:
        tokens = [token for _, _, token in line.pieces if token is not None]
        gone = bool(tokens) and not page.is_left(tokens[0])
        trained = any(page.example.trained[token] for token in tokens) and not gone
        mark = CUT if gone else MARK if trained else " "
        letter = LETTERS.get(line.role, flat(line.role[:1]) or "?")
        if self.losses is None:
            stretch = page.stretches[page.stretch_at(line.token)]
            label = str(stretch.messages[0]) if line.first and stretch.messages else ""
        else:
            known = [loss for token in tokens if (loss := self.losses[token]) is not None]
            label = f"{sum(known) / len(known):.1f}" if known else ""
        muted = self._part("muted")
        return (
            Segment(fit(label[:5].rjust(5), 5) + " ", muted),
            Segment(fit(letter, 1) + mark, self._part("strong") if trained else muted),
            Segment("│ ", muted),
        )

    def _text(self, line: Line, page: Page) -> Sequence[Segment]:
        example = page.example
        segments = []
        for text, _, token in line.pieces:
            if token is None:
                segments.append(Segment(text, self._part("muted")))
                continue
            gone = not page.is_left(token)
            heat = 0
            if self.losses is not None and (loss := self.losses[token]) is not None:
                heat = max(min(round(loss / HOT * _SHADES), _SHADES), 0)
            trained = example.trained[token] and not gone
            odd = token % 2 == 1 and self.losses is None
            style = self._style(trained, example.special[token], gone, heat, odd, token == self.cursor)
            segments.append(Segment(text, style))
        return segments

    def _style(self, trained: bool, special: bool, gone: bool, heat: int, odd: bool, cursor: bool) -> Style:
        key = (trained, special, gone, heat, odd, cursor)
        if key not in self._styles:
            style = self._part("gone" if gone else "trained" if trained else "ignored")
            if special:
                style += Style(bold=True)
            if odd:  # where one token ends and the next begins
                style += self.get_component_rich_style("token-view--odd", partial=True)
            if heat:
                shade = self.background_colors[1].blend(Color.parse(self.app.theme_variables["error"]), 0.1 * heat)
                style += Style(bgcolor=shade.rich_color)
            if cursor:
                style += Style(reverse=True, bold=True)
            self._styles[key] = style
        return self._styles[key]

    def _part(self, name: str) -> Style:
        """The style of a part of the view, over that of the view itself."""
        if name not in self._styles:
            style = self.rich_style
            if name != "text":
                style += self.get_component_rich_style(f"token-view--{name}", partial=True)
            self._styles[name] = style
        return self._styles[name]


def _token_at(line: Line, column: int) -> int | None:
    """The token in a column of a line's text, or the nearest on its left; None where the line has none."""
    found, used = None, 0
    for _, cells, token in line.pieces:
        if used > column and found is not None:
            break
        found = token if token is not None else found
        used += cells
    return found
