"""The rows of one source or version under a query: opening a list, searching and filtering it, coming back to a row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.worker import Worker

from workbench.store.windows import View, ViewQuery
from workbench.tui.widgets.row_cells import RowHeading
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


class RowsPane(Vertical):
    """A heading over a `RowList`, and the open view that it reads."""

    @dataclass
    class Listed(Message):
        """The list that `query` asks for is open; `rows` are in it."""

        query: ViewQuery
        rows: int

    @dataclass
    class Looking(Message):
        """What is being looked for, in a few words; empty at the end."""

        text: str

    @dataclass
    class _Opened(Message):
        view: View
        query: ViewQuery
        cursor: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.query_shown = ViewQuery("")
        self.view: View | None = None
        self._opening: Worker[None] | None = None
        self._awaiting_rows = False

    def compose(self) -> ComposeResult:
        """Heading and list."""
        yield RowHeading()
        yield RowList()

    def on_unmount(self) -> None:
        """Let go of the view."""
        if self.view:
            self.view.close()

    @property
    def rows(self) -> RowList:
        """The list."""
        return self.query_one(RowList)

    def open(self, query: ViewQuery, *, cursor: int = 0, keep: int | None = None) -> None:
        """List what `query` asks for, with the cursor on position `cursor`, or on the row with id `keep`."""
        bench = cast("WorkbenchApp", self.app)
        workspace = bench.workspace
        if query.is_whole:
            self._awaiting_rows = True
            bench.hold_keys()  # they are meant for the rows that come
        else:
            self.post_message(self.Looking("looking …  esc stops"))

        def tell(hits: int) -> None:
            if not query.is_whole:
                self.post_message(self.Looking(f"{hits:,} so far …  esc stops"))

        def work(cancelled: Cancelled) -> RowsPane._Opened | None:
            view = workspace.view(query, cancelled=cancelled, on_found=tell)
            if cancelled():
                view.close()
                return None
            at = view.position_of(keep) if keep is not None else None
            return RowsPane._Opened(view, query, cursor if at is None else at)

        self._opening = background(self, work, lambda opened: opened, group="view")

    def filter(self, **changes: Any) -> None:
        """List what the query asks for with other fields, and stay on the row where it is among them."""
        self.reopen(replace(self.query_shown, **changes))

    def reopen(self, query: ViewQuery) -> None:
        """List what `query` asks for, and stay on the row where it is among them."""
        row = self.rows.current
        self.open(query, keep=row.id if row else None)

    def reload(self) -> None:
        """Show what a change made of the rows; under some queries rows have come in or gone."""
        query = self.query_shown
        if query.which != "all" or query.step or query.search or query.where:
            self.open(query, cursor=self.rows.cursor)
        else:
            self.rows.reload()

    def stop_looking(self) -> bool:
        """Call off a search that runs; returns whether one did."""
        if self._opening is None or not self._opening.is_running or self._opening.is_cancelled:
            return False
        self._opening.cancel()
        self.post_message(self.Looking(""))
        return True

    @on(_Opened)
    def _opened(self, message: _Opened) -> None:
        message.stop()
        before, self.view, self.query_shown = self.view, message.view, message.query
        view = message.view
        self.query_one(RowHeading).rows = view.rows
        self.rows.set_source(
            view.rows, view.window, view.ids, cursor=message.cursor, highlight=message.query.search or ""
        )
        self.post_message(self.Looking(""))
        self.post_message(self.Listed(message.query, view.rows))
        if not view.rows:
            self._rows_are_there()
        if before:
            background(self, lambda cancelled: before.close(), lambda _: None)  # waits for a window being read

    @on(RowList.Highlighted)
    def _rows_are_there(self) -> None:
        if self._awaiting_rows:
            self._awaiting_rows = False
            cast("WorkbenchApp", self.app).release_keys()
