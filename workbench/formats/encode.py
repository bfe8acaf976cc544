"""Examples as JSON text in each of the shapes that trainers read, with a count of what a shape has no place for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.conversation import Message, canonical_json
from workbench.formats.turns import FUNCTION_CALL

_SHAREGPT_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One example as canonical JSON texts; `meta` is None when there is none."""

    messages: str
    tools: str | None
    meta: str | None


Lost = Counter[str]
"""How often each kind of loss came: a line for a person -> how many."""

Encode = Callable[[Example, Lost], str | None]
"""One example as the text of a JSON object; None where the shape cannot hold it."""


def messages(example: Example, lost: Lost) -> str:
    """`messages`, `tools` and `meta` as they are."""
    return _object(messages=example.messages, tools=example.tools, meta=example.meta)


def alpaca(example: Example, lost: Lost) -> str | None:
    """`instruction`, `output`, earlier turns as `history`. `input` stays empty: whatever it held is in the prompt."""
    turns: list[Message] = json.loads(example.messages)
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    talk = turns[1:] if system is not None else turns
    roles = [turn["role"] for turn in talk]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not talk or any("tool_calls" in turn for turn in talk):
        lost["Examples not written, as Alpaca knows only user and assistant turns in alternation, without tools"] += 1
        return None
    if example.tools is not None:
        lost["Examples that lost their tool schemas"] += 1
    _count_fields(turns, {"role", "content"}, lost)
    if system == "":
        lost["Empty system turns, which Alpaca cannot tell from none"] += 1
    texts = [turn["content"] for turn in talk]
    return _object(
        instruction=canonical_json(texts[-2]),
        input='""',
        output=canonical_json(texts[-1]),
        system=None if system is None else canonical_json(system),
        history=canonical_json(list(zip(texts[:-2:2], texts[1:-2:2], strict=True))) if len(texts) > 2 else None,
        meta=example.meta,
    )


def sharegpt(example: Example, lost: Lost) -> str:
    """`conversations` of `from` and `value`; a tool call is a turn of its own, `tools` is JSON text."""
    turns: list[Message] = json.loads(example.messages)
    _count_fields(turns, {"role", "content", "tool_calls", "train"}, lost)
    said: list[dict[str, Any]] = []
    for turn in turns:
        role, content, calls = turn["role"], turn["content"], turn.get("tool_calls")
        weight = {} if turn.get("train", True) else {"weight": 0}
        if role == "developer":
            lost["Turns whose role `developer` became `system`"] += 1
        if content or not calls:
            said.append({"from": _SHAREGPT_ROLES[role], "value": content, **weight})
        if calls:
            if content:
                lost["Turns with text and tool calls that became two turns"] += 1
            said.append({"from": FUNCTION_CALL, "value": _call_text(calls, lost), **weight})
    return _object(
        conversations=canonical_json(said),
        tools=None if example.tools is None else canonical_json(example.tools),
        meta=example.meta,
    )


def prompt_completion(example: Example, lost: Lost) -> str | None:
    """`prompt` and `completion` as lists of messages: the last answer is the completion, what stands before the prompt.

    That is TRL's conversational form; it trains the completion only.
    """
    turns: list[Message] = json.loads(example.messages)
    last = max(i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    if last == 0:
        lost["Examples not written, as nothing stands before their answer"] += 1
        return None
    prompt, answer = turns[:last], turns[last]
    if earlier := sum(turn["role"] == "assistant" and turn.get("train", True) for turn in prompt):
        lost["Earlier answers that went into the prompt, where they are not trained"] += earlier
    if left := len(turns) - last - 1:
        lost["Turns left out, as they stand behind the last answer"] += left
    if not answer.get("train", True):
        lost["Completions with `train: false`, which trainers of this form do not heed"] += 1
    return _object(
        prompt=canonical_json(prompt), completion=canonical_json([answer]), tools=example.tools, meta=example.meta
    )


def prompt_completion_text(example: Example, lost: Lost) -> str:
    """`prompt` and `completion` as text, for examples that are a plain pair."""
    prompt, answer = json.loads(example.messages)
    return _object(
        prompt=canonical_json(prompt["content"]), completion=canonical_json(answer["content"]), meta=example.meta
    )


def is_plain_pair(example: Example) -> bool:
    """Whether the example is one user turn and one answer, with no more to either than its text, and no tools."""
    if example.tools is not None:
        return False
    turns: list[Message] = json.loads(example.messages)
    return [turn["role"] for turn in turns] == ["user", "assistant"] and all(len(turn) == 2 for turn in turns)


def _call_text(calls: list[dict[str, Any]], lost: Lost) -> str:
    flat = []
    for call in calls:
        function = call["function"]
        flat.append({"name": function["name"], "arguments": function["arguments"]})
        if call.keys() - {"type", "function"} or function.keys() - {"name", "arguments"}:
            lost["Tool calls that lost their id or other fields"] += 1
    return canonical_json(flat[0] if len(flat) == 1 else flat)


def _count_fields(turns: list[Message], kept: set[str], lost: Lost) -> None:
    for turn in turns:
        for field in turn.keys() - kept:
            lost[f"Turns that lost their `{field}`"] += 1


def _object(**texts: str | None) -> str:
    """A JSON object out of members that are JSON text already; None is left out."""
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items() if text is not None) + "}"
