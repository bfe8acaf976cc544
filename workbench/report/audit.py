"""An audit on paper: counts, lengths against the limit, what batching costs, and the rows behind every issue."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice

from rich.table import Table
from rich.text import Text

from trainer.chat import ISSUES, Audit
from trainer.chat.audit import BATCH
from workbench.report.terminal import table
from workbench.text import counted

_NAMED = 8  # rows named behind a count
_BAR = 36  # cells of the longest bar

_HOW = {
    "drop": "what would lose trained tokens is dropped",
    "keep-start": "their ends are cut",
    "keep-end": "their beginnings are cut",
    "drop-turns": "their oldest turns are dropped",
}


def render_audit(audit: Audit, *, limit_is: str = "", ids: Callable[[int], int] | None = None) -> Text:
    """The whole audit. `limit_is` says where the limit comes from, `ids` gives the example id of a row."""
    text = Text(end="")
    text.append(render_sums(audit))
    if audit.limit is not None and audit.lengths:
        text.append("\n")
        for line in _lengths(audit, limit_is):
            text.append(line + "\n")
        text.append(_waste(audit) + "\n")
        if audit.over:
            text.append(_lost(audit) + "\n")
    if audit.counts:
        text.append("\n")
    for kind, count in audit.counts.items():
        # A row of a file may hold several conversations.
        found = list(islice((key for key, _ in groupby(audit.issues[kind])), _NAMED + 1))
        keys, more = found[:_NAMED], ", …" if len(found) > _NAMED else ""
        text.append(f"{kind:<19}", style="bold")
        text.append(f"{count:>8,}  rows {', '.join(map(str, keys))}{more}\n")
        if ids:
            text.append(f"{'':<29}examples {', '.join(str(ids(key)) for key in keys)}{more}\n")
        meaning = textwrap.fill(ISSUES[kind], 80, initial_indent=" " * 4, subsequent_indent=" " * 4)
        text.append(meaning + "\n", style="dim")
    if audit.tags_compared:
        text.append(_tags(audit) + "\n")
    text.append("\n" if audit.rows else "")
    text.append(audit.verdict() + "\n", style="bold")
    return text


def render_sums(audit: Audit) -> str:
    """One line: rows, examples where they are more, tokens, and how many of these are trained."""
    share = f" ({audit.trained / audit.tokens:.0%})" if audit.tokens else ""
    more = f", {audit.examples:,} training examples" if audit.examples != audit.rows else ""
    rows = f"{audit.rows:,} row{'s' * (audit.rows != 1)}"
    return f"{rows}{more}: {audit.trained:,} of {audit.tokens:,} tokens trained{share}\n"


def comparison(names: Sequence[str], audits: Sequence[Audit]) -> Table:
    """Audits of the same rows side by side: a column a model, a line a number."""
    made = table("", *names, right=names)
    first = audits[0]
    made.add_row("training examples", *(f"{audit.examples:,}" for audit in audits))
    made.add_row("tokens", *(f"{audit.tokens:,}" for audit in audits))
    made.add_row("trained", *(f"{audit.trained:,}" for audit in audits))
    made.add_row("trained share", *(f"{audit.trained / (audit.tokens or 1):.1%}" for audit in audits))
    made.add_row("longest", *(f"{audit.longest:,}" for audit in audits))
    made.add_row("limit", *(f"{audit.limit:,}" if audit.limit else "none" for audit in audits))
    if first.rows > 1:
        made.add_row("trained tokens lost", *(f"{audit.lost_trained:,}" for audit in audits))
    for kind in ISSUES:
        if any(kind in audit.issues for audit in audits):
            made.add_row(kind, *(f"{audit.counts.get(kind, 0):,}" for audit in audits))
    return made


def differing_line(rows: Sequence[int], total: int) -> str:
    """Which rows do not have the same issues under two models."""
    if not rows:
        return "Every row has the same issues under both."
    named = ", ".join(map(str, rows[:_NAMED])) + (", …" if len(rows) > _NAMED else "")
    return f"{len(rows):,} of {total:,} rows differ in their issues: {named}"


def _lengths(audit: Audit, limit_is: str) -> Iterator[str]:
    """The histogram; the limit is a rule across it."""
    classes = audit.histogram()
    most = max(count for _, _, count in classes)
    why = f" ({limit_is})" if limit_is else ""
    yield f"{'tokens':>17}  examples"
    for low, high, count in classes:
        bar = "█" * round(_BAR * count / most) or "▏" * bool(count)
        share = f"{count / len(audit.lengths):.1%}"
        yield f"{low:>7,} - {high:>7,}  {count:>8,} {share:>6}  {bar}".rstrip()
        if high == audit.limit:
            yield f"── limit: {audit.limit:,} tokens{why} ".ljust(60, "─")


def _waste(audit: Audit) -> str:
    shares = audit.waste()
    return (
        f"Wasted on padding, {BATCH} rows a batch: {shares['padded']:.0%} as they come, "
        f"{shares['sorted']:.0%} sorted by length.\n"
        f"Wasted on packing to {audit.limit:,} tokens: {shares['packed']:.0%}."
    )


def _tags(audit: Audit) -> str:
    """What the template's own generation tags say, and that they are not the truth."""
    rows = counted(audit.tags_compared, "row")
    if not audit.tag_differences:
        return f"The template's generation tags mark what is trained, in the {rows} compared."
    most, turns = audit.tag_differences.most_common(1)[0]
    return textwrap.fill(
        f"The first {rows} were compared with the tags. Most often ({counted(turns, 'turn')}): {most}. Tags are no "
        "gold standard (some take in headers, or what stands behind the stop token); training goes by what the model "
        "must write.",
        80,
        initial_indent=" " * 4,
        subsequent_indent=" " * 4,
    )


def _lost(audit: Audit) -> str:
    whole = f"{audit.lost_examples:,} {'example' if audit.lost_examples == 1 else 'examples'} whole"
    turns = f"{audit.lost_turns:,} {'turn' if audit.lost_turns == 1 else 'turns'}"
    return (
        f"{audit.over:,} longer than the limit; {_HOW[audit.how]}.\n"
        f"Lost: {whole}; {audit.lost_tokens:,} tokens, {audit.lost_trained:,} of them trained ({turns})."
    )
