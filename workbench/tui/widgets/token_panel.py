"""What stands beside the tokens: the one under the cursor, and what a person should know of the row."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.chat import ISSUES, Issue
from trainer.conversation import Message
from workbench.token_facts import Page, token_bytes, why
from workbench.token_heat import Losses
from workbench.tokens import Lens
from workbench.tui.cells import flat, wrap
from workbench.tui.widgets.line_view import Line

_TEXT = 40  # characters of a token's text that are shown


def token_lines(
    page: Page,
    token: int,
    lens: Lens,
    messages: Sequence[Message],
    issues: Sequence[Issue],
    losses: Losses | None,
    width: int,
) -> list[Line]:
    """The token under the cursor: its place, id, text, bytes, and why it is trained or not."""
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
    reason = why(page, token, messages, lens, issues)
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
