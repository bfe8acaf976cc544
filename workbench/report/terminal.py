"""Tables and blocks for the terminal, made of plain data. User text in them is always made safe first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from trainer.conversation import content_text
from workbench.text import clip, safe_text

_TURN = 240  # characters of a turn shown where not all is asked for


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns in `right` hold numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def steps_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """The ledger, one line a step, with how often each reason came; `steps` as the JSON of `workbench run` has them."""
    made = table("step", "in", "dropped", "left", "why", "time", right=("in", "dropped", "left", "time"))
    for step in steps:
        why = [f"{count:,} {reason}" for reason, count in step["reasons"].items()]
        why += [f"({note})" for note in step["notes"]]
        numbers = [f"{count:,}" for count in (step["in"], step["dropped"], step["in"] - step["dropped"])]
        made.add_row(step["name"], *numbers, ", ".join(why), f"{step['seconds']:.1f} s")
    return made


def overlap_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """What each step drops alone, as the only one and with which others; `steps` as `run --overlap --json` has them."""
    made = table(
        "", "step", "drops", "only it", "unjudged", "drops as well", right=("", "drops", "only it", "unjudged")
    )
    for i, step in enumerate(steps):
        others = [(rows, j) for j, rows in enumerate(step["shared"]) if rows and j != i]
        others.sort(key=lambda pair: -pair[0])
        shared = ", ".join(f"{rows:,} {steps[j]['name']} ({steps[j]['position']})" for rows, j in others)
        numbers = [f"{count:,}" for count in (step["alone"], step["only"], step["unjudged"])]
        made.add_row(str(step["position"]), step["name"], *numbers, shared)
    return made


def conversation(messages: Sequence[Mapping[str, Any]], *, full: bool) -> Text:
    """A conversation, a line a turn (or whole turns), with roles in front. Safe to print whatever the text holds."""
    text = Text()
    for message in messages:
        text.append(f"  {safe_text(str(message['role'])):<10}", style="bold")
        said = content_text(message.get("content"))
        if calls := message.get("tool_calls"):
            said = f"{said} → {json.dumps(calls, ensure_ascii=False)}".strip()
        if full:
            lines = safe_text(said, newlines=True).split("\n")
            text.append(("\n" + " " * 12).join(lines))
        else:
            text.append(clip(said, _TURN))
        text.append("\n")
    return text


def first_prompt(messages: Sequence[Mapping[str, Any]], width: int) -> str:
    """The first user turn of a conversation on one line, at most `width` characters."""
    said = [content_text(message.get("content")) for message in messages if message["role"] == "user"]
    return clip(said[0] if said else "", width)
