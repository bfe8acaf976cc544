"""What each step of a recipe is worth, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from workbench.report.verdict import metric_name
from workbench.text import counted, safe_text

_STATES = {
    "same rows": "not trained: it changes no row",
    "refused": "not trained: shares prompts with the eval set",
    "failed": "failed",
    "not run": "",
}


def ablation_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each step, from the JSON of `ablate`: rows and tokens of its version, and what the comparison said."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("step")
    for name in ("rows", "more", "trained\ntokens", "change", "95%\ninterval", "smallest\nfound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("its version is")
    for step in steps:
        tokens = f"{step['trained_tokens']:,}" if step["trained_tokens"] is not None else "-"
        cells = [safe_text(str(step["step"])), f"{step['rows']:,}", f"{step['rows_more']:+,}", tokens]
        if step["state"] == "done":
            low, high = (_number(end) for end in step["ci"])
            smallest = _number(step["mde"], sign="")
            cells += [_number(step["delta"]), f"{low} …\n{high}", smallest, step["verdict"]]
        else:
            cells += ["-", "-", "-", _STATES[step["state"]]]
        table.add_row(*map(Text, cells))
    return table


def meaning(mode: str, baseline: str, steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """How to read the table, in sentences, as far as something was compared."""
    done = [step for step in steps if step["state"] == "done"]
    if not done:
        return []
    family = [step for step in steps if step["state"] in ("done", "not run")]
    metrics = " and ".join(dict.fromkeys(metric_name(step["metric"]) for step in done))
    told = [
        f"Change: of {metrics}, each version minus {baseline}. "
        f"Verdicts are corrected for {counted(len(family), 'comparison')} (Holm)."
    ]
    bad, good = ("worse", "better")
    if mode == "leave-one-out":
        told.append(_names("Without it the model is worse, so it earns its place", done, bad))
        told.append(_names("Without it the model is better, so it costs more than it gives", done, good))
    else:
        told.append(_names("Alone it makes the model better", done, good))
        told.append(_names("Alone it makes the model worse", done, bad))
    told.append(_names("Not shown to do anything here", done, "no difference detected"))
    told.append(_names("Better with a guardrail worse: look at the comparison", done, "mixed"))
    return [safe_text(sentence) for sentence in told if sentence]


def _names(sentence: str, done: Sequence[Mapping[str, Any]], verdict: str) -> str:
    names = [str(step["step"]) for step in done if step["verdict"] == verdict]
    return f"{sentence}: {', '.join(names)}." if names else ""


def _number(value: float | None, sign: str = "+") -> str:
    return "unknown" if value is None else f"{value:{sign}.3f}"
