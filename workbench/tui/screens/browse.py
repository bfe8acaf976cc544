"""Browse: facets, rows, and the row under the cursor. Curation by hand happens here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from workbench.draft import LABELS, Draft
from workbench.errors import BadInput
from workbench.store.drafts import DraftCounts
from workbench.store.facets import Facets
from workbench.store.windows import View, ViewQuery, Which
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.changes import Changed, ChangeQueue
from workbench.tui.clipboard import copy
from workbench.tui.listing import described, draft_told, write_rows
from workbench.tui.messages import Said
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.browse_actions import BROWSE_ACTIONS
from workbench.tui.token_preview import TokenPreview
from workbench.tui.widgets.dialogs import ask_text, choose, dialogue
from workbench.tui.widgets.edit_dialog import MOST, EditDialog
from workbench.tui.widgets.facets import FacetList
from workbench.tui.widgets.preview import Preview
from workbench.tui.widgets.row_list import RowHeading, RowList
from workbench.tui.workers import Cancelled, background

_ORDERS = {"prompt_chars": "prompt length", "response_chars": "response length", "turns": "turns"}


@dataclass
class _Opened(Message):
    view: View
    query: ViewQuery
    cursor: int


@dataclass
class _Counted(Message):
    base: str
    counts: Facets
    draft: DraftCounts


@dataclass
class _Found(Message):
    query: ViewQuery
    hits: int


@dataclass
class _Binned(Message):
    scorer: str
    bins: list[tuple[float, float, int]]


class BrowseScreen(BenchScreen):
    """The rows of one source or version, and what is done to them by hand."""

    NAME = "browse"
    SCREEN_ACTIONS = BROWSE_ACTIONS
    BINDINGS = bindings("browse")
    HINTS = ("help", "search_line", "drop", "edit", "label", "undo", "freeze", "tokens", "open_base", "command_palette")
    DEFAULT_CSS = """
    BrowseScreen #view { height: 1; padding: 0 1; color: $muted; }
    BrowseScreen #panes { height: 1fr; layout: vertical; }
    BrowseScreen #rows { height: 1fr; }
    BrowseScreen Preview { height: 42%; border-top: solid $rule; }
    BrowseScreen Preview:focus-within { border-top: solid $border; }
    BrowseScreen FacetList { display: none; }
    BrowseScreen.-facets FacetList { display: block; dock: left; width: 34; height: 100%; border-right: solid $border; }
    BrowseScreen.-wide {
        & #panes { layout: horizontal; }
        & FacetList { display: block; dock: none; width: 30; height: 100%; border-right: solid $rule; }
        & FacetList:focus { border-right: solid $border; }
        & #rows { width: 1fr; height: 100%; }
        & Preview { width: 40%; height: 100%; border-top: none; border-left: solid $rule; }
        & Preview:focus-within { border-top: none; border-left: solid $border; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._query = ViewQuery("")
        self._view: View | None = None
        self._counts: Facets | None = None
        self._draft = DraftCounts()
        self._scorer = ""
        self._bins: list[tuple[float, float, int]] = []
        self._reason = ""
        self._awaiting_rows = False
        self._opening: Worker[None] | None = None

    def body(self) -> ComposeResult:
        """What is listed, in a line; then facets, rows, preview."""
        yield Static(id="view", markup=False)
        with Horizontal(id="panes"):
            yield FacetList(id="facets")
            with Vertical(id="rows"):
                yield RowHeading()
                yield RowList(id="list")
            yield Preview(id="preview")

    def on_mount(self) -> None:
        """Set up what needs the workspace."""
        self._changes = ChangeQueue(self, self.bench.workspace)
        self._tokens = TokenPreview(self.bench.workspace)
        super().on_mount()

    def home(self) -> Widget:
        """The rows."""
        return self.rows

    @property
    def rows(self) -> RowList:
        """The list."""
        return self.query_one(RowList)

    def arrive(self, **args: Any) -> None:
        """Look at `base`; without one, go on where one was."""
        base = args.get("base") or self._query.name
        if base and base != self._query.name:
            self.rows.clear_marks()
            self._scorer, self._bins = "", []
            workspace = self.bench.workspace
            self.query_one(Preview).set_source(lambda id: workspace.detail(base, id), self._tokens.lines)
            self._open(ViewQuery(base))
        elif base:
            self._reload()

    # The list

    def _open(self, query: ViewQuery, *, cursor: int = 0, keep: int | None = None) -> None:
        """List what `query` asks for, with the cursor on position `cursor`, or on the row with id `keep`."""
        workspace = self.bench.workspace
        if query.is_whole:
            self._awaiting_rows = True
            self.bench.hold_keys()  # they are meant for the rows that come
        else:
            self.progress("looking …  esc stops")

        def work(cancelled: Cancelled) -> _Opened:
            view = workspace.view(query, cancelled=cancelled, on_found=lambda n: self._tell_found(query, n))
            at = view.position_of(keep) if keep is not None else None
            return _Opened(view, query, cursor if at is None else at)

        self._opening = background(self, work, lambda opened: opened, group="view")

    def _tell_found(self, query: ViewQuery, hits: int) -> None:
        if not query.is_whole:
            self.post_message(_Found(query, hits))

    @on(_Found)
    def _found(self, message: _Found) -> None:
        self.progress(f"{message.hits:,} so far …  esc stops")

    @on(_Opened)
    def _opened(self, message: _Opened) -> None:
        self.progress("")
        before, self._view, self._query = self._view, message.view, message.query
        view = message.view
        self.query_one(RowHeading).rows = view.rows
        self.rows.set_source(
            view.rows, view.window, view.ids, cursor=message.cursor, highlight=message.query.search or ""
        )
        if not view.rows:
            self.query_one(Preview).show(None)
            self._rows_are_there()
        self._show_facets()
        self._describe()
        self._count()
        if before:
            background(self, lambda cancelled: before.close(), lambda _: None)  # waits for a window being read

    def _rows_are_there(self) -> None:
        if self._awaiting_rows:
            self._awaiting_rows = False
            self.bench.release_keys()

    def _reload(self) -> None:
        """Show what a change made of the rows."""
        query = self._query
        if query.which != "all" or query.step or query.search or query.where:
            self._open(query, cursor=self.rows.cursor)  # rows may have come in or gone
        else:
            self.rows.reload()
            self._count()

    def _count(self) -> None:
        workspace, base = self.bench.workspace, self._query.name

        def work(cancelled: Cancelled) -> _Counted:
            return _Counted(base, workspace.facets(base), workspace.draft(base).summary())

        background(self, work, lambda counted: counted, group="count")

    @on(_Counted)
    def _counted(self, message: _Counted) -> None:
        if message.base == self._query.name:
            self._counts, self._draft = message.counts, message.draft
            self._show_facets()
            self._describe()

    def _show_facets(self) -> None:
        counts = self._counts if self._counts else None
        self.query_one(FacetList).show(counts, self._query, self._scorer, self._bins)

    def _describe(self) -> None:
        rows = self._view.rows if self._view else 0
        parts = [f"{self._query.name}", f"{rows:,} row{'s' * (rows != 1)}", *described(self._query)]
        if self._query.sort:
            name = _ORDERS.get(self._query.sort, self._query.sort)
            parts.append(f"by {name} {'↓' if self._query.descending else '↑'}")
        if marked := len(self.rows.marks):
            parts.append(f"{marked:,} marked")
        if told := draft_told(self._draft):
            parts.append(f"by hand: {told}")
        self.query_one("#view", Static).update(flat(" · ".join(parts)))

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        self._rows_are_there()
        self.query_one(Preview).show(message.id, self._query.search or "")

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.action_into()

    @on(RowList.MarksChanged)
    def _marks_changed(self) -> None:
        self._describe()

    # Filters

    def search(self, text: str) -> None:
        """List the rows that contain a text; nothing typed lists all again."""
        self._filter(search=text or None)

    def _filter(self, **changes: Any) -> None:
        row = self.rows.current
        self.say("")
        self._open(replace(self._query, **changes), keep=row.id if row else None)

    def command(self, text: str) -> bool:
        """What is no command is a condition, if it looks like one."""
        if not any(sign in text for sign in " <>=("):
            return False
        self.action_where(text)
        return True

    def action_search_line(self, text: str = "") -> None:
        """Search, or ask what for."""
        if text:
            self.search(text)
        else:
            self.open_command_line("/", self._query.search or "")

    def action_where(self, condition: str = "") -> None:
        """List the rows that meet a condition, or ask which."""
        if condition:
            self._filter(where=condition)
        else:
            self.open_command_line(":", f"where {self._query.where or ''}")

    def action_hit(self, by: int) -> None:
        """Go to another row found."""
        if self._query.search or self._query.where:
            self.rows.action_move(by)
        else:
            self.say("Nothing was searched for: / searches.")

    @dialogue
    async def action_sort(self, order: str = "") -> None:
        """Order by what is named, or ask."""
        counts = self._counts
        if counts is None:
            counts = await asyncio.to_thread(self.bench.workspace.facets, self._query.name)
        names = {**_ORDERS, **{name: name for name in counts.scorers}}
        if not order:
            orders = [("", "as they came"), *((name, label) for name, label in names.items())]
            chosen = await choose(self.app, "Order by", orders, detail="S turns the order round.")
            if chosen is None:
                return
            order = chosen
        if order and order not in names:
            raise BadInput(f"there is no order {order!r}", do=f"There is {', '.join(names)}.")
        self._filter(sort=order or None, descending=bool(order))

    def action_reverse(self) -> None:
        """Turn the order round."""
        if self._query.sort:
            self._filter(descending=not self._query.descending)
        else:
            self.say("The rows are as they came: s orders them.")

    def action_facets(self) -> None:
        """Go to the counts, or back."""
        listed = self.query_one(FacetList)
        if listed.has_focus:
            self.remove_class("-facets")
            self.focus_home()
        else:
            self.add_class("-facets")
            self.call_after_refresh(listed.focus)

    @on(FacetList.Picked)
    def _picked(self, message: FacetList.Picked) -> None:
        choice = message.choice
        if choice.field == "scorer":
            self._show_histogram("" if choice.value == self._scorer else choice.value)
        elif choice.field == "score":
            self._filter(score=None if self._query.score == choice.score else choice.score)
        elif choice.field == "which":
            which = cast(Which, choice.value) if choice.value in get_args(Which) else "all"
            self._filter(which="all" if self._query.which == which else which, step=None)
        elif choice.field == "step":  # a dropped row is only listed where dropped rows are
            off = self._query.step == choice.value
            self._filter(which="all" if off else "dropped", step=None if off else choice.value)
        else:
            off = getattr(self._query, choice.field) == choice.value
            self._filter(**{choice.field: None if off else choice.value})

    def _show_histogram(self, scorer: str) -> None:
        self._scorer, self._bins = scorer, []
        self._show_facets()
        if scorer:
            workspace, base = self.bench.workspace, self._query.name
            background(
                self,
                lambda cancelled: workspace.histogram(base, scorer, 12),
                lambda bins: _Binned(scorer, bins),
                group="histogram",
            )

    @on(_Binned)
    def _binned(self, message: _Binned) -> None:
        if message.scorer == self._scorer:
            self._bins = message.bins
            self._show_facets()

    # Out

    def escape(self) -> bool:
        """Back to the list; then a search that runs, marks, and what the list is filtered by."""
        if self.focused is not self.rows:
            self.remove_class("-facets")
            self.focus_home()
        elif self._opening and self._opening.is_running and not self._opening.is_cancelled:
            self._opening.cancel()
            self.progress("")
            self.say("Stopped looking.")
        elif self.rows.clear_marks():
            pass
        elif self._query != ViewQuery(self._query.name, sort=self._query.sort, descending=self._query.descending):
            row = self.rows.current
            query = ViewQuery(self._query.name, sort=self._query.sort, descending=self._query.descending)
            self._open(query, keep=row.id if row else None)
        else:
            return False
        return True

    def on_failure(self) -> None:
        """Nothing is looked for any more; the app tells what was wrong."""
        self.progress("")

    def action_into(self) -> None:
        """Go into the preview."""
        self.query_one(Preview).text.focus()

    def action_tab(self, by: int) -> None:
        """Open another tab of the preview."""
        self.query_one(Preview).turn_tab(by)

    def action_go_to(self, number: str = "") -> None:
        """Go to a row by its number."""
        if number.replace(",", "").isdecimal():
            self.rows.move_to(int(number.replace(",", "")) - 1, middle=True)
        else:
            self.open_command_line(":", "row ")

    def action_tokens(self) -> None:
        """Show the row as tokens."""
        if row := self.rows.current:
            self.bench.open_tokens(self._query.name, row.id)

    def action_duplicates(self) -> None:
        """Show duplicates."""
        self.bench.go("duplicates", base=self._query.name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of screens that are not there do nothing."""
        return self.bench.has_screen(action) if action in ("tokens", "duplicates") else True

    # Changes

    def _change(self, what: str, change: Callable[[Draft, Sequence[int]], int]) -> None:
        """Do something to the marked rows, or the one under the cursor, and go on to the next."""
        ids = self.rows.chosen_ids()
        if not ids:
            self.say("There is no row here.")
            return

        def work(draft: Draft) -> str:
            count = change(draft, ids)
            same = len(ids) - count
            rest = f"; {same:,} {'were' if same != 1 else 'was'} so already" if same else ""
            return f"{what} {count:,} row{'s' * (count != 1)}{rest}. u undoes." if count else f"{what} no row{rest}."

        self._changes.put(self._query.name, work)
        if not self.rows.clear_marks():
            self.rows.action_move(1)

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        if message.base == self._query.name:
            self._reload()

    @dialogue
    async def action_drop(self, reason: str = "") -> None:
        """Drop rows, for a reason."""
        count = len(self.rows.chosen_ids())
        if count:
            title = f"Drop {count:,} row{'s' * (count != 1)}"
            detail = "The reason stays with the rows in every version made of this."
            reason = reason or await ask_text(self.app, title, self._reason, detail=detail, placeholder="why?") or ""
        if reason:
            self._reason = reason
            self._change("Dropped", lambda draft, ids: draft.drop(ids, reason))

    def action_restore(self) -> None:
        """Take rows back."""
        self._change("Restored", lambda draft, ids: draft.restore(ids))

    @dialogue
    async def action_label(self, label: str = "") -> None:
        """Label rows with what is named, or ask."""
        if not label:
            options = [*((name, name) for name in LABELS), ("none", "no label")]
            label = await choose(self.app, "Label", options, detail="+ good, - bad, 1 to 5 and 0 do it at once.") or ""
        if label:
            self.action_label_as("" if label == "none" else label)

    def action_label_as(self, label: str) -> None:
        """Label rows; an empty label takes theirs away."""
        what = f"Labelled {label}:" if label else "Took the label of"
        self._change(what, lambda draft, ids: draft.label(ids, label or None))

    @dialogue
    async def action_edit(self) -> None:
        """Edit the row under the cursor."""
        if not (row := self.rows.current):
            return
        if row.chars > MOST:
            raise BadInput(f"this row has {row.chars:,} characters", do=f"Up to {MOST:,} can be edited here.")
        base = self._query.name
        detail = await asyncio.to_thread(self.bench.workspace.detail, base, row.id)
        title = f"{flat(detail.source)} row {detail.row:,}"
        edited = await self.app.push_screen_wait(EditDialog(title, detail.messages))
        if edited is None:
            self.say("Nothing was changed.")
            return

        def work(draft: Draft) -> str:
            new = draft.edit(row.id, edited)
            return f"Edited 1 row: it is example {new} now, and the row as it was is kept. u undoes."

        self._changes.put(base, work)

    def action_undo(self) -> None:
        """Take the last change back."""
        self._changes.put(self._query.name, lambda draft: _told("Undid", draft.undo(), "There is nothing to undo."))

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._changes.put(self._query.name, lambda draft: _told("Did again", draft.redo(), "Nothing was undone."))

    @dialogue
    async def action_freeze(self, name: str = "") -> None:
        """Freeze what is kept."""
        workspace, base = self.bench.workspace, self._query.name
        counts = await asyncio.to_thread(workspace.facets, base)
        draft = await asyncio.to_thread(lambda: workspace.draft(base).summary())
        kept = dict(counts.states)["kept"]
        detail = f"It will hold {kept:,} rows of {base} ({counts.rows:,} rows)."
        detail += f" By hand: {told}." if (told := draft_told(draft)) else " Nothing was changed by hand."
        name = name or await ask_text(self.app, f"Freeze {base} as version", detail=detail, placeholder="a name") or ""
        if not name:
            return
        self.progress("freezing …")
        version, new = await asyncio.to_thread(workspace.freeze, base, name)
        self.progress("")
        told = f"Froze {version.name}: {version.rows:,} rows." if new else f"{version.name} is there already, the same."
        self.say(f"{told} o opens it.")

    # Out of the app

    def action_copy(self) -> None:
        """Copy rows."""
        ids, base, workspace = self.rows.chosen_ids(), self._query.name, self.bench.workspace
        if not ids:
            return

        def work(cancelled: Cancelled) -> Said:
            lines = []
            for id in ids:
                detail = workspace.detail(base, id)
                row = {"messages": detail.messages} | ({"tools": detail.tools} if detail.tools else {})
                lines.append(json.dumps(row, ensure_ascii=False))
            where = copy(self.app, "\n".join(lines), workspace.cache_dir / "copied.jsonl")
            return Said(f"Copied {len(ids):,} row{'s' * (len(ids) != 1)} {where}.")

        background(self, work, lambda said: said, group="copy")

    @dialogue
    async def action_export(self, file: str = "") -> None:
        """Write the rows as listed."""
        detail = "As listed: texts are cut short. To export the data itself, freeze it and export the version."
        file = file or await ask_text(self.app, "Write the list to", "rows.csv", detail=detail) or ""
        if not (file and (view := self._view)):
            return
        path = Path(file).expanduser()

        def work(cancelled: Cancelled) -> Said:
            windows = (view.window(start, 1024) for start in range(0, view.rows, 1024) if not cancelled())
            count = write_rows((row for window in windows for row in window), path)
            return Said(f"Wrote {count:,} rows to {path}.")

        background(self, work, lambda said: said, group="export")


def _told(what: str, done: str | None, nothing: str) -> str:
    return f"{what}: {done}." if done else nothing
