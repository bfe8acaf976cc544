"""A row becomes records, or a reject with the reason and the row's text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from trainer.conversation import canonical_json, content_hash
from workbench.formats.json_rows import DECODER
from workbench.formats.parts import Parts, Row
from workbench.formats.rows import Altered, RawRow, RowProblem, kept, printable
from workbench.formats.shapes import SHAPES, TURN_COLUMNS, Shape, mapped, unknown_shape
from workbench.formats.turns import has_other_weight, is_empty_turn, kind, lost_part_keys, tool_schemas

FORMAT_GLUE = " + "
"""Stands between the names of the formats that the files of one source have."""

_MAX_DEPTH = 100  # deeper than any tool schema; far above, recursion would fail somewhere downstream
_MOST_TEXT = 100_000_000  # characters: a tree's beginning is said again in each of its paths
_TOO_DEEP = f"the JSON is nested too deep (at most {_MAX_DEPTH} levels)"


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation of a row: canonical JSON texts, their hash, and the columns left over as JSON-able `meta`.

    `part` numbers the conversations of one row from zero: the records with part 0 are the rows imported. `meta_json`
    is `meta` as canonical JSON text, None where there is none. `empty_turn`: whether an assistant turn says nothing;
    `other_weight`: whether one has a weight other than 0 and 1; `lost_keys`: what content parts said besides.
    """

    row: int
    messages: str
    tools: str | None
    content_hash: str
    meta: dict[str, Any]
    part: int = 0
    meta_json: str | None = None
    empty_turn: bool = False
    other_weight: bool = False
    lost_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not imported, why, and its text (at most RAW_LIMIT characters, valid UTF-8).

    `altered` says what of the text is not as the file has it.
    """

    row: int
    reason: str
    raw: str
    altered: Altered | None = None


def converted(number: int, row: RawRow, shape: Shape | None) -> Iterator[Record | Reject]:
    """Row `number` as its records, which come all or not at all, or as one reject."""
    try:
        yield from _records(number, row, shape)
    except RowProblem as problem:
        yield Reject(number, printable(str(problem)), *_raw(row))


def read_row(number: int, value: object, *, format: str, mapping: dict[str, str]) -> list[Record]:
    """The records of one row by itself, read as rows of this format, or with this mapping, are. Raises RowProblem.

    Where the files of a source had several formats ("alpaca + sharegpt"), it is read as the first that it fits.
    """
    shapes = [SHAPES[name] for name in format.split(FORMAT_GLUE) if name in SHAPES]
    fitting = [shape for shape in shapes if isinstance(value, dict) and shape.fits(value)]
    shape = mapped(mapping) if mapping else next(iter(fitting + shapes), None)
    return _records(number, RawRow(value, None), shape)


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
    if not parts.asked_only and not any(message["role"] == "assistant" for message in parts.messages):
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
    meta_text = _text(meta) if meta else None
    if meta_text:
        meta_text.encode("utf-8")
    empty = any(map(is_empty_turn, parts.messages))
    weight = any(map(has_other_weight, parts.messages))
    # Text is taken for turns as JSON in these columns alone.
    turns = [row.get(name) for name in parts.used if name in TURN_COLUMNS or not isinstance(row.get(name), str)]
    lost = frozenset[str]().union(*map(lost_part_keys, turns))
    return Record(number, messages_text, tools_text, digest, meta, part, meta_text, empty, weight, lost)


def _text(value: object) -> str:
    """Canonical JSON text of `value`. Raises RowProblem when it is nested too deep or holds NaN."""
    if not _holds_float(value):
        # The same text several times as fast; floats alone it writes otherwise (1e16, and NaN as null).
        try:
            data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # an integer beyond 64 bits, a lone surrogate, too deep: what follows says which
            pass
        else:
            if data.count(b"[") + data.count(b"{") > _MAX_DEPTH and _is_deep(value):
                raise RowProblem(_TOO_DEEP)
            return data.decode("utf-8")
    try:
        text = canonical_json(value)
    except ValueError:
        raise RowProblem("a number is NaN or infinite, which JSON cannot carry") from None
    if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deep(value):
        raise RowProblem(_TOO_DEEP)
    return text


def _holds_float(value: object) -> bool:
    parts: list[Any] = [value]
    while parts:
        part = parts.pop()
        kind_ = type(part)
        if kind_ is dict or kind_ is list:
            for inner in part.values() if kind_ is dict else part:
                if type(inner) is not str:
                    parts.append(inner)
        elif isinstance(part, float):
            return True
    return False


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


def _raw(row: RawRow) -> tuple[str, Altered | None]:
    return kept(row.raw if row.raw is not None else json.dumps(row.value, ensure_ascii=False, default=str))
