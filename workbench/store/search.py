"""Which rows of a source or version a list holds, looked for piece by piece: what was found can be read meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from workbench.errors import UsageProblem
from workbench.store.database import Connection, Store, fetch
from workbench.store.examples import VIEW_COLUMNS, said
from workbench.store.lineage import LANGUAGES
from workbench.store.members import Named, rows_sql
from workbench.store.scores import scoring
from workbench.store.versions import lineage_runs

Which = Literal["all", "kept", "dropped", "edited"]

_PIECES = 5_000, 40_000  # rows looked at at a time, at first and at most
_PACE = 0.4  # seconds a piece may take: windows are read, and a search is called off, between two
_SORTS = {"prompt_chars": "length(prompt)", "response_chars": "length(response)", "turns": "turns"}


@dataclass(frozen=True)
class ViewQuery:
    """Which rows of a source or version, and in which order. `all` are those it came with, dropped by hand or not.

    `kept` are those that a freeze would hold, also where a recipe had dropped them and a person took them back;
    `dropped` those it would not, also where recipes dropped them on the way to a version. `step` names the step that
    dropped a row, `language` a language that a step told, `sort` one of prompt_chars, response_chars, turns, or a
    score; `score` a range of one (name, from, below). A score goes by the name of its `Scoring`.
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


@dataclass(frozen=True)
class Dense:
    """Members whose positions have no gaps: `sql` gives `pos` and `example_id`.

    Where ids follow the positions too, `first_id` is that of position 0.
    """

    sql: str
    first_id: int | None = None


def dense(cursor: Connection, base: Named) -> Dense | None:
    """The members where their positions have no gaps: a version's always, a source's without rejects."""
    if base.kind == "version":
        return Dense(rows_sql(base))
    came = f"FROM examples WHERE source_id = {base.id} AND parent_id IS NULL"
    [(rows, low, high)] = fetch(cursor, f"SELECT count(*), min(id), max(id) {came}")
    if not rows or high - low + 1 != rows or fetch(cursor, f"SELECT 1 {came} AND id - {low} <> row LIMIT 1"):
        return None
    # Ids follow rows, and id ranges are what DuckDB can skip by.
    return Dense(f"SELECT id - {low} AS pos, id AS example_id FROM examples WHERE id >= {low} AND id <= {high}", low)


class Search:
    """What `query` asks for, on a cursor of its own: `next_piece` until `ended`, then `finish`.

    Fills the temporary tables `listed` (pos, example_id), the hits in their order, and `gone`, the drops of recipes.
    Where the query orders the rows, `listed` is empty until `finish`. `hits` counts what was found, `listed` how many
    of them can be read, and `share` how much of the rows was looked at (0 to 1).
    """

    def __init__(self, cursor: Connection, store: Store, base: Named, query: ViewQuery) -> None:
        self._cursor = cursor
        self._query = query
        self._condition, self._params = _condition(cursor, query)
        self._key = _key(cursor, query)
        self._candidates, self._rows = _candidates(cursor, store, base, query.which)
        self._seen = 0
        self._piece = _PIECES[0]
        self.hits = 0
        self.listed = 0
        cursor.execute("CREATE TEMP TABLE listed (pos BIGINT, example_id BIGINT)")
        cursor.execute("CREATE TEMP TABLE hits (n BIGINT, example_id BIGINT, key DOUBLE)")

    @property
    def ended(self) -> bool:
        """Whether every row was looked at."""
        return self._seen >= self._rows

    @property
    def share(self) -> float:
        """How much of the rows was looked at, 0 to 1."""
        return 1.0 if self.ended else self._seen / self._rows

    def next_piece(self) -> None:
        """Look at some more rows. Raises UsageProblem where the SQL condition cannot be run."""
        began = time.monotonic()
        self._cursor.execute(f"CREATE OR REPLACE TEMP TABLE members AS {self._members()}")
        if self._query.search:
            _rule_out(self._cursor, self._query.search)
        found = f"SELECT n, id, {self._key} AS key FROM ({_rows_view(self._cursor)}) rows WHERE {self._condition}"
        if self._query.sort:
            into = f"INSERT INTO hits {found}"
        else:
            at = f"row_number() OVER (ORDER BY n) - 1 + {self.hits}"
            into = f"INSERT INTO listed SELECT {at}, id FROM ({found}) ORDER BY n"
        self.hits += self._insert(into)
        if not self._query.sort:
            self.listed = self.hits
        self._seen += self._piece
        took = time.monotonic() - began
        wished = self._piece * 2 if took < _PACE else self._piece // 2 if took > 2 * _PACE else self._piece
        self._piece = min(max(wished, _PIECES[0]), _PIECES[1])

    def finish(self) -> None:
        """Put what was found into its order."""
        if self._query.sort:
            order = "key DESC NULLS LAST, n" if self._query.descending else "key NULLS LAST, n"
            self._cursor.execute(
                f"""INSERT INTO listed SELECT row_number() OVER (ORDER BY {order}) - 1 AS pos, example_id
                    FROM hits ORDER BY 1"""
            )
            self._cursor.execute("DROP TABLE hits")
        self.listed = self.hits

    def _members(self) -> str:
        """Some of the candidates, with the example whose text stands for each now."""
        return f"""SELECT c.pos AS n, c.example_id, coalesce(CAST(r.value AS BIGINT), c.example_id) AS shown
            FROM ({self._candidates}) c
            LEFT JOIN draft r ON r.field = 'replaced' AND r.example_id = c.example_id
            WHERE c.pos >= {self._seen} AND c.pos < {self._seen + self._piece}"""

    def _insert(self, sql: str) -> int:
        where = self._query.where
        try:
            if where is not None and len(self._cursor.extract_statements(sql)) != 1:
                raise UsageProblem("the condition takes one expression, not several statements")
            rows = fetch(self._cursor, sql, self._params)
        except duckdb.Error as error:
            if where is None or isinstance(error, duckdb.InterruptException):
                raise
            raise UsageProblem(
                f"the condition cannot be run: {said(error)}",
                do=f"It is a DuckDB condition over the columns {', '.join(VIEW_COLUMNS)}.",
            ) from error
        return int(rows[0][0])


