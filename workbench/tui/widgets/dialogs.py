"""Questions to a person, asked over the screen: a line of text, a choice, a yes. Awaited from a `dialogue` worker.

@dialogue
async def action_drop(self) -> None:
    reason = await ask_text(self.app, "Drop 3 rows: why?")
    if reason is not None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, cast

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from workbench.tui.cells import flat
from workbench.tui.messages import Failure
from workbench.tui.resizes import tell_sizes

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

T = TypeVar("T")

_CHOICE, _WIDE_CHOICE = 72, 112  # cells of a list to choose from: as wide as its longest line, between these

_P = ParamSpec("_P")


def dialogue(action: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Make an async action of a widget, screen or app one that may ask: it runs as a worker of its own.

    Keys that are typed ahead, before the question stands, wait for it: `x` and a reason typed at once never act on
    the rows below. A failure is told like any other.
    """

    @wraps(action)
    def start(*args: _P.args, **kwargs: _P.kwargs) -> None:
        node = cast(DOMNode, args[0])
        bench = cast("WorkbenchApp", node.app)

        async def run() -> None:
            try:
                await action(*args, **kwargs)
            except Exception as error:
                node.post_message(Failure(error))
            finally:
                bench.release_keys(hold)

        hold = bench.hold_keys()
        node.run_worker(run(), exit_on_error=False)

    return start


class Dialog(ModalScreen[T | None], Generic[T]):
    """A box in the middle of the screen; esc gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "cancel", show=False)]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical {
        width: 72; max-width: 96%; height: auto; max-height: 90%; padding: 0 1;
        background: $surface; border: round $border; border-title-color: $foreground; border-title-style: bold;
        border-subtitle-color: $muted;
    }
    Dialog .detail { color: $muted; width: 100%; margin: 0 0 1 0; }
    Dialog Input { background: $panel; border: none; height: 1; padding: 0 1; }
    Dialog Input:focus { border: none; background-tint: transparent; }
    Dialog OptionList {
        height: auto; max-height: 18; border: none; padding: 0; background: $surface;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    Dialog OptionList:focus { border: none; background-tint: transparent; }
    """

    def __init__(self, title: str, detail: str = "", foot: str = "enter ok · esc cancel") -> None:
        super().__init__()
        self._title = title
        self._detail = detail
        self._foot = foot

    def compose(self) -> ComposeResult:
        """The box with its heading, and what the kind of dialog puts into it."""
        with Vertical() as box:
            box.border_title = Text(flat(self._title))  # a string would be parsed as markup
            box.border_subtitle = Text(flat(self._foot))
            if self._detail:
                lines = [flat(line) for line in self._detail.split("\n")]
                yield Static(Text("\n".join(lines)), classes="detail", markup=False)
            yield from self.inside()

    def on_mount(self) -> None:
        """Take the keys that were typed ahead, once there is a focus to take them."""
        tell_sizes(self)
        self.call_after_refresh(cast("WorkbenchApp", self.app).release_keys)

    def inside(self) -> ComposeResult:
        """What is asked."""
        raise NotImplementedError

    def action_give_up(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class _AskText(Dialog[str]):
    def __init__(self, title: str, default: str, detail: str, placeholder: str) -> None:
        super().__init__(title, detail)
        self._default = default
        self._placeholder = placeholder

    def inside(self) -> ComposeResult:
        yield Input(self._default, placeholder=self._placeholder, compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)


class _Choose(Dialog[str]):
    def __init__(self, title: str, options: Sequence[tuple[str, str]], detail: str) -> None:
        super().__init__(title, detail, "enter chooses · esc cancel")
        self._options = options

    def inside(self) -> ComposeResult:
        yield OptionList(*(Option(Text(flat(label))) for _, label in self._options))

    def on_mount(self) -> None:
        super().on_mount()
        widest = max((cell_len(flat(label)) for _, label in self._options), default=0)
        self.query_one(Vertical).styles.width = min(max(widest + 5, _CHOICE), _WIDE_CHOICE)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._options[event.option_index][0])


class _Confirm(Dialog[bool]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "yes", show=False),
        Binding("n", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(title, detail, "y or enter: yes · n or esc: no")

    def inside(self) -> ComposeResult:
        return
        yield

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


async def ask_text(
    app: App[Any], title: str, default: str = "", *, detail: str = "", placeholder: str = ""
) -> str | None:
    """A line of text without spaces around it; None where the question was called off or the line left empty."""
    answer = await app.push_screen_wait(_AskText(title, default, detail, placeholder))
    return (answer or "").strip() or None


async def choose(app: App[Any], title: str, options: Sequence[tuple[str, str]], *, detail: str = "") -> str | None:
    """The value of the option that was chosen; `options` are (value, label)."""
    return await app.push_screen_wait(_Choose(title, options, detail))


async def confirm(app: App[Any], title: str, detail: str = "") -> bool:
    """Whether the answer was yes."""
    answer: bool | None = await app.push_screen_wait(_Confirm(title, detail))
    return answer is True
