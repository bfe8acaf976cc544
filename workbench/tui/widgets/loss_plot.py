"""The losses of all runs of an experiment, one line each, in the colour and the dots of its arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textual.color import Color
from textual_plotext import PlotextPlot

from workbench.arms import BASELINE
from workbench.following import PlannedRun

_BASELINE_MARK = "⣿"
_MARKS = "×+oabcdefghijklmnpqrstuv"
"""Marks of the arms beside the baseline, in their order: there are as many as a sweep may have arms."""


def marks(runs: Iterable[PlannedRun]) -> dict[str, str]:
    """What a legend shows for the lines of each arm that is trained: they differ without colour, too."""
    others = iter(_MARKS)
    arms = dict.fromkeys(run.arm for run in runs if not run.merged)
    return {arm: _BASELINE_MARK if arm == BASELINE else next(others, "·") for arm in arms}


def colour(arm: str) -> str:
    """A theme variable: the blue and the orange that are told apart by nearly everybody."""
    return "trained" if arm == BASELINE else "ignored"


_MOST = 240
"""Points of a line: more are averaged, as no terminal shows them."""

_LEAST_SPAN = 0.2  # nats from the bottom of the plot to its top


class LossPlot(PlotextPlot):  # type: ignore[misc]
    """Loss (nats per trained token) by optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: tuple[Sequence[PlannedRun], Mapping[str, Mapping[int, float]], int] = ((), {}, 0)

    def on_mount(self) -> None:
        """Follow the theme."""
        super().on_mount()
        self.app.theme_changed_signal.subscribe(self, lambda theme: self.show(*self._drawn))

    def show(self, runs: Sequence[PlannedRun], losses: Mapping[str, Mapping[int, float]], steps: int) -> None:
        """Draw the losses, by run and step; the run under way has `steps`, and in a sweep others may have more."""
        self._drawn = (runs, losses, steps)
        steps = max([steps, *(max(loss) for loss in losses.values() if loss)])
        plot: Any = self.plt
        plot.clear_figure()
        marked = marks(runs)
        for run in runs:
            if loss := losses.get(run.id):
                xs, ys = _thinned(sorted(loss.items()))
                rgb = Color.parse(self.app.theme_variables[colour(run.arm)]).rgb
                if run.arm == BASELINE:
                    plot.plot(xs, ys, marker="braille", color=rgb)
                else:
                    plot.scatter(xs, ys, marker=marked[run.arm], color=rgb)
        ticks = sorted({1, *(round(steps * part / 4) for part in range(1, 5))} - {0})
        plot.xticks(ticks, [f"{tick:,}" for tick in ticks])
        plot.xlim(1, max(steps, 2))
        plot.ylim(*_span([loss for run in runs for loss in losses.get(run.id, {}).values()]))
        plot.xaxes(True, False)
        plot.yaxes(True, False)
        self.refresh()


def _span(losses: Sequence[float]) -> tuple[float | None, float | None]:
    """The least and greatest loss to draw; a run that hardly moves is not stretched to the height of the plot."""
    if not losses:
        return None, None
    low, high = min(losses), max(losses)
    more = max(0.0, _LEAST_SPAN - (high - low)) / 2
    return low - more, high + more


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Steps and losses, averaged over neighbours where there are more than a line can show."""
    size = -(-len(points) // _MOST)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return (
        [sum(step for step, _ in group) / len(group) for group in groups],
        [sum(loss for _, loss in group) / len(group) for group in groups],
    )
