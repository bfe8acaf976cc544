"""A sweep over settings as one table: quality, memory estimated and measured, speed and size of what is saved."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from workbench.report.pairs import all_comparisons
from workbench.text import safe_text

HEADER = ("setting", "mean", "change", "95% interval", "GB, told", "GB, peak", "tokens/s", "MB saved")
"""What `settings_table` has in each row: the memory that was estimated before and that was in use at most, trained
tokens a second, and the size of the adapter or the weights that were saved."""

ABOUT = (
    "Memory: estimated before a run, and the most in use while it trained. Change: against the first setting; of a "
    "further version, against the first version under the same setting."
)


@dataclass(frozen=True)
class Row:
    """An arm of a sweep as text, in the order of `HEADER`."""

    setting: str
    mean: str
    change: str
    interval: str
    estimated: str
    peak: str
    speed: str
    saved: str


def settings_table(result: dict[str, Any]) -> list[Row]:
    """The arms of a sweep (the JSON of `compare`), in the order asked for; none of another experiment."""
    if not result.get("sweep"):
        return []
    compared: dict[str, dict[str, Any]] = {}
    for one in all_comparisons(result):
        compared.setdefault(one["arm"], one["metrics"][0])
    return [
        _row(arm, result["means"][arm["arm"]].get(result["ranked_by"]), compared.get(arm["arm"]))
        for arm in result["arms"]
    ]


def _row(arm: dict[str, Any], mean: float | None, metric: dict[str, Any] | None) -> Row:
    low, high = metric["ci"] if metric else (None, None)
    cost = arm["cost"]
    return Row(
        setting=arm["label"],
        mean="-" if mean is None else f"{mean:.3f}",
        change=f"{round(metric['delta'], 3) + 0.0:+.3f}" if metric else "",  # no "-0.000"
        interval=f"{low:+.3f} … {high:+.3f}" if low is not None else "",
        estimated=_in(1e9, cost["estimated_bytes"], 2),
        peak=_in(1e9, cost["peak_bytes"], 2),
        speed=_in(1, cost["tokens_per_second"], 0),
        saved=_in(1e6, cost["saved_bytes"], 1),
    )


def _in(unit: float, value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def render_settings(result: dict[str, Any]) -> Table:
    """The same for a terminal of 80 columns or more."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("setting")
    for name in HEADER[1:]:
        table.add_column(name.replace(", ", "\n").replace("95% ", "95%\n"), justify="right", no_wrap=True)
    for row in settings_table(result):
        table.add_row(*(Text(safe_text(cell)) for cell in astuple(row)))
    return table


def data_sentences(result: dict[str, Any]) -> list[str]:
    """What a sweep of several versions tells of the data, in sentences."""
    return [sentence for one in (result.get("sweep") or {}).get("data", ()) for sentence in one["sentences"]]
