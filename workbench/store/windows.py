"""The rows of a source or version as a long list is read: any window of positions, whatever the search or order.

A whole source or version has dense positions as it is, so it opens at once. A filter, search or order makes a narrow
list of (pos, example_id) first, piece by piece: its first windows can be read while the rest is looked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from workbench.errors import Problem, Stopped
from workbench.store.database import Connection, Store, arrow, fetch, interruptible
from workbench.store.members import Named, resolve
from workbench.store.previews import ListedRow, RowPreview, previews
from workbench.store.search import Dense, Search, ViewQuery, Which, dense

__all__ = ["View", "ViewQuery", "Which", "open_view"]

_BATCH = 1024  # rows of a batch
_TURN = 0.001  # seconds in which a window that is waited for is read between two pieces of a search


class View:
    """An open list. Windows may be read from any thread, one at a time; `close` it when the screen is done.

    `rows` can be read by now; while the list is looked for there may come more. `share` is how much of the candidates
    was looked at (0 to 1): below 1 the list holds the hits among these alone.
    """

    def __init__(self, cursor: Connection, base: Named, source: Dense | Search) -> None:
        """`source` is all rows, or the search that makes the list."""
        search, whole = (source, None) if isinstance(source, Search) else (None, source)
        self.base = base
        self._cursor = cursor
        self._members = whole.sql if whole else "SELECT pos, example_id FROM listed"
        self._first_id = whole.first_id if whole else None
        self._search = search
        self._lock = threading.Lock()
        self._closed = False
        self.rows = base.rows if search is None else 0

    @property
    def share(self) -> float:
        """How much was looked at, 0 to 1."""
        return self._search.share if self._search else 1.0

    @property
    def hits(self) -> int:
        """How many rows were found; where they are to be ordered, more than can be read by now."""
        return self._search.hits if self._search else self.rows

    def look(self, cancelled: Callable[[], bool], on_found: Callable[[View], None]) -> None:
        """Look for the rows, until `cancelled()`, also amid a query; `on_found(view)` is called after each piece."""
        if (search := self._search) is None:
            return
        while not (search.ended or cancelled()):
            with self._lock:
                if self._closed:
                    return
                try:
                    interruptible(self._cursor, search.next_piece, cancelled)
                except Stopped:
                    break
                self.rows = search.listed
            on_found(self)
            time.sleep(_TURN)
        with self._lock:
            if not self._closed:
                search.finish()
                self.rows = search.listed

    def window(self, start: int, count: int) -> list[RowPreview]:
        """Rows `start` to `start + count` (fewer at the end); none once the view is closed."""
        with self._lock:
            if self._closed:
                return []
            return previews(self._cursor, self.base, self._listed(start, count))

    def _listed(self, start: int, count: int) -> list[ListedRow]:
        if self._first_id is not None:
            return [(pos, self._first_id + pos, None, None) for pos in range(start, min(start + count, self.rows))]
        # A whole list holds no row that a recipe dropped.
        dropped, gone = (
            ("g.step, g.reason", "LEFT JOIN gone g USING (example_id)") if self._search else ("NULL, NULL", "")
        )
        return fetch(
            self._cursor,
            f"""SELECT pos, example_id, {dropped}
                FROM (SELECT pos, example_id FROM ({self._members}) WHERE pos >= {start} AND pos < {start + count})
                {gone} ORDER BY pos""",
        )

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

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows whole, as they stand by the draft, in batches: `messages`, `tools`, `meta`, strings.

        Raises Problem where the list is closed before its end.
        """
        for start in range(0, self.rows, _BATCH):
            with self._lock:
                self._check_open()
                window = arrow(self._cursor, _whole_sql(self.base, self._members, start))
            yield from window.combine_chunks().to_batches()

    def previews(self) -> Iterator[RowPreview]:
        """All rows as `window` has them. Raises Problem where the list is closed before its end."""
        for start in range(0, self.rows, _BATCH):
            window = self.window(start, _BATCH)
            self._check_open()  # a window of a closed list is empty
            yield from window

    def _check_open(self) -> None:
        if self._closed:
            raise Problem("the list was closed before its end was read", do="Ask for the rows again and do it anew.")

    def close(self) -> None:
        """Let go of the list; a window being read is waited for, and a search ends."""
        with self._lock:
            self._closed = True
            self._cursor.close()


def open_view(
    store: Store,
    query: ViewQuery,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    on_found: Callable[[View], None] = lambda _: None,
) -> View:
    """Open the list that `query` asks for.

    `on_found(view)` tells of a filter's or search's hits as they come; `view` can be read already, from another
    thread. Once `cancelled()` says so, the list has what was found until then (`share` below 1). Raises NotFound,
    UsageProblem where the SQL condition cannot be run, Stopped where it was cancelled before a row was looked at.
    """
    base = resolve(store, query.name)
    cursor = store.cursor()
    try:
        if query.is_whole and (whole := dense(cursor, base)):
            return View(cursor, base, whole)
        view = View(cursor, base, interruptible(cursor, lambda: Search(cursor, store, base, query), cancelled))
    except BaseException:
        cursor.close()
        raise
    try:
        view.look(cancelled, on_found)
    except BaseException:
        if not view.rows:  # otherwise somebody may be reading it
            view.close()
        raise
    return view


def _whole_sql(base: Named, members: str, start: int) -> str:
    """The rows of one batch with all that they hold."""
    draft = f"SELECT * FROM draft_rows WHERE base_kind = '{base.kind}' AND base_id = {base.id}"
    return f"""
        WITH m AS (SELECT pos, example_id FROM ({members}) WHERE pos >= {start} AND pos < {start + _BATCH}),
        r AS (SELECT m.pos, coalesce(CAST(d.value AS BIGINT), m.example_id) AS shown FROM m
              LEFT JOIN ({draft}) d ON d.example_id = m.example_id AND d.field = 'replaced'),
        ends AS (SELECT min(shown) AS low, max(shown) AS high FROM r)
        SELECT e.messages, e.tools, e.meta FROM r JOIN examples e ON e.id = r.shown
        WHERE e.id >= (SELECT low FROM ends) AND e.id <= (SELECT high FROM ends) ORDER BY r.pos"""
