"""Put marks such as `[mail]` in the place of personal data in the texts of a conversation; the rest stays as it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from filters.rules.personal import Found, Kind, find
from trainer.conversation import Message, Side

_ROLES = {"prompt": {"user"}, "response": {"assistant"}}  # both: every role
_TEXTS = ("content", "reasoning_content", "thinking", "reasoning")  # the last three as templates call reasoning


class Piece(NamedTuple):
    """Personal data that was found, as it stood there."""

    kind: Kind
    text: str


def redact(messages: Sequence[Message], on: Side, kinds: Collection[Kind]) -> tuple[list[Message], list[Piece]]:
    """`messages` with marks in the place of what is of `kinds`, and what stood there.

    Looked through are the contents of a side with their text parts, reasoning, and the arguments of tool calls; with
    both sides also system turns and what tools gave back. `train_spans` are moved with the text that they mark.
    """
    redactor = _Redactor(kinds)
    made = [m if on != "both" and m["role"] not in _ROLES[on] else redactor.message(m) for m in messages]
    return made, redactor.pieces


class _Redactor:
    def __init__(self, kinds: Collection[Kind]) -> None:
        self.pieces: list[Piece] = []
        self._kinds = frozenset(kinds)

    def message(self, message: Message) -> Message:
        made = dict(message)
        for field in _TEXTS:
            if isinstance(text := message.get(field), str):
                made[field] = self._text(text, spans=made if field == "content" else None)
            elif isinstance(parts := text, list):
                made[field] = [self._part(part) for part in parts]
        if isinstance(calls := message.get("tool_calls"), list):
            made["tool_calls"] = [self._call(call) for call in calls]
        return made

    def _part(self, part: Any) -> Any:
        texts = {"text", "thinking", "reasoning"}
        if not isinstance(part, dict):
            return part
        return {key: self._text(v) if key in texts and isinstance(v, str) else v for key, v in part.items()}

    def _call(self, call: Any) -> Any:
        """A tool call; the arguments stand in it or in its `function`, as values or as JSON text."""
        if not isinstance(call, dict):
            return call
        if "function" in call:
            return {**call, "function": self._call(call["function"])}
        return {**call, "arguments": self._arguments(call["arguments"])} if "arguments" in call else call

    def _arguments(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self._value(value)
        try:
            given = json.loads(value, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            return self._text(value)
        made = self._value(given)
        return value if made == given else _as_json(made)

    def _value(self, value: Any, key: str = "") -> Any:
        """A JSON value; what stands before it, such as the name `api_key`, tells what it is."""
        if isinstance(value, dict):
            return dict(self._object(value.items()))
        if isinstance(value, _Object):
            return _Object(self._object(value))
        if isinstance(value, list):
            return [self._value(part, key) for part in value]
        if isinstance(value, str):
            return self._text(value, before=f'"{key}":"')
        if isinstance(value, int) and not isinstance(value, bool):
            made_text = self._text(str(value), before=f'"{key}":')
            return value if made_text == str(value) else made_text
        return value

    def _object(self, pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        taken: dict[str, str] = {}
        for name, part in pairs:
            there = new = self._text(name)
            while taken.setdefault(new, name) != name:  # two names that were told apart by what is gone
                new += f" {there}"
            yield new, self._value(part, name)

    def _text(self, text: str, before: str = "", spans: Message | None = None) -> str:
        """`text` without its pieces: looked through again until there is none, since what overlaps goes one by one."""
        while found := self._find(text, before):
            if spans is not None and "train_spans" in spans:
                spans["train_spans"] = [[_place(at, found) for at in span] for span in spans["train_spans"]]
            for piece in reversed(found):
                text = text[: piece.start] + mark(piece.kind) + text[piece.end :]
        return text

    def _find(self, text: str, before: str) -> list[Found]:
        shifted = (Found(p.kind, p.start - len(before), p.end - len(before)) for p in find(before + text))
        found = [piece for piece in shifted if piece.start >= 0 and piece.kind in self._kinds]
        self.pieces += [Piece(piece.kind, text[piece.start : piece.end]) for piece in found]
        return found


class _Object(list[tuple[str, Any]]):
    """A JSON object as it was written: its names with their values, some of them perhaps twice."""


def _as_json(value: Any) -> str:
    if isinstance(value, _Object):
        return (
            "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {_as_json(part)}" for name, part in value) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def mark(kind: Kind) -> str:
    """What stands in the place of a piece of `kind`."""
    return f"[{kind}]"


def _place(at: int, found: Sequence[Found]) -> int:
    """Where the place `at` of a text is once what was `found` gave way to marks; inside of one, behind its mark."""
    moved = at
    for piece in found:
        if piece.start < at:
            moved += len(mark(piece.kind)) - (min(at, piece.end) - piece.start)
    return moved
