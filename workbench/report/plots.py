"""Curves and intervals as inline SVG: drawn by classes that the page colours, and told apart by dashes and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from workbench.report.contents import RunPart, arm_name
from workbench.report.verdict import metric_name, number
from workbench.text import safe_text

_WIDTH = 720
_POINTS = 240
"""Most points of a curve: longer ones are means over equal stretches, each about two pixels wide."""
_ROW = 34
DASHES = {"baseline": "", "candidate": "7 4", "noise": "2 3", "candidate2": "7 3 2 3", "random-k": "4 2"}
"""How the line of each arm is dashed, so that colour is not needed."""
_OTHER = "1 2"


def curves(runs: Sequence[RunPart]) -> str:
    """The training losses of all runs over the optimizer steps; empty where no run noted any."""
    shown = [run for run in runs if run.losses]
    if not shown:
        return ""
    height, left, right, top, bottom = 290, 56, 20, 26, 40
    steps = max(len(run.losses) for run in shown)
    values = [loss for run in shown for loss in _thinned(run.losses)]
    low, high = min(y for _, y in values), max(y for _, y in values)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(step: float) -> float:
        return left + (step - 1) / max(steps - 1, 1) * (_WIDTH - left - right)

    def y(loss: float) -> float:
        return top + (high - loss) / ((high - low) or 1.0) * (height - top - bottom)

    svg = _svg(height, "curves", "Training loss of every run over the optimizer steps")
    for tick in ticks:
        _line(svg, left, y(tick), _WIDTH - right, y(tick), "grid")
        _text(svg, left - 6, y(tick) + 4, f"{tick:g}", "end")
    for step in sorted({1, (1 + steps) // 2, steps}):
        _text(svg, x(step), height - bottom + 18, str(step), "middle")
    _text(svg, (left + _WIDTH) / 2, height - 6, "optimizer step", "middle")
    _text(svg, left - 6, 12, "nats", "end")
    for run in shown:
        points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in _thinned(run.losses))
        line = ET.SubElement(svg, "polyline", {"points": points, "class": f"arm-{run.arm}", "fill": "none"})
        line.attrib |= {"stroke": "currentColor", "stroke-width": "1.6"}
        if dashes := DASHES.get(run.arm, _OTHER):
            line.set("stroke-dasharray", dashes)
        ET.SubElement(
            line, "title"
        ).text = f"{arm_name(run.arm)}, seed {run.seed}: {run.losses[0]:.3f} to {run.losses[-1]:.3f}"
    return ET.tostring(svg, encoding="unicode")


def key(arm: str) -> str:
    """A piece of line as an arm's curves are drawn, for the words beside it."""
    svg = ET.Element("svg", {"viewBox": "0 0 44 10", "width": "44", "height": "10", "aria-hidden": "true"})
    line = _line(svg, 1, 5, 43, 5, f"arm-{arm}")
    line.attrib |= {"stroke": "currentColor", "stroke-width": "2"}
    if dashes := DASHES.get(arm, _OTHER):
        line.set("stroke-dasharray", dashes)
    return ET.tostring(svg, encoding="unicode")


def intervals(metrics: Sequence[Mapping[str, Any]], margins: Mapping[str, float]) -> str:
    """The change of every metric with its interval, each to its own scale, better to the right.

    `metrics` as in the JSON of `compare`, `margins` the tolerated harm by metric.
    """
    height = 34 + _ROW * len(metrics)
    svg = _svg(height, "intervals", "Change of every metric with its 95% interval; right of the middle is better")
    start, end = 210, 540
    middle = (start + end) / 2
    _text(svg, start, 16, "← worse", "start")
    _text(svg, middle, 16, "no change", "middle")
    _text(svg, end, 16, "better →", "end")
    for place, metric in enumerate(metrics):
        at = 34 + _ROW * place + _ROW / 2
        sign = 1 if metric["higher_is_better"] else -1
        change, margin = sign * metric["delta"], margins.get(metric["name"])
        ends = [sign * value for value in metric["ci"] if value is not None]
        reach = max([abs(change), *map(abs, ends), margin or 0.0]) or 1.0

        def x(value: float, reach: float = reach) -> float:
            return middle + value / reach * (end - start) / 2

        group = ET.SubElement(svg, "g", {"class": f"verdict-{metric['verdict'].split()[0]}"})
        ET.SubElement(group, "title").text = interval_words(metric)
        _text(group, 4, at + 4, metric_name(metric["name"]), "start")
        _line(group, start, at, end, at, "grid")
        _line(group, middle, at - 13, middle, at + 13, "zero").set("stroke", "currentColor")
        if margin:
            tolerated = _line(group, x(-margin), at - 11, x(-margin), at + 11, "margin")
            tolerated.attrib |= {"stroke": "currentColor", "stroke-dasharray": "2 3"}
        if len(ends) == 2:
            bar = ET.SubElement(group, "path", {"class": "interval", "fill": "none", "stroke": "currentColor"})
            a, b = sorted(map(x, ends))
            bar.set("d", f"M{a:.1f} {at - 6:g}v12M{a:.1f} {at:g}H{b:.1f}M{b:.1f} {at - 6:g}v12")
            bar.set("stroke-width", "2")
        ET.SubElement(group, "circle", {"class": "point", "cx": f"{x(change):.1f}", "cy": f"{at:g}", "r": "4.5"})
        _text(group, end + 12, at + 4, f"{number(metric['delta'], signed=True)}  {_short(metric['verdict'])}", "start")
    return ET.tostring(svg, encoding="unicode")


def interval_words(metric: Mapping[str, Any]) -> str:
    """What a row of the plot shows, in words."""
    low, high = metric["ci"]
    between = "unknown" if low is None else f"{number(low, signed=True)} to {number(high, signed=True)}"
    return (
        f"{metric_name(metric['name'])}: {number(metric['delta'], signed=True)}, 95% interval {between}; "
        f"{'higher' if metric['higher_is_better'] else 'lower'} is better; {metric['verdict']}"
    )


def _short(verdict: str) -> str:
    return "no difference" if verdict.startswith("no ") else verdict


def _thinned(losses: Sequence[float]) -> list[tuple[float, float]]:
    """Step (from 1) and loss; of many steps the means of equal stretches at their middles."""
    size = math.ceil(len(losses) / _POINTS)
    stretches = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [(1 + i * size + (len(part) - 1) / 2, sum(part) / len(part)) for i, part in enumerate(stretches)]


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round values that enclose `low` to `high`."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    size = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(n * size, 10) for n in range(first, last + 1)]


def _svg(height: float, kind: str, title: str) -> ET.Element:
    svg = ET.Element("svg", {"viewBox": f"0 0 {_WIDTH} {height:g}", "class": kind, "role": "img", "aria-label": title})
    ET.SubElement(svg, "title").text = title
    return svg


def _line(parent: ET.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> ET.Element:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return ET.SubElement(parent, "line", ends | {"class": kind})


def _text(parent: ET.Element, x: float, y: float, text: str, anchor: str) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "fill": "currentColor", "font-size": "13"}
    ET.SubElement(parent, "text", place).text = safe_text(text)
