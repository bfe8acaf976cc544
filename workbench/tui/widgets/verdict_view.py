"""A finished experiment: the verdict, every item with its wins and losses, the answers, and a prompt of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from workbench.tui.actions import Action, bindings, declare
from workbench.tui.cells import wrap
from workbench.tui.messages import Failure, Said
from workbench.tui.widgets.arms_pane import ArmsPane
from workbench.tui.widgets.ask_pane import AskPane
from workbench.tui.widgets.diagnosis_pane import DiagnosisPane
from workbench.tui.widgets.items_pane import ItemsPane
from workbench.tui.widgets.judge_pane import JudgePane
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.preview import Tabs
from workbench.tui.widgets.result_pane import ResultPane
from workbench.tui.widgets.slices_pane import SlicesPane
from workbench.tui.widgets.table import Table
from workbench.tui.widgets.verdict_lines import item_lines, verdict_lines
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.results import Finished
    from workbench.tui.app import WorkbenchApp
    from workbench.workspace import Workspace

_MARGIN = 2  # cells beside the text: one on the left, and the scroll bar

PANES: tuple[type[ResultPane], ...] = (SlicesPane, JudgePane, ArmsPane, DiagnosisPane)
"""Tabs with a widget of their own, behind the first four."""

TABS = ("verdict", "items", "answers", "ask", *(pane.NAME for pane in PANES))

RESULT_ACTIONS = declare(
    Action("tab(1)", ("right_square_bracket",), "next tab", "Open the next tab of the result.", "results"),
    Action("tab(-1)", ("left_square_bracket",), "previous tab", "Open the tab before.", "results"),
    Action("open_tab('verdict')", ("1",), "verdict", "Show the verdict with its intervals and reasons.", "results"),
    Action("open_tab('items')", ("2",), "items", "List the eval items with their numbers, the worst first.", "results"),
    Action("open_tab('answers')", ("3",), "answers", "Show the answers to one item side by side.", "results"),
    Action("ask", ("a", "4"), "ask", "Ask the base, A and B something of your own.", "results", takes="PROMPT"),
    *(Action(f"open_tab('{pane.NAME}')", (pane.KEY,), pane.NAME, pane.HELP, "results") for pane in PANES),
    Action("item(1)", ("n",), "next item", "Show the answers to the next item of the list.", "results"),
    Action("item(-1)", ("N",), "previous item", "Show the answers to the item before.", "results"),
    Action("go_to_item", (), "item", "Show the answers to an item by its number.", "results", takes="NUMBER"),
    Action("comparison", ("b",), "next pair", "Look at the next candidate, then at controls, as B.", "results"),
    Action("metric", ("m",), "metric", "Compare the items by the next metric, or by one.", "results", takes="NAME"),
    Action("seed", ("full_stop",), "seed", "Show, and ask, the runs with the next seed.", "results"),
    Action(
        "system", (), "system", "Put a system turn before every prompt; without a text, none.", "results", takes="TEXT"
    ),
    Action("call_off", ("ctrl+c",), "call off", "Stop the question that is being answered.", "results", anywhere=True),
    Action("leave", ("escape",), "leave", "Leave the prompt box, or go from an item back to the list.", "results"),
)

_HINTS = {
    "verdict": "] next tab · a ask",
    "items": "enter answers · m metric · s sort",
    "answers": "n N next, previous item · . seed",
    "ask": "a type a prompt · . seed",
} | {pane.NAME: pane.HINT for pane in PANES}


class VerdictView(Vertical):
    """The result of one experiment, read and laid out in workers. `show_experiment(id)` shows another."""

    SCREEN_ACTIONS = RESULT_ACTIONS
    BINDINGS = bindings("results")
    DEFAULT_CSS = """
    VerdictView { background: $background; height: 1fr; }
    VerdictView > LineView { padding: 0 0 0 1; height: 1fr; }
    VerdictView > ItemsPane, VerdictView > AskPane { height: 1fr; }
    """

    @dataclass
    class _Opened(Message):
        shown: Finished

    @dataclass
    class _Laid(Message):
        tab: str
        lines: list[Line]
        about: object

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: Finished | None = None
        self._opening = ("", 0)
        self._pairs = 0
        self._seed = 0
        self._laid: dict[str, object] = {}

    def compose(self) -> ComposeResult:
        """The tabs and what lies under each."""
        yield Tabs(TABS)
        yield LineView(id="verdict")
        yield ItemsPane(id="items")
        yield LineView(id="answers")
        yield AskPane(id="ask")
        for pane in PANES:
            yield pane()

    def on_mount(self) -> None:
        """Begin with the verdict."""
        self._show_tab("verdict")

    # What is shown

    def show_experiment(self, id: str) -> None:
        """Show the result of a finished experiment: its id, the start of one, or its name."""
        self._show_tab("verdict")
        self._pairs = 0
        self._open(id, 0)

    def _open(self, id: str, number: int) -> None:
        """Read a result as its comparison `number`, and show it."""
        self._shown, self._opening = None, (id, number)
        self._laid.clear()
        self._seed = 0
        for view in ("#verdict", "#answers"):
            self.query_one(view, LineView).set_lines([])
        self.query_one("#verdict", LineView).set_lines([[("reading the result …", "muted")]])
        self.query_one(ItemsPane).clear()
        self.query_one(AskPane).show(None)
        for pane in self.query(ResultPane):
            pane.show(None)
        workspace = cast("WorkbenchApp", self.app).workspace

        def work(cancelled: Cancelled) -> Finished:
            from workbench.results import open_result  # it knows of statistics, which take a second to load

            return open_result(workspace, id, number)

        background(self, work, VerdictView._Opened, group="open")

    def on_verdict_view__opened(self, message: VerdictView._Opened) -> None:
        """Show it."""
        message.stop()
        self._shown, self._pairs = message.shown, len(message.shown.comparisons)
        self.query_one(AskPane).seed = 0
        self.query_one(AskPane).show(message.shown)
        self.query_one(ItemsPane).show(message.shown)
        for pane in self.query(ResultPane):
            pane.show(message.shown)
        self._lay_out()

    def on_failure(self, message: Failure) -> None:
        """Where there is no result, say so here too, and why."""
        self._laid.clear()  # what could not be shown may be asked for again
        if self._shown is None:
            told = wrap(message.text, max(self.size.width - _MARGIN, 20))
            self.query_one("#verdict", LineView).set_lines([[(line, "warning")] for line in told])

    @property
    def tab(self) -> str:
        """The name of the tab that is open."""
        return TABS[self.query_one(Tabs).open]

    @property
    def shown(self) -> Finished | None:
        """The result that is shown, where it is read already."""
        return self._shown

    @property
    def item(self) -> int | None:
        """The number of the item that the answers are shown of."""
        return self.query_one(ItemsPane).item

    def home(self) -> Widget:
        """What has the focus in the open tab when nothing else wants it."""
        ask = self.query_one(AskPane)
        homes: dict[str, Widget] = {
            "verdict": self.query_one("#verdict"), "items": self.query_one(ItemsPane).table,
            "answers": self.query_one("#answers"), "ask": ask.text,
        }  # fmt: skip
        return homes.get(self.tab) or self.query_one(f"#{self.tab}", ResultPane).home()

    def escape(self) -> bool:
        """Call off the question, leave the prompt box, or go back from an item to the list; False where there is none.

        For `BenchScreen.escape` of the screen that holds the view.
        """
        ask = self.query_one(AskPane)
        if self.tab == "ask" and ask.call_off():
            return True
        if ask.box.has_focus:
            ask.text.focus()
            return True
        if self.tab == "answers":
            self.action_open_tab("items")
            return True
        return any(pane.escape() for pane in self.query(ResultPane) if pane.display)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Some keys mean something at times only; else they belong to the screen or the app."""
        if not self.is_mounted or not self.query(Tabs):
            return True
        ask = self.query_one(AskPane)
        if action == "leave":
            return self.tab == "answers" or ask.box.has_focus or (self.tab == "ask" and ask.running is not None)
        if action == "call_off":
            return self.tab == "ask" and ask.running is not None
        return True

    def action_leave(self) -> None:
        """Leave one thing."""
        self.escape()

    def action_tab(self, by: int) -> None:
        """Open the next tab or the one before."""
        self.action_open_tab(TABS[(TABS.index(self.tab) + by) % len(TABS)])

    def action_open_tab(self, name: str) -> None:
        """Open a tab by name."""
        focused = self.has_focus_within
        self._show_tab(name)
        if focused:
            self.home().focus()
        self._lay_out()

    def on_tabs_picked(self, message: Tabs.Picked) -> None:
        """Open the tab that was clicked."""
        message.stop()
        self.action_open_tab(TABS[message.number])
        self.home().focus()

    def action_ask(self, prompt: str = "") -> None:
        """Ask, or type a prompt."""
        self.action_open_tab("ask")
        ask = self.query_one(AskPane)
        if prompt:
            ask.ask(prompt)
        else:
            ask.box.focus()

    def action_system(self, text: str = "") -> None:
        """Set the system turn of the questions that follow."""
        self.query_one(AskPane).set_system(text)
        self._say("A system turn stands before every prompt." if text else "Prompts are asked without a system turn.")

    def action_call_off(self) -> None:
        """Stop the question that is being answered."""
        self.query_one(AskPane).call_off()

    def action_item(self, by: int) -> None:
        """Go through the items in the order of the list."""
        if self.tab != "answers":
            self.action_open_tab("answers")
            return
        table = self.query_one(ItemsPane).table
        move = table.action_cursor_down if by > 0 else table.action_cursor_up
        move()

    def action_go_to_item(self, text: str = "") -> None:
        """Go to an item by its number."""
        items = len(self._shown.items) if self._shown else 0
        if not text.isdecimal() or int(text) >= items:
            self._say(f"Items go from 0 to {items - 1}: `:item 0`." if items else "There are no items.")
            return
        self.query_one(ItemsPane).go_to(int(text))
        self.action_open_tab("answers")

    def action_comparison(self) -> None:
        """Look at the next comparison of an experiment of many arms, also while one is being read."""
        id, number = self._opening
        if self._pairs > 1:
            self._open(id, (number + 1) % self._pairs)
        elif self._shown is not None:
            self._say("Two versions were compared: there is no other pair.")

    def on_arms_pane_pair_chosen(self, message: ArmsPane.PairChosen) -> None:
        """Show the verdict on that pair."""
        message.stop()
        if self._shown is not None:
            self._open(self._shown.id, message.number)
            self.action_open_tab("verdict")

    def action_metric(self, name: str = "") -> None:
        """Compare the items by the next metric, or the one that is named."""
        pane = self.query_one(ItemsPane)
        if not pane.compare_by(name) and self._shown is not None:
            self._say(f"Metrics: {', '.join(pane.metrics)}.")

    def action_seed(self) -> None:
        """Show the answers of the next seed; questions go to its runs too."""
        if self._shown is None:
            return
        self._seed = (self._seed + 1) % self._shown.most_seeds
        ask = self.query_one(AskPane)
        ask.seed = self._seed
        ask.tell()
        self._lay_out()
        if self._shown.most_seeds == 1:
            self._say("There is one seed.")

    # Items

    def on_items_pane_listed(self, message: ItemsPane.Listed) -> None:
        """Show the answers to the item that is first, where answers are shown."""
        message.stop()
        self._lay_out()

    def on_table_highlighted(self, message: Table.Highlighted) -> None:
        """Show the answers to that item, where answers are shown."""
        message.stop()
        self._lay_out()

    def on_table_chosen(self, message: Table.Chosen) -> None:
        """Open the answers."""
        message.stop()
        self.action_open_tab("answers")

    # Laying out

    def _show_tab(self, name: str) -> None:
        tabs = self.query_one(Tabs)
        tabs.open = TABS.index(name)
        tabs.note = _HINTS[name] + " "
        tabs.refresh()
        for tab in TABS:
            self.query_one(f"#{tab}").display = tab == name

    def on_resize(self) -> None:
        """Wrap again for another width."""
        self._lay_out()

    def _wanted(self, tab: str) -> tuple[object, ...] | None:
        """What the text of a tab is to be about now; None where it has no text, or its width is not known yet."""
        width = self.size.width - _MARGIN
        if self._shown is None or width < 4:
            return None
        if tab == "verdict":
            return self._shown.key, width
        if tab == "answers" and (item := self.item) is not None:
            return self._shown.key, width, item, self._seed
        return None

    def _lay_out(self) -> None:
        """Lay out the text of the open tab, where that was not done yet for what it is to show."""
        shown, tab = self._shown, self.tab
        about = self._wanted(tab)
        if shown is None or about is None or self._laid.get(tab) == about:
            return
        width, item = self.size.width - _MARGIN, self.item
        if tab == "verdict" or item is None:
            make = partial(verdict_lines, shown, width)
        else:
            make = partial(_item_lines, cast("WorkbenchApp", self.app).workspace, shown, item, self._seed, width)
        self._laid[tab] = about
        background(self, lambda cancelled: VerdictView._Laid(tab, make(), about), lambda laid: laid, group=tab)

    def on_verdict_view__laid(self, message: VerdictView._Laid) -> None:
        """Paint what was laid out, if it is still wanted; what failed meanwhile may have been something else."""
        message.stop()
        if message.about in (self._laid.get(message.tab), self._wanted(message.tab)):
            self._laid[message.tab] = message.about
            self.query_one(f"#{message.tab}", LineView).set_lines(message.lines)

    def _say(self, text: str) -> None:
        self.app.post_message(Said(text))


def _item_lines(workspace: Workspace, shown: Finished, item: int, seed: int, width: int) -> list[Line]:
    from workbench.results import item_answers

    return item_lines(shown, item_answers(workspace, shown, item, seed), width)
