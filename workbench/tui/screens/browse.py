"""Browse: facets, rows, and the row under the cursor: what is listed, in which order, and what is shown of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from workbench.errors import BadInput
from workbench.store.drafts import DraftCounts
from workbench.store.windows import ViewQuery
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.changes import Changed
from workbench.tui.clipboard import copy
from workbench.tui.listing import ORDERS, described, draft_told, write_rows
from workbench.tui.messages import Said
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.browse_actions import BROWSE_ACTIONS
from workbench.tui.token_preview import TokenPreview
from workbench.tui.widgets.by_hand import ByHand
from workbench.tui.widgets.dialogs import ask_text, choose, dialogue
from workbench.tui.widgets.facets import FacetList
from workbench.tui.widgets.preview import Preview
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.rows_pane import RowsPane
from workbench.tui.widgets.status import TopBar
from workbench.tui.workers import Cancelled, background


@dataclass
class _Summed(Message):
    base: str
    draft: DraftCounts


class BrowseScreen(BenchScreen):
    """The rows of one source or version."""

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

    def body(self) -> ComposeResult:
        """What is listed, in a line; then facets, rows, preview."""
        yield Static(id="view", markup=False)
        with ByHand(id="panes"):
            yield FacetList()
            yield RowsPane()
            yield Preview()

    def on_mount(self) -> None:
        """Set up what needs the workspace."""
        self._tokens = TokenPreview(self.bench.workspace, self._token_colours)
        super().on_mount()

    def _token_colours(self) -> tuple[str, str]:
        colours = self.app.theme_variables
        return colours["trained"], colours["ignored"]

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
        """Look at `base`, at the row with id `row` of it; without a base, at what the app has in view."""
        base, row = args.get("base") or self.bench.base, args.get("row")
        self.query_one(TopBar).where = self.bench.where
        if base and base != self.base:
            workspace = self.bench.workspace
            self.query_one(Preview).set_source(workspace, base, self._tokens.lines)
            self.query_one(FacetList).set_source(
                lambda cancelled: workspace.facets(base, cancelled),
                lambda scorer, cancelled: workspace.histogram(base, scorer, 12, cancelled),
            )
            self.pane.open(ViewQuery(base), keep=row)
        elif row is not None:
            self.pane.open(ViewQuery(base), keep=row)
        elif base:
            self._reload()

    @on(RowsPane.Listed)
    def _listed(self, message: RowsPane.Listed) -> None:
        self._describe()
        if self.pane.is_looking:
            return
        if not message.rows:
            self.query_one(Preview).show(None)
        self.query_one(FacetList).show(message.query)
        self._sum_up()
        if self.pane.share < 1:
            self.say(f"Stopped: {message.rows:,} found in the {self.pane.share:.0%} that were looked at.")

    @on(RowsPane.Looking)
    def _looking(self, message: RowsPane.Looking) -> None:
        self.progress(message.text)

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.say(message.told)
        if message.base == self.base:
            self._reload()

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
        count = f"{rows:,} row{'s' * (rows != 1)}"
        if self.pane.is_looking and self.pane.query_asked == query:
            count += " so far"
        elif self.pane.share < 1:
            count += f" in the {self.pane.share:.0%} looked at"
        parts = [query.name, count, *described(query)]
        if query.sort:
            parts.append(f"by {ORDERS.get(query.sort, query.sort)} {'↓' if query.descending else '↑'}")
        if marked := len(self.rows.marks):
            parts.append(f"{marked:,} marked")
        if self.rows.ranging:
            parts.append("range begun: v at its other end marks it")
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
            self.open_command_line("/", self.pane.query_asked.search or "")

    def action_where(self, condition: str = "") -> None:
        """List the rows that meet a condition, or ask which."""
        if condition:
            self._filter(where=condition)
        else:
            self.open_command_line(":", f"where {self.pane.query_asked.where or ''}")

    def action_hit(self, by: int) -> None:
        """Go to another row found."""
        if self.pane.query_asked.search or self.pane.query_asked.where:
            self.rows.action_move(by)
        else:
            self.say("Nothing was searched for: / searches.")

    @dialogue
    async def action_sort(self, order: str = "") -> None:
        """Order by what is named, or ask."""
        counts = await asyncio.to_thread(self.bench.workspace.facets, self.base)
        names = {**ORDERS, **{name: name for name, _ in counts.scorers}}
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
        if self.pane.query_asked.sort:
            self._filter(descending=not self.pane.query_asked.descending)
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
        elif self.pane.stop_looking() or self.rows.clear_marks():
            pass
        elif (asked := self.pane.query_asked) != (whole := self._whole(asked)):
            self.pane.reopen(whole)
        else:
            return False
        return True

    def _whole(self, query: ViewQuery) -> ViewQuery:
        """All rows, in the order of `query`."""
        return ViewQuery(query.name, sort=query.sort, descending=query.descending)

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

    def action_duplicates_of_row(self) -> None:
        """Show what is like the row."""
        row = self.rows.current
        self.bench.open_duplicates(self.base, row.id if row else None)

    def action_compare(self) -> None:
        """Train two versions and compare them: which, is asked."""
        self.bench.go("experiments", compare=())

    # Out of the app

    def action_copy(self) -> None:
        """Copy rows."""
        ids, base, workspace = self.rows.chosen_ids(), self.base, self.bench.workspace
        if not ids:
            return

        def work(cancelled: Cancelled) -> Said:
            where = copy(self.app, workspace.as_json_lines(base, ids), workspace.cache_dir / "copied.jsonl")
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
            share = view.share
            return Said(_written(write_rows(view.previews(), path), share, path))

        background(self, work, lambda said: said)

    @dialogue
    async def action_export_rows(self, file: str = "") -> None:
        """Write the rows listed, whole."""
        detail = "All rows listed, as they stand by hand: .jsonl, .json or .parquet, which import back as they are."
        file = file or await ask_text(self.app, "Write the rows to", "rows.jsonl", detail=detail) or ""
        if not (file and (view := self.pane.view)):
            return
        path, workspace = Path(file).expanduser(), self.bench.workspace

        def work(cancelled: Cancelled) -> Said:
            share = view.share
            return Said(_written(workspace.export_view(view, path), share, path))

        background(self, work, lambda said: said)


def _written(rows: int, share: float, path: Path) -> str:
    found = f", found in the {share:.0%} that were looked at," if share < 1 else ""
    return f"Wrote {rows:,} row{'s' * (rows != 1)}{found} to {path}."
