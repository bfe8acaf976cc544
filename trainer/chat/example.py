"""What tokenising a conversation takes and gives: the policy, the examples with their labels, the issues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from trainer.chat.sequences import Ranges, Runs

Turns = Literal["all", "last", "full"]
TURNS: tuple[Turns, ...] = get_args(Turns)
Special = Literal["flag", "text", "refuse"]
SPECIAL: tuple[Special, ...] = get_args(Special)

IGNORED = -100
"""The label that cross-entropy leaves out; the value that PyTorch and transformers use."""

ISSUES = {
    "template-error": "the chat template refused the conversation; nothing of it is trained",
    "zero-trained": "no token of the row is trained",
    "no-stop": "a turn ends without a stop token; the model cannot learn to stop there",
    "stop-ignored": "a turn ends with a part that is not trained, and its stop token with it",
    "prefix-broken": "inference's prompt is not how the turn begins; trained from its content on",
    "expanded": "later turns change how a turn is written; it became an example of its own",
    "straddle": "a token lies across the border of a turn; it is not trained",
    "empty-turn": "an assistant turn is empty: the model would learn to stop at once",
    "part-not-found": "a part of a turn that is not to be trained was not found; none of the turn is trained",
    "special-in-content": "a message holds the text of a special token, tokenised as a real one, or the row is refused",
    "role-order": "turns do not come in the order that chat models know",
    "dropped-field": "the chat template leaves out something that messages or tools contain",
    "injected-system": "the chat template adds text of its own that no message contains",
    "tags-disagree": "the template's own generation tags mark other text of a turn than what is trained",
    "double-bos": "the sequence begins twice",
    "truncated": "longer than the limit",
    "response-lost": "longer than the limit, and trained tokens are lost",
}
"""Every kind of issue, in the order to show them, with what it means."""


@dataclass(frozen=True)
class MaskPolicy:
    """Everything besides tokenizer and conversation that decides which tokens there are and which are trained.

    `turns`: all assistant turns, only the last one, or `full` (every token, to measure what masking buys).
    `template_args` go to the chat template (`enable_thinking` and the like). `date` is the ISO date that a
    template sees as today; None is the day of the call, so freeze it where results must repeat. `stop_ids` are
    the model's own further stop tokens (its generation config), beyond what the tokenizer and template tell.
    `tool_calls` and `reasoning` say whether those parts of a trained turn are trained. `special` is what becomes
    of special tokens that somebody typed into a message: tokenised as real ones and flagged, written as plain
    text, or the row refused. With `turns="full"` every token is trained, whatever the rest says.
    """

    turns: Turns = "all"
    template_args: tuple[tuple[str, Any], ...] = ()
    date: str | None = None
    stop_ids: tuple[int, ...] = ()
    tool_calls: bool = True
    reasoning: bool = True
    special: Special = "flag"


@dataclass(frozen=True)
class TrainingExample:
    """One sequence as the trainer gets it; lists, roles and offsets have one entry a token.

    `offsets` are character ranges in `text`, the rendered conversation; where a tokenizer gives none, the first
    token of each segment carries the segment's range. `roles` are message roles and serve the eye alone.
    `turns` are the indices of the messages that are trained here, `special_ids` the tokenizer's special tokens.
    """

    input_ids: list[int]
    trained: list[bool]
    roles: Runs
    offsets: Ranges
    text: str
    turns: tuple[int, ...]
    special_ids: frozenset[int]

    @cached_property
    def special(self) -> list[bool]:
        """Whether each token is a special one."""
        return [id_ in self.special_ids for id_ in self.input_ids]

    @property
    def labels(self) -> list[int]:
        """The labels of the loss, not shifted: the token's id where it is trained, else IGNORED."""
        return [id_ if trained else IGNORED for id_, trained in zip(self.input_ids, self.trained, strict=True)]


@dataclass(frozen=True)
class Issue:
    """Something about a row that a person should know. `kind` is a key of ISSUES, `turn` a message index."""

    kind: str
    turn: int | None
    detail: str


@dataclass(frozen=True)
class Tokenised:
    """A conversation's training examples (several where turns had to be set apart, none after a template error)."""

    examples: list[TrainingExample]
    issues: list[Issue]
