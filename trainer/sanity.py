"""What every run checks of itself: that it starts as the base, and that gradients go where they should."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftModel

from trainer import processes
from trainer.errors import Problem
from trainer.losses import mean_loss, scored_positions
from trainer.methods import untrained
from trainer.protocol import write_atomic
from trainer.schedule import TrainRow

if TYPE_CHECKING:
    from trainer.base import Base


@dataclass(frozen=True)
class Sanity:
    """The checks of one run. Losses in nats per trained token. None: not checked, the model being split by FSDP.

    `step0_difference`: largest difference between the loss before the first step and the base's on single rows.
    `gradient_reach`: share of the trained matrices with a gradient after the first step (but for LoRA's A, whose is
    zero then, because B starts at zero). `foreign_gradients`: others that have one.
    """

    step0_difference: float | None
    gradient_reach: float | None
    foreign_gradients: int | None
    trainable_share: float
    validation_before: float | None
    validation_after: float | None


def step0_difference(base: Base, model: Any, rows: Sequence[TrainRow]) -> float:
    """Largest difference of single rows' losses between the untouched model and the base (nats); 0 is right."""
    model.eval()
    ours = _mean_losses(base, model, rows)
    with untrained(base, model) as before:
        theirs = _mean_losses(base, before, rows)
    return max((abs(one - other) for one, other in zip(ours, theirs, strict=True)), default=0.0)


def _mean_losses(base: Base, model: Any, rows: Sequence[TrainRow]) -> list[float]:
    with scored_positions(model) as select:
        return [mean_loss(base, model, select, [row], 1) or 0.0 for row in rows]


def note_gradients(model: Any, path: Path) -> None:
    """Write to `path` where gradients arrived in the first backward pass, for a resumed run to read.

    Raises Problem where they miss part of a LoRA adapter, or all of what another method trains, or go elsewhere.
    """
    own = _own_names(model)
    reached, expected, foreign = 0, 0, 0
    for name, parameter in model.named_parameters():
        has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        if not own(name):
            foreign += has
        elif parameter.requires_grad and "lora_A" not in name:
            expected += 1
            reached += has
    reach = reached / max(expected, 1)
    whole = any("lora_B" in name for name, _ in model.named_parameters())
    if not reached or (whole and reach < 1.0) or foreign:
        raise Problem(
            f"gradients reached {reach:.0%} of what is trained and {foreign} other parameters in the first step",
            do="The run would not train what it should; try --quantize none and report the model's name.",
        )
    if processes.is_first():
        write_atomic(path, json.dumps({"gradient_reach": reach, "foreign_gradients": foreign}))


def _own_names(model: Any) -> Callable[[str], bool]:
    """Whether the parameter of a name is one that is to be trained."""
    if not isinstance(model, PeftModel):
        return lambda name: True
    prefix = model.base_model.prefix
    return lambda name: prefix in name or "modules_to_save" in name
