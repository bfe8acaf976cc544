"""What every run checks of itself: that it starts as the base, and that gradients go where they should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.errors import Problem
from trainer.losses import Select, padded, token_losses
from trainer.protocol import write_atomic
from trainer.schedule import TrainRow

if TYPE_CHECKING:
    from peft import PeftModel

    from trainer.base import Base


@dataclass(frozen=True)
class Sanity:
    """The checks of one run. Losses in nats per trained token.

    `step0_difference`: largest difference between the untouched adapter's loss and the base's on single rows.
    `gradient_reach`: share of the adapter's B matrices with a gradient after the first step (A's is zero then,
    because B starts at zero). `foreign_gradients`: parameters outside the adapter that have one.
    """

    step0_difference: float
    gradient_reach: float
    foreign_gradients: int
    trainable_share: float
    validation_before: float | None
    validation_after: float | None


def step0_difference(base: Base, model: PeftModel, select: Select, rows: Sequence[TrainRow]) -> float:
    """Largest difference of single rows' losses between the untouched adapter and the base (nats); 0 is right."""
    worst = 0.0
    model.eval()
    for row in rows:
        batch = {key: value.to(base.device) for key, value in padded([(row.input_ids, row.labels)]).items()}
        with torch.inference_mode(), base.autocast():
            ours, _ = token_losses(model, select, batch)
            with model.disable_adapter():
                theirs, _ = token_losses(model, select, batch)
        worst = max(worst, abs(float(ours.mean()) - float(theirs.mean())))
    return worst


def trainable_share(model: PeftModel) -> float:
    """The adapter's part of all parameters."""
    trainable, total = model.get_nb_trainable_parameters()
    return float(trainable / total)


def note_gradients(model: PeftModel, path: Path) -> None:
    """Write to `path` where gradients arrived in the first backward pass, for a resumed run to read.

    Raises Problem where they miss part of the adapter or go elsewhere.
    """
    reached, matrices, foreign = 0, 0, 0
    for name, parameter in model.named_parameters():
        has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        if "lora_B" in name:
            matrices += 1
            reached += has
        elif "lora_" not in name:
            foreign += has
    reach = reached / max(matrices, 1)
    if reach < 1.0 or foreign:
        raise Problem(
            f"gradients reached {reach:.0%} of the adapter and {foreign} other parameters in the first step",
            do="The run would not train what it should; try --quantize none and report the model's name.",
        )
    write_atomic(path, json.dumps({"gradient_reach": reach, "foreign_gradients": foreign}))
