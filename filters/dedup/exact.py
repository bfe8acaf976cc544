"""`exact`: the same text after normalisation."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from pydantic import model_validator

from filters.dedup.jaccard import Pairs
from filters.dedup.known import line_up
from filters.dedup.star import settle
from filters.dedup.survivor import DedupParams, compared_text, other_parts
from filters.step import Outside, Row, SetResult, SetStep, Survivors
from filters.text import normalise
from trainer.conversation import Side, canonical_json, content_text


class ExactParams(DedupParams):
    """What is compared, and who survives."""

    on: Side = "both"
    ignore_case: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_target(cls, given: Any) -> Any:
        if isinstance(given, dict) and "target" in given:
            raise ValueError(
                "exact has no `target`: the same text is the same, and there is no threshold to lower. "
                "To come down to a size, put `minhash: {target: ...}` behind it"
            )
        return given


class Exact(SetStep[ExactParams]):
    """Drop all but one of the rows whose text is the same in NFC with white space run together.

    Images and other parts that are no text must be the same; on `both` also roles, tool calls and tools. Rows with
    nothing to compare are left alone.
    """

    name = "exact"
    version = 3
    kind = "dedup"
    params_model = ExactParams

    @property
    def references(self) -> tuple[str, ...]:
        """What `against` names."""
        return self.params.against

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Each dropped row points at the survivor of its group."""
        lineup = line_up(rows, outside, self.params, self.name, self._digest)
        best: dict[bytes, int] = {}
        same = [
            (survivor, place)
            for place, digest in enumerate(lineup.compared)
            if digest and (survivor := best.setdefault(digest, place)) != place
        ]
        first, second = np.array(same, dtype=np.int64).reshape(-1, 2).T
        return settle(lineup, Pairs(first, second, np.ones(len(same))), "exact duplicate", None, 1.0)

    def _digest(self, row: Row) -> bytes:
        """A hash of what is compared; empty when there is nothing to compare."""
        text = self._text(row)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() if text else b""

    def _text(self, row: Row) -> str:
        if self.params.on != "both":
            text = normalise(compared_text(row, self.params.on), ignore_case=self.params.ignore_case)
            role = "user" if self.params.on == "prompt" else "assistant"
            parts = [part for message in row.messages if message["role"] == role for part in other_parts(message)]
            return canonical_json([text, parts]) if parts else text
        turns = []
        for message in row.messages:
            text = normalise(content_text(message.get("content")), ignore_case=self.params.ignore_case)
            said = {"content": text} | ({"parts": parts} if (parts := other_parts(message)) else {})
            turns.append({key: value for key, value in message.items() if key != "train"} | said)
        if not any(turn["content"] or turn.get("parts") or turn.get("tool_calls") for turn in turns):
            return ""
        return canonical_json([turns, row.tools_json])
