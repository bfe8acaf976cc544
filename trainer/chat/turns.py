"""Where each assistant turn stands in a text that inference could have seen: steps 1 to 4 of the masks.

A turn is found by rendering alone, in characters; trainer.chat.cuts makes tokens of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trainer.chat.chat_format import ChatFormat
from trainer.chat.encode import Encoding
from trainer.chat.example import Issue, MaskPolicy
from trainer.chat.forged import forged_in
from trainer.chat.parts import Span, ignored_spans, replaced, sentinel
from trainer.chat.render import Conversation, RenderError
from trainer.conversation import Message

Args = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the model writes for one turn: `text[start:end]`; `stop` is where its stop token's text begins.

    `ignored`: the ranges in `text` that are not trained, though the model would write them.
    """

    index: int
    text: str
    start: int
    end: int
    stop: int | None
    ignored: Sequence[Span] = ()


@dataclass(frozen=True)
class Host:
    """A text that becomes one training example: the first `count` messages, with the turns trained in it.

    `encoding` is there already where the text cannot be tokenised together with others.
    """

    text: str
    count: int
    turns: list[Turn] = field(default_factory=list)
    encoding: Encoding | None = None


def wanted_turns(messages: Sequence[Message], policy: MaskPolicy) -> list[int]:
    """The indices of the assistant messages to train."""
    if policy.turns == "full":
        return []  # no turn is told from another
    turns = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    if policy.turns == "last":
        turns = turns[-1:]
    return [i for i in turns if messages[i].get("train") is not False]


def locate(chat: ChatFormat, conversation: Conversation, index: int, issues: list[Issue]) -> Turn | None:
    """What the model writes for turn `index`; None where nothing of it is to be trained or, with an issue, known."""
    found = _after_prompt(chat, conversation, index) or _by_content(chat, conversation, index, issues)
    if found is None:
        return None
    args, start = found
    solo = conversation.upto(index + 1, args=args)
    end, stop = _end(chat, conversation.messages[index], solo, start)
    ignored = ignored_spans(conversation, index, args, (start, end), chat.policy, issues)
    if (start, end) in ignored:
        return None
    if stop is None:
        shown = ", ".join(sorted(chat.facts.stop_texts)) or "its stop tokens (the tokenizer names none)"
        issues.append(Issue("no-stop", index, f"the template puts none of {shown} behind it"))
    elif any(a <= stop < b for a, b in ignored):
        issues.append(Issue("stop-ignored", index, "it ends with a part that is not trained"))
    return Turn(index, solo, start, end, stop, ignored)


def _after_prompt(chat: ChatFormat, conversation: Conversation, index: int) -> tuple[Args, int] | None:
    """Steps 1, 2 and 4: the template arguments under which the prompt is how the turn's text begins, and its length."""
    for args in [chat.facts.args, *chat.facts.other_args]:
        with suppress(RenderError):
            prompt = conversation.upto(index, prompt=True, args=args)
            if conversation.upto(index + 1, args=args).startswith(prompt):
                return args, len(prompt)
    return None


def _by_content(
    chat: ChatFormat, conversation: Conversation, index: int, issues: list[Issue]
) -> tuple[Args, int] | None:
    """Step 4, where no prompt fits: where the content of the turn starts, by rendering it with another content."""
    args = chat.facts.args
    reason = "the prompt is not how the turn's text begins"
    try:
        conversation.upto(index, prompt=True, args=args)
    except RenderError as error:
        reason = f"inference cannot ask for this turn: {error.what}"
    try:
        solo = conversation.upto(index + 1, args=args)
        word = sentinel(solo)
        found = replaced(conversation, index, {**conversation.messages[index], "content": word}, word, args, solo)
    except RenderError as error:
        reason, found = f"the conversation up to this turn cannot be rendered: {error.what}", None
    if found is None:
        issues.append(Issue("prefix-broken", index, f"{reason}; its content was not found either: not trained"))
        return None
    issues.append(Issue("prefix-broken", index, f"{reason}; trained from its content on"))
    return args, found[0]


def _end(chat: ChatFormat, message: Message, solo: str, start: int) -> tuple[int, int | None]:
    """The end of what the model writes from `start` on, and where its stop token begins (None: there is none)."""
    tail = chat.facts.tail
    stops = [text for text in chat.facts.stop_texts if text]
    if tail is not None and solo.endswith(tail) and start <= (content_end := len(solo) - len(tail)):
        # What the template writes behind every answer stands there: the content ends where it begins, whatever
        # the content itself may hold.
        return _first(solo, stops, content_end) or (content_end, None)
    if forged_in(message, chat.added):
        # The content may hold stop tokens of its own; the template's comes last.
        places = [(place + len(text), place) for text in stops if (place := solo.rfind(text, start)) >= 0]
        return max(places, key=lambda p: p[1]) if places else (len(solo), None)
    return _first(solo, stops, start) or (len(solo), None)


def _first(text: str, stops: Sequence[str], start: int) -> tuple[int, int] | None:
    places = [(place + len(stop), place) for stop in stops if (place := text.find(stop, start)) >= 0]
    return min(places, key=lambda p: p[1]) if places else None


def hosts(conversation: Conversation, turns: Sequence[Turn], issues: list[Issue]) -> list[Host]:
    """As few texts as can hold every turn with exactly the text before it that inference would show."""
    whole = Host(conversation.whole, len(conversation.messages))
    found = [whole]
    for turn in reversed(turns):
        head = turn.text[: turn.end]
        host = next((host for host in found if host.text.startswith(head)), None)
        if host is None:
            host = Host(turn.text, turn.index + 1)
            found.append(host)
            issues.append(Issue("expanded", turn.index, "later turns change how the template writes this one"))
        host.turns.insert(0, turn)
    if len(found) > 1 and not whole.turns:
        found.remove(whole)
    return sorted(found, key=lambda host: host.count)
