"""The verdict of an experiment, and answers beside each other, as lines to paint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from trainer.conversation import content_text
from workbench.report.intervals import HEAD, interval_bar
from workbench.report.verdict import SMALLEST, checks, left_out, metric_name, number, plain_name, sentences, setting
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line

if TYPE_CHECKING:
    from workbench.results import Answer, Finished, Item, ItemAnswers

LETTERS = {"base": "base", "baseline": "A", "candidate": "B"}
"""How arms are called beside each other."""

GLYPHS = {"better": "▲", "worse": "▼", "mixed": "◆", "no difference detected": "=", "equal": "="}

COLOURS = {"better": "trained", "worse": "ignored"}
"""Theme colours of what is better or worse; a glyph tells it first."""

SIDE_BY_SIDE = 100
"""Cells from which answers stand beside each other."""

_NAME, _NUMBER = 19, 8
_BAR, _LEAST = 25, 13  # cells that an interval is drawn in
_SAME_P = 5e-4
_MOST_ASKED = 100_000  # characters of a question that are laid out


def letter(arm: str, arms: Mapping[str, str]) -> str:
    """`A curated`: the letter of an arm and the version that it was trained on."""
    return LETTERS[arm] if arm == "base" else f"{LETTERS[arm]} {flat(arms.get(arm, arm))}"


def p_told(value: float) -> str:
    """A p value in few cells."""
    return f"{value:.2g}" if value >= 0.0001 else "<.0001"


def verdict_lines(shown: Finished, width: int) -> list[Line]:
    """The verdict with its intervals, reasons and checks, in `width` cells. It says what `compare` said, no more."""
    result = shown.result
    lines: list[Line] = []
    if result["verdict"]:
        verdict = result["verdict"]
        lines += _wrapped(
            f"{GLYPHS[verdict]} {result['candidate']} against {result['baseline']}: {verdict}, for {result['scope']}.",
            width,
            "accent",
        )
    else:
        lines += _wrapped(f"{result['baseline']}, trained alone: there is nothing to compare it with.", width, "accent")
    named = [f"{LETTERS[arm]} {name} ({arm})" for arm, name in shown.arms.items() if arm != "base"]
    lines += _wrapped(" · ".join(named), width, "text")
    if (pairs := len(shown.comparisons)) > 1:
        rest = [name for place, name in enumerate(shown.comparisons) if place != shown.number]
        told = f"Pair {shown.number + 1} of {pairs}; b shows the next, 7 lists all. The others: {', '.join(rest)}."
        lines += _wrapped(told, width, "muted")
    lines.append([])
    lines += _metric_table(shown, width) if result["verdict"] else _means(shown)
    lines.append([])
    for sentence in sentences(result):
        first, *more = wrap(sentence, width - 2)
        lines.append([("· ", "accent"), (first, "text")])
        lines += [[("  " + piece, "text")] for piece in more]
    if result["verdict"]:
        lines.append([])
        lines += _wrapped(
            "* decides. ↓ lower is better, ↑ higher is. A bar is the 95% interval of B - A to its own scale, better to "
            f"the right: ● the change, │ none, ╎ the harm that is tolerated. Smallest found: {SMALLEST}.",
            width,
            "muted",
        )
    lines.append([])
    for note in (left_out(result), checks(result), setting(result)):
        lines += _wrapped(note, width, "muted") if note else []
    return lines


def _title(metric: Mapping[str, Any]) -> str:
    arrow = " ↑" if metric["higher_is_better"] else " ↓"
    decides = " *" if metric["role"] == "primary" else ""
    return f"{plain_name(metric['name'])}{arrow}{decides}"


def _metric_table(shown: Finished, width: int) -> list[Line]:
    specs = {spec.name: spec for spec in shown.metrics}
    worse, better = HEAD
    named = max([cell_len(flat(_title(metric))) for metric in shown.result["metrics"]] + [_NAME])
    cells = max(min(_BAR, width - named - 4 * _NUMBER - 2), _LEAST)
    ends = worse + " " * (cells - len(worse) - len(better)) + better
    heads = "".join(f"{title:>{_NUMBER}}" for title in ("base", "A", "B", "B - A"))
    lines: list[Line] = [[(f"{'':{named}}{heads}  {ends}", "muted")]]
    for metric in shown.result["metrics"]:
        name, low_high = metric["name"], metric["ci"]
        spec = specs.get(name)
        unit = metric_name(name).partition(" (")[2]
        unit = unit.partition("/")[0] if "/" in unit else ""
        values = (shown.result["means"]["base"].get(name), metric["baseline"], metric["candidate"])
        numbers = "".join(f"{number(value):>{_NUMBER}}" for value in values)
        numbers += f"{number(metric['delta'], signed=True):>{_NUMBER}}"
        if None in low_high:
            bar, interval = "interval unknown", ""
        else:
            bar = interval_bar(
                low_high[0], metric["delta"], low_high[1], higher_is_better=metric["higher_is_better"],
                margin=spec.margin if spec else None, width=cells,
            )  # fmt: skip
            interval = f"{number(low_high[0], signed=True)} to {number(low_high[1], signed=True)}"
        lines.append([(fit(flat(_title(metric)), named), "strong"), (numbers + "  ", "text"), (bar, "accent")])
        told = [
            f"{GLYPHS[metric['verdict']]} {metric['verdict']}",
            f"{interval} {unit}".strip(),
            f"smallest found {number(metric['mde'])}" if metric["mde"] is not None else "smallest found unknown",
        ]
        decisive = metric.get("p_decisive", metric["p"])
        if abs(decisive - metric["p"]) > _SAME_P:
            told.append(f"decided on p = {decisive:.2g}")
        lines += [[("  " + piece, "muted")] for piece in wrap(" · ".join(part for part in told if part), width - 2)]
    return lines


def _means(shown: Finished) -> list[Line]:
    means = shown.result["means"]
    lines: list[Line] = [[(f"{'':27}{'base':>{_NUMBER}}{'A':>{_NUMBER}}", "muted")]]
    for metric, value in means["baseline"].items():
        numbers = f"{number(means['base'].get(metric)):>{_NUMBER}}{number(value):>{_NUMBER}}"
        lines.append([(fit(flat(metric_name(metric)), 27), "strong"), (numbers, "text")])
    return lines


# One item, and answers beside each other


@dataclass(frozen=True)
class Column:
    """An answer to be shown: whose it is, what is known of it, and its text."""

    title: str
    note: str
    text: str


def columns(answers: Sequence[Column], width: int) -> list[Line]:
    """Answers beside each other where there is room for it, below each other elsewhere."""
    if width < SIDE_BY_SIDE or len(answers) < 2:
        lines: list[Line] = []
        for answer in answers:
            title = _clip(answer.title, width // 2)
            lines.append([(title, "accent"), (_clip(f"  {answer.note}", width - cell_len(title)), "muted")])
            lines += [[("  " + piece, "text")] for piece in wrap(answer.text, width - 2)]
            lines.append([])
        return lines
    room = (width - 3 * (len(answers) - 1)) // len(answers)
    blocks: list[list[tuple[str, str]]] = []
    for answer in answers:
        block = [(_clip(answer.title, room), "accent"), (answer.note, "muted")]
        blocks.append(block + [(piece, "text") for piece in wrap(answer.text, room)])
    lines = []
    for row in zip_longest(*blocks, fillvalue=("", "text")):
        line: Line = []
        for at, (piece, style) in enumerate(row):
            if at:
                line.append((" │ ", "muted"))
            line.append((fit(piece, room) if cell_len(piece) > room else piece + " " * (room - cell_len(piece)), style))
        lines.append(line)
    return [*lines, []]


def item_lines(shown: Finished, found: ItemAnswers, width: int) -> list[Line]:
    """One item: what was asked, the reference, the answers, and what was measured of them."""
    item = found.item
    groups = "".join(f" · {what} {name}" for what, name in (("slice", item.slice), ("cluster", item.cluster)) if name)
    head = f"item {item.item}"
    about = _clip(f" of {len(shown.items):,}{groups}", width - len(head))
    lines: list[Line] = [[(head, "strong"), (about, "muted")], []]
    lines += turn_lines(found.asked, width)
    lines.append([("reference", "accent")])
    lines += _indented(found.reference, width)
    lines.append([])
    lines += columns([_column(shown, answer) for answer in found.answers], width)
    return lines + _item_numbers(shown, item)


def _column(shown: Finished, answer: Answer) -> Column:
    note = answer_note(answer.finish, answer.arm, answer.seed)
    if answer.length > len(answer.text):
        note = f"first {len(answer.text):,} of {answer.length:,} characters · {note}"
    return Column(letter(answer.arm, shown.arms), note, answer.text)


def answer_note(finish: str, arm: str, seed: int) -> str:
    """Which run gave an answer, and how it ended."""
    ended = "✂ cut at the limit" if finish == "length" else "ended itself"
    return ended if arm == "base" else f"seed {seed} · {ended}"


def turn_lines(turns: Sequence[Mapping[str, Any]], width: int) -> list[Line]:
    """Turns of a conversation, each under its role."""
    lines: list[Line] = []
    for turn in turns:
        lines.append([(_clip(str(turn["role"]), width), "accent")])
        lines += _indented(content_text(turn.get("content")), width)
    return [*lines, []]


def _item_numbers(shown: Finished, item: Item) -> list[Line]:
    runs = f"means of {shown.most_seeds} seeds" if shown.most_seeds > 1 else "one seed"
    lines: list[Line] = [
        [(f"{runs:<27}" + "".join(f"{title:>{_NUMBER}}" for title in ("base", "A", "B", "B - A")), "muted")]
    ]
    for spec in shown.metrics:
        by_arm = item.values.get(spec.name, {})
        numbers = "".join(f"{number(by_arm.get(arm)):>{_NUMBER}}" for arm in LETTERS)
        won = item.won(spec)
        change = f"{number(item.change(spec.name), signed=True):>{_NUMBER}}"
        told = f"  {GLYPHS[won]} {won}" if won else ""
        lines.append([(fit(metric_name(spec.name), 27), "strong"), (numbers + change, "text"), (told, "muted")])
    lines.append([("What one item shows says nothing yet about the versions.", "muted")])
    return lines


def _indented(text: str, width: int) -> list[Line]:
    lines: list[Line] = [[("  " + piece, "text")] for piece in wrap(text[:_MOST_ASKED], width - 2)]
    if len(text) > _MOST_ASKED:
        lines.append([(f"  … {len(text) - _MOST_ASKED:,} more characters", "warning")])
    return lines


def _clip(text: str, width: int) -> str:
    return fit(flat(text), width).rstrip(" ")


def _wrapped(text: str, width: int, style: str) -> list[Line]:
    return [[(piece, style)] for piece in wrap(text, width)]
