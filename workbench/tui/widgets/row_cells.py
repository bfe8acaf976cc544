"""The columns of a list of rows: how wide they are, their heading, and a row painted into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget

from workbench.store.previews import RowPreview
from workbench.tui.cells import fit, flat

STATE_GLYPHS = {"kept": " ", "dropped": "×", "edited": "~", "restored": "+"}


@dataclass(frozen=True)
class Columns:
    """Where things stand in a line of `width` cells: how wide the position, the prompt and the response are."""

    number: int
    prompt: int
    response: int

    @classmethod
    def of(cls, width: int, rows: int) -> Columns:
        """The columns of a list of `rows` rows; narrow lists leave the response out."""
        number = max(len(f"{rows:,}"), 3)
        text = max(width - number - _FIXED, 0)
        if text < 50:
            return cls(number, text, 0)
        prompt = min(max(text * 45 // 100, 24), 90)
        return cls(number, prompt, text - prompt - 2)

    def heading(self) -> str:
        """The line above the list."""
        response = f"  {fit('response', self.response)}" if self.response else ""
        return f"  {'#'.rjust(self.number)}   label turns  size  {fit('prompt', self.prompt)}{response}"


_FIXED = 2 + 3 + 5 + 7 + 5 + 2  # gutter, state, label, turns, size, gaps


@lru_cache(4096)
def cell(text: str, width: int) -> str:
    """`text` from data in exactly `width` cells."""
    return fit(flat(text), width)


class RowHeading(Widget):
    """The names of the columns, over a list."""

    DEFAULT_CSS = "RowHeading { height: 1; color: $muted; background: $background; }"

    rows: reactive[int] = reactive(0)

    def render(self) -> RenderResult:
        """One line, as the list below it is divided."""
        return Text(Columns.of(self.size.width - 1, self.rows).heading(), no_wrap=True, end="")


def row_cells(
    pos: int, row: RowPreview | None, columns: Columns, highlight: str, base: Style, style: Callable[[str], Style]
) -> list[Segment]:
    """A row behind its gutter; one that is not there yet is a number and a dot.

    `highlight` (casefolded) is marked where it stands in the texts. `style` gives the styles of `RowList` by name.
    """
    muted = base + style("muted")
    number = Segment(f"{(row.pos if row else pos) + 1:,}".rjust(columns.number), muted)
    if row is None:
        return [number, Segment("   ·", muted)]
    changed = base + style("dropped" if row.state == "dropped" else "edited")
    hit = base + style("hit")
    cells = [
        number,
        Segment(f" {STATE_GLYPHS[row.state]} ", changed),
        Segment(cell(row.label or "", 5), base + style("accent")),
        Segment(f"{row.turns:>6} {short_count(row.chars):>5}  ", muted),
        *_text(row.prompt, columns.prompt, highlight, muted if row.state == "dropped" else base, hit),
    ]
    if columns.response:
        cells += [Segment("  ", base), *_text(row.response, columns.response, highlight, muted, hit)]
    return cells


def _text(text: str, width: int, highlight: str, style: Style, hit: Style) -> list[Segment]:
    line = cell(text, width)
    start = line.casefold().find(highlight) if highlight else -1
    if start < 0:
        return [Segment(line, style)]
    stop = start + len(highlight)
    return [Segment(line[:start], style), Segment(line[start:stop], hit), Segment(line[stop:], style)]


def short_count(count: int) -> str:
    """A count in at most five characters: 950, 12.3k, 1.2M."""
    if count < 1000:
        return str(count)
    for unit, size in (("k", 1_000), ("M", 1_000_000)):
        if count < size * 1000:
            return f"{count / size:.1f}{unit}" if count < size * 100 else f"{count // size}{unit}"
    return f"{count // 1_000_000_000}G"
