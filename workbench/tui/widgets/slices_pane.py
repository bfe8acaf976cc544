"""Where in the eval set two arms differ: the slices of a finished comparison in a table, by one metric at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Static

from workbench.report.slices import ABOUT, other_slices
from workbench.report.verdict import metric_name, number
from workbench.tables import Value
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import fit, flat
from workbench.tui.messages import Said
from workbench.tui.widgets.result_pane import ResultPane
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import COLOURS, GLYPHS, p_told

if TYPE_CHECKING:
    from workbench.results import Finished

SLICE_ACTIONS = declare(
    Action("metric", ("m",), "metric", "Show the slices by the next metric that decides, or by one.", "slices",
           takes="NAME"),
)  # fmt: skip

_NONE = (
    "The items of {evalset} make no slices: they are of one task and one language, in no clusters, and fewer than 20 "
    "are not told apart by length.\n\n"
    "Columns task (or category) and cluster in the file of an eval set make them: :eval-set FILE brings one in, as "
    "`workbench evalset import` does; then compare the versions on it (c)."
)
_EARLIER = (
    "This result was made by an earlier release, which looked at no slices. Compare the versions again with another "
    "budget or number of seeds (c), or on another eval set."
)
_ALONE = "One version was trained alone. Slices show where two differ: c compares it with another."
_WIDE = 100  # cells from which names of slices have `_NAMES` cells and not `_NAME`
_NAME, _NAMES = 19, 40
_KINDS = {"prompt length": "prompt", "answer length": "answer"}
"""Kinds in fewer cells: their slices are named by tokens."""


class SlicesPane(ResultPane):
    """A table of slices below what they are tested by; the sentences on other metrics stand under it."""

    NAME = "slices"
    KEY = "5"
    HELP = "Show where they differ: the tasks, languages, lengths and clusters of the eval set."
    HINT = "m metric · s sort"
    SCREEN_ACTIONS = SLICE_ACTIONS
    BINDINGS = bindings("slices")
    DEFAULT_CSS = """
    SlicesPane Static { height: auto; max-height: 40%; color: $muted; padding: 0 1; }
    SlicesPane Table { scrollbar-size-horizontal: 0; }
    SlicesPane.-empty Table, SlicesPane.-empty #others { display: none; }
    SlicesPane.-empty Static { max-height: 100%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._result: dict[str, Any] = {}
        self._metric = ""

    def compose(self) -> ComposeResult:
        """The metric, the slices, and what other metrics tell."""
        yield Static(id="by", markup=False)
        yield Table()
        yield Static(id="others", markup=False)

    @property
    def table(self) -> Table:
        """The slices."""
        return self.query_one(Table)

    def home(self) -> Widget:
        """The table."""
        return self.table

    def show(self, shown: Finished | None) -> None:
        """Show the slices of a comparison, by its primary metric."""
        self._result = shown.result if shown else {}
        self._metric = self._metrics[0] if self._metrics else ""
        self.set_class(not self._metric, "-empty")
        if self._metric:
            self._fill()
            return
        self.table.show([], [])
        text = ""
        if shown:
            text = _ALONE if not shown.result["verdict"] else _NONE if "slices" in shown.result else _EARLIER
            text = text.format(evalset=flat(shown.evalset.name))
        self.query_one("#by", Static).update(Text(text))

    def on_resize(self) -> None:
        """Give names the room that there is."""
        if self._metric:
            self._fill()

    def action_metric(self, name: str = "") -> None:
        """Take the next metric, or the one that is named."""
        names = self._metrics
        if name and name not in names:
            self.app.post_message(Said(f"Metrics with slices: {', '.join(names)}."))
        elif names:
            self._metric = name or names[(names.index(self._metric) + 1) % len(names)]
            self._fill()

    @property
    def _metrics(self) -> list[str]:
        return list(dict.fromkeys(sliced["metric"] for sliced in self._result.get("slices", ())))

    def _fill(self) -> None:
        result, metric = self._result, self._metric
        colours = {won: Style(color=self.app.theme_variables[name]) for won, name in COLOURS.items()}
        self.table.show(*slice_rows(result, metric, colours, _NAMES if self.size.width >= _WIDE else _NAME))
        higher = next((m["higher_is_better"] for m in result["metrics"] if m["name"] == metric), False)
        decides = " · it decides the verdict" if metric == result["primary"] else " · a guardrail of the verdict"
        by = f"{metric_name(metric)} · {'↑ higher' if higher else '↓ lower'} is better{decides}\n{ABOUT}"
        self.query_one("#by", Static).update(Text(by))
        told = other_slices(result) if metric == result["primary"] else []
        self.query_one("#others", Static).update(Text("\n".join(flat(sentence) for sentence in told)))

    def on_table_highlighted(self, message: Table.Highlighted) -> None:
        """Nothing hangs on the cursor."""
        message.stop()

    def on_table_chosen(self, message: Table.Chosen) -> None:
        """Nor on enter."""
        message.stop()


def slice_rows(
    result: Mapping[str, Any], metric: str, colours: Mapping[str, Style], name: int
) -> tuple[list[Column], list[tuple[str, list[Value | Cell]]]]:
    """The slices of a result by one metric, as columns and rows of a `Table`: kind by kind, the largest first.

    Those that were only counted come behind all that were tested. Names have at most `name` cells.
    """
    columns = [
        Column("kind"),
        Column("slice"),
        Column("items", right=True),
        Column("B - A", right=True),
        Column("95% interval", right=True),
        Column("p", right=True),
        Column(""),
        Column("clusters", right=True, optional=True),
        Column("A", right=True, optional=True),
        Column("B", right=True, optional=True),
    ]
    rows: list[tuple[str, list[Value | Cell]]] = []
    counted: list[tuple[str, list[Value | Cell]]] = []
    nothing: list[Value | Cell] = [None, None, None, "no slice", None, None, None]
    for sliced in (sliced for sliced in result["slices"] if sliced["metric"] == metric):
        kind = sliced["dimension"]
        for one in sliced["slices"]:
            (rows if one["verdict"] else counted).append((f"{kind}/{one['name']}", _cells(kind, one, colours, name)))
        if out := sliced["unlabelled"]:
            counted.append((f"{kind}/", [Cell(kind, _KINDS.get(kind, kind)), "", out, *nothing]))
    return columns, rows + counted


def _cells(kind: str, one: Mapping[str, Any], colours: Mapping[str, Style], name: int) -> list[Value | Cell]:
    clusters = one["units"] if one["units"] != one["items"] else None
    first: list[Value | Cell] = [
        Cell(kind, _KINDS.get(kind, kind)),
        Cell(one["name"], fit(flat(one["name"]), name).rstrip()),
        one["items"],
    ]
    if one["verdict"] is None:
        return [*first, None, None, None, "too few", clusters, None, None]
    low, high = one["ci"]
    interval = "unknown" if low is None else f"{number(low, signed=True)} … {number(high, signed=True)}"
    p, verdict = one["p_decisive"], one["verdict"]
    said = f"{GLYPHS[verdict]} {verdict}" if verdict in COLOURS else GLYPHS[verdict]
    return [
        *first,
        Cell(one["delta"], number(one["delta"], signed=True)),
        Cell(low, interval),
        Cell(p, p_told(p)),
        Cell(verdict, said, colours.get(verdict)),
        clusters,
        *(Cell(one[arm], number(one[arm])) for arm in ("baseline", "candidate")),
    ]
