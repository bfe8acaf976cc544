"""What stands beside the tokens: the one under the cursor, and what a person should know of the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.chat import ISSUES, Issue
from trainer.conversation import Message
from workbench.token_facts import Page, token_bytes, why
from workbench.token_heat import Losses
from workbench.tokens import Lens
from workbench.tui.cells import flat, wrap
from workbench.tui.widgets.line_view import Line, LineView

_TEXT = 40  # characters of a token's text that are shown


@dataclass(frozen=True)
class TokenPlace:
    """A token of a page, by its number, and what is known about it."""

    page: Page
    token: int
    lens: Lens
    messages: Sequence[Message]
    losses: Losses | None


class TokenPanel(LineView):
    """The token under the cursor, and below it the issues of the row."""

    def __init__(self) -> None:
        super().__init__()
        self._issues: tuple[Sequence[Issue], int | None, int] | None = None
        self._issue_lines: list[Line] = []

    def show(self, at: TokenPlace | None, issues: Sequence[Issue], chosen: int | None, *, apart: bool) -> None:
        """Show another token, or none, over the issues; with a line between them where they stand `apart`."""
        width = max(self.width, 20)
        shown = issues, chosen, width
        if shown != self._issues:  # a row may have hundreds, and the cursor moves on every key
            self._issues, self._issue_lines = shown, issue_lines(issues, chosen, width)
        above = token_lines(at, issues, width) if at else []
        self.set_lines([*above, *([[]] if apart and above else []), *self._issue_lines])


def token_lines(at: TokenPlace, issues: Sequence[Issue], width: int) -> list[Line]:
    """The token under the cursor: its place, id, text, bytes, and why it is trained or not."""
    page, lens, losses = at.page, at.lens, at.losses
    token = min(at.token, len(page.example.input_ids) - 1)
    example = page.example
    id_ = example.input_ids[token]
    start, end = example.offsets[token]
    text = example.text[start:end]
    shown = repr(text[:_TEXT]) + ("…" if len(text) > _TEXT else "")
    raw = token_bytes(lens.tokenizer, id_)
    pieces = [
        f"token {token + 1:,} of {len(example.input_ids):,}",
        f"id {id_}" + (", special" if example.special[token] else ""),
        flat(shown),
        f"bytes {raw[:16].hex(' ')}{' …' if len(raw) > 16 else ''}" if raw else "bytes not told",
    ]
    if losses is not None:
        loss = losses[token]
        pieces.append(f"loss {loss:.3f} nats" if loss is not None else "no loss")
    lines: list[Line] = [[(line, "strong")] for line in _joined(pieces, width)]
    reason = why(page, token, at.messages, lens, issues)
    style = "accent" if reason.startswith("trained") else "warning"
    return lines + [[(line, style)] for line in wrap(reason, width)]


def issue_lines(issues: Sequence[Issue], chosen: int | None, width: int) -> list[Line]:
    """Every issue with what it means; the chosen one stands out."""
    if not issues:
        return [[("no issues", "muted")]]
    lines: list[Line] = []
    for number, issue in enumerate(issues):
        style = "hit" if number == chosen else "text"
        first, *more = wrap(issue_told(issue), width - 2)
        lines.append([("! ", "warning"), (first, style)])
        lines += [[("  ", "text"), (line, style)] for line in more]
    return lines


def issue_told(issue: Issue) -> str:
    """An issue in a sentence."""
    where = f"message {issue.turn}: " if issue.turn is not None else ""
    return f"{issue.kind}: {ISSUES.get(issue.kind, '')} ({where}{issue.detail})"


def _joined(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces side by side as far as they fit, the rest on further lines."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 3 + len(piece) <= width:
            lines[-1] += "   " + piece
        else:
            lines += wrap(piece, width)
    return lines
