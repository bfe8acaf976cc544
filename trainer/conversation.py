"""The conversation as it travels between packages: canonical JSON text, its hash, and its readable sides.

`messages` is a list of `{"role", "content", ...}` in the Hugging Face conversational form; `tools` a list of
JSON schemas or None. Between packages both travel as canonical JSON text, because Arrow structs would fill
tool arguments with nulls.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

Message = dict[str, Any]
Side = Literal["prompt", "response", "both"]
SIDES: tuple[Side, ...] = get_args(Side)

# Made once: json.dumps would make one for every row.
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> str:
    """`value` as JSON text with sorted keys, no spaces and no ASCII escapes: one value, one text.

    Raises ValueError for NaN and infinities, which JSON cannot carry.
    """
    return _CANONICAL.encode(value)


def content_hash(messages_json: str, tools_json: str | None = None) -> str:
    """SHA-256 (hex) of the canonical text of a conversation.

    Without tools it is the hash of the `messages` text alone; with tools, of both texts with a newline
    between them (canonical JSON holds no raw newline, so the two cannot run together).
    """
    text = messages_json if tools_json is None else f"{messages_json}\n{tools_json}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def content_text(content: object) -> str:
    """The readable text of a message's `content`: a string as it is, parts joined, anything else empty."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part.get("text", "") for part in content if isinstance(part, dict) and part.get("type", "text") == "text"
        )
    return ""


def side_text(messages: Sequence[Message], side: Side) -> str:
    """One readable text for a conversation of any length.

    `prompt`: its user turns joined by newlines (no system turn). `response`: its assistant contents joined by
    newlines. `both`: every turn as `role: text`, one a line.
    """
    if side == "both":
        return "\n".join(f"{m['role']}: {content_text(m.get('content'))}" for m in messages)
    role = "user" if side == "prompt" else "assistant"
    return "\n".join(content_text(m.get("content")) for m in messages if m["role"] == role)


def split_reference(messages: Sequence[Message]) -> tuple[list[Message], Message | None]:
    """The turns of an eval item that are to be answered, and its reference: the last turn, if it is an assistant's."""
    if messages and messages[-1]["role"] == "assistant":
        return list(messages[:-1]), messages[-1]
    return list(messages), None
