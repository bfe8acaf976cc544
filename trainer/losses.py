"""Losses of labelled tokens, with logits only where a label asks for one. Training and evaluation share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from trainer.schedule import TrainRow, micro_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trainer.base import Base

Select = Callable[[torch.Tensor], None]
"""Sets the (rows, tokens) boolean mask of the positions whose logits the next forward pass computes."""


@contextmanager
def scored_positions(model: PreTrainedModel) -> Iterator[Select]:
    """Make the model compute logits only where asked: yields a setter for the (rows, tokens) boolean mask.

    Within the block the model's logits come out as (number of True, vocabulary). The vocabulary is the widest
    layer of a small model; most positions (prompt, padding) need none of it.
    """
    state: dict[str, torch.Tensor] = {}

    def select(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0][state["mask"]], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield lambda mask: state.__setitem__("mask", mask)
    finally:
        handle.remove()


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """(ids, labels) rows as right-padded tensors `input_ids`, `labels` of shape (rows, longest).

    No attention mask is needed: in a causal model no real token can see the padding behind it, and padding
    has no label. Padding is known by length, never by its id, which is often the stop token's.
    """
    width = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), width), -100, dtype=torch.long)
    for i, (ids, row_labels) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        labels[i, : len(ids)] = torch.tensor(row_labels, dtype=torch.long)
    return {"input_ids": input_ids, "labels": labels}


def token_losses(model: Any, select: Select, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihoods (nats) of a padded batch's labelled tokens, and each one's row, both flat.

    A label at position t is predicted at t-1; the first position of a row cannot be predicted.
    """
    targets = batch["labels"][:, 1:]
    mask = torch.zeros_like(batch["labels"], dtype=torch.bool)
    mask[:, :-1] = targets != -100
    select(mask)
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[mask[:, :-1]], reduction="none")
    return losses, mask.nonzero()[:, 0]


def mean_loss(base: Base, model: Any, select: Select, rows: Sequence[TrainRow], micro_tokens: int) -> float | None:
    """Mean loss (nats) over all trained tokens of `rows`, or None where there are none."""
    total, count = 0.0, 0
    model.eval()
    for cut in micro_batches([len(row.input_ids) for row in rows], micro_tokens):
        batch = padded([(rows[i].input_ids, rows[i].labels) for i in cut])
        batch = {key: value.to(base.device) for key, value in batch.items()}
        with torch.inference_mode(), base.autocast():
            losses, _ = token_losses(model, select, batch)
        total, count = total + float(losses.double().sum()), count + len(losses)
    return total / count if count else None
