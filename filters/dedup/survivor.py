"""What is compared of a row, and who survives of rows that say the same, whatever order they came in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from xxhash import xxh3_64_intdigest

from filters.step import FilterParams, Outside, Row
from filters.text import normalise, words
from trainer.conversation import Message, Side, canonical_json, content_text
from trainer.errors import UsageProblem

_FRAMING = ("system", "developer")  # roles

Keep = Literal["longest", "shortest", "first", "newest", "best"]
Rank = tuple[bool, float, int, str, int]
"""A sort key, the preferred row first: no score, merit, length, content hash, id."""


class DedupParams(FilterParams):
    """What all deduplicators ask: who survives, and which rows are there already.

    `keep: best` takes the row with the highest (`lowest: true`: the lowest) score of the scorer `by`. `against` names
    versions or sources whose rows are there already: what is like one of them falls, and they never do.
    """

    keep: Keep = "longest"
    by: str | None = Field(default=None, min_length=1)
    lowest: bool = False
    against: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _best_needs_a_score(self) -> DedupParams:
        if self.keep == "best" and self.by is None:
            raise ValueError("`keep: best` needs `by`, the name of a score")
        if self.keep != "best" and (self.by is not None or self.lowest):
            raise ValueError(f"`by` and `lowest` go with `keep: best`, not with `keep: {self.keep}`")
        return self


def ranks(rows: Sequence[Row], params: DedupParams, outside: Outside, step: str) -> list[Rank]:
    """A sort key for each of `rows`: of any two rows the one with the smaller key survives.

    `longest` and `shortest` go by the words of the response. `first` and `newest` go by the id, which grows with
    every import: they ask for the order of input. With `best`, rows without the score come last; of equal scores the
    longest is preferred. Equals are settled by content hash; the id comes last and decides only between rows of the
    very same content.

    Raises UsageProblem for a score that there is not.
    """
    if params.keep == "best":
        return _by_score(rows, params, outside, step)
    if params.keep in ("first", "newest"):
        sign = 1 if params.keep == "first" else -1
        return [(False, sign * row.id, 0, row.content_hash, row.id) for row in rows]
    sign = 1 if params.keep == "shortest" else -1
    return [(False, 0.0, sign * response_length(row), row.content_hash, row.id) for row in rows]


def _by_score(rows: Sequence[Row], params: DedupParams, outside: Outside, step: str) -> list[Rank]:
    sign = 1 if params.lowest else -1
    return [
        (value is None, sign * (value or 0.0), -response_length(row), row.content_hash, row.id)
        for row, value in zip(rows, scores_to_keep(rows, params, outside, step), strict=True)
    ]


def scores_to_keep(rows: Sequence[Row], params: DedupParams, outside: Outside, step: str) -> list[float | None]:
    """With `keep: best` the score of each row, None where it has none or another `keep` is asked for.

    Raises UsageProblem for a score that there is not.
    """
    if params.keep != "best":
        return [None] * len(rows)
    if outside.scored is None or params.by is None:
        raise UsageProblem(
            f"{step} is to keep the best by {params.by!r}, and the caller gave no way to look scores up",
            where=step,
            do="Pass scores that can be looked up by name to the pipeline.",
        )
    return [score.value for score in outside.scored(params.by, rows)]


def response_length(row: Row) -> int:
    """The words of its response."""
    return len(words(row.text("response")))


def compared_text(row: Row, on: Side) -> str:
    """The text of a side with the tools that it calls, by turns: answers that only call a tool are not all the same.

    Turns without either are left out. A call is its function and arguments. Its id is a random label, and says nothing.
    """
    roles = {"prompt": ("user",), "response": ("assistant",), "both": None}[on]
    turns = []
    for message in row.messages:
        if roles is None or message["role"] in roles:
            said = [content_text(message.get("content"))]
            said += [canonical_json(call.get("function", call)) for call in message.get("tool_calls") or ()]
            if text := "\n".join(part for part in said if part):
                turns.append(text if roles else f"{message['role']}: {text}")
    return "\n".join(turns)


def other_parts(message: Message) -> list[object]:
    """The parts of a message's content that are no text: images, sound, files."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return []
    return [part for part in content if not _is_text(part)] if isinstance(content, list) else [content]


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text"


def frame(row: Row) -> int:
    """A 64-bit mark of what decides an answer beside the words of the prompt; 0 where there is nothing.

    That are system turns in normal form, tools, and what is no text in the prompt. Under another frame the same words
    are another task.
    """
    system = normalise(" ".join(content_text(m.get("content")) for m in row.messages if m["role"] in _FRAMING))
    parts = [part for m in row.messages if m["role"] == "user" for part in other_parts(m)]
    if not (system or row.tools_json or parts):
        return 0
    return xxh3_64_intdigest(canonical_json([system, row.tools_json, parts]).encode("utf-8", "surrogatepass"))
