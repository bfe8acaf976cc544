"""`exact`: the same text after normalisation."""

from __future__ import annotations

import hashlib

from filters.dedup.survivor import Keep, Rank, rank
from filters.step import Drop, FilterParams, Outside, Pair, Row, SetResult, SetStep, Survivors
from filters.text import normalise
from trainer.conversation import Side, canonical_json, content_text


class ExactParams(FilterParams):
    """What is compared, and who survives."""

    on: Side = "both"
    ignore_case: bool = False
    keep: Keep = "longest"


class Exact(SetStep[ExactParams]):
    """Drop all but one of the rows whose text is the same in NFC with white space run together.

    On `both`, roles, tool calls and tools must be the same too. Rows without any text are left alone.
    """

    name = "exact"
    kind = "dedup"
    params_model = ExactParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Each dropped row points at the survivor of its group."""
        groups: dict[bytes, list[tuple[Rank, int]]] = {}
        done = 0
        for batch in rows:
            for row in batch:
                if text := self._text(row):
                    groups.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), []).append(
                        (rank(row, self.params.keep), row.id)
                    )
            done += len(batch)
            outside.progress(done, len(rows), self.name)
        result = SetResult()
        for members in groups.values():
            (_, survivor), *others = sorted(members)
            result.drops += [Drop(id_, "exact duplicate", 1.0, survivor) for _, id_ in others]
            result.pairs += [Pair(id_, survivor, 1.0) for _, id_ in others]
        return result

    def _text(self, row: Row) -> str:
        """What is compared; empty when there is nothing to compare."""
        if self.params.on != "both":
            calls = [m["tool_calls"] for m in row.messages if self.params.on == "response" and m.get("tool_calls")]
            text = normalise(row.text(self.params.on), ignore_case=self.params.ignore_case)
            return text + canonical_json(calls) if calls else text
        turns = []
        for message in row.messages:
            text = normalise(content_text(message.get("content")), ignore_case=self.params.ignore_case)
            turns.append({key: value for key, value in message.items() if key != "train"} | {"content": text})
        if not any(turn["content"] or turn.get("tool_calls") for turn in turns):
            return ""
        return canonical_json([turns, row.tools_json])
