"""An experiment that is not done: what its job does, how far it is, the losses; or why it is at rest."""

from __future__ import annotations

import time

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from workbench.comparing import Listed, duration
from workbench.following import Progress
from workbench.tui.advice import in_app
from workbench.tui.cells import flat
from workbench.tui.widgets.loss_plot import LossPlot, colour, marks

_STATES = {"planned": "not started"}
_BAR = 32  # cells at most


class LiveView(Vertical):
    """Shows one experiment; `show` it again when more is known."""

    DEFAULT_CSS = """
    LiveView { height: 100%; background: $background; }
    LiveView > Static { height: auto; padding: 0 1; }
    LiveView > LossPlot { height: 1fr; min-height: 6; display: none; }
    LiveView.-drawn > LossPlot { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn: Progress | None = None

    def compose(self) -> ComposeResult:
        """Sentences, then the plot."""
        yield Static(markup=False)
        yield LossPlot()

    def show(self, listed: Listed) -> None:
        """Show how an experiment stands."""
        self.query_one(Static).update(self._told(listed))
        progress = listed.progress
        if progress is not self._drawn:
            self._drawn = progress
            losses = progress.losses if progress else {}
            self.set_class(bool(losses), "-drawn")
            if progress:
                self.query_one(LossPlot).show(progress.runs, losses, progress.steps)

    def _told(self, listed: Listed) -> Text:
        muted = self.app.theme_variables["muted"]
        text = Text.assemble((flat(listed.name), "bold"), f"  {_STATES.get(listed.state, listed.state)}\n")
        setting = f"{listed.model} · {listed.budget} · {listed.seeds} seed{'s' * (listed.seeds != 1)}"
        text.append(f"{flat(f'{setting} · eval set {listed.evalset}')}\n", muted)
        progress = listed.progress
        if listed.state == "failed":
            text.append(f"{flat(in_app(listed.why))}\n", self.app.theme_variables["error"])
            text.append(f"Its log: {flat(str(listed.log))}\nr tries again from where it was.\n")
        elif listed.state == "planned":
            text.append("It is planned, and its job was not started yet: r starts it, X deletes it.\n")
        elif listed.state == "stopped" and progress:
            text.append(f"Stopped with {len(progress.seconds)} of {len(progress.runs)} runs done; r goes on with it.\n")
        elif progress:
            text.append_text(self._now(progress))
        if progress and progress.losses:
            text.append_text(self._legend(listed, progress))
        text.rstrip()
        return text

    def _now(self, progress: Progress) -> Text:
        text = Text()
        share = progress.share()
        cells = max(min(_BAR, self.size.width - 46), 8)
        done = round(cells * share)
        text.append("█" * done, self.app.theme_variables["accent"])
        text.append("░" * (cells - done), self.app.theme_variables["rule"])
        text.append(f"  {share:.0%}")
        left = progress.seconds_left(time.time())
        text.append(f"  about {duration(left)} left" if left is not None else "  time left not known yet")
        text.append(f" · {progress.speed:,.0f} tokens/s\n" if progress.speed and progress.phase == "training" else "\n")
        text.append(flat(_doing(progress)) + "\n")
        return text

    def _legend(self, listed: Listed, progress: Progress) -> Text:
        colours = self.app.theme_variables
        text = Text("loss by step   ", colours["muted"])
        for arm, mark in marks(progress.runs).items():
            text.append(mark, colours[colour(arm)])
            text.append(f" {arm} {flat(listed.labels[arm])}   ")
        return text


def _doing(progress: Progress) -> str:
    """What the job does now, in a line."""
    run = progress.current()
    which = f"{run.arm}, seed {run.seed} (run {len(progress.seconds) + 1} of {len(progress.runs)})" if run else ""
    if progress.phase == "training" and run:
        loss = progress.losses[run.id][progress.step]
        return f"training {which} · step {progress.step:,} of {progress.steps:,} · loss {loss:.3f}"
    if progress.phase == "evaluating":
        return f"evaluating {which or 'the untrained model'} · {progress.evaluated:.0%}"
    return f"{progress.phase or 'starting'} …"


def state_told(listed: Listed) -> str:
    """The state of an experiment in the few words that a table has room for."""
    progress = listed.progress
    if listed.state != "running" or progress is None:
        return _STATES.get(listed.state, listed.state)
    left = progress.seconds_left(time.time())
    told = f"running {progress.share():.0%}"
    return f"{told}, {duration(left)} left" if left is not None else told
