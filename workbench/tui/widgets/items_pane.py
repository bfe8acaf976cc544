"""The eval items of a finished experiment in a table: how each came out by one metric, the worst for B first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from workbench.report.verdict import metric_name, number
from workbench.tables import Value
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import COLOURS, GLYPHS
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from trainer.verdict import MetricSpec
    from workbench.results import Finished, Item

_WIDE = 130  # cells from which the changes of all metrics have a column


@dataclass(frozen=True)
class _About:
    """What is listed: a comparison by a metric, with or without the changes of the others."""

    key: tuple[str, int]
    metric: int
    wide: bool


class ItemsPane(Vertical):
    """A table of items over their numbers by one metric; `compare_by` takes another."""

    DEFAULT_CSS = """
    ItemsPane Static { height: auto; max-height: 3; color: $muted; padding: 0 1; }
    ItemsPane Table { scrollbar-size-horizontal: 0; }
    """

    @dataclass
    class Listed(Message):
        """Other items are listed, and `item` is under the cursor.

        The table tells that too, but where this pane had it show them, Textual takes the message no further than here.
        """

        item: int | None

    @dataclass
    class _Listed(Message):
        about: _About
        columns: list[Column]
        rows: list[tuple[str, list[Value | Cell]]]
        told: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: Finished | None = None
        self._metric = 0
        self._about: _About | None = None
        self._go_to: int | None = None

    def compose(self) -> ComposeResult:
        """What is compared, and the items."""
        yield Static(markup=False)
        yield Table()

    @property
    def table(self) -> Table:
        """The items, by number."""
        return self.query_one(Table)

    @property
    def item(self) -> int | None:
        """The number of the item under the cursor."""
        current = self.table.current
        return int(current) if current is not None else None

    def show(self, shown: Finished) -> None:
        """List the items of an experiment, by its primary metric."""
        self._shown = shown
        self._metric = 0
        self._fill()

    def clear(self) -> None:
        """List nothing."""
        self._shown = self._about = self._go_to = None
        self.table.show([], [])
        self.query_one(Static).update("")

    def go_to(self, item: int) -> None:
        """Put the cursor on an item, as soon as it is listed."""
        self._go_to = item
        self._arrive()

    def compare_by(self, name: str = "") -> bool:
        """Compare by another metric, the next one without a name; False where there is none of that name."""
        names = self.metrics
        if not names or (name and name not in names):
            return False
        self._metric = names.index(name) if name else (self._metric + 1) % len(names)
        self._fill()
        return True

    @property
    def metrics(self) -> list[str]:
        """Names of what was measured."""
        return [spec.name for spec in self._shown.metrics] if self._shown else []

    def on_resize(self) -> None:
        """Give the other metrics columns where there is room."""
        self._fill()

    def _fill(self) -> None:
        """List the items as they are wanted now, where that was not done yet: with thousands it takes its time."""
        shown = self._shown
        if shown is None or not shown.metrics:
            return
        about = _About(shown.key, self._metric, self.size.width >= _WIDE)
        if about == self._about:
            return
        self._about = about
        colours = {won: Style(color=self.app.theme_variables[name]) for won, name in COLOURS.items()}
        spec = shown.metrics[about.metric]

        def work(cancelled: Cancelled) -> ItemsPane._Listed:
            columns, rows = item_rows(shown, spec, colours, others=about.wide)
            return ItemsPane._Listed(about, columns, rows, _tally(shown, spec))

        background(self, work, lambda listed: listed, group="items")

    def on_items_pane__listed(self, message: ItemsPane._Listed) -> None:
        """Show them, if they are still wanted."""
        message.stop()
        if message.about == self._about:
            self.table.show(message.columns, message.rows)
            self.query_one(Static).update(message.told)
            self._arrive()
            self.post_message(self.Listed(self.item))

    def _arrive(self) -> None:
        if self._go_to is not None and self.table.keys:
            self.table.go_to(str(self._go_to))
            self._go_to = None


def item_rows(
    shown: Finished, spec: MetricSpec, colours: Mapping[str, Style], *, others: bool
) -> tuple[list[Column], list[tuple[str, list[Value | Cell]]]]:
    """The items as columns and rows of a `Table`, the worst for B by one metric first.

    With `others`, the changes of the other metrics have columns too.
    """
    compared = "candidate" in shown.runs
    sliced = any(item.slice for item in shown.items)
    beside = [other for other in shown.metrics if others and compared and other is not spec]
    changes = ["B - A"] if compared else []
    columns = [Column(title, right=True) for title in ("item", *changes, "base", "A", *("B" for _ in changes))]
    columns += [Column(metric_name(other.name).partition(" (")[0], right=True) for other in beside]
    columns += [*([Column("slice")] if sliced else []), Column("prompt")]
    rows = []
    for item in sorted(shown.items, key=lambda item: _gain(item, spec)):
        measured = item.values.get(spec.name, {})
        cells: list[Value | Cell] = [item.item, *(_change(item, spec, colours) for _ in changes)]
        cells += [Cell(measured.get(arm), number(measured.get(arm))) for arm in shown.runs]
        cells += [_change(item, other, colours) for other in beside]
        cells += [item.slice or ""] if sliced else []
        rows.append((str(item.item), [*cells, " ".join(item.prompt.split())]))
    return columns, rows


def _change(item: Item, spec: MetricSpec, colours: Mapping[str, Style]) -> Cell:
    won, change = item.won(spec), item.change(spec.name)
    text = f"{GLYPHS[won] if won else ' '} {number(change, signed=True):>7}"
    return Cell(change, text, colours.get(won or ""))


def _gain(item: Item, spec: MetricSpec) -> float:
    """How much better B came out than A; items that were not measured come last."""
    change = item.change(spec.name)
    if change is None:
        return float("inf")
    return change if spec.higher_is_better else -change


def _tally(shown: Finished, spec: MetricSpec) -> str:
    """What is compared, and on how many items B came out better; a count, not a verdict."""
    runs = f"means of {shown.most_seeds} seeds" if shown.most_seeds > 1 else "one seed"
    head = f"{metric_name(spec.name)} · {'↑ higher' if spec.higher_is_better else '↓ lower'} is better · {runs}"
    if "candidate" not in shown.runs:
        return head
    tally = shown.tally(spec)
    counts = f"▲ better on {tally['better']:,}, ▼ worse on {tally['worse']:,}, = equal on {tally['equal']:,}"
    return f"{head}\nB came out {counts}: counts, not a verdict"
