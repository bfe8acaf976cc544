"""An ablation: how it stands, what each step of its recipe is worth so far, and how to read that."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from workbench.ablation_runs import ListedAblation
from workbench.tables import Value
from workbench.tui.advice import in_app
from workbench.tui.cells import flat
from workbench.tui.widgets.live_view import state_told
from workbench.tui.widgets.table import Cell, Column, Table

_STATES = {
    "same rows": "same rows: not trained",
    "refused": "not trained",
    "failed": "failed",
    "not run": "not run yet",
}
_STANDING = {"planned": "not started"}
_STEP = 20  # cells of the name of a step


class AblationView(VerticalScroll, can_focus=False):
    """Shows one ablation; `show` it again when more is known. Its table `#steps` has the numbers of steps as keys."""

    DEFAULT_CSS = """
    AblationView { background: $background; height: 1fr; }
    AblationView > Static { height: auto; padding: 0 1; }
    AblationView > #steps { height: auto; scrollbar-size-horizontal: 0; margin: 1 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: ListedAblation | None = None

    def compose(self) -> ComposeResult:
        """How it stands, the steps, how to read them."""
        yield Static(id="standing", markup=False)
        yield Table(id="steps")
        yield Static(id="meaning", markup=False)

    def home(self) -> Widget:
        """The steps."""
        return self.query_one("#steps", Table)

    def show(self, listed: ListedAblation) -> None:
        """Show how an ablation stands."""
        self._shown = listed
        self.query_one("#standing", Static).update(self._standing(listed))
        title = "without it" if listed.mode == "leave-one-out" else "with it alone"
        columns = (
            Column("step"),
            Column("change", right=True),
            Column("95% interval", right=True),
            Column(title),
            Column("smallest", right=True),
            Column("more rows", right=True, optional=True),
            Column("rows", right=True, optional=True),
            Column("trained tokens", right=True, optional=True),
        )
        self.query_one("#steps", Table).show(
            columns, [(str(step["position"]), _cells(step, listed)) for step in listed.steps]
        )
        self.query_one("#meaning", Static).update(flat_text(listed.told))

    def experiment(self, position: str) -> str | None:
        """The id of the experiment of the step of that number, where there is one."""
        listed = self._shown
        versions = [step["version"] for step in listed.steps if str(step["position"]) == position] if listed else []
        return next((listed.experiments[one].id for one in versions if listed and one in listed.experiments), None)

    def _standing(self, listed: ListedAblation) -> Text:
        muted = self.app.theme_variables["muted"]
        text = Text.assemble((flat(listed.name), "bold"), f"  {_STANDING.get(listed.state, listed.state)}\n")
        setting = f"{listed.model} · {listed.budget} · {listed.seeds} seed{'s' * (listed.seeds != 1)}"
        text.append(f"{flat(f'{setting} · eval set {listed.evalset}')}\n", muted)
        text.append(f"{listed.made} of {listed.runs} runs are done")
        if listed.state in ("stopped", "failed", "planned"):
            text.append({"failed": "; r tries again", "planned": "; r begins"}.get(listed.state, "; r goes on"))
        text.append(". ")
        if listed.experiments:
            text.append("Enter on a step opens its comparison.")
        return text


def flat_text(lines: tuple[str, ...]) -> Text:
    """Sentences, one a line."""
    return Text("\n".join(flat(in_app(line)) for line in lines))


def ablation_state(listed: ListedAblation) -> str:
    """The state of an ablation in the few words that a table has room for, with its runs done and all."""
    if listed.state == "done":
        return "done"
    return f"{_STANDING.get(listed.state, listed.state)} {listed.made}/{listed.runs}"


def _cells(step: dict[str, Any], listed: ListedAblation) -> list[Value | Cell]:
    name = flat(str(step["step"]))
    first = Cell(name, name if len(name) <= _STEP else f"{name[: _STEP - 1]}…")
    sizes = [Cell(step["rows_more"], f"{step['rows_more']:+,}"), step["rows"], step["trained_tokens"]]
    if step["state"] == "done":
        low, high = (_number(end) for end in step["ci"])
        numbers = [Cell(step["delta"], _number(step["delta"])), Cell(step["ci"][0], f"{low} … {high}")]
        return [first, *numbers, step["verdict"], Cell(step["mde"], _number(step["mde"], "")), *sizes]
    there = listed.experiments.get(step["version"])
    waits = step["state"] == "not run" and there is not None and there.state in ("running", "stopped")
    state = state_told(there) if waits and there else _STATES[step["state"]]
    return [first, None, None, state, None, *sizes]


def _number(value: float | None, sign: str = "+") -> str:
    return "unknown" if value is None else f"{value:{sign}.3f}"
