"""What the messages of a row tell by themselves: forged tokens, empty turns, fields that the template leaves out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from trainer.chat.example import Issue
from trainer.chat.forged import forged_in
from trainer.chat.parts import reasoning_text
from trainer.chat.probe import AddedTokens, TemplateFacts
from trainer.chat.render import Conversation, RenderError
from trainer.conversation import Message, content_text


def conversation_issues(conversation: Conversation, facts: TemplateFacts, added: AddedTokens) -> list[Issue]:
    """Issues of the conversation itself and of what the template makes of it, whatever is trained."""
    issues = []
    for index, message in enumerate(conversation.messages):
        if forged := forged_in(message, added):
            issues.append(Issue("special-in-content", index, f"contains {', '.join(forged)}"))
        said = content_text(message.get("content")).strip() or message.get("tool_calls") or reasoning_text(message)
        if message.get("role") == "assistant" and not said:
            issues.append(Issue("empty-turn", index, "no content and no tool call"))
        issues += _dropped(conversation, index)
    issues += _role_order(conversation.messages)
    names = [str(_function(tool).get("name", "")) for tool in conversation.tools or []]
    if missing := [name for name in names if name and not (facts.shows_tools and name in conversation.whole)]:
        issues.append(Issue("dropped-field", None, f"the tools {', '.join(missing)} are not shown to the model"))
    if forged := forged_in(conversation.tools, added):
        issues.append(Issue("special-in-content", None, f"the tools contain {', '.join(forged)}"))
    has_system = bool(conversation.messages) and conversation.messages[0].get("role") == "system"
    if own := facts.injected[has_system]:
        issues.append(Issue("injected-system", None, own))
    return issues


_FOLLOWS = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""For each role, those that it may follow; None is the beginning."""


def _role_order(messages: Sequence[Message]) -> list[Issue]:
    """The first turn that stands where chat models have not seen one of its role."""
    roles = [None, *(message.get("role") for message in messages)]
    for index, (before, role) in enumerate(pairwise(roles)):
        if role in _FOLLOWS and before not in _FOLLOWS[role]:
            where = f"a turn of {before}" if before else "nothing"
            return [Issue("role-order", index, f"a turn of {role} follows {where}")]
    return []


def _dropped(conversation: Conversation, index: int) -> list[Issue]:
    """Fields of one message whose text the template does not show."""
    message = conversation.messages[index]
    content = content_text(message.get("content"))
    shown = conversation.whole
    fields: dict[str, list[str]] = {"content": [content]}
    if message.get("role") == "tool":
        fields["content"] = re.findall(r"\w{3,}", content)[:50]  # often written as a JSON string, with escapes
    elif message.get("role") == "assistant":
        fields["content"] = re.split(r"</?think>", content)  # templates break the lines around the tags otherwise
        fields["tool_calls"] = [str(_function(call).get("name", "")) for call in message.get("tool_calls") or []]
        fields["reasoning_content"] = [reasoning_text(message)]
        if any(fields["tool_calls"] + fields["reasoning_content"]) or content.strip() not in shown:
            # A called tool's name also stands in its description, and many templates drop earlier thoughts on
            # purpose: so they are looked for in the turn as it is written.
            shown = _written(conversation, index)
    return [
        Issue("dropped-field", index, f"`{field}` is not shown to the model")
        for field, texts in fields.items()
        if any(text not in shown for text in map(str.strip, texts))
    ]


def _written(conversation: Conversation, index: int) -> str:
    """What turn `index` adds to the text when it is written; all of it where nobody can tell."""
    try:
        solo = conversation.upto(index + 1)
        return solo.removeprefix(conversation.upto(index, prompt=True))
    except RenderError:
        return conversation.whole


def _function(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {}
    function = entry.get("function", entry)
    return function if isinstance(function, dict) else {}
