"""Looking at examples: pages of readable rows, searched by text or by a person's own SQL condition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.errors import UsageProblem
from workbench.store.database import Connection, Store, fetch, interruptible
from workbench.store.members import Named, choose
from workbench.store.sources import also_in
from workbench.store.versions import lineage_runs

Which = Literal["kept", "dropped"]


def _side(role: str) -> str:
    """SQL for `trainer.conversation.side_text` of the turns of `role`."""
    part = "lambda part: coalesce(part->>'$.text', '')"
    text_part = "lambda part: coalesce(part->>'$.type', 'text') = 'text'"
    parts = f"""list_transform(list_filter(from_json(turn->'$.content', '["JSON"]'), {text_part}), {part})"""
    text = f"""CASE json_type(turn, '$.content') WHEN 'VARCHAR' THEN turn->>'$.content'
               WHEN 'ARRAY' THEN array_to_string({parts}, '') ELSE '' END"""
    turns = f"""list_filter(from_json(e.messages, '["JSON"]'), lambda turn: turn->>'$.role' = '{role}')"""
    return f"array_to_string(list_transform({turns}, lambda turn: {text}), chr(10))"


# What a `--sql` condition can name. DuckDB computes only the columns that a query uses.
VIEW_COLUMNS = {
    "pos": "m.pos",
    "id": "e.id",
    "source": "s.name",
    "row": "e.row",
    "prompt": _side("user"),
    "response": _side("assistant"),
    "turns": "CAST(json_array_length(e.messages) AS BIGINT)",
    "messages": "e.messages",
    "tools": "e.tools",
    "meta": "e.meta",
    "content_hash": "e.content_hash",
    "step": "m.step",
    "reason": "m.reason",
    "detail": "m.detail",
    "score": "m.score",
    "duplicate_of": "m.duplicate_of",
}
_SHOWN = (
    "id",
    "source",
    "row",
    "turns",
    "messages",
    "tools",
    "meta",
    "step",
    "reason",
    "detail",
    "score",
    "duplicate_of",
    "content_hash",
)


@dataclass(frozen=True)
class ExampleRow:
    """One example to show. `step`, `reason`, `detail`, `score` and `duplicate_of` are set for dropped rows only.

    `survivor` is the row that a duplicate duplicates, as much as `score` says, and `also_in` the rows of other sources
    that have the same content: (source, row).
    """

    id: int
    source: str
    row: int
    turns: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    meta: dict[str, Any]
    step: str | None
    reason: str | None
    detail: str | None
    score: float | None
    duplicate_of: int | None
    survivor: tuple[str, int] | None
    also_in: list[tuple[str, int]]


@dataclass(frozen=True)
class Page:
    """Some of the rows that were found. `total` counts all."""

    total: int
    rows: list[ExampleRow]


def examples(
    store: Store,
    named: Named,
    *,
    which: Which = "kept",
    search: str | None = None,
    where: str | None = None,
    limit: int = 20,
    offset: int = 0,
) -> Page:
    """The rows of a source or version, or those dropped on the way to a version, in order.

    `search` keeps rows whose prompt or response contains the text, in any case; `where` those that meet an SQL
    condition over `VIEW_COLUMNS`. The condition is run where nothing can be written. Raises UsageProblem with
    DuckDB's words where it cannot be run.
    """
    with store.reading() as cursor:
        _list_members(cursor, store, named, which)
        found = _find(cursor, search, where)
        return Page(len(found), _rows(cursor, found[offset : offset + limit].tolist()))


def _list_members(cursor: Connection, store: Store, named: Named, which: Which) -> None:
    """Fill `members`: the narrow list of rows to look through, with the decision about each dropped one."""
    if which == "kept":
        choose(cursor, [named])
        rows = """SELECT pos, example_id, NULL::TEXT AS step, NULL::TEXT AS reason, NULL::TEXT AS detail,
                  NULL::DOUBLE AS score, NULL::BIGINT AS duplicate_of FROM chosen"""
        cursor.execute(f"CREATE TEMP TABLE members AS {rows}")
        return
    cursor.execute(
        """CREATE TEMP TABLE members AS
           SELECT row_number() OVER (ORDER BY s.recipe_run_id, s.position, d.example_id) - 1 AS pos, d.example_id,
                  s.name AS step, d.reason, d.detail, d.score, d.duplicate_of
           FROM decisions d JOIN steps s ON s.id = d.step_id WHERE list_contains(?, s.recipe_run_id)""",
        [lineage_runs(store, named.name) if named.kind == "version" else []],
    )


def _view(columns: Sequence[str]) -> str:
    selected = ", ".join(f"{VIEW_COLUMNS[column]} AS {column}" for column in columns)
    return f"""SELECT {selected} FROM members m JOIN examples e ON e.id = m.example_id
               JOIN sources s ON s.id = e.source_id"""


def _find(cursor: Connection, search: str | None, where: str | None) -> NDArray[np.int64]:
    """Positions of the rows that meet both, in order, found in a read-only transaction that is rolled back."""
    sql = f"WITH rows AS ({_view(list(VIEW_COLUMNS))}) SELECT pos FROM rows WHERE true"
    if search:
        sql += " AND contains(lower(prompt || chr(10) || response), lower(?))"
    if where:
        sql += f" AND (\n{where}\n)"  # on a line of its own, so that a comment in it ends with it
    sql += " ORDER BY pos"
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    try:
        # One statement: otherwise a condition such as `true); COMMIT; DROP TABLE examples; --` would be several.
        if len(cursor.extract_statements(sql)) != 1:
            raise UsageProblem("--sql takes one condition, not several statements")
        params = [search] if search else []
        found = interruptible(cursor, lambda: cursor.execute(sql, params).fetchnumpy())
        return np.asarray(found["pos"], dtype=np.int64)
    except duckdb.Error as error:
        ours = (duckdb.InterruptException, duckdb.InternalException, duckdb.FatalException)
        if where is None or isinstance(error, ours):
            raise
        raise UsageProblem(
            f"the --sql condition cannot be run: {said(error)}",
            do=f"It is a DuckDB condition over the columns {', '.join(VIEW_COLUMNS)}.",
        ) from error
    finally:
        cursor.rollback()


def said(error: duckdb.Error) -> str:
    """What DuckDB says of a condition, and the name that it thinks was meant; not the query that we made of it."""
    first, *rest = str(error).splitlines()
    return " ".join([first, *(line for line in rest if line.startswith("Did you mean"))])


def _rows(cursor: Connection, positions: Sequence[int]) -> list[ExampleRow]:
    rows = fetch(
        cursor,
        f"WITH rows AS ({_view(['pos', *_SHOWN])}) SELECT * FROM rows WHERE list_contains(?, pos) ORDER BY pos",
        [list(positions)],
    )
    shown = []
    origins = also_in(cursor, [content_hash for *_, content_hash in rows])
    survivors = _named(cursor, [duplicate_of for *_, duplicate_of, _ in rows if duplicate_of is not None])
    for _, id, source, row, turns, messages, tools, meta, *decision, content_hash in rows:
        turn_list, tool_list, leftovers = json.loads(messages), json.loads(tools or "null"), json.loads(meta or "{}")
        decision.append(survivors.get(decision[-1]))
        decision.append([origin for origin in origins.get(content_hash, []) if origin[0] != source])
        shown.append(ExampleRow(id, source, row, turns, turn_list, tool_list, leftovers, *decision))
    return shown


def row_numbers(store: Store, ids: Sequence[int]) -> dict[int, int]:
    """The number of the row in its source's file, by example id."""
    with store.reading() as cursor:
        cursor.register("wanted", pa.table({"id": pa.array(ids, pa.int64())}))
        return dict(fetch(cursor, "SELECT e.id, e.row FROM examples e SEMI JOIN wanted USING (id)"))


def _named(cursor: Connection, ids: Sequence[int]) -> dict[int, tuple[str, int]]:
    """Examples by source and row."""
    if not ids:
        return {}
    rows = fetch(
        cursor,
        """SELECT e.id, s.name, e.row FROM examples e JOIN sources s ON s.id = e.source_id
           WHERE e.id IN (SELECT unnest(?))""",
        [list(ids)],
    )
    return {id: (source, row) for id, source, row in rows}
