"""Two rows beside each other: the one that is kept, and one that falls for it, with what differs marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message

from workbench.duplicates import OpenDuplicates
from workbench.store.duplicates import ClusterRow
from workbench.tui.cells import wrap
from workbench.tui.widgets.duplicate_list import standing
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.preview import turn_lines
from workbench.tui.workers import background


class PairView(Horizontal):
    """`show` takes the row under the cursor; the texts are read and laid out in a worker."""

    @dataclass
    class _Texts(Message):
        row: ClusterRow
        texts: list[list[Line]]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._opened: OpenDuplicates | None = None
        self._row: ClusterRow | None = None

    def compose(self) -> ComposeResult:
        """The survivor on the left."""
        yield LineView(id="survivor")
        yield LineView(id="member")

    def show(self, opened: OpenDuplicates, row: ClusterRow | None) -> None:
        """Show a row and what it is like; of None, where nothing falls, say that."""
        self._opened, self._row = opened, row
        if row is None:
            self._set([[[("No row falls here.", "muted")]], []])
        else:
            self._read()

    def forget(self) -> None:
        """Read nothing more of the list that was open: it is being closed."""
        self._opened = self._row = None

    @on(LineView.Widened)
    def _read(self) -> None:
        opened, row = self._opened, self._row
        widths = [view.width for view in self.query(LineView)]
        if opened is None or row is None or min(widths) < 10:
            return
        background(
            self,
            lambda cancelled: PairView._Texts(row, texts_beside(opened, row, widths)),
            lambda texts: texts,
            group="row",
        )

    @on(_Texts)
    def _show_texts(self, message: PairView._Texts) -> None:
        message.stop()
        if message.row == self._row:
            self._set(message.texts)

    def _set(self, texts: list[list[Line]]) -> None:
        for view, lines in zip(self.query(LineView), texts, strict=True):
            view.set_lines(lines)


def texts_beside(opened: OpenDuplicates, row: ClusterRow, widths: Sequence[int]) -> list[list[Line]]:
    """A row that falls beside the one that it falls for; of a survivor, beside the row that is most like it."""
    with opened.lock:
        nearest = opened.clusters.window(row.pos + 1, 1) if row.is_survivor else [row]
        member = nearest[0] if nearest and nearest[0].cluster == row.cluster else None
        kept = opened.clusters.text(member.of if member else row.id)
        fallen = opened.clusters.text(member.id) if member else None
    beside = (fallen[2] if fallen else []), (kept[2] if kept else [])
    told = ""
    if member is not None and member.similarity is not None:
        told = f"{member.similarity:.3f}, {standing(member, reported=opened.step.reports)}"
    head = "gone" if member and member.alone else "kept"
    heads = head if member is None or member.of == row.survivor else f"{head} instead", told
    return [
        _text(text, head, other, width)
        for text, head, other, width in zip((kept, fallen), heads, beside, widths, strict=True)
    ]


def _text(text: tuple[str, int, list[Any]] | None, head: str, other: Sequence[Any], width: int) -> list[Line]:
    if text is None:
        return [[("No other row.", "muted")]]
    source, number, messages = text
    named = [(piece, "accent") for piece in wrap(f"{source} row {number:,}", width)[:1]]
    return [[*named, (f"  {head}", "muted")], [], *turn_lines(messages, width, beside=other)[0]]
