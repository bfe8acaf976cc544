"""The rows of one source or version under a query: opening a list, searching and filtering it, coming back to a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from workbench.store.windows import View, ViewQuery
from workbench.tui.widgets.row_cells import RowHeading
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


@dataclass(eq=False)
class _Opening:
    """A list that is being opened: whether it was called off, and whether it is shown by now."""

    query: ViewQuery
    stopped: bool = False
    shown: bool = False


class RowsPane(Vertical):
    """A heading over a `RowList`, and the open view that it reads. Hits of a search are listed while it goes on."""

    @dataclass
    class Listed(Message):
        """The list that `query` asks for is shown, or shows more than before; `rows` are in it."""

        query: ViewQuery
        rows: int

    @dataclass
    class Looking(Message):
        """What is being looked for, in a few words; empty at the end."""

        text: str

    @dataclass
    class _Found(Message):
        """What is known of an opening by now. `ready` views can be shown; without a view it has failed."""

        opening: _Opening
        view: View | None
        ready: bool = False
        rows: int = 0
        cursor: int = 0
        ended: bool = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.query_shown = ViewQuery("")
        self.view: View | None = None
        self._opening: _Opening | None = None
        self._awaiting_rows: int | None = None

    def compose(self) -> ComposeResult:
        """Heading and list."""
        yield RowHeading()
        yield RowList()

    def on_unmount(self) -> None:
        """Let go of the view."""
        self.stop_looking()
        if self.view:
            self.view.close()

    @property
    def rows(self) -> RowList:
        """The list."""
        return self.query_one(RowList)

    @property
    def share(self) -> float:
        """How much of the rows was looked at for what is shown, 0 to 1."""
        return self.view.share if self.view else 1.0

    @property
    def query_asked(self) -> ViewQuery:
        """What was asked for last: what is being looked for, else what is shown."""
        return self._opening.query if self._opening else self.query_shown

    @property
    def is_looking(self) -> bool:
        """Whether rows are being looked for."""
        return self._opening is not None

    def open(self, query: ViewQuery, *, cursor: int = 0, keep: int | None = None) -> None:
        """List what `query` asks for, with the cursor on position `cursor`, or on the row with id `keep`.

        While more is looked for, what was found is shown as soon as it reaches `cursor`; `keep` must be found by then.
        """
        bench = cast("WorkbenchApp", self.app)
        workspace = bench.workspace
        if query.is_whole:
            hold = bench.hold_keys()  # they are meant for the rows that come
            if self._awaiting_rows:
                bench.release_keys(self._awaiting_rows)
            self._awaiting_rows = hold
        if self._opening:
            self._opening.stopped = True
        opening = self._opening = _Opening(query)

        def tell(view: View, *, ended: bool = False) -> None:
            ready = ended or view.rows > cursor
            at = None
            if ready and not opening.shown and keep is not None:
                at = view.position_of(keep)
            opening.shown = ready
            if not query.is_whole:
                found = f"{view.hits:,} found, {view.share:.0%} looked at …  esc stops"
                self.post_message(self.Looking("" if ended else found))
            self.post_message(self._Found(opening, view, ready, view.rows, cursor if at is None else at, ended))

        def work(cancelled: Cancelled) -> None:
            try:
                view = workspace.view(query, cancelled=lambda: cancelled() or opening.stopped, on_found=tell)
            except Exception:
                self.post_message(self._Found(opening, None, ended=True))
                raise
            tell(view, ended=True)

        background(self, work, lambda _: None)

    def filter(self, **changes: Any) -> None:
        """List what the query asks for with other fields, and stay on the row where it is among them."""
        self.reopen(replace(self.query_asked, **changes))

    def reopen(self, query: ViewQuery) -> None:
        """List what `query` asks for, and stay on the row where it is among them."""
        row = self.rows.current
        self.open(query, keep=row.id if row else None)

    def reload(self) -> None:
        """Show what a change made of the rows; under some queries rows have come in or gone.

        A list that is being looked for, or was called off, is not begun again.
        """
        query = self.query_shown
        filtered = query.which != "all" or query.step or query.search or query.where
        if filtered and not self.is_looking and self.share == 1:
            row = self.rows.current  # its number is another where rows above it have gone
            self.open(query, cursor=self.rows.cursor, keep=row.id if row else None)
        else:
            self.rows.reload()

    def stop_looking(self) -> bool:
        """Call off a search that runs: what it found is kept. Returns whether one ran."""
        if self._opening is None or self._opening.stopped or self._opening.query.is_whole:
            return False
        self._opening.stopped = True
        return True

    @on(_Found)
    def _found(self, message: _Found) -> None:
        message.stop()
        view = message.view
        if message.opening is not self._opening:
            if view and view is not self.view and message.ended:
                self._close(view)
            return
        if message.ended:
            self._opening = None
        if view is None:
            self.post_message(self.Looking(""))
        elif message.ready:
            if view is not self.view:
                self._show(view, message)
            elif message.rows > self.rows.rows:
                self.rows.grow(message.rows)
            self.query_one(RowHeading).rows = message.rows
            self.post_message(self.Listed(message.opening.query, message.rows))

    def _show(self, view: View, message: _Found) -> None:
        before, self.view = self.view, view
        query = message.opening.query
        self.rows.empty = "" if query.is_whole else "No row matches. esc lists all rows again."
        if query.name != self.query_shown.name:
            self.rows.clear_marks()  # ids of other rows
        self.query_shown = query
        self.rows.set_source(message.rows, view.window, view.ids, cursor=message.cursor, highlight=query.search or "")
        if not message.rows:
            self._rows_are_there()
        if before:
            self._close(before)

    def _close(self, view: View) -> None:
        background(self, lambda cancelled: view.close(), lambda _: None)  # waits for a window being read

    @on(RowList.Highlighted)
    def _rows_are_there(self) -> None:
        if self._awaiting_rows:
            cast("WorkbenchApp", self.app).release_keys(self._awaiting_rows)
            self._awaiting_rows = None
