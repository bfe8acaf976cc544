"""An experiment of many arms at a glance: every pair that was compared with what decided, and how the arms rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.report.pairs import all_comparisons
from workbench.report.verdict import RANKED, SMALLEST, metric_name, number, ranking
from workbench.tables import Value
from workbench.text import counted
from workbench.tui.cells import fit, flat
from workbench.tui.widgets.result_pane import ResultPane
from workbench.tui.widgets.table import Cell, Column, Table
from workbench.tui.widgets.verdict_lines import COLOURS, GLYPHS, p_told

if TYPE_CHECKING:
    from workbench.results import Finished

_TWO = (
    "Two versions were compared. To measure more against one baseline at once, mark them on the Versions screen (V) "
    "with space, the baseline first, and press c; there, ctrl+n adds a candidate, and controls are a field: as many "
    "rows of the baseline drawn at random, or those with the longest answers, or all. Runs that are there are not made "
    "again."
)
_ALONE = "One version was trained alone: there is no pair. c compares it with others."
_NAME = 28  # cells of the name of an arm
_PLAIN = {"no difference detected": "no difference"}


class ArmsPane(ResultPane):
    """Pairs in a table whose keys are their numbers, over the ranking. Enter opens the verdict on a pair."""

    NAME = "arms"
    KEY = "7"
    HELP = "Show every pair that was compared, and how the arms rank."
    HINT = "enter opens the pair"
    DEFAULT_CSS = """
    ArmsPane { overflow-y: auto; scrollbar-size-vertical: 1; }
    ArmsPane Static { height: auto; padding: 0 1; color: $muted; }
    ArmsPane #ranking { color: $foreground; margin: 1 0; }
    ArmsPane Table { height: auto; max-height: 60%; scrollbar-size-horizontal: 0; }
    ArmsPane.-empty Table, ArmsPane.-empty #ranking { display: none; }
    """

    @dataclass
    class PairChosen(Message):
        """The comparison of that number is to be shown."""

        number: int

    def compose(self) -> ComposeResult:
        """What decides, the pairs, the ranking."""
        yield Static(id="decided", markup=False)
        yield Table()
        yield Static(id="ranking", markup=False)

    @property
    def table(self) -> Table:
        """The pairs."""
        return self.query_one(Table)

    def home(self) -> Widget:
        """The pairs."""
        return self.table

    def show(self, shown: Finished | None) -> None:
        """Show all pairs of an experiment, with the cursor on the one that the other tabs show."""
        pairs = all_comparisons(shown.whole) if shown else []
        self.set_class(len(pairs) < 2, "-empty")
        if shown is None or len(pairs) < 2:
            self.table.show([], [])
            told = "" if shown is None else _TWO if pairs else _ALONE
            self.query_one("#decided", Static).update(Text(told))
            return
        colours = {won: Style(color=self.app.theme_variables[name]) for won, name in COLOURS.items()}
        self.table.show(*pair_rows(shown.whole, colours))
        self.table.go_to(str(shown.number))
        self.query_one("#decided", Static).update(Text(_decided(shown.whole)))
        self.query_one("#ranking", Static).update(Text(_ranked(shown.whole)))

    def on_table_highlighted(self, message: Table.Highlighted) -> None:
        """Nothing hangs on the cursor."""
        message.stop()

    def on_table_chosen(self, message: Table.Chosen) -> None:
        """Tell which pair is meant."""
        message.stop()
        self.post_message(self.PairChosen(int(message.key)))


def pair_rows(
    result: Mapping[str, Any], colours: Mapping[str, Style]
) -> tuple[list[Column], list[tuple[str, list[Value | Cell]]]]:
    """All pairs of the JSON of `compare`, by their primary metric, as columns and rows of a `Table`."""
    columns = [
        Column("B"),
        Column("against A"),
        Column(""),
        Column("B - A", right=True),
        Column("95% interval", right=True),
        Column("p (Holm)", right=True),
        Column("p alone", right=True, optional=True),
        Column("smallest found", right=True, optional=True),
        Column("A is", optional=True),
    ]
    rows = []
    for place, one in enumerate(all_comparisons(dict(result))):
        primary = next(metric for metric in one["metrics"] if metric["name"] == one["primary"])
        low, high = primary["ci"]
        interval = "unknown" if low is None else f"{number(low, signed=True)} … {number(high, signed=True)}"
        mde, verdict = primary["mde"], one["verdict"]
        cells: list[Value | Cell] = [
            _clipped(one["candidate"]),
            _clipped(one["baseline"]),
            Cell(verdict, f"{GLYPHS[verdict]} {_PLAIN.get(verdict, verdict)}", colours.get(verdict)),
            Cell(primary["delta"], number(primary["delta"], signed=True)),
            Cell(low, interval),
            Cell(primary["p_decisive"], p_told(primary["p_decisive"])),
            Cell(one["p_alone"], p_told(one["p_alone"])),
            Cell(mde, "unknown" if mde is None else number(mde)),
            f"control {one['control']}" if one["control"] else "the baseline",
        ]
        rows.append((str(place), cells))
    return columns, rows


def _clipped(name: str) -> Cell:
    return Cell(name, fit(flat(name), _NAME).rstrip())


def _decided(result: dict[str, Any]) -> str:
    """By what the pairs are decided, and how they are corrected."""
    pairs = all_comparisons(result)
    controls = sum(one["control"] is not None for one in pairs)
    told = f"By {metric_name(result['primary'])}. p is corrected (Holm) over "
    told += f"the {counted(len(pairs) - controls, 'pair')} with the baseline"
    told += f", and over the {counted(controls, 'pair')} with controls" if controls else ""
    return f"{told}. Smallest found: {SMALLEST}."


def _ranked(result: dict[str, Any]) -> str:
    """The arms by the mean of a metric, the untrained model last, as lines of a table."""
    if not result.get("ranked_by"):
        return ""
    arms = ranking(result)
    name = min(max(len(flat(arm.label)) for arm in arms), _NAME)
    heads = f"   {'arm':<{name}}  {'rows':>9}  {'tokens':>9}  {'mean':>7}"
    lines = [f"{metric_name(result['ranked_by'])}. {RANKED}", heads]
    for arm in arms:
        label = fit(flat(arm.label), name)
        mean = number(arm.mean)
        lines.append(f"{arm.place:>2} {label}  {arm.rows:>9}  {arm.trained_tokens:>9}  {mean:>7}  {arm.said}")
    return "\n".join(lines)
