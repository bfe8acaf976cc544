"""A whole data set through the tokenizer: how many tokens, how many trained, and what is wrong with which rows."""

from __future__ import annotations

import json
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.chat.example import ISSUES, Issue, MaskPolicy, Tokenised, Turns
from trainer.chat.mask import tokenise_many
from trainer.chat.packing import packed_waste, padded_waste
from trainer.chat.tags import tag_issues
from trainer.chat.truncate import Fitted, Truncation, fit
from trainer.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.chat.cache import TokenCache

TAGS_DISAGREE = "tags-disagree"
"""The kind of issue that is looked for in the first rows alone."""

NOTES = frozenset({"expanded", "injected-system", "stop-ignored", TAGS_DISAGREE})
"""Kinds of issues that a template has by nature, or that were asked for: good to know, and nothing is wrong."""

TAGGED = 100
"""The first rows, which are compared with the template's generation tags: that takes four renderings a turn."""

BATCH = 8
"""Rows a batch by which the cost of padding is told."""

_NAMED = 5  # kinds of differences
_BARS = 8  # classes of a histogram up to the limit


@dataclass
class Audit:
    """Counts over rows trained by `turns`, under a limit of `limit` tokens with what is longer treated by `how`.

    `tokens` and `trained` count what there is, `lost_*` what of it the limit takes. `issues` holds for each kind the
    keys of the rows that have it, in order; `lengths` the tokens of each example, `fitted` of those that are trained.
    """

    limit: int | None = None
    how: Truncation = "drop"
    turns: Turns = "all"
    rows: int = 0
    examples: int = 0
    tokens: int = 0
    trained: int = 0
    lost_tokens: int = 0
    lost_trained: int = 0
    lost_turns: int = 0
    lost_examples: int = 0
    suspect: int = 0
    """Rows with any issue that is not among NOTES."""
    tags_compared: int = 0
    """Rows compared with the template's generation tags; none where it has no tags."""
    tag_differences: Counter[str] = field(default_factory=Counter)
    """How what the tags mark differs from what is trained, with the number of turns."""
    issues: dict[str, array[int]] = field(default_factory=dict)
    lengths: array[int] = field(default_factory=lambda: array("q"))
    fitted: array[int] = field(default_factory=lambda: array("q"))

    @property
    def counts(self) -> dict[str, int]:
        """Rows by kind of issue, in the order of ISSUES."""
        return {kind: len(self.issues[kind]) for kind in ISSUES if kind in self.issues}

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(self.lengths, default=0)

    @property
    def over(self) -> int:
        """Examples longer than the limit."""
        return 0 if self.limit is None else sum(length > self.limit for length in self.lengths)

    def add(self, row: int, done: Tokenised, fitted: Fitted | None = None) -> None:
        """Count one row in; `row` is its key in `issues`, `fitted` what is left of it under the limit."""
        self.rows += 1
        self.examples += len(done.examples)
        for example in done.examples:
            self.lengths.append(len(example.input_ids))
            self.tokens += len(example.input_ids)
            self.trained += sum(example.trained)
        kinds = {issue.kind for issue in done.issues}
        if fitted is not None:
            kinds |= {issue.kind for issue in fitted.issues}
            for cut in fitted.cuts:
                self.lost_tokens += cut.tokens
                self.lost_trained += cut.trained
                self.lost_turns += cut.turns
                self.lost_examples += cut.kept == 0
        self.fitted.extend(len(example.input_ids) for example in (fitted or done).examples)
        self.suspect += bool(kinds - NOTES)
        for kind in kinds:
            self.issues.setdefault(kind, array("q")).append(row)

    def add_tags(self, row: int, found: Sequence[Issue]) -> None:
        """Count in what comparing a row, which was added, with the template's tags came to."""
        self.tags_compared += 1
        self.tag_differences.update(issue.detail for issue in found)
        if found:
            self.issues.setdefault(TAGS_DISAGREE, array("q")).append(row)

    def verdict(self) -> str:
        """One line: clean, or how many rows to look at and why."""
        if not self.rows:
            return "there are no rows"
        if not self.suspect:
            short = "" if self.limit is None else f", and none is longer than {self.limit:,} tokens"
            if self.turns == "full":
                return f"clean: every token is trained{short}"
            left = self.counts.get("stop-ignored", 0)
            but = (
                f" (left untrained with the part before it in {left:,} {'row' if left == 1 else 'rows'})"
                if left
                else ""
            )
            return f"clean: every trained turn ends with a stop token{but}, every row has trained tokens{short}"
        why = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items() if kind not in NOTES)
        return f"{self.suspect:,} {'row needs' if self.suspect == 1 else 'rows need'} a look: {why}"

    def histogram(self) -> list[tuple[int, int, int]]:
        """(least, most, examples) by length in tokens, each class twice as wide as the one before.

        The limit is the end of a class. Empty without examples.
        """
        if not self.lengths:
            return []
        edges = [self.limit or self.longest]
        shortest = min(self.lengths)
        while len(edges) < _BARS and edges[-1] // 2 >= shortest:
            edges.append(edges[-1] // 2)
        edges.reverse()
        while edges[-1] < self.longest:
            edges.append(edges[-1] * 2)
        counts = np.bincount(np.searchsorted(edges, np.asarray(self.lengths)), minlength=len(edges))
        return [(low + 1, high, int(count)) for (low, high), count in zip(pairwise([0, *edges]), counts, strict=True)]

    def waste(self) -> dict[str, float]:
        """The share of positions that hold no token: BATCH rows padded as they come, of like length, or packed."""
        lengths = list(self.fitted)
        return {
            "padded": padded_waste(lengths, BATCH),
            "sorted": padded_waste(sorted(lengths), BATCH),
            "packed": packed_waste(lengths, self.limit or max(lengths, default=0)),
        }

    def as_dict(self) -> dict[str, Any]:
        """The form that other programs read."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "trained": self.trained,
            "issues": self.counts,
            "issue_rows": {kind: list(self.issues[kind]) for kind in self.counts},
            "examples": self.examples,
            "longest": self.longest,
            "limit": self.limit,
            "truncate": self.how,
            "over_limit": self.over,
            "lost": {
                "tokens": self.lost_tokens,
                "trained": self.lost_trained,
                "turns": self.lost_turns,
                "examples": self.lost_examples,
            },
            "histogram": [{"from": low, "to": high, "examples": count} for low, high, count in self.histogram()],
            "tags": {"compared": self.tags_compared, "differences": dict(self.tag_differences.most_common(_NAMED))},
            "waste": {"batch": BATCH} | {kind: round(share, 4) for kind, share in self.waste().items()},
            "suspect": self.suspect,
            "verdict": self.verdict(),
        }


def audit(
    rows: Iterable[tuple[int, str, str | None]],
    tokenizer: PreTrainedTokenizerBase,
    policy: MaskPolicy | None = None,
    *,
    limit: int | None = None,
    how: Truncation = "drop",
    cache: TokenCache | None = None,
    on_row: Callable[[int], None] | None = None,
    tagged: int = 0,
) -> Audit:
    """Tokenise `rows` of (key, messages as JSON, tools as JSON or None) in a stream; only counts are kept.

    `limit` (tokens) and `how` are those of `trainer.chat.truncate.fit`. Rows that `cache` holds are not tokenised
    again. `on_row(done)` is called after each row. The first `tagged` rows are compared with the generation tags of
    the template, where it has some.
    """
    result = Audit(limit, how, policy.turns if policy else "all")
    ahead: deque[tuple[int, list[Message], list[Any] | None]] = deque()

    def parsed() -> Iterator[tuple[list[Message], list[Any] | None]]:
        for key, messages, tools in rows:
            ahead.append((key, json.loads(messages), json.loads(tools) if tools else None))
            yield ahead[-1][1:]

    for done in tokenise_many(tokenizer, parsed(), policy, cache=cache):
        key, messages, tools = ahead.popleft()
        fitted = None if limit is None else fit(tokenizer, done, messages, tools, policy, limit, how)
        result.add(key, done, fitted)
        if result.rows <= tagged and (differing := tag_issues(tokenizer, messages, tools, policy)) is not None:
            result.add_tags(key, differing)
        if on_row:
            on_row(result.rows)
    return result


def differing_rows(one: Audit, other: Audit) -> list[int]:
    """The keys of the rows that do not have the same kinds of issues in two audits of them, in order."""
    differ: set[int] = set()
    for kind in ISSUES.keys() - {TAGS_DISAGREE}:  # known of the first rows alone
        differ |= set(one.issues.get(kind, ())) ^ set(other.issues.get(kind, ()))
    return sorted(differ)
