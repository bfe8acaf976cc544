"""The eval items of a finished experiment in a table: how each came out by one metric, the worst for B first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from workbench.report.verdict import metric_name, number
from workbench.tables import Value
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import GLYPHS

if TYPE_CHECKING:
    from trainer.verdict import MetricSpec
    from workbench.results import Finished, Item

_WIDE = 130  # cells from which the changes of all metrics have a column


class ItemsPane(Vertical):
    """A table of items over their numbers by one metric; `compare_by` takes another."""

    DEFAULT_CSS = """
    ItemsPane Static { height: auto; max-height: 3; color: $muted; padding: 0 1; }
    ItemsPane Table { scrollbar-size-horizontal: 0; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: Finished | None = None
        self._metric = 0
        self._wide = False
        self._stale = False

    def compose(self) -> ComposeResult:
        """What is compared, and the items."""
        yield Static(markup=False)
        yield Table()

    @property
    def table(self) -> Table:
        """The items, by number; filled when it is first asked for, as that takes its time with thousands."""
        if self._stale:
            self._fill()
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
        self._stale = True
        if self.display:
            self._fill()

    def clear(self) -> None:
        """List nothing."""
        self._shown, self._stale = None, False
        self.query_one(Table).show([], [])
        self.query_one(Static).update("")

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
        if self._stale or (self.size.width >= _WIDE) != self._wide:
            self._fill()

    def _fill(self) -> None:
        shown = self._shown
        if shown is None or not shown.metrics:
            return
        self._stale = False
        spec = shown.metrics[self._metric]
        compared = "candidate" in shown.runs
        sliced = any(item.slice for item in shown.items)
        self._wide = self.size.width >= _WIDE
        others = [other for other in shown.metrics if self._wide and compared and other is not spec]
        changes = ["B - A"] if compared else []
        columns = [Column(title, right=True) for title in ("item", *changes, "base", "A", *("B" for _ in changes))]
        columns += [Column(metric_name(other.name).partition(" (")[0], right=True) for other in others]
        columns += [*([Column("slice")] if sliced else []), Column("prompt")]
        rows = []
        for item in sorted(shown.items, key=lambda item: _gain(item, spec)):
            measured = item.values.get(spec.name, {})
            cells: list[Value | Cell] = [item.item, *(self._change(item, spec) for _ in changes)]
            cells += [Cell(measured.get(arm), number(measured.get(arm))) for arm in shown.runs]
            cells += [self._change(item, other) for other in others]
            cells += [item.slice or ""] if sliced else []
            rows.append((str(item.item), [*cells, " ".join(item.prompt.split())]))
        self.query_one(Table).show(columns, rows)
        self.query_one(Static).update(_tally(shown, spec))

    def _change(self, item: Item, spec: MetricSpec) -> Cell:
        won, change = item.won(spec), item.change(spec.name)
        text = Text(f"{GLYPHS[won] if won else ' '} {number(change, signed=True):>7}")
        if won in ("better", "worse"):
            text.stylize(Style(color=self.app.theme_variables["trained" if won == "better" else "ignored"]))
        return Cell(change, text)


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
