"""The one question before a comparison: by which model, for how long, measured on what; and what that will show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from workbench.comparing import Setup, apart_from, promises
from workbench.controls import KINDS
from workbench.errors import BadInput, Problem, SharedPrompts
from workbench.tui.cells import flat
from workbench.tui.evalset_flow import hold_out, import_evalset
from workbench.tui.messages import Failure
from workbench.tui.widgets.checks import Checks
from workbench.tui.widgets.choice import Choice
from workbench.tui.widgets.dialogs import Dialog, choose, dialogue
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.experiments import Question
    from workbench.tui.app import WorkbenchApp

_PAUSE = 0.3  # seconds without a key before what was typed is looked into

_QUANTIZE = [("auto", "auto: 4 bits where memory needs it"), ("nf4", "nf4: 4 bits (QLoRA)"), ("none", "none")]
_BUDGETS = {
    "minutes": "minutes, all runs together",
    "tokens": "trained tokens a run",
    "epochs": "epochs of each version's own rows",
}
_BUDGET_IS = {
    "minutes": "the budget is a number: the minutes for all runs",
    "tokens": "the budget is a number: the trained tokens of each run",
    "epochs": "the budget is a whole number: how often each version's own rows are trained on",
}
_NO_EVALSET = (
    "There is no eval set to measure on. ctrl+e makes one of a file; ctrl+o holds rows out of a source or version."
)


@dataclass
class _Foreseen(Message):
    question: Question
    told: str | Exception


@dataclass
class _Started(Message):
    id: str


class CompareDialog(Dialog[str]):
    """Asks for a comparison of versions and starts it. Gives the experiment's id, None where it was called off.

    The first version is the baseline; each of the others is compared with it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start", show=False),
        Binding("down", "app.focus_next", "next field", show=False),
        Binding("up", "app.focus_previous", "field before", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("ctrl+n", "candidate", "another candidate", show=False, priority=True),
        Binding("ctrl+x", "swap", "swap", show=False, priority=True),
        Binding("ctrl+w", "leave_out", "leave shared rows out", show=False, priority=True),
        Binding("ctrl+e", "make_evalset('import')", "import an eval set", show=False, priority=True),
        Binding("ctrl+o", "make_evalset('hold out')", "hold rows out", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    CompareDialog > Vertical { width: 78; overflow-y: auto; scrollbar-size-vertical: 1; }
    CompareDialog Horizontal { height: 1; }
    CompareDialog .label { width: 12; color: $muted; }
    CompareDialog #versions { height: auto; margin: 0 0 1 0; }
    CompareDialog Input, CompareDialog Choice, CompareDialog Checks { width: 1fr; }
    CompareDialog Input:focus { background: $cursor; }
    CompareDialog #budget { width: 14; }
    CompareDialog #outlook { height: auto; margin: 1 0 0 0; color: $foreground; }
    CompareDialog #wrong { height: auto; margin: 1 0 0 0; color: $error; display: none; }
    CompareDialog.-wrong #wrong { display: block; }
    CompareDialog.-wrong #outlook { display: none; }
    """

    HEADING = "Train versions alike and compare them"
    FOOT = "enter starts · ctrl+n candidate · ctrl+x swap · ctrl+e ctrl+o eval set"
    BUDGETS: ClassVar[Sequence[str]] = ("minutes", "tokens", "epochs")
    LEAVE_OUT = "ctrl+w does that here and compares what it froze."

    def __init__(self, setup: Setup) -> None:
        super().__init__(self.HEADING, foot=self.FOOT)
        self._setup = setup
        self._versions = [setup.question.baseline, *(setup.question.candidates or (setup.question.baseline,))]
        self._timer: Timer | None = None
        self._starting = False
        self._wanted: Question | None = None
        self._looking = False

    @property
    def bench(self) -> WorkbenchApp:
        """The app, under its own type."""
        return cast("WorkbenchApp", self.app)

    def inside(self) -> ComposeResult:
        """A form, and what it comes to."""
        ask = self._setup.question
        tokens = ask.trained_tokens
        yield Static(id="versions", markup=False)
        yield from _field("model", Input(ask.model, id="model", compact=True))
        yield from _field("quantise", Choice(_QUANTIZE, ask.quantize, id="quantize"))
        unit = Choice([(name, _BUDGETS[name]) for name in self.BUDGETS], "tokens" if tokens else "minutes", id="unit")
        yield from _field(
            "budget", Input(str(tokens) if tokens else f"{ask.minutes:g}", id="budget", compact=True), unit
        )
        yield from _field("seeds", Input(str(ask.seeds), id="seeds", compact=True))
        yield from _field("eval set", Choice(_evalsets(self._setup), ask.evalset, id="evalset"))
        yield from self.arms()
        yield Static(id="outlook", markup=False)
        yield Static(id="wrong", markup=False)

    def arms(self) -> ComposeResult:
        """What is trained beside the versions."""
        yield from _field("controls", Checks(KINDS, id="controls"))

    def on_mount(self) -> None:
        """Begin with the budget: it is what changes most."""
        self.name_versions()
        self.query_one("#budget").focus()
        self._look()
        super().on_mount()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question is being started, it stays as it is."""
        return not self._starting or action not in ("candidate", "swap", "leave_out", "make_evalset")

    # What it would come to

    @on(Input.Changed)
    @on(Choice.Changed)
    @on(Checks.Changed)
    def _changed(self) -> None:
        if self._timer:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE, self._look)

    def _look(self) -> None:
        self._wanted = None if self._starting else self._question()
        if self._wanted is None or self._looking:  # one look at a time: with many rows it takes a while
            return
        self._looking = True
        self._tell("What it would take …", self.app.theme_variables["muted"])
        ask = self._wanted

        def work(cancelled: Cancelled) -> _Foreseen:
            try:
                return _Foreseen(ask, self.outlook(ask))
            except Exception as error:
                return _Foreseen(ask, error)

        background(self, work, lambda foreseen: foreseen)

    @on(_Foreseen)
    def _foreseen(self, message: _Foreseen) -> None:
        self._looking = False
        if message.question != self._wanted:
            if self._wanted is not None:
                self._look()
        elif isinstance(message.told, Exception):
            self.post_message(Failure(message.told))
        else:
            self._tell(message.told)

    def outlook(self, ask: Question) -> str:
        """What it would come to. Called in a worker."""
        from workbench.experiments import foresee

        foreseen = foresee(self.bench.workspace, ask)
        if foreseen.done:
            return "This was compared before: enter shows its result."
        _, *rest = promises(foreseen)
        return self.sentences([f"{len(foreseen.plan.runs)} runs", *rest])

    def sentences(self, told: list[str]) -> str:
        """What is told, one sentence a line, warnings first, and where the settings are from."""
        last = [f"all else as in {self._setup.last}"] if self._setup.last else []
        told = sorted(told, key=lambda line: not line.startswith("warning"))
        return "\n".join(f"{line[:1].upper()}{line[1:]}." for line in told + last)

    def on_failure(self, message: Failure) -> None:
        """Say what is wrong here, where it can be put right."""
        self._starting = False
        shared = isinstance(message.error, SharedPrompts)
        self._wrong(f"{message.text} {self.LEAVE_OUT}" if shared else message.text)
        if isinstance(message.error, Problem):
            message.stop()

    # The form

    def _question(self) -> Question | None:
        """What the form asks; None where it says nothing that can be asked, which is told."""
        if not self._setup.evalsets:
            self._wrong(_NO_EVALSET)
            return None
        try:
            return self._read()
        except BadInput as problem:
            self._wrong(str(problem))
            return None

    def _read(self) -> Question:
        unit = str(self.query_one("#unit", Choice).value)
        text = self.query_one("#budget", Input).value.replace(",", "").strip()
        budget = _number(text, _BUDGET_IS[unit])
        if unit == "epochs" and budget != int(budget):
            raise BadInput(_BUDGET_IS[unit])
        seeds = _number(self.query_one("#seeds", Input).value.strip(), "seeds is a whole number, 1 or more")
        if seeds < 1 or seeds != int(seeds):
            raise BadInput("seeds is a whole number, 1 or more")
        baseline, candidate, *more = self._versions
        return replace(
            self._setup.question,
            baseline=baseline,
            candidate=candidate,
            more=tuple(more),
            controls=tuple(kind for checks in self.query(Checks) for kind in checks.chosen),
            evalset=self.query_one("#evalset", Choice).value,
            model=self.query_one("#model", Input).value.strip() or None,
            quantize=cast('Literal["nf4", "none", "auto"]', self.query_one("#quantize", Choice).value),
            seeds=int(seeds),
            trained_tokens=int(budget) if unit == "tokens" else None,
            minutes=budget if unit == "minutes" else None,
            epochs=int(budget) if unit == "epochs" else None,
        )

    def name_versions(self) -> None:
        """Say what is compared."""
        muted = self.app.theme_variables["muted"]
        baseline, *candidates = self._versions
        text = Text.assemble(("baseline    ", muted), (flat(baseline), "bold"), "\n")
        text.append("candidates  " if candidates[1:] else "candidate   ", muted)
        text.append(flat(", ".join(candidates)), "bold")
        if candidates == [baseline]:
            text.append("\nThe same version twice, by other seeds: shows what training alone moves.")
        self.query_one("#versions", Static).update(text)

    def _tell(self, text: str, style: str = "") -> None:
        self.remove_class("-wrong")
        warning = self.app.theme_variables["warning"]
        lines = [Text(flat(line), warning if line.startswith("Warning") else style) for line in text.split("\n")]
        self.query_one("#outlook", Static).update(Text("\n").join(lines))

    def _wrong(self, text: str) -> None:
        lines = (text[:1].upper() + text[1:]).split("\n")
        self.query_one("#wrong", Static).update(Text("\n".join(map(flat, lines))))
        self.add_class("-wrong")

    # What can be done

    def action_page(self, by: int) -> None:
        """Scroll to what is out of sight on a small screen."""
        box = self.query_one(Vertical)
        box.scroll_relative(y=by * box.size.height, animate=False)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_start()

    def action_start(self) -> None:
        """Start the comparison, or show the result of the same question."""
        if self._starting or (ask := self._question()) is None:
            return
        self._starting, self._wanted = True, None
        self._tell("Starting …")
        background(self, lambda cancelled: self.begin(ask, cancelled), _Started, group="start")

    def begin(self, ask: Question, cancelled: Cancelled) -> str:
        """Start it; returns the id of what is started. Called in a worker."""
        return self.bench.experiments.jobs.begin(ask, cancelled)

    @on(_Started)
    def _started(self, message: _Started) -> None:
        self.dismiss(message.id)

    def action_swap(self) -> None:
        """Take the first candidate for the baseline, and the other way round."""
        baseline, candidate, *more = self._versions
        self._versions = [candidate, *dict.fromkeys([baseline, *more])]  # the baseline may stand among them, too
        self._renew()

    @dialogue
    async def action_candidate(self) -> None:
        """Ask for another candidate; one that is among them is taken out, unless it is the only one."""
        there = await asyncio.to_thread(self.bench.workspace.versions)
        _, *candidates = self._versions
        options = [
            (one.name, f"{'- ' if one.name in candidates else '+ '}{one.rows:>9,} rows  {one.name}")
            for one in reversed(there)
        ]
        name = await choose(self.app, "Which candidate?", options, detail="+ adds one, - takes one out.")
        if name is None:
            return
        if name not in candidates:
            self._versions.append(name)
        elif len(candidates) > 1:
            self._versions[1:] = [candidate for candidate in candidates if candidate != name]
        self._renew()

    def _renew(self) -> None:
        self.name_versions()
        self._look()

    @dialogue
    async def action_leave_out(self) -> None:
        """Compare versions without the rows that they share with the eval set."""
        if evalset := self.query_one("#evalset", Choice).value:
            self._tell("Freezing …")
            self._versions = [
                await asyncio.to_thread(apart_from, self.bench.workspace, version, evalset)
                for version in self._versions
            ]
            self._renew()

    @dialogue
    async def action_make_evalset(self, how: Literal["import", "hold out"]) -> None:
        """Make an eval set of a file, or by holding rows out, and choose it."""
        make = import_evalset if how == "import" else hold_out
        if not (name := await make(self.bench)):
            return
        known = await asyncio.to_thread(self.bench.workspace.evalsets)
        self._setup.evalsets[:] = [(evalset.name, evalset.rows) for evalset in known]
        self.query_one("#evalset", Choice).set_options(_evalsets(self._setup), name)
        self._look()


def _field(label: str, *fields: Input | Choice | Checks) -> ComposeResult:
    with Horizontal():
        yield Static(label, classes="label", markup=False)
        yield from fields


def _evalsets(setup: Setup) -> list[tuple[str, str]]:
    return [(name, f"{name}: {items:,} item{'s' * (items != 1)}") for name, items in setup.evalsets]


def _number(text: str, wrong: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadInput(wrong) from None
    if not 0 < number < 1e12:
        raise BadInput(wrong)
    return number
