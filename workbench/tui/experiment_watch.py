"""The experiments while the app is open: looked at once a second, on whatever screen one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message
from textual.signal import Signal

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
    """How the experiments stand now."""

    seen: Seen


class ExperimentWatch:
    """What is known of the experiments. `changed` tells screens; what has ended is said wherever one is."""

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self._jobs: Jobs | None = None
        self._looking = False
        self._failure = ""
        self.seen = Seen()
        self.changed: Signal[Seen] = Signal(app, "experiments")

    @property
    def jobs(self) -> Jobs:
        """The jobs of the open workspace: its methods wait, so they are called in workers."""
        if self._jobs is None:
            raise Problem("there is no workspace yet", do="Make one first.")
        return self._jobs

    def begin(self, workspace: Workspace) -> None:
        """Watch the experiments of a workspace."""
        self._jobs = Jobs(workspace)
        self._app.set_interval(_EVERY, self.look)
        self.look()

    def look(self) -> None:
        """Find out how the experiments are, unless that is being done."""
        if self._looking:
            return
        self._looking = True
        jobs = self.jobs

        def work(cancelled: Cancelled) -> Message | None:
            try:
                seen = jobs.look()
            except Exception as error:  # told once, not every second
                told, self._failure = self._failure, str(error)
                return Failure(error) if told != self._failure else None
            finally:
                self._looking = False
            self._failure = ""
            return ExperimentsSeen(seen)

        background(self._app, work, lambda message: message)

    def take(self, seen: Seen) -> None:
        """Tell everybody what was seen."""
        self.seen = seen
        self.changed.publish(seen)
        if seen.ended:
            self._app.say(in_app(" ".join(seen.ended)))
