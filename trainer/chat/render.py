"""Conversations to text, with the tokenizer's own chat template and nothing else.

`transformers` renders; what is added here: messages are handed over in the form that templates expect, the day
that `strftime_now` sees is frozen, and whatever a template raises becomes a RenderError.
"""

from __future__ import annotations

import copy
import datetime
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.conversation import Message, content_text
from trainer.errors import BadInput, ModelUnavailable, UsageProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OURS = frozenset({"train", "train_spans"})
"""Message keys that mean something to us and nothing to a chat template."""


class RenderError(BadInput):
    """A chat template refused a conversation, or could not cope with it."""


def frozen_dates(template: str, day: datetime.date) -> str:
    """`template` (Jinja source) with `strftime_now` seeing `day` at midnight instead of the clock.

    transformers binds `strftime_now` to the clock inside its compiled templates, and turns callables that are
    passed in into inert text. A macro of that name, defined ahead of the template, goes before the global.
    """
    if "strftime_now" not in template:
        return template
    moment = datetime.datetime.combine(day, datetime.time())
    directives = [f"%-{letter}" for letter in "dmHIMSj"] + [f"%{letter}" for letter in "aAbBcdDeFGHIjmMpSTuUVwWxXyY"]
    replaced = "".join(f"|replace({json.dumps(d)}, {json.dumps(moment.strftime(d))})" for d in directives)
    # The newline goes with the block tag before it (trim_blocks), so the template begins at a line's start as before.
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}\n{template}"


def dict_arguments(message: Message) -> Message:
    """`message` with the arguments of its tool calls as dicts, which most templates expect."""
    return _with_arguments(message, _parsed)


def text_arguments(message: Message) -> Message:
    """`message` with the arguments of its tool calls as JSON text, which some templates (DeepSeek-V3) expect."""
    return _with_arguments(message, _as_text)


def _as_text(given: object) -> object:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _parsed(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        value = json.loads(given)
    except ValueError:
        return given  # not JSON: the template may still show it as it is
    return value if isinstance(value, dict) else given


def _with_arguments(message: Message, convert: Callable[[object], object]) -> Message:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    converted = []
    for call in calls:
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict) and "arguments" in function:
            call = {**call, "function": {**function, "arguments": convert(function["arguments"])}}
        elif isinstance(call, dict) and "arguments" in call:
            call = {**call, "arguments": convert(call["arguments"])}
        converted.append(call)
    return {**message, "tool_calls": converted}


def _is_all_text(content: object) -> bool:
    """Whether `content` is a list of parts that are all text."""
    return isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content)


class Renderer:
    """One tokenizer's chat template under fixed arguments and a fixed day."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, args: Mapping[str, Any], date: str | None) -> None:
        if not tokenizer.chat_template:
            raise ModelUnavailable(
                "its tokenizer has no chat template, so nobody can say how it writes a conversation",
                where=f"model {tokenizer.name_or_path or type(tokenizer).__name__}",
                do="Use the model's instruct variant, or say how to write one: "
                "--template chatml, alpaca, vicuna, llama-2, zephyr or a Jinja file.",
            )
        reserved = inspect.signature(tokenizer.apply_chat_template).parameters.keys() | {"messages", "strftime_now"}
        if taken := sorted(reserved & args.keys()):
            raise UsageProblem(f"{', '.join(taken)} cannot be a template argument", do="Leave it out.")
        try:
            self.day = datetime.date.fromisoformat(date) if date else datetime.date.today()
        except ValueError as error:
            raise UsageProblem(f"{date!r} is not a date", do="Write it as YYYY-MM-DD.") from error
        self.tokenizer = tokenizer
        self.args = dict(args)
        self.parts = False
        """Whether the template reads content only as a list of parts (some vision models' do)."""
        self.joins_parts = False
        """Whether it reads content only as text; some would print a list as Python does, others nothing at all."""
        self._templates: dict[bool, str] = {}

    def template(self, with_tools: bool) -> str:
        """The Jinja source in use, dates frozen; some tokenizers have one of its own for tools."""
        if with_tools not in self._templates:
            source = self.tokenizer.get_chat_template(tools=[{}] if with_tools else None)
            self._templates[with_tools] = frozen_dates(source, self.day)
        return self._templates[with_tools]

    def with_source(self, source: str) -> Renderer:
        """A renderer like this one for another template (Jinja source), with its dates frozen too."""
        other = copy.copy(self)
        other._templates = dict.fromkeys((False, True), frozen_dates(source, self.day))
        return other

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Any] | None = None,
        *,
        generation_prompt: bool = False,
        args: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of `messages`. `args` replace the renderer's own. Raises RenderError."""
        given = [self._for_template(message) for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                given,
                tools=list(tools) if tools else None,
                chat_template=self.template(bool(tools)),
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **(self.args if args is None else args),
            )
        except Exception as error:
            # A template is a program of the model's author: it may raise anything, from its own refusals to
            # type errors over content it did not foresee.
            reason = " ".join(str(error).split())[:200]
            raise RenderError(f"the chat template fails: {reason or type(error).__name__}") from error
        return str(text)

    def _for_template(self, message: Message) -> Message:
        given = {key: value for key, value in message.items() if key not in _OURS}
        if self.parts and isinstance(given.get("content"), str):
            given["content"] = [{"type": "text", "text": given["content"]}]
        elif self.joins_parts and _is_all_text(given.get("content")):
            given["content"] = content_text(given["content"])
        return given


class Conversation:
    """One row's renderings, each made at most once."""

    def __init__(
        self,
        renderer: Renderer,
        messages: Sequence[Message],
        tools: Sequence[Any] | None,
        args: Mapping[str, Any],
        *,
        prompt: bool = False,
    ) -> None:
        """Render all of it, with `prompt` as inference hands it over. Raises RenderError where that fails."""
        self.renderer = renderer
        self.args = args
        self.tools = tools or None
        self._known: dict[tuple[int, bool, str], str] = {}
        self.messages = [dict_arguments(message) for message in messages]
        try:
            self.whole = self.upto(len(messages), prompt=prompt)
        except RenderError:
            if not any(message.get("tool_calls") for message in messages):
                raise
            self.messages = [text_arguments(message) for message in messages]
            self.whole = self.upto(len(messages), prompt=prompt)

    def upto(self, count: int, *, prompt: bool = False, args: Mapping[str, Any] | None = None) -> str:
        """The first `count` messages; with `prompt` as inference hands them over. Raises RenderError."""
        args = self.args if args is None else args
        key = (count, prompt, repr(args))
        if key not in self._known:
            self._known[key] = self.renderer.render(
                self.messages[:count], self.tools, generation_prompt=prompt, args=args
            )
        return self._known[key]

    def with_message(self, index: int, message: Message, args: Mapping[str, Any]) -> str:
        """The messages up to and including `index`, with `message` in the place of that one. Raises RenderError."""
        return self.renderer.render([*self.messages[:index], message], self.tools, args=args)