def _candidates(cursor: Connection, store: Store, base: Named, which: Which) -> tuple[str, int]:
    """SQL for the rows that `which` names, in order (dense `pos`, `example_id`), and how many there are.

    The temporary table `draft` gets the draft of `base`, `gone` the drops of recipes where they are asked for.
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
    if which == "all" and (whole := dense(cursor, base)):
        return whole.sql, base.rows
    came = rows_sql(base)
    by_hand = "SELECT example_id FROM draft WHERE field = 'dropped'"
    back = f"SELECT example_id FROM draft WHERE field = 'restored' AND example_id NOT IN ({by_hand})"
    late = 1_000_000_000_000  # positions behind all that came
    kept = f"""SELECT * FROM ({came}) ANTI JOIN ({by_hand}) USING (example_id)
               UNION ALL SELECT {late} + example_id, example_id FROM ({back})"""
    rows = {
        "all": came,
        "kept": kept,
        "edited": f"SELECT * FROM ({kept}) SEMI JOIN (FROM draft WHERE field = 'replaced') USING (example_id)",
        "dropped": f"""SELECT pos, example_id FROM ({came}) SEMI JOIN ({by_hand}) USING (example_id)
                       UNION ALL SELECT {late} + moment, example_id FROM gone ANTI JOIN ({back}) USING (example_id)""",
    }[which]
    cursor.execute(
        f"""CREATE TEMP TABLE candidates AS
            SELECT row_number() OVER (ORDER BY pos, example_id) - 1 AS pos, example_id FROM ({rows}) ORDER BY 1"""
    )
    return "FROM candidates", int(fetch(cursor, "SELECT count(*) FROM candidates")[0][0])


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


def _condition(cursor: Connection, query: ViewQuery) -> tuple[str, Sequence[object]]:
    """What a row must meet. Contents of a language, or with a score, are looked up once, in tables of their own."""
    parts: list[str] = []
    params: list[object] = []
    if query.source:
        parts.append("source = ?")
        params.append(query.source)
    if query.language:
        cursor.execute(
            f"CREATE TEMP TABLE of_language AS SELECT content_hash FROM ({LANGUAGES}) WHERE label = ?", [query.language]
        )
        parts.append("content_hash IN (FROM of_language)")
    if query.step:
        parts.append("step = ?")
        params.append(query.step)
    if query.score:
        cursor.execute(
            f"CREATE TEMP TABLE of_score AS {_SCORED} AND value >= ? AND value < ?",
            [*_scored_by(cursor, query.score[0]), *query.score[1:]],
        )
        parts.append("content_hash IN (SELECT content_hash FROM of_score)")
    if query.search:
        parts.append("contains(lower(prompt || chr(10) || response), lower(?))")
        params.append(query.search)
    if query.where:
        parts.append(f"(\n{query.where}\n)")  # on lines of its own, so that a comment in it ends with it
    return " AND ".join(parts) or "true", params


def _key(cursor: Connection, query: ViewQuery) -> str:
    """What rows are ordered by. A score is looked up once, in a table of its own."""
    if not query.sort:
        return "NULL"
    if query.sort in _SORTS:
        return _SORTS[query.sort]
    cursor.execute(f"CREATE TEMP TABLE of_order AS {_SCORED}", _scored_by(cursor, query.sort))
    return "(SELECT max(value) FROM of_order x WHERE x.content_hash = rows.content_hash)"


_SCORED = "SELECT content_hash, value FROM scores WHERE scorer = ? AND fingerprint = ? AND state = 'ok'"


def _scored_by(cursor: Connection, name: str) -> list[object]:
    """What `_SCORED` asks for; of a name that nothing has there are no rows."""
    one = scoring(cursor, name)
    return [one.scorer, one.fingerprint] if one else [name, ""]
