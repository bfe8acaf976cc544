"""What the rows are made of, as counts that filter: state, source, language, dropping step, and a score's histogram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from workbench.store.facets import Facets as Counts
from workbench.store.windows import ViewQuery
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.row_cells import short_count
from workbench.tui.workers import Cancelled, background

FACET_ACTIONS = declare(
    Action("cursor_down", ("j", "down"), "down", "Go to the next line.", "facets"),
    Action("cursor_up", ("k", "up"), "up", "Go to the line before.", "facets"),
    Action("page_down", ("pagedown", "ctrl+f"), "page down", "Go a page down.", "facets"),
    Action("page_up", ("pageup", "ctrl+b"), "page up", "Go a page up.", "facets"),
    Action("first", ("g", "home"), "first", "Go to the first line.", "facets"),
    Action("last", ("G", "end"), "last", "Go to the last line.", "facets"),
    Action("select", ("enter", "space"), "choose", "List the rows that it counts, or no longer; open a score.",
           "facets"),
)  # fmt: skip

_MOST = 40  # values listed of one facet
_BARS = " ▏▎▍▌▋▊▉█"

Bins = Sequence[tuple[float, float, int]]


def _fit_label(choice: Choice, room: int) -> str:
    """The label of a line in so many cells; of a score, what tells its setting from others (`@1a2b`) stays."""
    label = flat(choice.label)
    name, at, setting = label.rpartition("@") if choice.field == "scorer" else ("", "", "")
    if len(label) <= room or not at or len(setting) + 3 > room:
        return fit(label, room)
    return fit(name, room - len(setting) - 1) + at + setting


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


class FacetList(OptionList, inherit_bindings=False):
    """The counts of the base in view. Choosing a line filters by it; choosing it again does not any more."""

    SCREEN_ACTIONS = FACET_ACTIONS
    BINDINGS: ClassVar[list[BindingType]] = bindings("facets")
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
        """A line was chosen: what it changes in the `ViewQuery`."""

        changes: dict[str, Any]

    @dataclass
    class _Counted(Message):
        generation: int
        counts: Counts

    @dataclass
    class _Binned(Message):
        generation: int
        scorer: str
        bins: Bins

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._generation = 0
        self._count: Callable[[Cancelled], Counts] | None = None
        self._bin: Callable[[str, Cancelled], Bins] | None = None
        self._counting = self._again = False
        self._choices: list[Choice | None] = []
        self._counts: Counts | None = None
        self._shown = ViewQuery("")
        self._scorer = ""
        self._bins: Bins = ()

    def set_source(self, count: Callable[[Cancelled], Counts], bin: Callable[[str, Cancelled], Bins]) -> None:
        """Where counts and histograms come from, both called in a worker; what is still counted is called off."""
        self._generation += 1
        self._count, self._bin = count, bin
        self._counting = self._again = False
        self._counts, self._scorer, self._bins = None, "", ()
        self.count()

    def count(self) -> None:
        """Count again. One count at a time: what changes meanwhile is counted when it ends."""
        if self._counting or self._count is None:
            self._again = True
            return
        generation, count = self._generation, self._count
        self._counting, self._again = True, False
        background(
            self, lambda cancelled: self._Counted(generation, count(cancelled)), lambda counted: counted, group="count"
        )

    @on(_Counted)
    def _counted(self, message: _Counted) -> None:
        message.stop()
        if message.generation == self._generation:
            self._counting = False
            self._counts = message.counts
            self._lay_out()
            if self._again:
                self.count()

    def show(self, query: ViewQuery) -> None:
        """Mark what `query` filters by."""
        self._shown = query
        self._lay_out()

    def show_histogram(self, scorer: str) -> None:
        """Show how a score lies, under its name; an empty name shows none."""
        self._scorer, self._bins = scorer, ()
        self._lay_out()
        if scorer and (bin := self._bin):
            generation = self._generation
            background(
                self,
                lambda cancelled: self._Binned(generation, scorer, bin(scorer, cancelled)),
                lambda binned: binned,
                group="histogram",
            )

    @on(_Binned)
    def _binned(self, message: _Binned) -> None:
        message.stop()
        if (message.generation, message.scorer) == (self._generation, self._scorer):
            self._bins = message.bins
            self._lay_out()

    def on_failure(self) -> None:
        """Count again when asked; the app tells what was wrong."""
        self._counting = False

    def on_focus(self) -> None:
        """Begin at the first line."""
        if self.highlighted is None:
            self.action_first()

    def on_mount(self) -> None:
        """Lay the counts out again in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._lay_out())

    def on_resize(self) -> None:
        """Lay the counts out again."""
        self._lay_out()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Filter by what was chosen, or no longer; or show a score's histogram."""
        event.stop()
        choice = self._choices[event.option_index]
        if choice is None:
            return
        off = self._on(choice)
        if choice.field == "scorer":
            self.show_histogram("" if off else choice.value)
        elif choice.field == "score":
            self.post_message(self.Picked({"score": None if off else choice.score}))
        elif choice.field == "which":
            self.post_message(self.Picked({"which": "all" if off else choice.value, "step": None}))
        elif choice.field == "step":  # a dropped row is only listed where dropped rows are
            changes = {"which": "all", "step": None} if off else {"which": "dropped", "step": choice.value}
            self.post_message(self.Picked(changes))
        else:
            self.post_message(self.Picked({choice.field: None if off else choice.value}))

    def _lay_out(self) -> None:
        at = self.highlighted
        self._choices = []
        self.clear_options()
        if (counts := self._counts) is None:
            return
        width = max(self.size.width - 3, 16)
        self._section("rows", [Choice("which", name, name, count) for name, count in counts.states], width)
        if [name for name, _ in counts.sources] != [self._shown.name]:  # a source is made of itself
            self._section("source", [Choice("source", n, n, c) for n, c in counts.sources], width)
        self._section("dropped by", [Choice("step", n, n, c) for n, c in counts.steps], width)
        self._section("language", [Choice("language", n, n, c) for n, c in counts.languages], width)
        self._section("scores", [Choice("scorer", n, n, c) for n, c in counts.scorers], width)
        if at is not None and at < self.option_count:
            self.highlighted = at

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
            return choice.score == self._shown.score
        return bool(getattr(self._shown, choice.field) == choice.value)

    def _line(self, choice: Choice, width: int) -> Text:
        count = short_count(choice.count) if choice.count is not None else ""
        line = Text(no_wrap=True)
        on = self._on(choice)
        line.append("● " if on else "  ", self.app.theme_variables["accent"])
        line.append(_fit_label(choice, width - 8), "bold" if on else "")
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
