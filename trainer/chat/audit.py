"""A whole data set through the tokenizer: how many tokens, how many trained, and what is wrong with which rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.chat.example import ISSUES, MaskPolicy, Tokenised
from trainer.chat.mask import tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Audit:
    """Counts over rows. `issues`: for each kind, the ids of the rows that have it, in order."""

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    trained: int = 0
    longest: int = 0
    issues: dict[str, list[int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by kind of issue, in the order of ISSUES."""
        return {kind: len(self.issues[kind]) for kind in ISSUES if kind in self.issues}

    def add(self, row: int, done: Tokenised, max_length: int | None = None) -> None:
        """Count one row in. `max_length` (tokens) is the limit for `truncated` and `response-lost`."""
        self.rows += 1
        self.examples += len(done.examples)
        kinds = {issue.kind for issue in done.issues}
        for example in done.examples:
            length = len(example.input_ids)
            self.tokens += length
            self.trained += sum(example.trained)
            self.longest = max(self.longest, length)
            if max_length is not None and length > max_length:
                kinds.add("truncated")
                if True in example.trained[max_length:]:
                    kinds.add("response-lost")
        for kind in kinds:
            self.issues.setdefault(kind, []).append(row)

    def as_dict(self, ids: int = 20) -> dict[str, Any]:
        """The form that other programs read, with at most `ids` row ids a kind."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "trained": self.trained,
            "issues": self.counts,
            "issue_rows": {kind: self.issues[kind][:ids] for kind in self.counts},
            "examples": self.examples,
            "longest": self.longest,
        }


def audit(
    rows: Iterable[tuple[int, str, str | None]],
    tokenizer: PreTrainedTokenizerBase,
    policy: MaskPolicy | None = None,
    *,
    max_length: int | None = None,
    on_row: Callable[[int], None] | None = None,
) -> Audit:
    """Tokenise `rows` of (id, messages as JSON, tools as JSON or None) one by one; only counts are kept.

    `on_row(done)` is called after each row.
    """
    result = Audit()
    for row, messages, tools in rows:
        done = tokenise(tokenizer, json.loads(messages), json.loads(tools) if tools else None, policy)
        result.add(row, done, max_length)
        if on_row:
            on_row(result.rows)
    return result
