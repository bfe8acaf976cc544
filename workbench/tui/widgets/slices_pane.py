"""Where in the eval set two arms differ: the slices of a finished comparison in a table, by one metric at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Static

from workbench.report.slices import ABOUT, other_slices
from workbench.report.verdict import metric_name, number
from workbench.tables import Value
from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import flat
from workbench.tui.messages import Said
from workbench.tui.widgets.result_pane import (
    DIFFERENCE,
    Shown,
    TablePane,
    difference_cells,
    name_cell,
    verdict_cell,
)
from workbench.tui.widgets.table import Cell, Column

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


class SlicesPane(TablePane):
    """A table of slices below what they are tested by; the sentences on other metrics stand under it."""

    NAME = "slices"
    KEY = "5"
    HELP = "Show where they differ: the tasks, languages, lengths and clusters of the eval set."
    HINT = "m metric · s sort"
    SCREEN_ACTIONS = SLICE_ACTIONS
    BINDINGS = bindings("slices")
    DEFAULT_CSS = """
    SlicesPane Static { max-height: 40%; }
    SlicesPane.-empty Static { max-height: 100%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._result: dict[str, Any] = {}
        self._metric = ""

    def compose(self) -> ComposeResult:
        """Below the slices, what other metrics tell."""
        yield from super().compose()
        yield Static(id="others", classes="shown", markup=False)

    def show(self, shown: Finished | None) -> None:
        """Show the slices of a comparison, by its primary metric."""
        self._result = shown.result if shown else {}
        self._metric = self._metrics[0] if self._metrics else ""
        if self._metric:
            self._fill()
        elif shown is None:
            self.fill("")
        else:
            text = _ALONE if not shown.result["verdict"] else _NONE if "slices" in shown.result else _EARLIER
            self.fill(text.format(evalset=shown.evalset.name))

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
        higher = next((m["higher_is_better"] for m in result["metrics"] if m["name"] == metric), False)
        decides = " · it decides the verdict" if metric == result["primary"] else " · a guardrail of the verdict"
        by = f"{metric_name(metric)} · {'↑ higher' if higher else '↓ lower'} is better{decides}\n{ABOUT}"
        self.fill(by, self._rows(_NAMES if self.size.width >= _WIDE else _NAME))
        told = other_slices(result) if metric == result["primary"] else []
        self.query_one("#others", Static).update(Text("\n".join(map(flat, told))))

    def _rows(self, name: int) -> Shown:
        """The slices by the metric: kind by kind, the largest first. Names have at most `name` cells.

        Those that were only counted come behind all that were tested.
        """
        columns = [
            Column("kind"),
            Column("slice"),
            Column("items", right=True),
            *DIFFERENCE,
            Column("p", right=True),
            Column(""),
            Column("clusters", right=True, optional=True),
            Column("A", right=True, optional=True),
            Column("B", right=True, optional=True),
        ]
        tested: list[tuple[str, list[Value | Cell]]] = []
        counted: list[tuple[str, list[Value | Cell]]] = []
        for sliced in (sliced for sliced in self._result["slices"] if sliced["metric"] == self._metric):
            kind = sliced["dimension"]
            about = Cell(kind, _KINDS.get(kind, kind))
            for one in sliced["slices"]:
                rows = tested if one["verdict"] else counted
                rows.append((f"{kind}/{one['name']}", [about, name_cell(one["name"], name), *self._numbers(one)]))
            if out := sliced["unlabelled"]:
                nothing: list[Value | Cell] = [None, None, None, "no slice", None, None, None]
                counted.append((f"{kind}/", [about, "", out, *nothing]))
        return columns, tested + counted

    def _numbers(self, one: Mapping[str, Any]) -> list[Value | Cell]:
        clusters = one["units"] if one["units"] != one["items"] else None
        if one["verdict"] is None:
            return [one["items"], None, None, None, "too few", clusters, None, None]
        means = (Cell(one[arm], number(one[arm])) for arm in ("baseline", "candidate"))
        said = verdict_cell(self, one["verdict"], terse=True)
        return [one["items"], *difference_cells(one), said, clusters, *means]
