"""Parts of a trained turn that are not trained: its tool calls or reasoning by policy, spans that a message names.

Each part is found in the text by rendering the turn once more with a word of our own in its place: what stands
before and behind the word must be how the turn's text begins and ends, so what remains between is the part,
whatever the template made of it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from trainer.chat.example import Issue, MaskPolicy
from trainer.chat.render import Conversation, RenderError
from trainer.conversation import Message, content_text

Span = tuple[int, int]
_REASONING = ("reasoning_content", "thinking", "reasoning")


def ignored_spans(
    conversation: Conversation,
    index: int,
    args: Mapping[str, Any],
    turn: Span,
    policy: MaskPolicy,
    issues: list[Issue],
) -> list[Span]:
    """The character ranges of turn `index`, which the model writes as `turn`, that are not trained.

    All of the turn, and the issue `part-not-found`, where one of them cannot be found: what somebody asked not to
    train is never trained.
    """
    message = conversation.messages[index]
    solo = conversation.upto(index + 1, args=args)
    said = bool(content_text(message.get("content")).strip() or reasoning_text(message))
    spans: list[Span] = []
    try:
        if not policy.tool_calls and message.get("tool_calls"):
            spans += [_behind_content(conversation, index, args, solo, turn) if said else turn]
        if not policy.reasoning:
            spans += _reasoning(conversation, index, args, solo)
        if "train_spans" in message:
            spans += _outside_spans(conversation, index, args, solo, turn)
    except (_NotFound, RenderError) as error:
        issues.append(Issue("part-not-found", index, str(error)))
        return [turn]
    return sorted(spans)


class _NotFound(Exception):
    """A part of a turn that cannot be told from the rest; says which."""


def reasoning_text(message: Message) -> str:
    """The reasoning that a message carries in a field of its own; empty where there is none."""
    return next((str(message[key]) for key in _REASONING if message.get(key)), "")


def replaced(
    conversation: Conversation, index: int, message: Message, word: str, args: Mapping[str, Any], solo: str
) -> Span | None:
    """Where in `solo` stands what `word` stands for in `message`, a variant of turn `index`; None if unclear."""
    before, found, after = conversation.with_message(index, message, args).partition(word)
    fits = found and solo.startswith(before) and solo.endswith(after) and len(before) + len(after) <= len(solo)
    return (len(before), len(solo) - len(after)) if fits else None


def sentinel(text: str) -> str:
    """A word that does not occur in `text`."""
    word = "sentinelcontent"
    while word in text:
        word += "x"
    return word


def _reasoning(conversation: Conversation, index: int, args: Mapping[str, Any], solo: str) -> list[Span]:
    message, word = conversation.messages[index], sentinel(solo)
    content = message.get("content")
    if text := reasoning_text(message):
        variant = {**message, **{key: word for key in _REASONING if message.get(key)}}
    elif isinstance(content, str) and "</think>" in content:
        end = content.index("</think>")
        opened = content.find("<think>", 0, end)
        start = opened + len("<think>") if opened >= 0 else 0
        text = content[start:end]
        variant = {**message, "content": content[:start] + word + content[end:]}
    if not text.strip() or text.strip() not in solo:
        return []  # there is none, or the template leaves it out: nothing of it could be trained
    found = replaced(conversation, index, variant, word, args, solo)
    if found is None:
        raise _NotFound("its reasoning cannot be told from the rest of its text")
    return [found]


def _behind_content(conversation: Conversation, index: int, args: Mapping[str, Any], solo: str, turn: Span) -> Span:
    """Everything behind the turn's content: its tool calls and the stop token that ends them."""
    message, word = conversation.messages[index], sentinel(solo)
    content = content_text(message.get("content")).rstrip()
    variant = {key: value for key, value in message.items() if key != "tool_calls"} | {"content": content + word}
    before, found, _ = conversation.with_message(index, variant, args).partition(word)
    if not found or not solo.startswith(before) or len(before) > turn[1]:
        raise _NotFound("its tool calls cannot be told from the rest of its text")
    return max(len(before), turn[0]), turn[1]


def _outside_spans(
    conversation: Conversation, index: int, args: Mapping[str, Any], solo: str, turn: Span
) -> list[Span]:
    """What of the turn lies outside the `train_spans` of its message.

    What the template writes before the content is trained where the first span begins with it, and what stands
    behind it, such as the stop token, where the last span ends with it.
    """
    message, word = conversation.messages[index], sentinel(solo)
    content = content_text(message.get("content"))
    at = turn[0]
    outside = []
    for a, b in _checked_spans(message["train_spans"], len(content)):
        variant = {**message, "content": content[:a] + word + content[b:]}
        found = replaced(conversation, index, variant, word, args, solo)
        if found is None:
            raise _NotFound(f"the characters {a} to {b} of its content cannot be told from the rest of its text")
        outside.append((at, turn[0] if a == 0 else found[0]))
        at = turn[1] if b == len(content) else found[1]
    return [(start, end) for start, end in [*outside, (at, turn[1])] if start < end]


def _checked_spans(spans: Any, length: int) -> list[Span]:
    """`spans` if they are pairs of places in a content of `length` characters, in order and apart."""
    try:
        pairs = [(operator.index(a), operator.index(b)) for a, b in spans]
    except (TypeError, ValueError):
        pairs = [(1, 0)]
    places = [0, *(place for pair in pairs for place in pair), length]
    if places != sorted(places):
        raise _NotFound(f"its `train_spans` are not [start, end] pairs in order within its {length} characters")
    return [(a, b) for a, b in pairs if a < b]
