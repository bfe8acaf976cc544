"""Browse: facets, rows, and the row under the cursor. Curation by hand happens here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.draft import LABELS, Draft
from workbench.errors import BadInput
from workbench.store.drafts import DraftCounts
from workbench.store.windows import ViewQuery
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.changes import Changed, ChangeQueue
from workbench.tui.clipboard import copy
from workbench.tui.listing import ORDERS, described, draft_told, write_rows
from workbench.tui.messages import Said
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.browse_actions import BROWSE_ACTIONS
from workbench.tui.token_preview import TokenPreview
from workbench.tui.widgets.dialogs import ask_text, choose, dialogue
from workbench.tui.widgets.edit_dialog import MOST, EditDialog
from workbench.tui.widgets.facets import FacetList
from workbench.tui.widgets.preview import Preview
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.rows_pane import RowsPane
from workbench.tui.workers import Cancelled, background


@dataclass
class _Summed(Message):
    base: str
    draft: DraftCounts


class BrowseScreen(BenchScreen):
    """The rows of one source or version, and what is done to them by hand."""

    NAME = "browse"
    SCREEN_ACTIONS = BROWSE_ACTIONS
    BINDINGS = bindings("browse")
    HINTS = ("help", "search_line", "drop", "edit", "label", "undo", "freeze", "tokens", "open_base", "command_palette")
    DEFAULT_CSS = """
    BrowseScreen #view { height: 1; padding: 0 1; color: $muted; }
    BrowseScreen #panes { height: 1fr; layout: vertical; }
    BrowseScreen RowsPane { height: 1fr; }
    BrowseScreen Preview { height: 42%; border-top: solid $rule; }
    BrowseScreen Preview:focus-within { border-top: solid $border; }
    BrowseScreen FacetList { display: none; }
    BrowseScreen.-facets FacetList { display: block; dock: left; width: 34; height: 100%; border-right: solid $border; }
    BrowseScreen.-wide {
        & #panes { layout: horizontal; }
        & FacetList { display: block; dock: none; width: 30; height: 100%; border-right: solid $rule; }
        & FacetList:focus { border-right: solid $border; }
        & RowsPane { width: 1fr; height: 100%; }
        & Preview { width: 40%; height: 100%; border-top: none; border-left: solid $rule; }
        & Preview:focus-within { border-top: none; border-left: solid $border; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._draft = DraftCounts()
        self._reason = ""

    def body(self) -> ComposeResult:
        """What is listed, in a line; then facets, rows, preview."""
        yield Static(id="view", markup=False)
        with Horizontal(id="panes"):
            yield FacetList()
            yield RowsPane()
            yield Preview()

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

    @property
    def pane(self) -> RowsPane:
        """The list with what it is filtered by."""
        return self.query_one(RowsPane)

    @property
    def base(self) -> str:
        """The source or version that is listed."""
        return self.pane.query_shown.name

    def arrive(self, **args: Any) -> None:
        """Look at `base`; without one, go on where one was."""
        base = args.get("base") or self.base
        if base and base != self.base:
            self.rows.clear_marks()
            workspace = self.bench.workspace
            self.query_one(Preview).set_source(lambda id: workspace.detail(base, id), self._tokens.lines)
            self.query_one(FacetList).set_source(
                lambda: workspace.facets(base), lambda scorer: workspace.histogram(base, scorer, 12)
            )
            self.pane.open(ViewQuery(base))
        elif base:
            self._reload()

    @on(RowsPane.Listed)
    def _listed(self, message: RowsPane.Listed) -> None:
        if not message.rows:
            self.query_one(Preview).show(None)
        self.query_one(FacetList).show(message.query)
        self._describe()
        self._sum_up()

    @on(RowsPane.Looking)
    def _looking(self, message: RowsPane.Looking) -> None:
        self.progress(message.text)

    def _reload(self) -> None:
        self.pane.reload()
        self.query_one(FacetList).count()
        self._sum_up()

    def _sum_up(self) -> None:
        workspace, base = self.bench.workspace, self.base
        background(
            self, lambda cancelled: _Summed(base, workspace.draft(base).summary()), lambda summed: summed, group="sum"
        )

    @on(_Summed)
    def _summed(self, message: _Summed) -> None:
        if message.base == self.base:
            self._draft = message.draft
            self._describe()

    def _describe(self) -> None:
        query, rows = self.pane.query_shown, self.rows.rows
        parts = [f"{query.name}", f"{rows:,} row{'s' * (rows != 1)}", *described(query)]
        if query.sort:
            parts.append(f"by {ORDERS.get(query.sort, query.sort)} {'↓' if query.descending else '↑'}")
        if marked := len(self.rows.marks):
            parts.append(f"{marked:,} marked")
        if told := draft_told(self._draft):
            parts.append(f"by hand: {told}")
        self.query_one("#view", Static).update(flat(" · ".join(parts)))

    @on(RowList.Highlighted)
    def _highlighted(self, message: RowList.Highlighted) -> None:
        self.query_one(Preview).show(message.id, self.pane.query_shown.search or "")

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
        self.say("")
        self.pane.filter(**changes)

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
            self.open_command_line("/", self.pane.query_shown.search or "")

    def action_where(self, condition: str = "") -> None:
        """List the rows that meet a condition, or ask which."""
        if condition:
            self._filter(where=condition)
        else:
            self.open_command_line(":", f"where {self.pane.query_shown.where or ''}")

    def action_hit(self, by: int) -> None:
        """Go to another row found."""
        if self.pane.query_shown.search or self.pane.query_shown.where:
            self.rows.action_move(by)
        else:
            self.say("Nothing was searched for: / searches.")

    @dialogue
    async def action_sort(self, order: str = "") -> None:
        """Order by what is named, or ask."""
        counts = await asyncio.to_thread(self.bench.workspace.facets, self.base)
        names = {**ORDERS, **{name: name for name in counts.scorers}}
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
        if self.pane.query_shown.sort:
            self._filter(descending=not self.pane.query_shown.descending)
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
        self._filter(**message.changes)

    # Out

    def escape(self) -> bool:
        """Back to the list; then a search that runs, marks, and what the list is filtered by."""
        if self.focused is not self.rows:
            self.remove_class("-facets")
            self.focus_home()
        elif self.pane.stop_looking():
            self.say("Stopped looking.")
        elif self.rows.clear_marks():
            pass
        elif self.pane.query_shown != (whole := replace(ViewQuery(self.base), **self._order())):
            self.pane.reopen(whole)
        else:
            return False
        return True

    def _order(self) -> dict[str, Any]:
        query = self.pane.query_shown
        return {"sort": query.sort, "descending": query.descending}

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
            self.bench.open_tokens(self.base, row.id)

    def action_duplicates(self) -> None:
        """Show duplicates."""
        self.bench.go("duplicates", base=self.base)

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

        self._changes.put(self.base, work)
        if not self.rows.clear_marks():
            self.rows.action_move(1)

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        if message.base == self.base:
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
        base = self.base
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
        self._changes.put(self.base, lambda draft: _told("Undid", draft.undo(), "There is nothing to undo."))

    def action_redo(self) -> None:
        """Do again what was undone."""
        self._changes.put(self.base, lambda draft: _told("Did again", draft.redo(), "Nothing was undone."))

    @dialogue
    async def action_freeze(self, name: str = "") -> None:
        """Freeze what is kept."""
        workspace, base = self.bench.workspace, self.base
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
        ids, base, workspace = self.rows.chosen_ids(), self.base, self.bench.workspace
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
        if not (file and (view := self.pane.view)):
            return
        path = Path(file).expanduser()

        def work(cancelled: Cancelled) -> Said:
            windows = (view.window(start, 1024) for start in range(0, view.rows, 1024) if not cancelled())
            count = write_rows((row for window in windows for row in window), path)
            return Said(f"Wrote {count:,} rows to {path}.")

        background(self, work, lambda said: said, group="export")


def _told(what: str, done: str | None, nothing: str) -> str:
    return f"{what}: {done}." if done else nothing
