"""Tables for other programs: rows under titles as a .csv, .json, .jsonl or .md file, new and whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from workbench.errors import BadInput
from workbench.formats.whole import new_file
from workbench.text import safe_text

Value = str | int | float | None
"""What a cell holds; None is nothing."""

ENDINGS = ".csv, .json, .jsonl or .md"
"""What the name of such a file ends with, in words."""


def write_table(path: Path, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> int:
    """Write rows, each with a value for every title, as the ending of a new file says; returns how many.

    JSON has an object a row, its keys the titles. Rows are taken one by one, and where one fails no file is left.
    Raises BadInput for another ending or a file that is there, UsageProblem where none can be written.
    """
    if path.suffix not in _FORMS:
        raise BadInput(f"a table is written as {ENDINGS}", where=str(path), do="Give the file one of these endings.")
    count = 0

    def counted() -> Iterator[Sequence[Value]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with new_file(path) as scratch, scratch.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        _FORMS[path.suffix](file, titles, counted())
    return count


def _csv(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(titles)
    table.writerows(rows)


def _json(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    before = "[\n"
    for row in rows:
        file.write(before + _record(titles, row))
        before = ",\n"
    file.write("\n]\n" if before == ",\n" else "[]\n")


def _jsonl(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    file.writelines(_record(titles, row) + "\n" for row in rows)


def _md(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    for line in chain((titles, ["---"] * len(titles)), rows):
        cells = ("" if value is None else safe_text(str(value)).replace("|", "\\|") for value in line)
        file.write(f"| {' | '.join(cells)} |\n")


def _record(titles: Sequence[str], row: Sequence[Value]) -> str:
    return json.dumps(dict(zip(titles, row, strict=True)), ensure_ascii=False)


_FORMS = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".md": _md}
