"""Rejects corrected by hand: written out in a form that an editor can work on, and taken in when they are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filters.step import Progress
from workbench.errors import BadInput
from workbench.formats.containers import open_container
from workbench.formats.files import InputFile
from workbench.formats.json_rows import parse_json
from workbench.formats.records import Record, read_row
from workbench.formats.rows import RAW_LIMIT, RowProblem
from workbench.formats.whole import check_free, whole_file
from workbench.importing import BATCH, write_rows
from workbench.store.database import Store
from workbench.store.rejects import RejectRow, every_reject, fixed_rows, mark_fixed, rejected_rows
from workbench.store.sources import SourceWriter, get_source

_FORM = 'A line is {"row": 4, "value": {..}} or {"row": 4, "raw": "{..}"}, as `workbench rejects export` writes it.'
ALTERED = {
    "cut": f"cut: only the first {RAW_LIMIT:,} characters of the row are here",
    "escaped": "escaped: bytes that are not UTF-8 stand here as \\xNN",
}
"""What `altered` says of the text of a reject, for people."""


@dataclass(frozen=True)
class ExportedRejects:
    """How many rejects were written, how many of them as parsed values, and the rows whose text is not as in the file:
    `cut`, or with bytes that are no text `escaped`."""

    rows: int
    parsed: int
    cut: list[int]
    escaped: list[int]


@dataclass(frozen=True)
class FixedRejects:
    """What came of a file of corrections, by row number.

    `fixed` came in now, `before` had come in earlier, `still` are rejects as before, each with what is wrong now.
    """

    fixed: int
    before: int
    still: list[tuple[int, str]] = field(default_factory=list)
    rejected: int = 0  # rejects that the source has left


def export_rejects(store: Store, name: str, out: Path, *, force: bool = False) -> ExportedRejects:
    """Write the rejects of a source as JSON Lines: `row`, `reason`, and `value` where the text is JSON, else `raw`.

    A value is given only where it says all that the text says. Where the text kept is not as the file has it, it is
    given as neither: `altered` says how, and `text` is what there is. `file` and `file_row` are where the row stands
    in a source of several files. Raises UsageProblem where `out` is there already.
    """
    source = get_source(store, name)
    check_free(out, force=force)
    rows = parsed = 0
    cut: list[int] = []
    escaped: list[int] = []
    with (
        closing(every_reject(store, source)) as rejects,
        whole_file(out) as scratch,
        scratch.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for reject in rejects:
            line, is_value = _line(reject)
            file.write(line + "\n")
            rows += 1
            parsed += is_value
            if "cut" in (reject.altered or ""):
                cut.append(reject.row)
            if "escaped" in (reject.altered or ""):
                escaped.append(reject.row)
    return ExportedRejects(rows, parsed, cut, escaped)


def altered(reject: RejectRow) -> str:
    """How the text kept of a reject is not as the file has it, for people; empty where it is."""
    return "; ".join(ALTERED[how] for how in (reject.altered or "").split(", ") if how)


def import_fixes(store: Store, name: str, path: Path, progress: Progress | None) -> FixedRejects:
    """Take corrected rejects into their source, at their row numbers, read as the source was; all or nothing.

    Rows that are still wrong stay rejects with the reason and text that they had. Versions stay as they are. Raises
    BadInput for a line that is no correction, a row that is no reject of the source, or a row that comes twice.
    """
    source = get_source(store, name)
    rejected, before = rejected_rows(store, source), fixed_rows(store, source)
    seen: set[int] = set()
    fixed: list[int] = []
    still: list[tuple[int, str]] = []

    def records() -> Iterator[Record]:
        for where, row, value in _corrections(path):
            if row in seen:
                raise BadInput(
                    f"row {row} comes twice", where=where, do="Nothing was kept. Leave one line for each row."
                )
            seen.add(row)
            if row in before:
                continue
            if row not in rejected:
                raise BadInput(
                    f"row {row} is not among the rejects of {name!r}",
                    where=where,
                    do=f"Nothing was kept. `workbench rejects ls {name}` lists them.",
                )
            try:
                made = read_row(row, _parsed(value), format=source.format, mapping=source.mapping)
            except RowProblem as problem:
                still.append((row, str(problem)))
                continue
            fixed.append(row)
            if progress and len(fixed) % BATCH == 0:
                progress(len(fixed), None, "reading corrections")
            yield from made

    with store.bulk() as cursor:
        writer = SourceWriter(cursor, source)
        write_rows(writer, records(), rejected)
        mark_fixed(cursor, source.id, fixed)
        writer.update()
    return FixedRejects(len(fixed), len(seen & before), still, len(rejected) - len(fixed))


def _line(reject: RejectRow) -> tuple[str, bool]:
    """A reject as a line of JSON, and whether its text stands there as a parsed value."""
    head: dict[str, Any] = {"row": reject.row, "reason": reject.reason}
    if reject.file is not None:
        head |= {"file": reject.file, "file_row": reject.file_row}
    if reject.altered:
        return json.dumps({**head, "altered": altered(reject), "text": reject.raw}, ensure_ascii=False), False
    try:
        value = json.loads(reject.raw, object_pairs_hook=_object)
        if isinstance(value, (dict, list)):
            line = json.dumps({**head, "value": value}, ensure_ascii=False, allow_nan=False)
            line.encode("utf-8")  # half a character (an escape such as \ud800) can only stand there as its escape
            return line, True
    except (ValueError, RecursionError):
        pass
    return json.dumps({**head, "raw": reject.raw}, ensure_ascii=False), False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key comes twice: as a value it would lose one of them")
    return made


@dataclass(frozen=True)
class _Text:
    """The text of a row, not yet parsed; None for a line that is as it was exported and has no whole text."""

    text: str | None


def _corrections(path: Path) -> Iterator[tuple[str, int, object]]:
    """(where it stands, row, value or else `_Text`) of every line. Raises BadInput for one without."""
    for number, entry in enumerate(open_container(InputFile(path)).rows()):
        where = f"{path}, entry {number + 1}"
        line = entry.value
        problem = entry.problem
        if problem is None and not isinstance(line, dict):
            problem = "not an object"
        elif problem is None and (isinstance(line.get("row"), bool) or not isinstance(line.get("row"), int)):
            problem = "no row number"
        elif problem is None and "value" not in line and not isinstance(line.get("raw", line.get("altered")), str):
            problem = "it has neither a value nor a raw text"
        if problem is not None:
            raise BadInput(problem, where=where, do=f"Nothing was kept. {_FORM}")
        yield where, line["row"], line["value"] if "value" in line else _Text(line.get("raw"))


def _parsed(value: object) -> object:
    if not isinstance(value, _Text):
        return value
    if value.text is None:
        raise RowProblem("its `text` is not as the file has it; write the row as a `value`, or all of it as `raw`")
    try:
        return parse_json(value.text, "the raw text")
    except ValueError as error:
        raise RowProblem(f"{error}; correct it, or write the row as a `value`") from None
