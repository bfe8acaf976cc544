"""Work for other processes: scores that take a model or a service (`filters.scoring`), steps on other machines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.errors import Stopped, UsageProblem
from workbench.jobs import Event, Wish, run_job, stop

if TYPE_CHECKING:
    from filters.engines import Engine
    from filters.step import JobScorer, Progress, Row, Score

EngineName = Literal["local", "ray"]


@contextmanager
def chosen_engine(
    name: EngineName, runs: Path, progress: Progress, ray_address: str | None = None
) -> Iterator[Engine | None]:
    """The engine of that name, running for the time of the block; None for `local`.

    It keeps what it works on, and what Ray says, in `runs/ray`. Raises UsageProblem where there is none to be had.
    """
    if name == "local":
        if ray_address:
            raise UsageProblem("no Ray is asked", where="--ray-address", do="Add --engine ray.")
        yield None
        return
    from filters.engines.ray import RayEngine

    with RayEngine(runs / "ray", progress, ray_address) as engine:
        yield engine


class ScoreJobs:
    """`filters.step.Compute` for a workspace: one run folder for each scorer, `runs/score-<fingerprint>`.

    What a job knew when it was stopped, killed or left behind is taken over by the next call for that scorer,
    whatever rows it asks for: nothing is computed, or paid, twice.
    """

    def __init__(
        self,
        runs: Path,
        progress: Progress | None,
        cancelled: Callable[[], bool] = lambda: False,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """A job is stopped once `cancelled()` says so. `on_event` gets what a job tells beside its progress."""
        self._runs = runs
        self._progress = progress
        self._cancelled = cancelled
        self._tell = on_event
        self._ended: Event | None = None

    def __call__(self, scorer: JobScorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        """The scores of `rows` in parts, and before them those that an earlier job for this scorer left.

        Raises what the job raised, after the scores that it knew: ModelUnavailable, Stopped, BadInput.
        """
        from filters.scoring import read_parts, write_job

        folder = self._runs / f"score-{scorer.fingerprint}"
        self._ended = None
        known: set[str] = set()
        if folder.exists():
            stop(folder)  # it may work for a bench that is gone, and on rows that nobody asks for any more
            for part in read_parts(folder):
                known.update(key for key, score in part.items() if score.state != "error")
                yield part
            shutil.rmtree(folder)
        if write_job(folder, ([row for row in batch if row.content_hash not in known] for batch in rows), scorer.plan):
            try:
                run_job("filters", folder, self._on_event, wish=self._wish)
            except Exception as error:
                yield from read_parts(folder)
                if isinstance(error, Stopped) and self._ended:
                    raise Stopped(str(self._ended["what"]), do=str(self._ended["do"])) from None
                raise
            yield from read_parts(folder)
        shutil.rmtree(folder)

    def _wish(self) -> Wish:
        return "stop" if self._cancelled() else "watch"

    def _on_event(self, event: Event) -> None:
        if event["event"] == "progress" and self._progress:
            self._progress(int(event["done"]), int(event["total"]), str(event["what"]))
        elif event["event"] == "budget":  # the job stops by itself, and this is why
            self._ended = event
        elif event["event"] == "usage":
            self._tell(event)
