"""What an import would make of the first rows, as lines to read: what `workbench import --preview` prints."""

from __future__ import annotations

import json

from rich.filesize import decimal

from trainer.conversation import content_text
from workbench.formats.shapes import EXPECTED, UNKNOWN
from workbench.preview import Preview
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line

_REASONS = 5
_TURN = 4  # lines of a turn
_CHARS = 2000  # of a turn or row, before it is wrapped


def sample_lines(seen: Preview, width: int) -> list[Line]:
    """The container, what became of each column, how many rows can be used, and the first of them."""
    kind = ", ".join(filter(None, [seen.container, seen.encoding, decimal(seen.bytes)]))
    lines = _row("file", kind, width)
    if seen.ignored:
        more = f" and {len(seen.ignored) - _REASONS:,} more" if len(seen.ignored) > _REASONS else ""
        lines += _row("passed over", ", ".join(seen.ignored[:_REASONS]) + more, width)
    known = f"{seen.format} rows" if seen.format != UNKNOWN else f"rows of no known shape; expected {EXPECTED}"
    lines += _row("read as", known, width)
    uses: dict[str, list[str]] = {}
    for column, use in seen.columns.items():
        uses.setdefault(use, []).append(column)
    for use in sorted(uses, key=("metadata", "not read").count):
        lines += _row(use, ("" if use == "not read" else "from ") + ", ".join(uses[use]), width)
    rows = f"all {seen.rows:,}" if seen.complete else f"first {seen.rows:,}"
    examples = f" as {seen.examples:,} conversations" if seen.examples != seen.imported else ""
    lines += _row("rows", f"{rows}: {seen.imported:,} can be imported{examples}, {seen.rejected:,} rejected", width)
    for reason, count, first in seen.reasons[:_REASONS]:
        lines += _row("", f"{count:,} from row {first:,}: {reason}", width, "warning")
    for record in seen.first:
        part = f", conversation {record.part + 1}" if record.part else ""
        lines += [[], [(f"row {record.row:,}{part}", "muted")]]
        for message in json.loads(record.messages):
            said = content_text(message.get("content"))
            if calls := message.get("tool_calls"):
                said = f"{said} → {json.dumps(calls, ensure_ascii=False)}".strip()
            lines += _row(str(message["role"]), said, width, "text")
    for reject in seen.first_rejects:
        lines += [[], [(f"row {reject.row:,} rejected", "warning")], *_row("", reject.raw, width, "muted")]
    return lines


def _row(name: str, text: str, width: int, style: str = "text") -> list[Line]:
    """A name and what it is, a few lines at most."""
    room = max(width - 14, 10)
    pieces = wrap(text[:_CHARS], room)
    if len(pieces) > _TURN or len(text) > _CHARS:
        pieces = pieces[:_TURN]
        pieces[-1] = fit(pieces[-1], room - 1).rstrip() + "…"
    head = fit(flat(name), 12) + "  "
    return [[(head if not number else " " * 14, "accent"), (line, style)] for number, line in enumerate(pieces)]
