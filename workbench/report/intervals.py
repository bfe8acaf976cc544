"""An interval drawn in characters: its place to the left and right of no change tells better from worse."""

from __future__ import annotations

HEAD = "worse", "better"
"""What lies to the left and to the right of the middle of every bar."""

ZERO, MARGIN, POINT = "│", "╎", "●"


def interval_bar(
    low: float, change: float, high: float, *, higher_is_better: bool, margin: float | None = None, width: int = 25
) -> str:
    """`├──●──┤` in `width` cells, to its own scale: better to the right, no change (`│`, `┼` inside) in the middle.

    `low`, `change` and `high` are in the metric's own direction. A tolerated harm `margin` is drawn as `╎`.
    """
    sign = 1 if higher_is_better else -1
    ends = sorted((sign * low, sign * high))
    reach = max(abs(ends[0]), abs(ends[1]), margin or 0.0)
    middle = width // 2

    def column(value: float) -> int:
        return middle + (round(value / reach * (width - 1 - middle)) if reach else 0)

    cells = [" "] * width
    cells[middle] = ZERO
    if margin is not None:
        cells[_off_zero(column(-margin), -margin, middle)] = MARGIN
    left, right = (_off_zero(column(end), end, middle) for end in ends)
    for at in range(left, right + 1):
        cells[at] = "┼" if at == middle else "─"
    if left < right:
        cells[left], cells[right] = "├", "┤"
    cells[min(max(column(sign * change), left), right)] = POINT
    return "".join(cells)


def _off_zero(column: int, value: float, middle: int) -> int:
    """An end that is not zero never touches the middle: that would show an interval that holds zero."""
    if column == middle and value:
        return middle + (1 if value > 0 else -1)
    return column
