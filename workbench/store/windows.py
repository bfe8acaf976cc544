"""The rows of a source or version as a long list is read: any window of positions, whatever the search or order.

A whole source or version has dense positions as it is, so it opens at once. A filter, search or order makes a narrow
list of (pos, example_id) first, piece by piece, so that it can tell hits as they come and be called off.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from trainer.conversation import side_text
from workbench.errors import Stopped, UsageProblem
from workbench.store.database import Connection, Store, fetch
from workbench.store.examples import VIEW_COLUMNS
from workbench.store.members import Named, resolve, rows_sql
from workbench.store.versions import lineage_runs

Which = Literal["all", "kept", "dropped", "edited"]
State = Literal["kept", "dropped", "edited", "restored"]

PREVIEW = 200  # characters of each side that a window carries
_PIECE = 20_000  # positions looked at between two reports of a search
_SORTS = {"prompt_chars": "length(prompt)", "response_chars": "length(response)", "turns": "turns"}


@dataclass(frozen=True)
class RowPreview:
    """One row of a list: the first characters of its prompt and response, and where it stands.

    `step` is what dropped it (`manual` where a person did), `reason` why. `chars` counts the stored text.
    """

    pos: int
    id: int
    prompt: str
    response: str
    turns: int
    chars: int
    state: State
    label: str | None
    step: str | None
    reason: str | None


@dataclass(frozen=True)
class ViewQuery:
    """Which rows of a source or version, and in which order. `all` are those it came with, dropped by hand or not.

    `dropped` adds those that recipes dropped on the way to a version. `step` names the step that dropped a row,
    `language` a label of the language scorer, `sort` one of prompt_chars, response_chars, turns, or a scorer;
    `score` a range of a scorer's values (from, below).
    """

    name: str
    which: Which = "all"
    source: str | None = None
    language: str | None = None
    step: str | None = None
    search: str | None = None
    where: str | None = None
    score: tuple[str, float, float] | None = None
    sort: str | None = None
    descending: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every row is in it, in the order it has."""
        return self == ViewQuery(self.name)


class View:
    """An open list. Windows may be read from any thread, one at a time; `close` it when the screen is done."""

    def __init__(self, cursor: Connection, base: Named, whole: str | None, rows: int) -> None:
        """`whole` is SQL for dense positions of all rows; None where the temporary table `listed` has the list."""
        self.base = base
        self.rows = rows
        self._cursor = cursor
        self._members = whole or "SELECT pos, example_id FROM listed"
        self._listed = whole is None
        self._lock = threading.Lock()
        self._closed = False

    def window(self, start: int, count: int) -> list[RowPreview]:
        """Rows `start` to `start + count` (fewer at the end); none once the view is closed."""
        with self._lock:
            if self._closed:
                return []
            found = fetch(self._cursor, _window_sql(self.base, self._members, self._listed, start, count))
        return [_preview(*row) for row in found]

    def ids(self, start: int, stop: int) -> list[int]:
        """The example ids of positions `start` to `stop`."""
        with self._lock:
            if self._closed:
                return []
            found = fetch(
                self._cursor,
                f"SELECT example_id FROM ({self._members}) WHERE pos >= {start} AND pos < {stop} ORDER BY pos",
            )
        return [int(id) for (id,) in found]

    def position_of(self, id: int) -> int | None:
        """Where an example stands in the list, if it does."""
        with self._lock:
            if self._closed:
                return None
            found = fetch(self._cursor, f"SELECT pos FROM ({self._members}) WHERE example_id = {int(id)}")
        return int(found[0][0]) if found else None

    def close(self) -> None:
        """Let go of the list; a window being read is waited for."""
        with self._lock:
            self._closed = True
            self._cursor.close()


def open_view(
    store: Store,
    query: ViewQuery,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    on_found: Callable[[int], None] = lambda _: None,
) -> View:
    """Open the list that `query` asks for. `on_found(hits)` tells of a filter's or search's hits as they come.

    Raises NotFound, UsageProblem where the SQL condition cannot be run, Stopped once `cancelled()` says so.
    """
    base = resolve(store, query.name)
    cursor = store.cursor()
    try:
        if query.is_whole and (dense := _dense(cursor, base)):
            return View(cursor, base, dense, base.rows)
        rows = _list(cursor, store, base, query, cancelled, on_found)
    except BaseException:
        cursor.close()
        raise
    return View(cursor, base, None, rows)


def _dense(cursor: Connection, base: Named) -> str | None:
    """SQL for the members where their positions have no gaps: a version's always, a source's without rejects."""
    if base.kind == "version":
        return rows_sql(base)
    came = f"FROM examples WHERE source_id = {base.id} AND parent_id IS NULL"
    [(rows, low, high)] = fetch(cursor, f"SELECT count(*), min(id), max(id) {came}")
    if not rows or high - low + 1 != rows or fetch(cursor, f"SELECT 1 {came} AND id - {low} <> row LIMIT 1"):
        return None
    # Ids follow rows, and id ranges are what DuckDB can skip by.
    return f"SELECT id - {low} AS pos, id AS example_id FROM examples WHERE id >= {low} AND id <= {high}"


