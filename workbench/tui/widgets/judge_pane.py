"""What a judge made of the answers of two arms: the win rate with its interval, in both orders, and of equal length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget

from workbench.report.intervals import interval_bar
from workbench.report.pairs import all_comparisons
from workbench.report.verdict import SMALLEST, plain_name, sentences, shifts
from workbench.text import counted
from workbench.tui.advice import in_app
from workbench.tui.cells import fit, wrap
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.result_pane import ResultPane
from workbench.tui.widgets.verdict_lines import GLYPHS, p_told
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.results import Finished
    from workbench.tui.app import WorkbenchApp

Paragraph = tuple[str, str]
"""A style of `LineView` and a text that is wrapped."""

_RATES = ("win_rate", "win_rate_controlled")
_EVEN = 0.5
_NAME, _BAR = 26, 31
_ALONE = "One version was trained alone. A judge says which of two answers is better."
_SWEPT = "The arms of a sweep are not judged. Compare versions under one setting (c) to have their answers judged."
_ABOUT = (
    "A judge model reads both answers to a prompt, in both orders, and says which is better; where the order decided, "
    "it is a tie. The win rate is the share of B's answers that won, a tie counting one half, and then decides the "
    "verdict; it stands beside the win rate among answers of equal length, as judges like long ones."
)


class JudgePane(ResultPane):
    """The judge's word in lines; where there is none, how to get one."""

    NAME = "judge"
    KEY = "6"
    HELP = "Show how often a judge preferred B's answers, or how to have them judged."
    HINT = "j k scroll"
    DEFAULT_CSS = "JudgePane LineView { padding: 0 0 0 1; height: 1fr; }"

    @dataclass
    class _Told(Message):
        key: tuple[str, int]
        paragraphs: list[Paragraph]

    def __init__(self) -> None:
        super().__init__()
        self._shown: Finished | None = None
        self._paragraphs: list[Paragraph] = []

    def compose(self) -> ComposeResult:
        """The text."""
        yield LineView()

    @property
    def text(self) -> LineView:
        """The text."""
        return self.query_one(LineView)

    def home(self) -> Widget:
        """The text."""
        return self.text

    def show(self, shown: Finished | None) -> None:
        """Show what the judge said of a comparison."""
        self._shown, self._paragraphs = shown, []
        is_swept = shown is not None and bool(shown.whole.get("sweep"))
        if is_swept:
            self._paragraphs = [("muted", _SWEPT)]
        self._lay_out()
        if shown is None or is_swept or not shown.result["verdict"] or shown.result.get("judge"):
            return
        workspace = cast("WorkbenchApp", self.app).workspace

        def work(cancelled: Cancelled) -> JudgePane._Told:
            from workbench.experiment_command import judging_command  # with all that plans experiments

            return JudgePane._Told(shown.key, unjudged(judging_command(workspace, shown.id)))

        background(self, work, lambda told: told, group="judge")

    def on_judge_pane__told(self, message: JudgePane._Told) -> None:
        """Show how to have the answers judged."""
        message.stop()
        if self._shown and message.key == self._shown.key:
            self._paragraphs = message.paragraphs
            self._lay_out()

    @on(LineView.Widened)
    def _lay_out(self) -> None:
        width = self.text.width
        if width < 20:
            return
        lines: list[Line] = []
        if self._shown is not None:
            lines = judge_lines(self._shown, width)
        self.text.set_lines(lines + wrapped(self._paragraphs, width))


def unjudged(command: str) -> list[Paragraph]:
    """How to have answers judged that were not: by this command."""
    return [
        ("strong", "No judge was asked about these answers."),
        ("text", ""),
        ("text", _ABOUT),
        ("text", ""),
        ("text", "Leave the app (ctrl+q: it has the workspace open) and type:"),
        ("text", ""),
        ("accent", command),
        ("text", ""),
        (
            "muted",
            "The runs that are there are not trained again. --judge takes a rubric; the judge is that of the "
            "workspace's settings, or --judge-model NAME with --judge-url URL for an endpoint.",
        ),
    ]


