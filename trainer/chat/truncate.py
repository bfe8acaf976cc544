"""Rows longer than the limit: what becomes of them is a policy, and what it costs is always told.

`drop` gives an example up where tokens that are trained lie behind the limit; where only ignored ones do (a user
turn without an answer), those are cut, which changes no loss. `keep-start` and `keep-end` cut tokens, whatever they
hold. `drop-turns` takes the oldest exchanges away, each from a user message up to the next, until the rest fits: what
is left is rendered anew by the template, so it is a conversation as inference would show it, never a piece of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from trainer.chat.example import Issue, MaskPolicy, Tokenised, TrainingExample
from trainer.chat.mask import tokenise
from trainer.conversation import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Truncation = Literal["drop", "keep-end", "keep-start", "drop-turns"]
TRUNCATIONS: tuple[Truncation, ...] = get_args(Truncation)

_MOST_POSITIONS = 10**9
"""Tokenizers that know no limit have a number far above any as theirs."""


@dataclass(frozen=True)
class Cut:
    """What became of one over-long example.

    `example` is its place in the row. `start`, `end` are the tokens of it that stay, equal where none does or where
    it was rendered anew; `dropped` are the messages that went away before that. `tokens` and `trained` count what no
    longer reaches the trainer, `turns` the trained turns that are lost, whole or in part.
    """

    example: int
    start: int
    end: int
    tokens: int
    trained: int
    turns: int
    dropped: tuple[int, ...] = ()
    kept: int = 0
    """Examples that are left of it."""


@dataclass(frozen=True)
class Fitted:
    """A row under the limit: the `examples` that are trained, none longer than it, and what it cost to get there."""

    examples: list[TrainingExample]
    cuts: list[Cut]
    issues: list[Issue]
    """`truncated`, and `response-lost` where trained tokens are lost; one of each at most."""


def fit(
    tokenizer: PreTrainedTokenizerBase,
    done: Tokenised,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    policy: MaskPolicy | None,
    limit: int,
    how: Truncation = "drop",
) -> Fitted:
    """Bring a row's examples under `limit` tokens each, by the policy `how`.

    `done` is `tokenise(tokenizer, messages, tools, policy)`; all of these are used only where `how` is `drop-turns`.
    """
    examples: list[TrainingExample] = []
    cuts: list[Cut] = []
    for number, example in enumerate(done.examples):
        if len(example.input_ids) <= limit:
            examples.append(example)
            continue
        dropped: tuple[int, ...] = ()
        if how == "drop-turns":
            start = end = 0
            left, dropped = _drop_turns(tokenizer, example, messages, tools, policy or MaskPolicy(), limit)
        else:
            start, end = _kept(example, limit, how)
            left = [_slice(example, start, end)] if end > start else []
        examples += left
        cuts.append(_cut(number, example, left, start, end, dropped))
    return Fitted(examples, cuts, _issues(cuts, done.examples, limit))


def window(tokenizer: PreTrainedTokenizerBase, folder: str) -> int | None:
    """The most tokens that a model can see, by the configuration in its `folder` and its tokenizer; None if unsaid."""
    known = [tokenizer.model_max_length]
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        known += [config.get("max_position_embeddings"), config.get("text_config", {}).get("max_position_embeddings")]
    except (OSError, ValueError, AttributeError):
        pass  # a hub name, a folder with a tokenizer alone, or a model that is configured in another way
    sizes = [size for size in known if isinstance(size, int) and 0 < size < _MOST_POSITIONS]
    return min(sizes, default=None)


def _kept(example: TrainingExample, limit: int, how: Truncation) -> tuple[int, int]:
    """The range of the tokens that stay; empty where the example is given up."""
    length = len(example.input_ids)
    if how == "keep-end":
        return length - limit, length
    if how == "drop" and True in example.trained[limit:]:
        return 0, 0
    return 0, limit


def _slice(example: TrainingExample, start: int, end: int) -> TrainingExample:
    """The tokens from `start` to `end`; `text` and with it `offsets` stay those of the whole."""
    trained = example.trained[start:end]
    if start:
        trained[0] = False  # nothing stands before it by which it could be predicted
    return replace(
        example,
        input_ids=example.input_ids[start:end],
        trained=trained,
        roles=example.roles[start:end],
        offsets=example.offsets[start:end],
    )


def _drop_turns(
    tokenizer: PreTrainedTokenizerBase,
    example: TrainingExample,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    policy: MaskPolicy,
    limit: int,
) -> tuple[list[TrainingExample], tuple[int, ...]]:
    """What is left of `example` without its oldest exchanges, and which messages those are.

    Nothing is left where the last exchange alone is too long, or where the template refuses every rest.
    """
    if not example.turns:
        return [], ()
    count = max(example.turns) + 1
    # The first exchange begins behind the system messages, whoever speaks first.
    system = next((i for i, m in enumerate(messages[:count]) if m.get("role") not in ("system", "developer")), count)
    starts = [i for i in range(system + 1, count) if messages[i].get("role") == "user"]

    def without(first: int) -> list[TrainingExample] | None:
        """The examples of the system messages and those from `first` on, None where they do not fit."""
        places = [*range(system), *range(first, count)]
        # Turns that are trained in another example of the row are not trained again in this one.
        rest = [messages[i] if i in example.turns else {**messages[i], "train": False} for i in places]
        found = tokenise(tokenizer, rest, tools, policy).examples
        if not found or any(len(part.input_ids) > limit for part in found):
            return None
        return [replace(part, turns=tuple(places[i] for i in part.turns)) for part in found]

    low, high = 0, len(starts)
    best: list[TrainingExample] | None = None
    while low < high:  # the fewer exchanges, the shorter
        middle = (low + high) // 2
        found = without(starts[middle])
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    if best is None:
        return [], ()
    return best, tuple(range(system, starts[low]))


def _cut(
    number: int,
    example: TrainingExample,
    left: Sequence[TrainingExample],
    start: int,
    end: int,
    dropped: tuple[int, ...],
) -> Cut:
    trained = sum(example.trained) - sum(sum(part.trained) for part in left)
    turns = len(set(example.turns) - {turn for part in left for turn in part.turns})
    if end > start:
        before = example.trained[: start + 1] if start else []  # the first token that stays has nothing before it
        turns = min(_runs(before) + _runs(example.trained[end:]), len(example.turns))
    return Cut(
        example=number,
        start=start,
        end=end,
        tokens=len(example.input_ids) - sum(len(part.input_ids) for part in left),
        trained=trained,
        turns=turns,
        dropped=dropped,
        kept=len(left),
    )


def _runs(trained: Sequence[bool]) -> int:
    """How many stretches of trained tokens there are: turns, since what is between turns is not trained."""
    return sum(here and not before for before, here in zip([False, *trained], trained, strict=False))


def _issues(cuts: Sequence[Cut], examples: Sequence[TrainingExample], limit: int) -> list[Issue]:
    if not cuts:
        return []
    longest = max(len(examples[cut.example].input_ids) for cut in cuts)
    issues = [Issue("truncated", None, f"{longest:,} tokens, the limit is {limit:,}")]
    if lost := sum(cut.trained for cut in cuts):
        turns = sum(cut.turns for cut in cuts)
        of = f" of {turns} {'turn' if turns == 1 else 'turns'}" if turns else ""
        issues.append(Issue("response-lost", None, f"{lost:,} trained tokens{of} are lost"))
    return issues
