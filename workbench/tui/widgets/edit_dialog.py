"""Editing a conversation in place: every turn its role and its text; the row as it was is kept."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from trainer.conversation import Message, canonical_json
from workbench.errors import BadInput
from workbench.formats.turns import ROLES
from workbench.text import safe_text
from workbench.tui.cells import flat
from workbench.tui.widgets.dialogs import confirm, dialogue

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

MOST = 200_000
"""Characters of a conversation that can be edited here: the editor lays a whole text out at once."""


class Glyphs:
    """One visible glyph for each character of a text that a terminal would obey, and the way back.

    An editor shows text as it is, so what it gets must be harmless, and what it gives back must be the same text.
    """

    def __init__(self, text: str) -> None:
        hostile = sorted({char for char in text if char not in "\n\t" and safe_text(char) != char})
        free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
        self._there: dict[int, str] = {}
        for char in hostile:
            picture = safe_text(char)
            usable = len(picture) == 1 and picture not in text and picture not in self._there.values()
            self._there[ord(char)] = picture if usable else next(free)
        self._back = {ord(glyph): chr(code) for code, glyph in self._there.items()}

    def show(self, text: str) -> str:
        """`text` with glyphs."""
        return text.translate(self._there)

    def read(self, shown: str) -> str:
        """The text that is shown so."""
        return shown.translate(self._back)

    @property
    def legend(self) -> str:
        """What the glyphs stand for; empty where there are none."""
        named = (
            f"{glyph} U+{code:04X} {unicodedata.name(chr(code), '')}".strip() for code, glyph in self._there.items()
        )
        return ", ".join(named)


class _Turn(Vertical):
    """One turn: a role over a text. Content that is no string is edited as JSON."""

    def __init__(self, message: Message, glyphs: Glyphs) -> None:
        super().__init__()
        self._message = message
        self._glyphs = glyphs
        self._is_text = isinstance(message.get("content", ""), str)

    def compose(self) -> ComposeResult:
        content = self._message.get("content", "")
        text = content if self._is_text else json.dumps(content, ensure_ascii=False, indent=1)
        yield Input(self._glyphs.show(str(self._message["role"])), compact=True)
        yield TextArea(self._glyphs.show(text), soft_wrap=True, tab_behavior="focus", compact=True)

    def message(self) -> Message:
        """The turn as it was edited, its other fields as they were.

        Raises BadInput where JSON was broken, or the role was made one that no import takes.
        """
        text = self._glyphs.read(self.query_one(TextArea).text)
        role = self._glyphs.read(self.query_one(Input).value).strip()
        if role != self._message["role"] and (role := ROLES.get(given := role.lower(), "")) == "":
            known = ", ".join(dict.fromkeys(ROLES.values()))
            raise BadInput(f"There is no role {given!r}", do=f"A turn is one of {known}.")
        edited = {**self._message, "role": role}
        if self._is_text:
            if text or "content" in self._message:
                edited["content"] = text
            return edited
        try:
            edited["content"] = json.loads(text)
        except ValueError as error:
            raise BadInput(f"the content of the turn of {role} is no JSON any more: {error}") from None
        return edited


class EditDialog(ModalScreen[list[Message] | None]):
    """The turns of one row. Gives the edited turns, or None where nothing was changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "save", show=False, priority=True),
        Binding("escape", "give_up", "cancel", show=False, priority=True),
        Binding("ctrl+n", "add_turn", "add turn", show=False, priority=True),
        Binding("ctrl+x", "remove_turn", "remove turn", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    EditDialog { align: center middle; background: $background 60%; }
    EditDialog > Vertical {
        width: 100; max-width: 98%; height: 94%; padding: 0 1; background: $surface;
        border: round $border; border-title-color: $foreground; border-title-style: bold; border-subtitle-color: $muted;
    }
    EditDialog VerticalScroll { scrollbar-size-vertical: 1; }
    EditDialog _Turn { height: auto; margin: 0 0 1 0; }
    EditDialog Input { border: none; height: 1; padding: 0; background: $surface; color: $accent; text-style: bold; }
    EditDialog Input:focus { border: none; background: $panel; background-tint: transparent; }
    EditDialog TextArea { height: auto; min-height: 2; max-height: 24; border: none; padding: 0 1; background: $panel; }
    EditDialog TextArea:focus { border: none; background-tint: transparent; }
    EditDialog #legend { height: auto; color: $muted; }
    EditDialog #wrong { height: auto; color: $error; display: none; }
    """

    def __init__(self, title: str, messages: Sequence[Message]) -> None:
        super().__init__()
        self._title = title
        self._messages = [dict(message) for message in messages]
        self._glyphs = Glyphs(_all_text(messages))

    def compose(self) -> ComposeResult:
        """A box of turns."""
        with Vertical() as box:
            box.border_title = Text(flat(self._title))
            box.border_subtitle = "ctrl+s save · esc cancel · tab next · ctrl+n new turn · ctrl+x remove"
            yield Static(id="wrong", markup=False)
            with VerticalScroll(can_focus=False):
                for message in self._messages:
                    yield _Turn(message, self._glyphs)
            if self._glyphs.legend:
                yield Static(f"stand for: {self._glyphs.legend}", id="legend", markup=False)

    def on_mount(self) -> None:
        """Begin in the last answer: it is what is mostly wrong."""
        answers = [turn for turn in self.query(_Turn) if turn.query_one(Input).value == "assistant"]
        (answers or list(self.query(_Turn)))[-1].query_one(TextArea).focus()
        self.call_after_refresh(cast("WorkbenchApp", self.app).release_keys)

    def action_save(self) -> None:
        """Give what was edited."""
        try:
            edited = [turn.message() for turn in self.query(_Turn)]
            if not any(message["role"] == "assistant" for message in edited):
                raise BadInput("No assistant turn is left", do="Keep an answer, or drop the row instead.")
        except BadInput as error:
            wrong = self.query_one("#wrong", Static)
            wrong.update(str(error))
            wrong.display = True
            return
        self.dismiss(edited if edited != self._messages else None)

    @dialogue
    async def action_give_up(self) -> None:
        """Close; what was typed is only thrown away after asking."""
        try:
            changed = [turn.message() for turn in self.query(_Turn)] != self._messages
        except BadInput:
            changed = True
        if not changed or await confirm(self.app, "Throw the changes away?"):
            self.dismiss(None)

    async def action_add_turn(self) -> None:
        """Put a turn behind the one that has the focus, of the side whose turn it is."""
        turn = self._focused()
        role = "user" if turn and turn.query_one(Input).value == "assistant" else "assistant"
        added = _Turn({"role": role, "content": ""}, self._glyphs)
        await self.query_one(VerticalScroll).mount(added, after=turn)
        added.query_one(TextArea).focus()

    async def action_remove_turn(self) -> None:
        """Take the turn that has the focus away."""
        turns = list(self.query(_Turn))
        if (turn := self._focused()) and len(turns) > 1:
            at = turns.index(turn)
            turns[at - 1 if at else 1].query_one(TextArea).focus()
            await turn.remove()

    def _focused(self) -> _Turn | None:
        return next(
            (node for node in (self.focused.ancestors if self.focused else []) if isinstance(node, _Turn)), None
        )


def _all_text(messages: Sequence[Message]) -> str:
    """All that is shown of the turns, for finding what is in it."""
    contents = [message.get("content", "") for message in messages]
    texts = [content if isinstance(content, str) else canonical_json(content) for content in contents]
    return "\n".join([*(str(message["role"]) for message in messages), *texts])
