"""Whose part of the text a token lies in. It serves the eye alone: nothing about training depends on it."""

from __future__ import annotations

from bisect import bisect_left

from trainer.chat.probe import TemplateFacts
from trainer.chat.render import Conversation, RenderError
from trainer.chat.sequences import Ranges, Runs
from trainer.conversation import content_text


def token_roles(conversation: Conversation, facts: TemplateFacts, text: str, count: int, offsets: Ranges) -> Runs:
    """For each token of `text`, which renders the first `count` messages, the role of the message it belongs to.

    What a template writes around a message, its header and stop token, counts as that message's; a system
    block that the template adds of its own as `system`.
    """
    messages = conversation.messages[:count]
    borders: list[tuple[int, str]] = []
    end = 0
    if facts.system_block and messages[0].get("role") != "system" and text.startswith(facts.system_block):
        end = len(facts.system_block)
        borders.append((end, "system"))
    for j, message in enumerate(messages):
        end = len(text) if j + 1 == count else _message_end(conversation, facts, text, j, end)
        borders.append((end, str(message.get("role"))))
    ends = [bisect_left(offsets.starts, border) for border, _ in borders[:-1]]
    return Runs.of(zip((role for _, role in borders), [*ends, len(offsets)], strict=True))


def _message_end(conversation: Conversation, facts: TemplateFacts, text: str, index: int, after: int) -> int:
    """Where message `index` ends in `text`: exact where the template is stable, else behind its content."""
    part = _written(conversation, facts, index + 1)
    if len(part) > after and text.startswith(part):
        return len(part)
    content = content_text(conversation.messages[index].get("content")).strip()
    found = text.find(content, after) if content else -1
    if found < 0:
        return after
    end = found + len(content)
    tail = facts.shared_tail
    return end + len(tail) if text.startswith(tail, end) else end


def _written(conversation: Conversation, facts: TemplateFacts, count: int) -> str:
    """The first `count` messages as they are rendered; empty where they cannot be."""
    following = conversation.messages[count].get("role") if count < len(conversation.messages) else None
    try:
        if facts.header and following == "assistant":
            # The prompt of the turn that follows was rendered in any case; its header belongs to that turn.
            prompt = conversation.upto(count, prompt=True)
            if prompt.endswith(facts.header):
                return prompt.removesuffix(facts.header)
        return conversation.upto(count)
    except RenderError:
        return ""
