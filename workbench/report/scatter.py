"""A scatter plot made of letters: rows on a plane, each cell with the letter that most rows in it have.

Plotting libraries draw the last point of a cell; which cluster owns a region is what this is to show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import ascii_letters


def letter(number: int) -> str:
    """The letter of cluster `number`, from 1: a to z, A to Z, then `+` for all others."""
    return ascii_letters[number - 1] if number <= len(ascii_letters) else "+"


def scatter(points: Sequence[tuple[float, float, int]], width: int, height: int) -> list[str]:
    """Lines of text, `height` of `width` characters at most, for points (x, y, number); y grows upwards."""
    if not points:
        return []
    left, low = min(x for x, _, _ in points), min(y for _, y, _ in points)
    wide = max(x for x, _, _ in points) - left or 1.0
    high = max(y for _, y, _ in points) - low or 1.0
    cells: dict[tuple[int, int], Counter[int]] = {}
    for x, y, number in points:
        line, column = round((height - 1) * (1 - (y - low) / high)), round((width - 1) * (x - left) / wide)
        cells.setdefault((line, column), Counter())[number] += 1
    lines = [[" "] * width for _ in range(height)]
    for (line, column), counts in cells.items():
        lines[line][column] = letter(min(counts, key=lambda number: (-counts[number], number)))
    return ["".join(line).rstrip() for line in lines]
