"""Where in the eval set two arms differ: the slices of a result, as rows for a terminal and for reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainer.slices import LEAST
from trainer.verdict import BETTER, WORSE
from workbench.report.pairs import all_comparisons, pair
from workbench.report.verdict import STYLES, number, plain_name
from workbench.text import clip, counted, safe_text

ABOUT = (
    "Slices are looked at, and decide nothing. p is corrected over the slices of a kind (Holm); those of fewer than "
    f"{LEAST} items or clusters are only counted."
)
_TOLD = (BETTER, WORSE)

LISTED = 50
"""Slices of a kind that a report lists, the largest first."""
MOST = 8
"""Slices of a kind that a terminal shows: those that differ, and the largest."""


@dataclass(frozen=True)
class SliceRow:
    """One slice for people; all but the items is empty where it was only counted."""

    name: str
    items: str
    change: str = ""
    interval: str = ""
    p: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class SliceTable:
    """The slices of one kind (`task`, `language`, ...) by one metric; `unlabelled` items are in none of them."""

    dimension: str
    metric: str
    rows: list[SliceRow]
    unlabelled: int

    def rest(self) -> str:
        """What a list of `LISTED` slices leaves out, in a sentence; empty where nothing."""
        more = len(self.rows[LISTED:])
        told = [f"{counted(more, 'smaller slice')} more"] if more else []
        told += [f"{counted(self.unlabelled, 'item')} in no slice"] if self.unlabelled else []
        return f"{', '.join(told)}." if told else ""

    @property
    def tested(self) -> list[SliceRow]:
        """Those that had items enough."""
        return [row for row in self.rows if row.verdict]

    @property
    def foremost(self) -> list[SliceRow]:
        """Those that a terminal has room for: all that differ, and the largest of the others."""
        differ = [row for row in self.tested if row.verdict in _TOLD]
        others = [row for row in self.tested if row not in differ][: max(MOST - len(differ), 0)]
        return [row for row in self.tested if row in (*differ, *others)]


def slice_tables(result: dict[str, Any]) -> list[SliceTable]:
    """The slices of a result by its primary metric; none in results of earlier releases."""
    return [
        SliceTable(sliced["dimension"], sliced["metric"], [_row(one) for one in sliced["slices"]], sliced["unlabelled"])
        for sliced in result.get("slices", [])
        if sliced["metric"] == result["primary"]
    ]


def other_slices(result: dict[str, Any]) -> list[str]:
    """Sentences on guardrails that got better or worse in a slice."""
    told = []
    for sliced in result.get("slices", []):
        for one in sliced["slices"]:
            if sliced["metric"] != result["primary"] and one["verdict"] in _TOLD:
                told.append(
                    f"{plain_name(sliced['metric'])} is {one['verdict']} in {sliced['dimension']} {one['name']}: "
                    f"{number(one['delta'], signed=True)} on {counted(one['items'], 'item')}."
                )
    return told


def render_slices(result: dict[str, Any]) -> RenderableType | None:
    """The slices of every comparison for a terminal of 80 columns; None where there are none."""
    parts: list[RenderableType] = []
    compared = all_comparisons(result)
    for place, one in enumerate(compared):
        rendered = list(_render(pair(result, place)))
        if rendered and len(compared) > 1:
            parts.append(Text.assemble("\n", (safe_text(f"{one['candidate']} against {one['baseline']}"), "bold")))
        parts += rendered
    return Group(*parts, Text(ABOUT, style="dim")) if parts else None


def _render(result: dict[str, Any]) -> Iterator[RenderableType]:
    """What was tested in one table, what was only counted in a line."""
    tables = slice_tables(result)
    if any(found.tested for found in tables):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column(f"{plain_name(result['primary'])} within slices", overflow="fold")
        for name in ("items", "change", "95% interval", "p"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("")
        for found in tables:
            for row in found.foremost:
                named = Text(clip(f"{found.dimension} {row.name}", 36))
                interval = row.interval.replace(" to ", " … ")
                verdict = Text(row.verdict if row.verdict in _TOLD else "", style=STYLES[row.verdict])
                table.add_row(named, *map(Text, (row.items, row.change, interval, row.p)), verdict)
        yield table
    for sentence in (*other_slices(result), *_counted(tables)):
        yield Text(safe_text(f"- {sentence}"))


def _counted(tables: list[SliceTable]) -> Iterator[str]:
    for found in tables:
        few = len(found.rows) - len(found.tested)
        more = len(found.tested) - len(found.foremost)
        if few:
            yield f"{found.dimension}: {counted(few, 'slice')} of fewer than {LEAST} items or clusters."
        if more:
            yield f"{found.dimension}: {counted(more, 'other slice')} without a difference, listed in the report."


def _row(one: dict[str, Any]) -> SliceRow:
    items = f"{one['items']:,}" if one["items"] == one["units"] else f"{one['items']:,} in {one['units']:,} clusters"
    if one["verdict"] is None:
        return SliceRow(one["name"], items)
    low, high = one["ci"]
    between = "unknown" if low is None else f"{number(low, signed=True)} to {number(high, signed=True)}"
    p = f"{one['p_decisive']:.2g}" if one["p_decisive"] >= 0.0001 else "< 0.0001"
    return SliceRow(one["name"], items, number(one["delta"], signed=True), between, p, one["verdict"])
