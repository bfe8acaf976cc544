"""An experiment of many arms at a glance: every pair that was compared with what decided, and how the arms rank.

Of a sweep over settings it also tells what each setting took, and whether what the data does depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Static

from workbench.arms import BASELINE
from workbench.report.pairs import all_comparisons
from workbench.report.sweep import data_sentences
from workbench.report.verdict import RANKED, SMALLEST, metric_name, number, ranking
from workbench.tables import Value
from workbench.text import counted
from workbench.tui.cells import flat
from workbench.tui.widgets.result_pane import (
    DIFFERENCE,
    Shown,
    TablePane,
    difference_cells,
    name_cell,
    verdict_cell,
)
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import GLYPHS, p_told

if TYPE_CHECKING:
    from workbench.results import Finished

_TWO = (
    "Two versions were compared. To measure more against one baseline at once, mark them on the Versions screen (V) "
    "with space, the baseline first, and press c; there, ctrl+n adds a candidate, and controls are a field: as many "
    "rows of the baseline drawn at random, or those with the longest answers, or all. Runs that are there are not made "
    "again."
)
_ALONE = "One version was trained alone: there is no pair. c compares it with others."
_WIDE = 100  # cells from which names of arms have `_NAMES` cells, and verdicts their words
_NAME, _NAMES = 14, 28
_COSTS = (
    ("GB peak", "peak_bytes", 1e9, 2),
    ("tokens/s", "tokens_per_second", 1, 0),
    ("MB saved", "saved_bytes", 1e6, 1),
    ("GB told", "estimated_bytes", 1e9, 2),
)
"""What runs took: column, key of `cost`, unit, digits."""
_TOOK = (
    "GB: the most memory in use while a run trained, and what was told before. Tokens: trained ones. MB: the adapter, "
    "or the weights."
)


class ArmsPane(TablePane):
    """Pairs in a table whose keys are their numbers, over the ranking. Enter opens the verdict on a pair."""

    NAME = "arms"
    KEY = "7"
    HELP = "Show every pair that was compared, how the arms rank, and what they took."
    HINT = "enter opens the pair · tab ranking"
    DEFAULT_CSS = """
    ArmsPane { overflow-y: auto; scrollbar-size-vertical: 1; }
    ArmsPane Table { height: auto; max-height: 60%; }
    ArmsPane #ranked { margin: 1 0 0 0; }
    """

    @dataclass
    class PairChosen(Message):
        """The comparison of that number is to be shown."""

        number: int

    def __init__(self) -> None:
        super().__init__()
        self._result: dict[str, Any] = {}
        self._is_wide = False

    def compose(self) -> ComposeResult:
        """What decides, the pairs, the ranking, and how to read it."""
        yield from super().compose()
        yield Static(id="ranked", classes="shown", markup=False)
        yield Table(id="ranking", classes="shown")
        yield Static(id="took", classes="shown", markup=False)

    def show(self, shown: Finished | None) -> None:
        """Show all pairs of an experiment, with the cursor on the one that the other tabs show."""
        pairs = all_comparisons(shown.whole) if shown else []
        self._result = shown.whole if shown and len(pairs) > 1 else {}
        if shown is None or not self._result:
            self.fill("" if shown is None else _TWO if pairs else _ALONE)
            return
        self._fill()
        self.table.go_to(str(shown.number))

    def on_resize(self) -> None:
        """Give names the room that there is."""
        if self._result and self._is_wide != (self.size.width >= _WIDE):
            self._fill()

    def _fill(self) -> None:
        result, self._is_wide = self._result, self.size.width >= _WIDE
        self.fill(_decided(result), self._pairs(result))
        by = [*data_sentences(result), f"{metric_name(result['ranked_by'])}. {RANKED}"]
        self.query_one("#ranked", Static).update(Text("\n".join(map(flat, by))))
        self.query_one("#ranking", Table).show(*self._ranking(result))
        self.query_one("#took", Static).update(_TOOK if _took(result) else "")

    def _pairs(self, result: Mapping[str, Any]) -> Shown:
        """All pairs of the JSON of `compare`, by their primary metric."""
        columns = [
            Column("B"),
            Column("against A"),
            Column(""),
            *DIFFERENCE,
            Column("p (Holm)", right=True),
            Column("p alone", right=True, optional=True),
            Column("smallest found", right=True, optional=True),
            Column("A is", optional=True),
        ]
        name = _NAMES if self._is_wide else _NAME
        rows = []
        for place, one in enumerate(all_comparisons(dict(result))):
            primary = next(metric for metric in one["metrics"] if metric["name"] == one["primary"])
            mde = primary["mde"]
            cells: list[Value | Cell] = [
                name_cell(one["candidate"], name),
                name_cell(one["baseline"], name),
                verdict_cell(self, one["verdict"], terse=not self._is_wide),
                *difference_cells(primary),
                Cell(one["p_alone"], p_told(one["p_alone"])),
                Cell(mde, "unknown" if mde is None else number(mde)),
                _role(one),
            ]
            rows.append((str(place), cells))
        return columns, rows

    def _ranking(self, result: dict[str, Any]) -> Shown:
        """The arms by the mean of the metric that they rank by, the untrained model last, and what their runs took.

        In a sweep over settings that is what one asks for, so it comes before how much was trained on.
        """
        size = [Column("rows", right=True, optional=True), Column("tokens", right=True, optional=True)]
        costs = [Column(title, right=True, optional=True) for title, *_ in _COSTS] if _took(result) else []
        is_sweep = bool(result.get("sweep"))
        columns = [Column("", right=True), Column("arm"), Column("mean", right=True), Column("")]
        rows = []
        for place, (arm, cost) in enumerate(zip(ranking(result), [*_in_rank(result), {}], strict=True)):
            sizes: list[Value | Cell] = [Cell(_whole(text), text) for text in (arm.rows, arm.trained_tokens)]
            took: list[Value | Cell] = [
                _amount(cost.get(key), unit, digits) for _, key, unit, digits in _COSTS[: len(costs)]
            ]
            cells: list[Value | Cell] = [
                Cell(_whole(arm.place), arm.place),
                name_cell(arm.label, _NAMES if self._is_wide else _NAME + 4),
                Cell(arm.mean, number(arm.mean)),
                verdict_cell(self, arm.said) if arm.said in GLYPHS else arm.said,
            ]
            rows.append((str(place), [*cells, *(took + sizes if is_sweep else sizes + took)]))
        return [*columns, *(costs + size if is_sweep else size + costs)], rows

    def on_table_chosen(self, message: Table.Chosen) -> None:
        """Tell which pair is meant."""
        message.stop()
        if message.table is self.table:
            self.post_message(self.PairChosen(int(message.key)))


def _amount(value: float | None, unit: float, digits: int) -> Cell:
    return Cell(value, "-" if value is None else f"{value / unit:,.{digits}f}")


def _whole(text: str) -> int | None:
    digits = text.replace(",", "")
    return int(digits) if digits.isdecimal() else None


def _in_rank(result: Mapping[str, Any]) -> list[Mapping[str, float | None]]:
    """What the runs of each arm took, in the order of the ranking; nothing where a release did not note it."""
    return [arm.get("cost") or {} for arm in sorted(result["arms"], key=lambda arm: arm["rank"])]


def _took(result: Mapping[str, Any]) -> bool:
    return any(value is not None for cost in _in_rank(result) for value in cost.values())


def _role(one: Mapping[str, Any]) -> str:
    """What the side A of a pair is."""
    if one["control"]:
        return f"control {one['control']}"
    return "the baseline" if one["against"] == BASELINE else "by the same setting"


def _decided(result: dict[str, Any]) -> str:
    """By what the pairs are decided, and how they are corrected."""
    pairs = all_comparisons(result)
    versions = {arm["arm"]: arm["version"] for arm in result["arms"]}
    if result.get("sweep"):
        settings = sum(versions[one["arm"]] == versions[one["against"]] for one in pairs)
        families = [(len(pairs) - settings, " of versions"), (settings, " of settings")]
    else:
        controls = sum(one["control"] is not None for one in pairs)
        families = [(len(pairs) - controls, " with the baseline"), (controls, " with controls")]
    over = " and over ".join(f"the {counted(count, 'pair')}{kind}" for count, kind in families if count)
    return f"By {metric_name(result['primary'])}. p is corrected (Holm) over {over}. Smallest found: {SMALLEST}."
