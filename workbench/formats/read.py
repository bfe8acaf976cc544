"""Reading a file of conversations: rows in, records and rejects out, streamed.

Every row of the file comes out in order: as a `Record`, as several of one row where the row holds several
conversations (a reply tree, nested instances), or as a `Reject` with its reason and its text. A row of which one
conversation cannot be imported is rejected whole, so that rows = imported + rejected counts rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.conversation import canonical_json, content_hash
from workbench.errors import BadInput, UsageProblem
from workbench.formats.containers import open_container
from workbench.formats.json_rows import DECODER
from workbench.formats.parts import Parts, Row, columns
from workbench.formats.rows import Container, RawRow, RowProblem, printable
from workbench.formats.shapes import SHAPES, TREE, TREE_ALL, UNKNOWN, Shape, detect, mapped, unknown_shape
from workbench.formats.turns import kind, tool_schemas

Trees = Literal["best", "all"]

_DETECT_ROWS = 50
_MAX_DEPTH = 100  # deeper than any tool schema; far above, recursion would fail somewhere downstream
_MOST_TEXT = 100_000_000  # characters: a tree's beginning is said again in each of its paths
_TOO_DEEP = f"the JSON is nested too deep (at most {_MAX_DEPTH} levels)"


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation of a row: canonical JSON texts, their hash, and the columns left over as JSON-able `meta`.

    `part` numbers the conversations of one row from zero: the records with part 0 are the rows imported.
    """

    row: int
    messages: str
    tools: str | None
    content_hash: str
    meta: dict[str, Any]
    part: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not imported, why, and its text (at most 100,000 characters, valid UTF-8)."""

    row: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Opened:
    """A file ready to be read. `format` is what its rows were recognised as, "unknown" where as nothing known."""

    path: Path
    format: str
    total_bytes: int
    container: Container
    shape: Shape | None

    @property
    def done_bytes(self) -> int:
        """How far into the file the rows have come, for a progress bar."""
        return min(self.container.position, self.total_bytes)

    def rows(self) -> Iterator[Record | Reject]:
        """Every row from the top, numbered from zero; the records of one row stand together.

        Raises BadInput when the file itself gives out midway (a damaged Parquet file).
        """
        for number, row in enumerate(self.container.rows()):
            try:
                yield from _records(number, row, self.shape)
            except RowProblem as problem:
                yield Reject(number, printable(str(problem)), _raw(row))


def open_source(
    path: Path, *, format: str | None = None, mapping: dict[str, str] | None = None, trees: Trees = "best"
) -> Opened:
    """Opens a file of rows: a JSON array, JSON Lines, CSV or Parquet.

    The shape of its rows is told from the first 50, unless `format` names it or `mapping` gives its columns
    (`prompt`, `response`, perhaps `system`). Of a reply tree comes the best-ranked path, or with `trees="all"` every
    path to a last answer (the format is then "tree-all"). Raises BadInput for a file without rows or without the
    mapped columns, UsageProblem for an unknown format or mapping key.
    """
    shape = _wanted_shape(format, mapping)
    container = open_container(path)
    first = list(itertools.islice(container.rows(), _DETECT_ROWS))
    if not first:
        raise BadInput("the file has no rows", where=str(path), do="Check that what wrote it ran to its end.")
    heads = [row.value for row in first if isinstance(row.value, dict)]
    if shape is None:
        shape = detect(heads)
        if shape is SHAPES[TREE] and trees == "all":
            shape = SHAPES[TREE_ALL]
    elif mapping and heads and not any(shape.fits(head) for head in heads):
        absent = next(name for name in (mapping["prompt"], mapping["response"]) if name not in heads[0])
        raise BadInput(
            f"no column {absent!r}", where=str(path), do=f"Map to columns that are there: {columns(heads[0])}."
        )
    return Opened(path, shape.name if shape else UNKNOWN, path.stat().st_size, container, shape)


def read_row(number: int, value: object, *, format: str, mapping: dict[str, str]) -> list[Record]:
    """The records of one row by itself, read as rows of this format, or with this mapping, are. Raises RowProblem."""
    shape = mapped(mapping) if mapping else SHAPES[format]
    return _records(number, RawRow(value, None), shape)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of the bytes of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted_shape(format: str | None, mapping: dict[str, str] | None) -> Shape | None:
    if mapping:
        if format is not None:
            raise UsageProblem("a format and a mapping exclude each other", do="Give --format or --map, not both.")
        return mapped(mapping)
    if format is not None and format not in SHAPES:
        raise UsageProblem(f"there is no format {format!r}", do=f"Formats are {', '.join(SHAPES)}; or use --map.")
    return None if format is None else SHAPES[format]


def _records(number: int, row: RawRow, shape: Shape | None) -> list[Record]:
    """The records of a row, at least one. Raises RowProblem with the reason when there is none or one is unusable."""
    if row.problem is not None:
        raise RowProblem(row.problem)
    value = row.value
    if not isinstance(value, dict):
        raise RowProblem(f"the row is {kind(value)}, not an object")
    if shape is None:
        raise unknown_shape(value)
    records: list[Record] = []
    size = 0
    try:
        for part, parts in enumerate(shape.convert(value)):
            record = _record(number, part, parts, value)
            size += len(record.messages)
            if part and size > _MOST_TEXT:
                raise RowProblem(f"the conversations of the row have more than {_MOST_TEXT:,} characters together")
            records.append(record)
    except UnicodeEncodeError:
        raise _surrogates(row) from None
    except RecursionError:
        raise RowProblem(_TOO_DEEP) from None
    return records


def _record(number: int, part: int, parts: Parts, row: Row) -> Record:
    if not any(message["role"] == "assistant" for message in parts.messages):
        raise RowProblem("the conversation has no assistant turn")
    tools = tool_schemas(parts.tools)
    meta = _meta(row, parts.used)
    for name, extra in parts.extra.items():
        while name in meta:
            name += "_"
        meta[name] = extra
    messages_text = _text(parts.messages)
    tools_text = None if tools is None else _text(tools)
    digest = content_hash(messages_text, tools_text)
    if meta:
        _text(meta).encode("utf-8")
    return Record(number, messages_text, tools_text, digest, meta, part)


def _text(value: object) -> str:
    """Canonical JSON text of `value`. Raises RowProblem when it is nested too deep or holds NaN."""
    try:
        text = canonical_json(value)
    except ValueError:
        raise RowProblem("a number is NaN or infinite, which JSON cannot carry") from None
    if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deep(value):
        raise RowProblem(_TOO_DEEP)
    return text


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _meta(row: Row, used: frozenset[str]) -> dict[str, Any]:
    """The columns left over. A `meta` column of an earlier export is laid out flat again, unless names collide."""
    meta = {name: value for name, value in row.items() if name not in used}
    packed = meta.get("meta")
    if isinstance(packed, str) and packed.startswith("{"):  # in tables it travels as JSON text
        try:
            packed = DECODER.decode(packed)
        except (ValueError, RecursionError):
            return meta
    if isinstance(packed, dict):
        rest = {name: value for name, value in meta.items() if name != "meta"}
        if not rest.keys() & packed.keys():
            return {**rest, **packed}
    elif packed is None:
        meta.pop("meta", None)
    return meta


def _surrogates(row: RawRow) -> RowProblem:
    """Lone surrogates come from bytes that are no UTF-8 (the readers smuggle them so) or from `\\ud800` in the text."""
    if isinstance(row.raw, str) and not row.raw.isascii():
        try:
            row.raw.encode("utf-8")
        except UnicodeEncodeError as error:
            return RowProblem(f"character {error.start + 1} of the row is not UTF-8")
    return RowProblem("a lone surrogate (half of a \\uD800-\\uDFFF pair), which UTF-8 cannot carry")


def _raw(row: RawRow) -> str:
    if row.raw is not None:
        return printable(row.raw)
    return printable(json.dumps(row.value, ensure_ascii=False, default=str))