def wrapped(paragraphs: list[Paragraph], width: int) -> list[Line]:
    """Paragraphs as lines of at most `width` cells."""
    return [[(piece, style)] for style, text in paragraphs for piece in wrap(text, width)]


def judge_lines(shown: Finished, width: int) -> list[Line]:
    """What the judge said of a comparison, in `width` cells; nothing where none was asked."""
    result = shown.result
    judge = result.get("judge")
    if not result["verdict"]:
        return wrapped([("muted", _ALONE)], width)
    if not judge:
        return []
    two = f"B {result['candidate']} against A {result['baseline']}, by {judge['scorer']}"
    lines = wrapped([("accent", two)], width)
    rates = [metric for metric in result["metrics"] if metric["name"] in _RATES]
    if not rates:
        return [*lines, [], *wrapped(_waiting(judge, shown.id), width)]
    lines.append([])
    for metric in rates:
        lines += _rate(metric, width)
    lines.append([])
    told = []
    spec = next((spec for spec in shown.metrics if spec.name == _RATES[0]), None)
    if spec and all_comparisons(shown.whole)[shown.number]["control"] is None:  # of items, that against the baseline
        tally = shown.tally(spec)
        counts = f"B's answers were preferred on {counted(tally['better'], 'item')}, A's on {tally['worse']:,}"
        told.append(f"{counts}, neither on {tally['equal']:,}. Tab items (2) lists them by win_rate (m).")
    told += _pairs(judge)
    told += [one for one in sentences(result) if "of equal length" in one]
    told += [one for one in shifts(result) if one.startswith("tokens of an answer")]
    for one in told:
        first, *more = wrap(one, width - 2)
        lines.append([("· ", "accent"), (first, "text")])
        lines += [[("  " + piece, "text")] for piece in more]
    meaning = (
        "50% is a version against itself: to the right of │ B is preferred, to the left A. Of equal length: what would "
        f"be left if the answers of both were equally long. Smallest found: {SMALLEST}."
    )
    return [*lines, [], *wrapped([("muted", meaning)], width)]


def _rate(metric: dict[str, Any], width: int) -> list[Line]:
    low, high = metric["ci"]
    name = fit(plain_name(metric["name"]), _NAME)
    value = f"{metric['candidate']:>5.0%}  "
    told = [f"{GLYPHS[metric['verdict']]} {metric['verdict']}"]
    bar = "interval unknown"
    if low is not None:
        cells = max(min(_BAR, width - _NAME - len(value)), 11)
        bar = interval_bar(low, metric["delta"], high, higher_is_better=True, width=cells)
        told.append(f"95% interval {_EVEN + low:.0%} to {_EVEN + high:.0%}")
    told.append(f"p {p_told(metric['p_decisive'])}")
    told.append(f"smallest found {metric['mde']:.0%}" if metric["mde"] is not None else "smallest found unknown")
    head: Line = [(name, "strong"), (value, "text"), (bar, "accent")]
    lines: list[Line] = [head]
    return lines + [[("  " + piece, "muted")] for piece in wrap(" · ".join(told), width - 2)]


def _pairs(judge: dict[str, Any]) -> list[str]:
    """How many pairs of answers were judged, and what became of the others; over the whole experiment."""
    told = [f"{judge['judged']:,} of {counted(judge['pairs'], 'pair')} of answers in the experiment were judged."]
    if judge["judged"]:
        flips = f"{judge['flips']:,} ({judge['flips'] / judge['judged']:.0%})"
        told.append(f"Shown in both orders, {flips} of them got another verdict in the other order: these are ties.")
    if judge["failed"]:
        told.append(f"{counted(judge['failed'], 'pair')} had no usable verdict in one order at least.")
    return told


def _waiting(judge: dict[str, Any], id: str) -> list[Paragraph]:
    why = f" ({judge['why']})" if judge["why"] else ""
    told = f"The judge has spoken on {judge['judged']:,} of {counted(judge['pairs'], 'pair')} of answers{why}. "
    told += f"Until it has spoken on all, the verdict does without it: `workbench experiments resume {id}` asks it on."
    return [("text", in_app(told)), ("text", ""), ("muted", _ABOUT)]