def _list(
    cursor: Connection,
    store: Store,
    base: Named,
    query: ViewQuery,
    cancelled: Callable[[], bool],
    on_found: Callable[[int], None],
) -> int:
    """Fill the temporary table `listed` (pos, example_id); returns how many rows there are."""
    candidates = _candidates(cursor, store, base, query.which)
    cursor.execute("CREATE TEMP TABLE hits (n BIGINT, example_id BIGINT, key DOUBLE)")
    condition, params = _condition(query)
    key = _key(query)
    found = 0
    for start in range(0, candidates, _PIECE):
        if cancelled():
            raise Stopped("Called off")
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE members AS {_piece_sql(start)}")
        if query.search:
            _rule_out(cursor, query.search)
        sql = f"SELECT n, id, {key} FROM ({_rows_view(cursor)}) rows WHERE {condition}"
        found += _insert_hits(cursor, sql, params, query.where)
        on_found(found)
    order = "key DESC NULLS LAST, n" if query.descending else "key NULLS LAST, n"
    cursor.execute(
        f"""CREATE TEMP TABLE listed AS SELECT row_number() OVER (ORDER BY {order if query.sort else "n"}) - 1 AS pos,
            example_id FROM hits ORDER BY 1"""
    )
    cursor.execute("DROP TABLE hits")
    return found


def _piece_sql(start: int) -> str:
    """Some of the candidates, with the example whose text stands for each now."""
    return f"""SELECT c.n, c.example_id, coalesce(CAST(r.value AS BIGINT), c.example_id) AS shown FROM candidates c
        LEFT JOIN draft r ON r.field = 'replaced' AND r.example_id = c.example_id
        WHERE c.n >= {start} AND c.n < {start + _PIECE}"""


def _rule_out(cursor: Connection, search: str) -> None:
    """Take away the members whose stored JSON does not hold the text: far cheaper than to take it apart."""
    cursor.execute(
        f"""CREATE OR REPLACE TEMP TABLE members AS SELECT m.* FROM members m JOIN examples e ON e.id = m.shown
            WHERE {_id_range(cursor)} AND contains(lower(e.messages), lower(?))""",
        [json.dumps(search, ensure_ascii=False)[1:-1]],
    )


def _id_range(cursor: Connection) -> str:
    """A condition on examples `e` that lets DuckDB skip all blocks but those of `members`."""
    [(low, high)] = fetch(cursor, "SELECT coalesce(min(shown), 0), coalesce(max(shown), 0) FROM members")
    return f"e.id >= {low} AND e.id <= {high}"


def _insert_hits(cursor: Connection, sql: str, params: Sequence[object], where: str | None) -> int:
    try:
        if where is not None and len(cursor.extract_statements(sql)) != 1:
            raise UsageProblem("the condition takes one expression, not several statements")
        rows = fetch(cursor, f"INSERT INTO hits {sql}", params)
    except duckdb.Error as error:
        if where is None or isinstance(error, duckdb.InterruptException):
            raise
        raise UsageProblem(
            f"the condition cannot be run: {str(error).splitlines()[0]}",
            do=f"It is a DuckDB condition over the columns {', '.join(VIEW_COLUMNS)}.",
        ) from error
    return int(rows[0][0])


def _candidates(cursor: Connection, store: Store, base: Named, which: Which) -> int:
    """Fill `candidates` (n, example_id) with the rows that `which` names, in order; returns how many there are.

    `draft` gets the draft of `base`, `gone` the drops of recipes where they are asked for.
    """
    draft = f"SELECT example_id, field, value FROM draft_rows WHERE base_kind = '{base.kind}' AND base_id = {base.id}"
    cursor.execute(f"CREATE TEMP TABLE draft AS {draft}")
    cursor.execute(
        """CREATE TEMP TABLE gone AS
           SELECT d.example_id, s.name AS step, d.reason, s.recipe_run_id * 1000 + s.position AS moment
           FROM decisions d JOIN steps s ON s.id = d.step_id WHERE list_contains(?, s.recipe_run_id)
           QUALIFY row_number() OVER (PARTITION BY d.example_id ORDER BY moment DESC) = 1""",
        [lineage_runs(store, base.name) if base.kind == "version" and which == "dropped" else []],
    )
    came = rows_sql(base)
    by_hand = "SELECT example_id FROM draft WHERE field = 'dropped'"
    rows = {
        "all": came,
        "kept": f"SELECT * FROM ({came}) ANTI JOIN ({by_hand}) USING (example_id)",
        "edited": f"SELECT * FROM ({came}) SEMI JOIN (FROM draft WHERE field = 'replaced') USING (example_id)",
        "dropped": f"""SELECT pos, example_id FROM ({came}) SEMI JOIN ({by_hand}) USING (example_id)
                       UNION ALL SELECT 1000000000000 + moment, example_id FROM gone""",
    }[which]
    cursor.execute(
        f"""CREATE TEMP TABLE candidates AS
            SELECT row_number() OVER (ORDER BY pos, example_id) - 1 AS n, example_id FROM ({rows}) ORDER BY 1"""
    )
    return int(fetch(cursor, "SELECT count(*) FROM candidates")[0][0])


