"""The loss of every token of a few sequences under a base model, or under an adapter on it: a small job.

plan.json            TokenLossPlan: the model, the adapter, the sequences
sequences.parquet    `ids`: a list of token ids a row
losses.parquet       `losses`: a float32 a token, in nats; null for the first, which nothing predicts
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from trainer.plan import ModelChoice, ModelSetting
from trainer.protocol import Events, read_plan

if TYPE_CHECKING:
    from trainer.base import Base

SEQUENCES = "sequences.parquet"
LOSSES = "losses.parquet"

CHUNK = 512
"""Tokens of one forward pass: the logits of more fill gigabytes where the vocabulary is large."""

_ADAPTER = "adapter"


class TokenLossPlan(BaseModel):
    """`plan.json` of the job. `choice` holds the base as the runs of an experiment had it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["token-loss"] = "token-loss"
    model: ModelSetting
    choice: ModelChoice | None = None
    adapter: str | None = None
    """A folder with a PEFT adapter, seen from that of the job; None measures the base."""


def measure_folder(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises ModelUnavailable.

    Raises BadInput for ids that the model lacks, for an adapter that cannot be read, and where the name of its base
    stands for other weights by now.
    """
    from trainer.adapters import with_adapters
    from trainer.base import load_base, load_chosen

    plan = read_plan(folder, TokenLossPlan)
    sequences: list[list[int]] = pq.read_table(folder / SEQUENCES).column("ids").to_pylist()
    events.emit("stage", what="loading the model")
    base = load_chosen(plan.model, plan.choice) if plan.choice else load_base(plan.model)
    wearing = with_adapters(base, {_ADAPTER: folder / plan.adapter} if plan.adapter else {})
    with wearing(_ADAPTER if plan.adapter else None) as model:
        total, done = sum(map(len, sequences)), 0
        losses: list[list[float | None]] = []
        for ids in sequences:

            def tell(count: int, before: int = done) -> None:
                events.emit("progress", done=before + count, total=total, what="measuring losses")

            losses.append(token_losses(base, model, ids, tell))
            done += len(ids)
    column = pa.array(losses, pa.list_(pa.float32()))
    pq.write_table(pa.table({"losses": column}), folder / LOSSES)


def token_losses(
    base: Base, model: Any, ids: Sequence[int], tell: Callable[[int], None] = lambda done: None
) -> list[float | None]:
    """The negative log-likelihood (nats) of each token given those before it; None for the first.

    The sequence goes through the model in pieces of CHUNK tokens, each with the keys and values of those before it,
    which gives the losses of one pass over all of it with the logits of one piece in memory. `model` is the base's
    own or one with an adapter; `tell(done)` is called after each piece. Raises BadInput for ids beyond the vocabulary.
    """
    import torch

    base.check_ids(ids)
    model.eval()
    losses: list[float | None] = [None]
    past = None
    whole = torch.tensor([list(ids)], dtype=torch.long, device=base.device)
    for start in range(0, len(ids), CHUNK):
        piece = whole[:, start : start + CHUNK]
        targets = whole[0, start + 1 : start + 1 + CHUNK]
        with torch.inference_mode(), base.autocast():
            out = model(input_ids=piece, past_key_values=past, use_cache=True)
        past = out.past_key_values
        logits = out.logits[0, : len(targets)].float()
        losses += torch.nn.functional.cross_entropy(logits, targets, reduction="none").tolist()
        tell(min(start + CHUNK, len(ids)))
    return losses[: len(ids)]
