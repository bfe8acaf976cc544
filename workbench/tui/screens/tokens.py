"""Tokens: one row as the trainer gets it, and why each token is trained or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from trainer.chat import Issue
from workbench.report.tokens import cut_border
from workbench.store.detail import ExampleDetail
from workbench.tables import ENDINGS
from workbench.token_facts import Counts, Page, counts, issue_token, token_rows, write_tokens
from workbench.token_heat import Losses
from workbench.tokens import Lens, Seen
from workbench.tui.actions import bindings
from workbench.tui.cells import flat
from workbench.tui.heat_watch import Heated, HeatTold, HeatWatch, ask_under
from workbench.tui.lens_dialogs import (
    LensChange,
    ask_arguments,
    ask_limit,
    ask_model,
    ask_model_name,
    ask_policy,
    ask_template,
    ask_truncation,
)
from workbench.tui.messages import Failure, Said
from workbench.tui.row_look import LensRead, Looked, RowLook
from workbench.tui.screen import BenchScreen
from workbench.tui.screens.tokens_actions import TOKENS_ACTIONS
from workbench.tui.widgets.dialogs import ask_text, dialogue
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.token_head import head_text
from workbench.tui.widgets.token_layout import Layout, lay_out
from workbench.tui.widgets.token_panel import TokenPanel, TokenPlace, issue_told
from workbench.tui.widgets.token_view import TokenView
from workbench.tui.workers import Cancelled, background


@dataclass
class _Laid(Message):
    page: Page
    layout: Layout


Ask = Callable[[App[Any], Lens, str], Awaitable[LensChange | None]]


class TokensScreen(BenchScreen):
    """One row of a source or version as tokens. It lies over the screen that opened it."""

    NAME = "tokens"
    SCREEN_ACTIONS = TOKENS_ACTIONS
    BINDINGS = bindings("tokens")
    HINTS = ("help", "issue(1)", "policy", "model", "heat", "whitespace", "row(1)", "back", "truncation", "limit")
    DEFAULT_CSS = """
    TokensScreen #head { height: auto; max-height: 5; padding: 0 1; color: $muted; }
    TokensScreen #panes { height: 1fr; layout: vertical; }
    TokensScreen TokenView { height: 1fr; }
    TokensScreen LineView { height: 6; padding: 0 0 0 1; border-top: solid $rule; }
    TokensScreen LineView:focus { border-top: solid $border; }
    TokensScreen.-high LineView { height: 10; }
    TokensScreen.-wide {
        & #panes { layout: horizontal; }
        & TokenView { width: 1fr; height: 100%; }
        & LineView { width: 38%; height: 100%; border-top: none; border-left: solid $rule; }
        & LineView:focus { border-top: none; border-left: solid $border; }
    }
    """

    def __init__(self, name: str, id: int) -> None:
        """Of source or version `name`, example `id`."""
        super().__init__()
        self._base = name
        self._example_id = id
        self._detail: ExampleDetail | None = None
        self._seen: Seen | None = None
        self._pages: list[Page] = []
        self._page = 0
        self._goal: int | None = None
        self._issue: int | None = None
        self._counts: Counts | None = None
        self._before: Counts | None = None
        self._whitespace = False
        self._losses: list[Losses] = []
        self._heat_name = ""

    def body(self) -> ComposeResult:
        """What is seen, in a few lines; the tokens; the one under the cursor with the row's issues."""
        yield Static(id="head", markup=False)
        with Horizontal(id="panes"):
            yield TokenView()
            yield TokenPanel()

    def home(self) -> Widget:
        """The tokens."""
        return self.view

    @property
    def view(self) -> TokenView:
        """The tokens."""
        return self.query_one(TokenView)

    @property
    def page(self) -> Page | None:
        """The training example in view."""
        return self._pages[self._page] if self._pages else None

    def on_mount(self) -> None:
        """Tokenise the row."""
        super().on_mount()
        self._look = RowLook(self, self.bench.workspace, self._base)
        self._heat = HeatWatch(self, self.bench.workspace)
        self._begin()

    # Looking at a row

    @property
    def _lens(self) -> Lens | None:
        return self._look.lens

    def _begin(self) -> None:
        told = "Reading the tokenizer … the first time takes some seconds."
        self.query_one("#head", Static).update(Text(f"{flat(self._base)} · example {self._example_id}\n\n{told}"))
        self.progress("reading the tokenizer …")
        self._look.at(self._example_id)

    @on(LensRead)
    def _read(self, message: LensRead) -> None:
        self._look.begin(message)
        self.progress("tokenising …")

    @on(Looked)
    def _show(self, message: Looked) -> None:
        same_model = self._lens is not None and self._lens.model == message.lens.model
        self._look.take(message)
        self.progress("tokenising …" if self._look.asked else "")
        same_row = self._detail is not None and self._detail.id == message.detail.id
        same_ids = [_reached(page) for page in self._pages] == [_reached(page) for page in message.pages]
        self._before = self._counts if same_row and message.told else None
        self._counts = counts(message.seen)
        self._detail, self._seen, self._pages, self._issue = message.detail, message.seen, message.pages, None
        if not (same_ids and same_model):
            self._losses, self._page = [], 0
        self._lay_out(None if same_ids else 0)
        if not message.told:
            self.say("")  # what was said is of another row
        elif self._before:
            before, now = self._before, self._counts
            total = f"{now.total:,}" if now.total == before.total else f"{before.total:,} → {now.total:,}"
            self.say(f"{message.told}: trained {before.trained:,} → {now.trained:,}, of {total} tokens.")
        else:
            self.say(f"{message.told}.")
        for error in message.failed.values():
            self.bench.post_message(Failure(error))  # not by way of the screen: what is still asked for goes on

    def _lay_out(self, cursor: int | None = None) -> None:
        """Lay the example out in a worker; the cursor goes to a token, or stays where it is by then."""
        self._goal = self._goal if cursor is None else cursor
        page, width, whitespace = self.page, self.view.room, self._whitespace
        if page is None:
            self.view.set_page(None, Layout(0, []))
            self._describe()
            return
        border = cut_border(page.cut, self._lens.limit) if page.cut and self._lens else None

        def work(cancelled: Cancelled) -> _Laid:
            return _Laid(page, lay_out(page.example, width, whitespace=whitespace, border=border))

        background(self, work, lambda laid: laid, group="lay")

    @on(_Laid)
    def _paint(self, message: _Laid) -> None:
        if message.page is self.page:
            at = self.view.cursor if self._goal is None else self._goal
            self._goal = None
            self.view.set_page(message.page, message.layout, at)
            self.view.set_losses(self._losses[self._page] if self._losses else None)
            self._describe()

    @on(TokenView.Widened)
    def _widened(self) -> None:
        self._lay_out()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the words beside the tokens."""
        self.call_after_refresh(self._describe)

    @on(TokenView.Moved)
    @on(LineView.Widened)
    def _moved(self) -> None:
        self._describe_token()

    # What is told

    def _describe(self) -> None:
        """Say what is seen through which lens."""
        if self._lens is None or self._counts is None or self._detail is None:
            return
        where = [self._base, f"{self._detail.source} row {self._detail.row:,}", f"example {self._example_id}"]
        heat = (self._heat_name, self._losses[self._page]) if self._losses else None
        text = head_text(where, self._lens, self.page, self._counts, self._before, heat)
        text.stylize(self.app.theme_variables["foreground"], text.plain.index("\n"))
        self.query_one("#head", Static).update(text)
        self._describe_token()

    def _describe_token(self) -> None:
        if self._lens is None or self._seen is None or self._detail is None:
            return
        losses = self._losses[self._page] if self._losses else None
        at = TokenPlace(self.page, self.view.cursor, self._lens, self._detail.messages, losses) if self.page else None
        apart = self.has_class("-wide", "-high")
        self.query_one(TokenPanel).show(at, self._seen.issues, self._issue, apart=apart)

    # Going about

    def action_issue(self, by: int) -> None:
        """Go to another issue."""
        issues: Sequence[Issue] = self._seen.issues if self._seen else []
        if not issues:
            self.say("This row has no issues." if self._seen else "Its tokens are not there yet.")
            return
        first = 0 if by > 0 else len(issues) - 1
        self._issue = first if self._issue is None else (self._issue + by) % len(issues)
        issue = issues[self._issue]
        for place in [self._page, *range(len(self._pages))] if self._pages else []:
            token = issue_token(self._pages[place], issue)
            if token is not None:
                self._go_to(place, token)
                break
        self._describe_token()
        self.say(f"issue {self._issue + 1} of {len(issues)}: {issue_told(issue)}")

    def _go_to(self, page: int, token: int) -> None:
        if page == self._page and self.view.page is self.page:
            self.view.move_to(token, top=True)
        else:  # also where this page is still being laid out: the cursor would go back to where that began
            self._page = page
            self._lay_out(token)

    def action_example(self, by: int) -> None:
        """Show another training example of the row."""
        if 0 <= self._page + by < len(self._pages):
            self._go_to(self._page + by, 0)
        else:
            self.say(f"This row is {len(self._pages)} training example{'s' * (len(self._pages) != 1)}.")

    def action_row(self, by: int) -> None:
        """Show another row of the list below."""
        lists = self.app.screen_stack[-2].query(RowList) if len(self.app.screen_stack) > 1 else None
        if not lists:
            self.say("This row was not opened from a list.")
            return
        rows = lists.first()
        before = rows.cursor
        rows.action_move(by)
        if rows.cursor == before:
            self.say(f"This is the {'last' if by > 0 else 'first'} row of the list.")
        else:
            self._follow(rows, rows.cursor)

    def _follow(self, rows: RowList, position: int, tries: int = 100) -> None:
        """Show the row that a list has come to, as soon as it is known."""
        if rows.cursor == position and rows.current is not None:
            self._example_id = rows.current.id
            self._page = 0
            self._look.at(self._example_id)
        elif rows.cursor == position and tries:
            self.set_timer(0.05, lambda: self._follow(rows, position, tries - 1))

    def action_whitespace(self) -> None:
        """Show spaces as glyphs or not."""
        self._whitespace = not self._whitespace
        self._lay_out()

    def escape(self) -> bool:
        """Stop measuring; else back to the tokens; else take the losses away."""
        if self._heat.measuring:
            self._heat.stop()
            self.progress("")
            self.say("Stopped measuring.")
        elif self.focused is not self.view:
            self.focus_home()
        elif self._losses:
            self._losses = []
            self.view.set_losses(None)
            self._describe()
        else:
            return False
        return True

    # Another lens

    async def _ask(self, ask: Ask, given: str) -> None:
        """Ask how to see the row, unless that is `given`, and see it so."""
        if self._lens is not None and (change := await ask(self.app, self._lens, given)):
            self.progress("tokenising …")
            self._look.at(self._example_id, change)

    @dialogue
    async def action_model(self, model: str = "") -> None:
        """See the row as another model does."""
        if self._lens is not None:
            await self._ask(ask_model, model)
        elif model := model or await ask_model_name(self.app):  # the one to begin with could not be had
            self._look.model = model
            self._begin()

    @dialogue
    async def action_policy(self, choice: str = "") -> None:
        """Choose what is trained."""
        await self._ask(ask_policy, choice)

    @dialogue
    async def action_template(self, template: str = "") -> None:
        """Write the row by another template."""
        await self._ask(ask_template, template)

    @dialogue
    async def action_template_arguments(self, given: str = "") -> None:
        """Give the chat template arguments."""
        await self._ask(ask_arguments, given)

    @dialogue
    async def action_truncation(self, how: str = "") -> None:
        """Choose what becomes of longer rows."""
        await self._ask(ask_truncation, how)

    @dialogue
    async def action_limit(self, number: str = "") -> None:
        """Set the limit."""
        await self._ask(ask_limit, number)

    # Heat

    @dialogue
    async def action_heat(self) -> None:
        """Measure losses, under the base or an adapter."""
        if self._heat.measuring:
            self.say("Losses are being measured: esc stops that.")
            return
        if self._lens is None or not self._pages:
            self.say("There are no tokens to measure.")
            return
        lens, shown = self._lens, self._pages
        if under := await ask_under(self.app, self.bench.workspace, lens):
            self.progress("starting to measure … esc stops")
            self._heat.start(lens, shown, under)

    @on(HeatTold)
    def _heat_told(self, message: HeatTold) -> None:
        if self._heat.measuring:
            self.progress(f"{message.text} · esc stops")

    @on(Heated)
    def _show_heat(self, message: Heated) -> None:
        self._heat.measuring = False
        self.progress("")
        if [_reached(page) for page in message.pages] != [_reached(page) for page in self._pages]:
            return  # another row by now; what was measured is kept for when it is asked for again
        self._losses, self._heat_name = message.losses, message.name
        self.view.set_losses(self._losses[self._page])
        self._describe()

    def on_failure(self) -> None:
        """Nothing is waited for any more; the app tells what was wrong."""
        self._heat.measuring = False
        self._look.give_up()
        self.progress("")
        if self._seen is None:
            self.query_one("#head", Static).update("No tokens of this row could be shown. m takes another model.")

    # Out of the app

    @dialogue
    async def action_export_tokens(self, file: str = "") -> None:
        """Write the tokens to a file."""
        if self._lens is None or not self._pages:
            return
        shown, losses, tokenizer = self._pages, self._losses, self._lens.tokenizer
        asked = f"One line a token, as {ENDINGS}."
        file = file or await ask_text(self.app, "Write the tokens to", "tokens.csv", detail=asked) or ""
        if not file:
            return
        path = Path(file).expanduser()

        def work(cancelled: Cancelled) -> Said:
            return Said(f"Wrote {write_tokens(token_rows(shown, tokenizer, losses), path):,} tokens to {path}.")

        background(self, work, lambda said: said, group="export")


def _reached(page: Page) -> tuple[list[int], tuple[int, int]]:
    """What the losses of a page depend on, beside the model."""
    return page.example.input_ids, page.left
