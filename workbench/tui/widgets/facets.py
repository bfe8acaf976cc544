"""What the rows are made of, as counts that filter: state, source, language, dropping step, and a score's histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.store.facets import Facets as Counts
from workbench.store.windows import ViewQuery
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.row_list import short_count

_MOST = 40  # values listed of one facet
_BARS = " ▏▎▍▌▋▊▉█"

Bins = Sequence[tuple[float, float, int]]


@dataclass(frozen=True)
class Choice:
    """One line that can be chosen: which part of a `ViewQuery` it sets, and to what.

    `field` is which, source, language, step, score, or `scorer` for the score whose histogram is shown.
    """

    field: str
    value: str
    label: str
    count: int | None
    score: tuple[str, float, float] | None = None


class FacetList(OptionList):
    """The counts of the base in view. Choosing a line filters by it; choosing it again does not any more."""

    DEFAULT_CSS = """
    FacetList {
        background: $background; border: none; padding: 0 1 0 0; scrollbar-size-vertical: 1;
        & > .option-list--option { padding: 0 0 0 1; }
        & > .option-list--option-disabled { color: $muted; }
    }
    FacetList:focus { border: none; background-tint: transparent; }
    """

    @dataclass
    class Picked(Message):
        """A line was chosen."""

        choice: Choice

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._choices: list[Choice | None] = []
        self._counts: Counts | None = None
        self._query = ViewQuery("")
        self._scorer = ""
        self._bins: Bins = ()

    def show(self, counts: Counts | None, query: ViewQuery, scorer: str = "", bins: Bins = ()) -> None:
        """List the counts, with what `query` filters by marked, and the histogram of one score."""
        self._counts, self._query, self._scorer, self._bins = counts, query, scorer, bins
        at = self.highlighted
        self._choices = []
        self.clear_options()
        if counts is None:
            return
        width = max(self.size.width - 3, 16)
        self._section("rows", [Choice("which", name, name, count) for name, count in counts.states], width)
        if len(counts.sources) > 1:
            self._section("source", [Choice("source", n, n, c) for n, c in counts.sources], width)
        self._section("dropped by", [Choice("step", n, n, c) for n, c in counts.steps], width)
        self._section("language", [Choice("language", n, n, c) for n, c in counts.languages], width)
        self._section("scores", [Choice("scorer", n, n, None) for n in counts.scorers], width)
        if at is not None and at < self.option_count:
            self.highlighted = at

    def on_mount(self) -> None:
        """Lay the counts out again in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.on_resize())

    def on_resize(self) -> None:
        """Lay the counts out again."""
        self.show(self._counts, self._query, self._scorer, self._bins)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Hand over what was chosen."""
        event.stop()
        if choice := self._choices[event.option_index]:
            self.post_message(self.Picked(choice))

    def _section(self, title: str, choices: Sequence[Choice], width: int) -> None:
        if not choices:
            return
        if self._choices:
            self._put(None, Text(""))
        self._put(None, Text(title))
        for choice in choices[:_MOST]:
            self._put(choice, self._line(choice, width))
            if choice.field == "scorer" and choice.value == self._scorer:
                for bin in self._histogram():
                    self._put(bin, self._bar(bin, width))
        if len(choices) > _MOST:
            self._put(None, Text(f"  and {len(choices) - _MOST:,} more"))

    def _put(self, choice: Choice | None, line: Text) -> None:
        self._choices.append(choice)
        self.add_option(Option(line, disabled=choice is None))

    def _on(self, choice: Choice) -> bool:
        if choice.field == "scorer":
            return choice.value == self._scorer
        if choice.field == "score":
            return choice.score == self._query.score
        return bool(getattr(self._query, choice.field) == choice.value)

    def _line(self, choice: Choice, width: int) -> Text:
        count = short_count(choice.count) if choice.count is not None else ""
        line = Text(no_wrap=True)
        on = self._on(choice)
        line.append("● " if on else "  ", self.app.theme_variables["accent"])
        line.append(fit(flat(choice.label), width - 8), "bold" if on else "")
        line.append(f"{count:>6}", self.app.theme_variables["muted"])
        return line

    def _histogram(self) -> list[Choice]:
        filled = (number for number, (*_, count) in enumerate(self._bins, start=1) if count)
        return [
            Choice("score", self._scorer, f"{low:.3g}", count, (self._scorer, low, high))
            for low, high, count in self._bins[: max(filled, default=0)]
        ]

    def _bar(self, choice: Choice, width: int) -> Text:
        most = max((count for *_, count in self._bins), default=1) or 1
        room = max(width - 17, 4)
        eighths = round((choice.count or 0) / most * room * 8)
        bar = "█" * (eighths // 8) + (_BARS[eighths % 8] if eighths % 8 else "")
        if choice.count and not bar:
            bar = _BARS[1]
        on = self._on(choice)
        line = Text(no_wrap=True)
        line.append("● " if on else "  ", self.app.theme_variables["accent"])
        line.append(f"{choice.label:>8} ", self.app.theme_variables["muted"])
        line.append(bar.ljust(room), self.app.theme_variables["accent"])
        line.append(f"{short_count(choice.count or 0):>6}", self.app.theme_variables["muted"])
        return line
