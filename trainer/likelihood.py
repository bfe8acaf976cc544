"""How likely a model finds the answers of conversations: mean losses under their prompts, and without any.

Tokens, masks and prompts are those of training. "Without any" keeps the ids of the answer and the header that the
template writes before it, and drops everything else: both losses are means over the same tokens.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import torch

from trainer.base import Base
from trainer.chat import IGNORED, MaskPolicy, TrainingExample, fit, tokenise_many
from trainer.chat.chat_format import chat_format
from trainer.conversation import Message
from trainer.losses import padded, scored_positions, token_losses
from trainer.schedule import micro_batches

Conversation = tuple[list[Message], list[Any] | None]

_WINDOW = 512
"""Rows among which those of like length are put together: enough to fill batches, few enough to be told of soon."""

_Sequence = tuple[list[int], list[int]]  # ids, labels


@dataclass(frozen=True)
class AnswerLoss:
    """The mean loss (nats) of a row's trained tokens, and how many they are; `loss` is None where there is none.

    `why` says then why not.
    """

    loss: float | None
    tokens: int
    why: str = ""


def answer_losses(
    base: Base,
    policy: MaskPolicy,
    rows: Iterable[Conversation],
    *,
    alone: bool,
    max_length: int,
    micro_tokens: int,
) -> Iterator[tuple[int, AnswerLoss]]:
    """The loss of each row's answers, by the row's number, in the order in which they are known.

    Each assistant turn is read given all before it, or `alone`: given nothing but its header. Rows of more than
    `max_length` tokens have no loss. A forward pass holds at most `micro_tokens` tokens with their padding. Raises
    BadInput for ids that the model lacks.
    """
    numbered = iter(enumerate(rows))
    base.model.eval()
    with scored_positions(base.model) as select:
        while window := list(islice(numbered, _WINDOW)):
            sequences: list[_Sequence] = []
            owners: list[int] = []
            for number, found in _prepared(base, policy, window, alone, max_length):
                if isinstance(found, AnswerLoss):
                    yield number, found
                else:
                    sequences += found
                    owners += [number] * len(found)
            left = Counter(owners)
            sums = dict.fromkeys(owners, 0.0)
            tokens: Counter[int] = Counter()
            for cut in micro_batches([len(ids) for ids, _ in sequences], micro_tokens):
                batch = {key: value.to(base.device) for key, value in padded([sequences[i] for i in cut]).items()}
                with torch.inference_mode(), base.autocast():
                    losses, places = token_losses(base.model, select, batch)
                totals = torch.zeros(len(cut), dtype=torch.float64, device=losses.device)
                totals.index_add_(0, places, losses.double())
                counts = torch.bincount(places, minlength=len(cut)).tolist()
                for index, total, count in zip(cut, totals.tolist(), counts, strict=True):
                    number = owners[index]
                    sums[number] += total
                    tokens[number] += count
                    left[number] -= 1
                    if not left[number]:
                        yield number, AnswerLoss(sums[number] / tokens[number], tokens[number])


def _prepared(
    base: Base, policy: MaskPolicy, window: Sequence[tuple[int, Conversation]], alone: bool, max_length: int
) -> Iterator[tuple[int, list[_Sequence] | AnswerLoss]]:
    """The sequences of each row of `window`, or why there are none."""
    header = _header(base, policy) if alone else []
    waiting = deque(window)
    for done in tokenise_many(base.tokenizer, (row for _, row in window), policy):
        number, (messages, tools) = waiting.popleft()
        fitted = fit(base.tokenizer, done, messages, tools, policy, max_length, "drop")
        if any(cut.kept == 0 for cut in fitted.cuts):
            yield number, AnswerLoss(None, 0, f"longer than {max_length:,} tokens")
            continue
        found = [
            sequence
            for example in fitted.examples
            for sequence in (_alone(base, example, header) if alone else [(example.input_ids, example.labels)])
            if any(label != IGNORED for label in sequence[1][1:])
        ]
        for ids, _ in found:
            base.check_ids(ids)
        kinds = json.dumps(sorted({issue.kind for issue in done.issues}))
        yield number, found or AnswerLoss(None, 0, f"no token of an answer to be scored; issues {kinds}")


def _alone(base: Base, example: TrainingExample, header: list[int]) -> list[_Sequence]:
    """Each run of trained tokens of `example` behind the header of an answer, and behind nothing else."""
    ids, trained = list(example.input_ids), list(example.trained)
    begins = ids[0] == base.tokenizer.bos_token_id and header[:1] != [ids[0]]
    context = [ids[0], *header] if begins else header
    sequences = []
    for is_trained, run in groupby(range(len(ids)), key=trained.__getitem__):
        if is_trained:
            answer = [ids[i] for i in run]
            sequences.append((context + answer, [IGNORED] * len(context) + answer))
    return sequences


def _header(base: Base, policy: MaskPolicy) -> list[int]:
    """The ids of what the template writes between a prompt and its answer."""
    chat = chat_format(base.tokenizer, policy)
    text = chat.facts.header or ""
    return list(chat.ids_alone([text])[text]) if text else []
