"""The experiments while the app is open: looked at once a second, on whatever screen one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message
from textual.signal import Signal

from workbench.ablation_runs import AblationRuns, ListedAblation
from workbench.comparing import Jobs, Seen
from workbench.errors import Problem
from workbench.tui.advice import in_app
from workbench.tui.messages import Failure
from workbench.tui.workers import Cancelled, background
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

_EVERY = 1.0  # seconds


@dataclass
class ExperimentsSeen(Message):
    """How the experiments and ablations stand now."""

    seen: Seen
    ablations: Sequence[ListedAblation]


class ExperimentWatch:
    """What is known of the experiments. `changed` tells screens; what has ended is said wherever one is."""

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self._jobs: Jobs | None = None
        self._runs: AblationRuns | None = None
        self._looking = False
        self._failure = ""
        self.seen = Seen()
        self.ablations: Sequence[ListedAblation] = ()
        self.changed: Signal[Seen] = Signal(app, "experiments")

    @property
    def jobs(self) -> Jobs:
        """The jobs of the open workspace: its methods wait, so they are called in workers."""
        if self._jobs is None:
            raise Problem("there is no workspace yet", do="Make one first.")
        return self._jobs

    @property
    def runs(self) -> AblationRuns:
        """The ablations of the open workspace: its methods wait, too."""
        if self._runs is None:
            raise Problem("there is no workspace yet", do="Make one first.")
        return self._runs

    def begin(self, workspace: Workspace) -> None:
        """Watch the experiments of a workspace."""
        self._jobs = Jobs(workspace)
        self._runs = AblationRuns(workspace, self._jobs)
        self._app.set_interval(_EVERY, self.look)
        self.look()

    def look(self) -> None:
        """Find out how the experiments are, unless that is being done."""
        if self._looking:
            return
        self._looking = True
        jobs, runs = self.jobs, self.runs

        def work(cancelled: Cancelled) -> Message | None:
            try:
                seen = jobs.look()
                ablations = runs.look(seen)
            except Exception as error:  # told once, not every second
                told, self._failure = self._failure, str(error)
                return Failure(error) if told != self._failure else None
            finally:
                self._looking = False
            self._failure = ""
            return ExperimentsSeen(seen, ablations)

        background(self._app, work, lambda message: message)

    def take(self, seen: Seen, ablations: Sequence[ListedAblation]) -> None:
        """Tell everybody what was seen."""
        self.seen, self.ablations = seen, ablations
        self.changed.publish(seen)
        if seen.ended:
            self._app.say(in_app(" ".join(seen.ended)))