def _rows_view(cursor: Connection) -> str:
    """The columns that a condition can name, over `members`, an edited row by what stands in its place."""
    given = VIEW_COLUMNS | {
        "pos": "m.n",
        "id": "m.example_id",
        "step": "CASE WHEN h.example_id IS NOT NULL THEN 'manual' ELSE g.step END",
        "reason": "coalesce(h.value, g.reason)",
        "detail": "NULL::TEXT",
        "score": "NULL::DOUBLE",
        "duplicate_of": "NULL::BIGINT",
    }
    selected = ", ".join(f"{sql} AS {name}" for name, sql in given.items())
    return f"""SELECT m.n, {selected} FROM members m
        LEFT JOIN draft h ON h.field = 'dropped' AND h.example_id = m.example_id
        LEFT JOIN gone g ON g.example_id = m.example_id
        JOIN examples e ON e.id = m.shown AND {_id_range(cursor)}
        JOIN sources s ON s.id = e.source_id"""


def _condition(query: ViewQuery) -> tuple[str, list[object]]:
    parts: list[str] = []
    params: list[object] = []
    if query.source:
        parts.append("source = ?")
        params.append(query.source)
    if query.language:
        parts.append("content_hash IN (SELECT content_hash FROM scores WHERE scorer = 'language' AND label = ?)")
        params.append(query.language)
    if query.step:
        parts.append("step = ?")
        params.append(query.step)
    if query.score:
        scorer, low, below = query.score
        parts.append(
            """content_hash IN (SELECT content_hash FROM scores WHERE scorer = ? AND state = 'ok'
               AND value >= ? AND value < ?)"""
        )
        params += [scorer, low, below]
    if query.search:
        parts.append("contains(lower(prompt || chr(10) || response), lower(?))")
        params.append(query.search)
    if query.where:
        parts.append(f"(\n{query.where}\n)")  # on lines of its own, so that a comment in it ends with it
    return " AND ".join(parts) or "true", params


def _key(query: ViewQuery) -> str:
    if not query.sort:
        return "NULL"
    if query.sort in _SORTS:
        return _SORTS[query.sort]
    name = query.sort.replace("'", "''")
    return f"(SELECT max(value) FROM scores x WHERE x.content_hash = rows.content_hash AND x.scorer = '{name}')"


def _window_sql(base: Named, members: str, listed: bool, start: int, count: int) -> str:
    """One window: its rows with the text that stands now, and what the draft and the recipes say of them."""
    draft = f"SELECT * FROM draft_rows WHERE base_kind = '{base.kind}' AND base_id = {base.id}"
    # A whole list holds no row that a recipe dropped.
    gone = "LEFT JOIN gone g ON g.example_id = m.example_id" if listed else ""
    step, reason = ("g.step", "g.reason") if listed else ("NULL", "NULL")
    return f"""
        WITH m AS (SELECT pos, example_id FROM ({members}) WHERE pos >= {start} AND pos < {start + count}),
        d AS (SELECT x.* FROM ({draft}) x SEMI JOIN m USING (example_id)),
        f AS (SELECT example_id, max(value) FILTER (field = 'dropped') AS dropped,
              max(value) FILTER (field = 'replaced') AS replaced, max(value) FILTER (field = 'restored') AS restored,
              max(value) FILTER (field = 'label') AS label FROM d GROUP BY 1),
        r AS (SELECT m.pos, m.example_id, coalesce(CAST(f.replaced AS BIGINT), m.example_id) AS shown, f.dropped,
              f.replaced, f.restored, f.label, {step} AS step, {reason} AS reason
              FROM m LEFT JOIN f ON f.example_id = m.example_id {gone}),
        ends AS (SELECT min(shown) AS low, max(shown) AS high FROM r)
        SELECT r.pos, r.example_id, e.messages, r.dropped, r.replaced, r.restored, r.label, r.step, r.reason
        FROM r JOIN examples e ON e.id = r.shown
        WHERE e.id >= (SELECT low FROM ends) AND e.id <= (SELECT high FROM ends) ORDER BY r.pos"""


def _preview(
    pos: int,
    id: int,
    messages: str,
    dropped: str | None,
    replaced: str | None,
    restored: str | None,
    label: str | None,
    step: str | None,
    reason: str | None,
) -> RowPreview:
    turns = json.loads(messages)
    state: State = "kept"
    if dropped or (step and not restored):
        state = "dropped"
    elif replaced:
        state = "edited"
    elif restored:
        state = "restored"
    return RowPreview(
        pos=pos,
        id=id,
        prompt=side_text(turns, "prompt")[:PREVIEW],
        response=side_text(turns, "response")[:PREVIEW],
        turns=len(turns),
        chars=len(messages),
        state=state,
        label=label,
        step="manual" if dropped else step if state == "dropped" else None,
        reason=dropped or (reason if state == "dropped" else None),
    )
