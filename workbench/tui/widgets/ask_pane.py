"""A box to type a prompt in, and what the models of an experiment answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static, TextArea

from workbench.errors import Problem, Stopped
from workbench.tui.cells import flat, wrap
from workbench.tui.messages import Said
from workbench.tui.widgets.edit_dialog import Glyphs
from workbench.tui.widgets.line_view import Line, LineView
from workbench.tui.widgets.verdict_lines import Column, answer_note, columns, letter, turn_lines
from workbench.tui.workers import Cancelled, background

if TYPE_CHECKING:
    from workbench.asking import Given
    from workbench.jobs import Event, Wish
    from workbench.results import Finished
    from workbench.tui.app import WorkbenchApp

MOST = 50_000
"""Characters of a prompt that can be typed or pasted: the box lays a whole text out at once."""


@dataclass
class Question:
    """What was asked in this session, and what came of it so far. `seed` is the number of the run of each arm.

    `given` are whole answers by arm, `writing` the beginning of the one that is being written.
    """

    turns: list[dict[str, Any]]
    seed: int
    doing: str = "starting"
    given: dict[str, Given] = field(default_factory=dict)
    writing: dict[str, str] = field(default_factory=dict)
    running: bool = True
    called_off: bool = False


class PromptBox(TextArea):
    """Enter asks; ctrl+j begins a new line. Text is shown harmless and handed over as it was pasted."""

    @dataclass
    class Submitted(Message):
        """A prompt is to be asked."""

        text: str

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, tab_behavior="focus", compact=True, placeholder="a prompt of your own")
        self._glyphs = Glyphs("")

    @property
    def prompt(self) -> str:
        """What was typed and pasted."""
        return self._glyphs.read(self.text)

    def on_key(self, event: events.Key) -> None:
        """Ask, or begin a new line."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.prompt))
        elif event.key in ("ctrl+j", "shift+enter", "alt+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        pasted = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if len(self.text) + len(pasted) > MOST:
            self.app.post_message(Said(f"A prompt here has at most {MOST:,} characters."))
        elif Glyphs(pasted).legend:
            before = self.prompt
            self._glyphs = Glyphs(before + pasted)
            self.text = self._glyphs.show(before + pasted)
            self.move_cursor(self.document.end)
        else:
            self.insert(pasted)


class AskPane(Vertical):
    """A prompt box over the questions of this session, the newest first. One question is answered at a time."""

    DEFAULT_CSS = """
    AskPane PromptBox { height: auto; min-height: 1; max-height: 6; border: none; padding: 0 1; background: $panel; }
    AskPane PromptBox:focus { border: none; background-tint: transparent; }
    AskPane Static { height: auto; max-height: 3; color: $muted; padding: 0 1; }
    AskPane LineView { padding: 0 0 0 1; height: 1fr; }
    """

    @dataclass
    class _News(Message):
        question: Question

    @dataclass
    class _Laid(Message):
        lines: list[Line]
        width: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: Finished | None = None
        self._asked: dict[tuple[str, int], list[Question]] = {}
        self._system = ""
        self._laid_width = 0
        self.seed = 0

    def compose(self) -> ComposeResult:
        """The box, what holds for every question, and the answers."""
        yield PromptBox()
        yield Static(markup=False)
        yield LineView()

    @property
    def box(self) -> PromptBox:
        """Where a prompt is typed."""
        return self.query_one(PromptBox)

    @property
    def text(self) -> LineView:
        """What scrolls."""
        return self.query_one(LineView)

    def show(self, shown: Finished | None) -> None:
        """Ask the models of this experiment from now on; of none where it is None."""
        self._shown = shown
        self.text.set_lines([])
        self.tell()

    def tell(self) -> None:
        """Show how questions are asked now, and the questions there are."""
        about = "enter asks · ctrl+j new line · esc leaves"
        if self._shown is not None:
            seeds = [
                list(runs)[min(self.seed, len(runs) - 1)] for arm, runs in self._shown.runs.items() if arm != "base"
            ]
            about += f" · seed {', '.join(map(str, sorted(set(seeds))))} answers"
        if self._system:
            about += f"\nsystem turn: {flat(self._system[:300])}"
        self.query_one(Static).update(about)
        self.lay_out()

    def set_system(self, text: str) -> None:
        """Put a system turn before every prompt; none where `text` is empty."""
        self._system = text
        self.tell()

    # Asking

    @property
    def questions(self) -> list[Question]:
        """What was asked of this experiment in this session, the oldest first."""
        return self._asked.setdefault(self._shown.key, []) if self._shown else []

    @property
    def running(self) -> Question | None:
        """The question that is being answered."""
        return next((question for asked in self._asked.values() for question in asked if question.running), None)

    def on_prompt_box_submitted(self, message: PromptBox.Submitted) -> None:
        """Ask what was typed."""
        message.stop()
        if message.text.strip() and self.ask(message.text):
            self.box.text = ""

    def ask(self, prompt: str) -> bool:
        """Have a prompt answered by all models; False where another one still is, or none can be yet."""
        if self._shown is None:
            self.app.post_message(Said("There is no result yet whose models could be asked."))
            return False
        if self.running:
            self.app.post_message(Said("Another question is being answered; ctrl+c calls it off."))
            return False
        system = [{"role": "system", "content": self._system}] if self._system else []
        question = Question([*system, {"role": "user", "content": prompt}], self.seed)
        self.questions.append(question)
        self._start(self._shown, question)
        self.text.action_top()
        self.lay_out()
        return True

    def call_off(self) -> bool:
        """Stop the job that answers; False where none does."""
        if (question := self.running) is None:
            return False
        question.called_off = True
        question.doing = "being called off"
        self.lay_out()
        return True

    def _start(self, shown: Finished, question: Question) -> None:
        workspace = cast("WorkbenchApp", self.app).workspace
        post = self.post_message

        def work(cancelled: Cancelled) -> None:
            from workbench import asking

            def on_event(event: Event) -> None:
                if event["event"] == "stage":
                    arm = event.get("arm")
                    question.doing = f"{letter(str(arm), shown.arms)} answers" if arm else str(event["what"])
                elif event["event"] == "writing":
                    question.writing = {str(event["arm"]): str(event["text"])}
                elif event["event"] == "answer":
                    question.given = asking.answers(asked)
                post(AskPane._News(question))

            def wish() -> Wish:
                return "stop" if question.called_off else "leave" if cancelled() else "watch"

            try:
                asked = asking.prepare_question(
                    workspace, shown.id, question.turns, seed=question.seed, number=shown.number
                )
                question.given = asking.answers(asked)
                asking.ask(asked, on_event, wish)
                question.given = asking.answers(asked)
                question.doing = ""
            except Stopped:
                question.doing = "called off; asked again, it goes on"
            except Exception as error:
                question.doing = str(error) if isinstance(error, Problem) else "something went wrong"
                raise
            finally:
                question.running = False
                post(AskPane._News(question))

        background(self, work, lambda _: None)

    def on_ask_pane__news(self, message: AskPane._News) -> None:
        """Show how far the question is."""
        message.stop()
        self.lay_out()

    # Showing

    def on_resize(self) -> None:
        """Wrap again for another width."""
        if self.size.width != self._laid_width:
            self.lay_out()

    def lay_out(self) -> None:
        """Show the questions, the newest first."""
        shown, width = self._shown, self.size.width - 2  # a margin on the left, the scroll bar on the right
        if shown is None or width < 4:
            return
        self._laid_width = self.size.width
        questions = list(reversed(self.questions))

        def work(cancelled: Cancelled) -> AskPane._Laid:
            return AskPane._Laid(question_lines(shown, questions, width), width)

        background(self, work, lambda laid: laid, group="lay-out")

    def on_ask_pane__laid(self, message: AskPane._Laid) -> None:
        """Paint what was laid out; what was being read stays in view."""
        message.stop()
        self.text.set_lines(message.lines, int(self.text.scroll_offset.y))


def question_lines(shown: Finished, questions: Sequence[Question], width: int) -> list[Line]:
    """Questions with the answers that are there, in `width` cells."""
    if not questions:
        return [
            [("What do the models make of a prompt of your own?", "text")],
            [("The base, A and B answer it as they answered the eval set.", "muted")],
        ]
    lines: list[Line] = []
    for question in questions:
        lines += turn_lines(question.turns, width)[:-1]
        if question.doing:
            told = ("… " if question.running else "") + question.doing
            lines += [[(piece, "warning")] for piece in wrap(told, width)]
        lines.append([])
        answers = []
        for arm, runs in shown.runs.items():
            if (given := question.given.get(arm)) is not None:
                seed = list(runs)[min(question.seed, len(runs) - 1)]
                note = f"{answer_note(given.finish, arm, seed)} · {given.tokens:,} tokens"
                answers.append(Column(letter(arm, shown.arms), note, given.text))
            elif question.running:
                answers.append(Column(letter(arm, shown.arms), "", question.writing.get(arm, "") + "…"))
        lines += columns(answers, width)
        lines.append([("─" * width, "muted")])
    return lines
