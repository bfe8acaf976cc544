"""The columns of a list of rows: how wide they are, their heading, and text and counts that fit them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget

from workbench.tui.cells import fit, flat


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
        return f"  {'row'.rjust(self.number)}   label turns  size  {fit('prompt', self.prompt)}{response}"


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


def short_count(count: int) -> str:
    """A count in at most five characters: 950, 12.3k, 1.2M."""
    if count < 1000:
        return str(count)
    for unit, size in (("k", 1_000), ("M", 1_000_000)):
        if count < size * 1000:
            return f"{count / size:.1f}{unit}" if count < size * 100 else f"{count // size}{unit}"
    return f"{count // 1_000_000_000}G"
