"""Which rows make which optimizer step: fixed before training, by seed and content, in equal trained tokens.

Arms are matched on trained tokens: equal steps of (nearly) equal trained tokens, so a bigger set cannot win by
being bigger, nor one of longer answers by being longer. Rows are ordered by a hash of seed and content, so rows that
two versions share come in the same order in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class TrainRow:
    """One tokenised sequence. `key` is its content hash with its place among equal ones; labels are -100 or ids."""

    key: str
    input_ids: Sequence[int]
    labels: Sequence[int]

    @property
    def trained(self) -> int:
        """Tokens that count in the loss. The first token of a sequence has nothing before it to predict it."""
        return sum(label != -100 for label in self.labels[1:])


def seeded_order(keys: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Indices of `keys` ordered by SHA-256 of seed, epoch and key: the same for a key in whatever set it is."""
    return sorted(range(len(keys)), key=lambda i: hashlib.sha256(f"{seed}/{epoch}/{keys[i]}".encode()).digest())


def epoch_steps(rows: Sequence[TrainRow], epochs: int, tokens_per_step: int) -> int:
    """How many optimizer steps of about `tokens_per_step` trained tokens make `epochs` passes over the rows."""
    trained = [row.trained for row in rows if row.trained]
    return max(1, min(round(sum(trained) * epochs / tokens_per_step), len(trained) * epochs))


def epochs_in_steps(rows: Sequence[TrainRow], *, seed: int, epochs: int, steps: int) -> list[list[int]]:
    """Row indices of each of `steps` optimizer steps that together are exactly `epochs` passes over the rows.

    Step k ends with the row that brings the running total to its share of all tokens, but never leaves fewer rows than
    there are steps to come, so none is empty. Raises ValueError where there are fewer rows than steps.
    """
    keys = [row.key for row in rows]
    order = [i for epoch in range(epochs) for i in seeded_order(keys, seed, epoch) if rows[i].trained]
    if len(order) < steps:
        raise ValueError("fewer rows than steps")
    share = Fraction(sum(rows[i].trained for i in order), steps)
    plan: list[list[int]] = [[]]
    total = 0
    for place, index in enumerate(order, 1):
        plan[-1].append(index)
        total += rows[index].trained
        to_come = steps - len(plan)
        if to_come and (total >= len(plan) * share or len(order) - place == to_come):
            plan.append([])
    return plan


def cut_to_steps(rows: Sequence[TrainRow], tokens_per_step: int) -> list[TrainRow]:
    """The same trained tokens in rows that have no more of them than a step: longer ones become several.

    Each of these has its share of the labels, and all that stands before them: a causal model learns the same of a
    token wherever the text ends behind it. Without it an arm of long answers would train more in as many steps.
    """
    cut = []
    for row in rows:
        trained = [at for at, label in enumerate(row.labels) if at and label != -100]
        parts = -(-len(trained) // tokens_per_step)
        if parts < 2:
            cut.append(row)
            continue
        for part in range(parts):
            own = trained[part * len(trained) // parts : (part + 1) * len(trained) // parts]
            begin, end = own[0], own[-1] + 1
            labels = [*[-100] * begin, *row.labels[begin:end]]
            cut.append(TrainRow(f"{row.key}/{part}", row.input_ids[:end], labels))
    return cut


def steps_of(rows: Sequence[TrainRow], *, seed: int, steps: int, tokens_per_step: int) -> list[list[int]]:
    """Row indices of each of `steps` optimizer steps of about `tokens_per_step` trained tokens, epoch after epoch.

    Step k ends with the row that brings the running total to (k+1) x `tokens_per_step`, so the total of n steps is off
    by less than one row, where none has more than a step (`cut_to_steps`). Raises ValueError where no row has a trained
    token.
    """
    trained = [row.trained for row in rows]
    if not any(trained):
        raise ValueError("no row has a trained token")
    keys = [row.key for row in rows]
    plan: list[list[int]] = []
    current: list[int] = []
    total, epoch = 0, 0
    while len(plan) < steps:
        for index in seeded_order(keys, seed, epoch):
            if not trained[index]:
                continue
            current.append(index)
            total += trained[index]
            if total >= (len(plan) + 1) * tokens_per_step:
                plan.append(current)
                current = []
                if len(plan) == steps:
                    break
        epoch += 1
    return plan


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Positions of `lengths` in batches of like length, each at most `budget` tokens with its padding.

    A row longer than the budget is a batch of its own. Shorter rows first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
