"""Tokens on a terminal: whose they are in a gutter, the trained ones underlined, colour last.

Lines break where the text does and where another role begins, so that the gutter tells the truth about every
line. Nothing here reads markup: the text of a row is only ever appended.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from trainer.chat import ISSUES, Cut, Issue, TrainingExample
from workbench.text import clip, safe_text

MARK = "•"
CUT = "×"
OPEN, CLOSE = "⟦", "⟧"
LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t", "developer": "s"}

_GUTTER = 5  # "a• │ "
COLOURS = ("dodger_blue1", "dark_orange")
"""Of trained tokens, and of special ones that are not."""

_GONE = "dim"
_DETAILS = 3  # of one kind of issue in one row

# One character as shown: its glyphs, its style, and whether it belongs to a trained token.
_Glyph = tuple[str, str, bool]


@dataclass(frozen=True)
class Border:
    """A rule across the text before token `at`. What lies `before` or `behind` it may be cut away."""

    at: int
    text: str
    before: bool = False
    behind: bool = False


@dataclass(frozen=True)
class _Line:
    """One logical line; without a role it is the rule of the border."""

    role: str | None
    glyphs: list[_Glyph]
    gone: bool = False


def render_tokens(
    example: TrainingExample,
    width: int = 80,
    *,
    brackets: bool = False,
    border: Border | None = None,
    colours: tuple[str, str] = COLOURS,
) -> Text:
    """The example as lines of at most `width` cells, each with the letter of its role and a mark where trained.

    With `brackets`, trained runs also stand in ⟦ ⟧: for output that cannot underline.
    """
    text = Text(no_wrap=True, end="")
    for line in _lines(example, brackets, border, colours):
        if line.role is None:
            label = border.text if border else ""
            text.append(clip(f"── {label} ".ljust(width, "─"), width) + "\n", style="bold")
            continue
        letter = LETTERS.get(line.role, safe_text(line.role[:1]) or "?")
        for piece in _wrap(line.glyphs, max(width - _GUTTER, 8)):
            mark = CUT if line.gone else MARK if any(trained for _, _, trained in piece) else " "
            text.append(f"{letter}{mark}", style="bold" if mark == MARK else "dim")
            text.append(" │ ", style="dim")
            for style, run in groupby(piece, key=lambda glyph: glyph[1]):
                text.append("".join(glyph for glyph, _, _ in run), style=style or None)
            text.append("\n")
    return text


def render_heading(example: TrainingExample, row: int, number: int, count: int, *, dropped: bool = False) -> Text:
    """One line above an example: which row, which part of it, how much is trained, or would be were it not dropped."""
    trained, total = sum(example.trained), len(example.input_ids)
    part = f" · example {number} of {count}" if count > 1 else ""
    would = "would be " if dropped else ""
    return Text(f"row {row}{part} · {trained:,} of {total:,} tokens {would}trained", style="bold")


def cut_border(cut: Cut, limit: int) -> Border | None:
    """Where the limit of `limit` tokens falls in an example; None where its oldest turns were dropped."""
    if cut.dropped:
        return None
    if cut.end == cut.start:
        return Border(limit, f"limit: {limit:,} tokens")
    if cut.start:
        return Border(cut.start, f"cut above: the last {limit:,} tokens stay", before=True)
    return Border(cut.end, f"cut below: the first {limit:,} tokens stay", behind=True)


def cut_sentence(cut: Cut, limit: int) -> Text:
    """What a limit does to one example, in one line."""
    trained = f"{cut.trained:,}" if cut.trained else "none"
    cost = f"{cut.tokens:,} tokens, {trained} of them trained"
    if cut.dropped:
        first, last = cut.dropped[0], cut.dropped[-1]
        which = f"message {first} is" if first == last else f"messages {first} to {last} are"
        what = f"{which} dropped ({cost}); trained is what follows"
    elif cut.end == cut.start:
        what = f"dropped ({cost})"
    else:
        what = f"{'beginning' if cut.start else 'end'} cut ({cost})"
    return Text(f"{CUT} longer than {limit:,} tokens: {what}", style="bold")


def legend(*, brackets: bool, cut: bool = False) -> Text:
    """One line that explains the gutter, with the sign for what is `cut` away where there is any."""
    shown = f"in {OPEN} {CLOSE}" if brackets else "underlined"
    text = f"s system  u user  a assistant  t tool   {MARK} trained ({shown})"
    return Text(f"{text}   {CUT} cut away" if cut else text, style="dim")


def issue_lines(issues: Sequence[Issue], width: int = 80) -> Iterator[str]:
    """The issues of a row in words: each kind with what it means, and below it what was seen in which messages."""
    for kind, meaning in ISSUES.items():
        where: dict[str, list[int]] = {}
        for issue in issues:
            if issue.kind == kind:
                where.setdefault(issue.detail, []).extend([] if issue.turn is None else [issue.turn])
        if not where:
            continue
        yield from textwrap.wrap(f"! {kind}: {meaning}", width, subsequent_indent="    ")
        for detail, turns in list(where.items())[:_DETAILS]:
            messages = f"message{'s' * (len(turns) > 1)} {', '.join(map(str, sorted(turns)))}: " if turns else ""
            seen = clip(messages + detail, 2 * (width - 4))
            yield from textwrap.wrap(seen, width, initial_indent="    ", subsequent_indent="    ")
        if len(where) > _DETAILS:
            yield f"    and {len(where) - _DETAILS} more like it"


def _lines(
    example: TrainingExample, brackets: bool, border: Border | None, colours: tuple[str, str]
) -> Iterator[_Line]:
    """The logical lines: one a line of the text and role, and one for the border."""
    line: list[_Glyph] = []
    role = example.roles[0] if example.roles else ""
    inside = False
    ahead = border  # None once it is crossed
    gone = border is not None and border.before
    for chars, token in _pieces(example):
        if ahead and token is not None and token >= ahead.at:
            if brackets and inside:
                line.append((CLOSE, "", False))
            if line:
                yield _Line(role, line, gone)
            yield _Line(None, [])
            line, inside, gone, ahead = [], False, ahead.behind, None
        trained = token is not None and example.trained[token] and not gone
        special = token is not None and example.special[token]
        style = _GONE if gone else _style(trained, special, colours)
        if brackets and inside and not trained:
            line.append((CLOSE, "", False))
        if token is not None and example.roles[token] != role:
            if line:
                yield _Line(role, line, gone)
            line, role = [], example.roles[token]
        if brackets and trained and not inside:
            line.append((OPEN, "", False))
        inside = trained
        for char in chars:
            line.extend((glyph, style, trained) for glyph in safe_text(char))
            if char == "\n":
                yield _Line(role, line, gone)
                line = []
    if brackets and inside:
        line.append((CLOSE, "", False))
    if line:
        yield _Line(role, line, gone)


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


def _style(trained: bool, special: bool, colours: tuple[str, str]) -> str:
    if trained:
        return f"underline {'bold ' if special else ''}{colours[0]}"
    return f"bold {colours[1]}" if special else ""
