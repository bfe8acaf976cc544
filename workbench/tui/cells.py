"""Text in terminal cells: text from data as glyphs of known width, cut, padded or wrapped to a number of cells."""

from __future__ import annotations

from rich.cells import cell_len, get_character_cell_size, set_cell_size

from workbench.text import safe_text

# Terminals disagree about how wide these make what they join: without them each part has a width that all agree on.
_JOINERS: dict[int, str | None] = {
    0x200B: None,
    0x200C: None,
    0x200D: None,
    0x2060: None,
    0xFEFF: None,
    0xFE0E: None,
    0xFE0F: None,
}
_JOINERS |= dict.fromkeys(range(127995, 128000))  # skin tones
_JOINERS |= {code: chr(code - 0x1F1E6 + ord("A")) for code in range(0x1F1E6, 0x1F200)}  # flags, as letters


def flat(text: str) -> str:
    """`text` from data as one line of visible glyphs whose width every terminal agrees on."""
    return text if text.isascii() and text.isprintable() else safe_text(text).translate(_JOINERS)


def fit(text: str, width: int) -> str:
    """`text` (flat already) in exactly `width` cells: cut with an ellipsis, or padded."""
    if text.isascii():
        return text.ljust(width) if len(text) <= width else text[: max(width - 1, 0)] + "…"[:width]
    if cell_len(text[: width + 1]) <= width and len(text) <= width:
        return set_cell_size(text, width)
    if cell_len(text[: 2 * width]) <= width:  # many combining marks
        return set_cell_size(text, width)
    return set_cell_size(text[: 2 * width], max(width - 1, 0)) + "…"[:width]


def wrap(text: str, width: int) -> list[str]:
    """`text` from data as lines of at most `width` cells: its own line ends kept, long lines broken at spaces."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines.extend(_break(flat(line), max(width, 2)))
    return lines


def _break(line: str, width: int) -> list[str]:
    pieces: list[str] = []
    start = 0
    while (end := _reach(line, start, width)) < len(line):
        # At least half of the cells are used before a word is moved to the next line rather than broken.
        space = line.rfind(" ", start, end) + 1
        if line[end] == " ":
            end += 1
        elif space - start > width // 2:
            end = space
        pieces.append(line[start:end].rstrip(" "))
        start = end
    pieces.append(line[start:])
    return pieces


def _reach(line: str, start: int, width: int) -> int:
    """The index behind the last character that fits in `width` cells from `start`; at least one is taken."""
    if line[start : start + width + 1].isascii():
        return start + width
    cells, index = 0, start
    while index < len(line):
        cells += get_character_cell_size(line[index])
        if cells > width and index > start:
            break
        index += 1
    return index
