"""A training example laid out as lines of tokens, in one pass over its text; a worker does it, the view only paints.

A token is never divided but where it is wider than a line. Lines end where the text does, where another role begins,
at the cut, and else before the last word that fits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from unicodedata import category

from rich.cells import cell_len, get_character_cell_size

from trainer.chat import TrainingExample
from workbench.report.tokens import Border
from workbench.tui.cells import flat

SAME = "¬"
"""Stands for a token that only holds more bytes of the character before it."""

Piece = tuple[str, int, int | None]
"""Glyphs, how many cells they take, and whose they are; None for text that the tokenizer left out."""


@dataclass(slots=True)
class Line:
    """One line: a rule with its words, or pieces of one role, beginning at a token. `first` of a role tells so."""

    role: str
    token: int
    pieces: list[Piece]
    rule: str = ""
    first: bool = False


@dataclass
class Layout:
    """The lines of an example at one width, and for each token the line on which it begins."""

    width: int
    lines: list[Line]
    line_of: array[int] = field(default_factory=lambda: array("l"))


def lay_out(example: TrainingExample, width: int, *, whitespace: bool = False, border: Border | None = None) -> Layout:
    """The example in lines of at most `width` cells, 2 or more; with `whitespace`, spaces are glyphs too."""
    lines = _Lines(max(width, 2))
    roles = example.roles
    role, first, ahead = roles[0] if roles else "", True, border
    for text, token in _texts(example):
        if token is not None:
            if ahead and token >= ahead.at:
                lines.end(role, first)
                lines.made.append(Line(role, token, [], rule=ahead.text))
                ahead, first = None, False
            if roles[token] != role:
                lines.end(role, first)
                role, first = roles[token], True
        start = 0
        while (stop := text.find("\n", start)) >= 0:
            first = lines.add(_glyphs(text[start : stop + 1], whitespace), token, role, first)
            first = lines.end(role, first)
            start = stop + 1
        if start < len(text):
            first = lines.add(_glyphs(text[start:], whitespace), token, role, first)
    lines.end(role, first)
    return Layout(lines.width, lines.made, _first_lines(lines.made, len(roles)))


class _Lines:
    """Lines as they come to be. Every piece is put down once, and moved to the next line at most once for each line."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.made: list[Line] = []
        self._pieces: list[Piece] = []
        self._used = 0
        self._word = 0  # the last piece that begins a word
        self._token = 0

    def add(self, glyphs: str, token: int | None, role: str, first: bool) -> bool:
        """Put glyphs behind those that are there; returns whether the next line is still the first of its role."""
        cells = len(glyphs) if glyphs.isascii() else cell_len(glyphs)
        if self._used + cells > self.width and self._pieces:
            rest: list[Piece] = []
            if self._word and sum(piece[1] for piece in self._pieces[self._word :]) + cells <= self.width // 2:
                rest = self._pieces[self._word :]
                del self._pieces[self._word :]
            first = self.end(role, first)
            self._pieces, self._used = rest, sum(piece[1] for piece in rest)
        for part in _chopped(glyphs, cells, self.width):
            if self._used + part[1] > self.width:
                first = self.end(role, first)
            if glyphs[0] in " ·" and self._pieces:
                self._word = len(self._pieces)
            self._pieces.append((*part, token))
            self._used += part[1]
        return first

    def end(self, role: str, first: bool) -> bool:
        """End the line, if there is anything on it; returns whether the next one is still the first of its role."""
        if not self._pieces:
            return first
        token = next((token for _, _, token in self._pieces if token is not None), None)
        self._token = self._token if token is None else token
        self.made.append(Line(role, self._token, self._pieces, first=first))
        self._pieces, self._used, self._word = [], 0, 0
        return False


def _texts(example: TrainingExample) -> Iterator[tuple[str, int | None]]:
    """All of the text in order, each piece with its token; None where a tokenizer left text out.

    Tokens that share a character with the one before stand as SAME: each has a place on the screen.
    """
    text, at = example.text, 0
    for token, (start, end) in enumerate(example.offsets):
        if start > at:
            yield text[at:start], None
            at = start
        if end > at:
            yield text[at:end], token
            at = end
        else:
            yield SAME, token
    if at < len(text):
        yield text[at:], None


def _glyphs(text: str, whitespace: bool) -> str:
    """`text` as glyphs of one line, at least one cell wide."""
    if whitespace:
        text = "".join("·" if char == " " else "⍽" if category(char) == "Zs" else char for char in text)
    shown = flat(text)
    if shown and (shown.isascii() or cell_len(shown)):
        return shown
    return "".join(f"⟨{ord(char):04X}⟩" for char in text)


def _chopped(glyphs: str, cells: int, width: int) -> Iterator[tuple[str, int]]:
    """Glyphs in parts of at most `width` cells, each with its cells."""
    if cells <= width:
        yield glyphs, cells
        return
    start = used = 0
    for place, char in enumerate(glyphs):
        size = get_character_cell_size(char)
        if used + size > width:
            yield glyphs[start:place], used
            start, used = place, 0
        used += size
    yield glyphs[start:], used


def _first_lines(lines: list[Line], tokens: int) -> array[int]:
    found = array("l", [0]) * tokens
    seen = -1
    for number, line in enumerate(lines):
        for _, _, token in line.pieces:
            if token is not None and token > seen:
                found[token] = number
                seen = token
    return found
