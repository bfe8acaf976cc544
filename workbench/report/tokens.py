"""Tokens on a terminal: whose they are in a gutter, the trained ones underlined, colour last.

Lines break where the text does and where another role begins, so that the gutter tells the truth about every
line. Nothing here reads markup: the text of a row is only ever appended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from trainer.chat import ISSUES, Audit, TrainingExample
from workbench.text import clip, safe_text

MARK = "•"
OPEN, CLOSE = "⟦", "⟧"
LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t", "developer": "s"}

_GUTTER = 5  # "a• │ "
_TRAINED = "underline dodger_blue1"
_SPECIAL = "dark_orange"
_TRAINED_SPECIAL = "underline bold dodger_blue1"

# One character as shown: its glyphs, its style, and whether it belongs to a trained token.
_Glyph = tuple[str, str, bool]


def render_tokens(example: TrainingExample, width: int = 80, *, brackets: bool = False) -> Text:
    """The example as lines of at most `width` cells, each with the letter of its role and a mark where trained.

    With `brackets`, trained runs also stand in ⟦ ⟧: for output that cannot underline.
    """
    text = Text(no_wrap=True, end="")
    for role, glyphs in _lines(example, brackets):
        for piece in _wrap(glyphs, max(width - _GUTTER, 8)):
            mark = MARK if any(trained for _, _, trained in piece) else " "
            text.append(f"{LETTERS.get(role, role[:1] or '?')}{mark}", style="bold" if mark == MARK else "dim")
            text.append(" │ ", style="dim")
            for style, run in groupby(piece, key=lambda glyph: glyph[1]):
                text.append("".join(glyph for glyph, _, _ in run), style=style or None)
            text.append("\n")
    return text


def render_heading(example: TrainingExample, row: int, number: int, count: int) -> Text:
    """One line above an example: which row, which part of it, how much is trained."""
    trained, total = sum(example.trained), len(example.input_ids)
    part = f" · example {number} of {count}" if count > 1 else ""
    return Text(f"row {row}{part} · {trained:,} of {total:,} tokens trained", style="bold")


def legend(*, brackets: bool) -> Text:
    """One line that explains the gutter."""
    shown = f"in {OPEN} {CLOSE}" if brackets else "underlined"
    return Text(f"s system  u user  a assistant  t tool   {MARK} trained ({shown})", style="dim")


def render_audit(audit: Audit, *, ids: str = "rows") -> Text:
    """The counts of an audit, each kind of issue with what it means and where to look."""
    text = Text(end="")
    for kind, count in audit.counts.items():
        shown = ", ".join(map(str, audit.issues[kind][:5])) + (", …" if count > 5 else "")
        text.append(f"{kind:<19}{count:>8,}   {ids} {shown}\n")
        text.append(f"    {ISSUES[kind]}\n", style="dim")
    share = f" ({audit.trained / audit.tokens:.0%})" if audit.tokens else ""
    more = f", {audit.examples:,} training examples" if audit.examples != audit.rows else ""
    text.append(f"{audit.rows:,} rows{more}: {audit.trained:,} of {audit.tokens:,} tokens trained{share}")
    if audit.longest:
        text.append(f", the longest has {audit.longest:,}")
    if not audit.counts:
        text.append("; no issues")
    text.append("\n")
    return text


def issue_line(kind: str, turn: int | None, detail: str, width: int = 80) -> str:
    """One issue of a row in one line."""
    where = f" (message {turn})" if turn is not None else ""
    return clip(f"! {kind}{where}: {detail}", width)


def _lines(example: TrainingExample, brackets: bool) -> Iterator[tuple[str, list[_Glyph]]]:
    """The logical lines: one a line of the text and role."""
    line: list[_Glyph] = []
    role = example.roles[0] if example.roles else ""
    inside = False
    for chars, token in _pieces(example):
        trained = token is not None and example.trained[token]
        special = token is not None and example.special[token]
        style = (_TRAINED_SPECIAL if special else _TRAINED) if trained else (_SPECIAL if special else "")
        if brackets and inside and not trained:
            line.append((CLOSE, "", False))
        if token is not None and example.roles[token] != role:
            if line:
                yield role, line
            line, role = [], example.roles[token]
        if brackets and trained and not inside:
            line.append((OPEN, "", False))
        inside = trained
        for char in chars:
            line.extend((glyph, style, trained) for glyph in safe_text(char))
            if char == "\n":
                yield role, line
                line = []
    if brackets and inside:
        line.append((CLOSE, "", False))
    if line:
        yield role, line


def _pieces(example: TrainingExample) -> Iterator[tuple[str, int | None]]:
    """All of the text in order, each piece with its token; None where a tokenizer left text out.

    Tokens of one character show once, as the first of them; it counts as trained where any of them is.
    """
    at = 0
    for token, (start, end) in enumerate(example.offsets):
        if start > at:
            yield example.text[at:start], None
            at = start
        if end > at:
            yield example.text[at:end], token
            at = end
    if at < len(example.text):
        yield example.text[at:], None


def _wrap(glyphs: Sequence[_Glyph], width: int) -> Iterator[Sequence[_Glyph]]:
    """Pieces of at most `width` cells, broken behind a space where there is one in reach."""
    start, used, space = 0, 0, -1
    i = 0
    while i < len(glyphs):
        cells = cell_len(glyphs[i][0])
        if used + cells > width and i > start:
            cut = space + 1 if space >= start else i
            yield glyphs[start:cut]
            start, used, space, i = cut, 0, -1, cut
            continue
        if glyphs[i][0] == " ":
            space = i
        used += cells
        i += 1
    if start < len(glyphs):
        yield glyphs[start:]
