"""The gradient of an adapter on single conversations, projected to few dimensions: a job.

plan.json           GradientsPlan: the model, the adapter, the policy, the projection
rows.parquet        `key`, `messages`, `tools` (JSON texts), `last`: whether the last turn alone counts, `against`:
                    messages (JSON text) whose loss is subtracted, or null
parts/*.parquet     `key`, `embedding`: the row's projected gradient as a unit vector, float32; null where it has none
plan.moments        the second moments of rows' gradients, float32, one a parameter: made where they are not there

What training on one row does to the loss of another is, for a small step, the product of their gradients (Pruthi et al.
2020, arXiv:2002.08484); its cosine over the parameters of a LoRA adapter, randomly projected, is that of LESS (Xia et
al. 2024, arXiv:2402.04333). As there, each parameter's gradient is divided by the root of its second moment: without,
the few parameters that have large gradients in every row decide. No run keeps the optimizer's moments, so they are
those of the first rows of the job, and both sides are divided, as in TrackStar (Chang et al. 2024, arXiv:2410.17413).
The projection is a count sketch (Charikar et al. 2002): each parameter is added with a random sign to a random
dimension. It keeps inner products, and costs one pass over the gradient where a dense matrix would fill gigabytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from trainer.chat import MaskPolicy, Truncation, fit, tokenise, window
from trainer.errors import BadInput
from trainer.plan import ModelChoice, ModelSetting, PolicySetting
from trainer.protocol import Events, read_plan

if TYPE_CHECKING:
    import torch

    from trainer.base import Base

ROWS = "rows.parquet"
PARTS = "parts"

_SECONDS = 20.0  # of work that a job which is killed may lose
_DAMPING = 0.1  # of the mean root: parameters that the sampled rows hardly moved are not blown up
_ADAPTER = "adapter"


class GradientsPlan(BaseModel):
    """`plan.json` of the job. `adapter`, a folder with a PEFT adapter, and the file `moments` are seen from its folder.

    `sample` is how many rows the second moments are of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gradients"] = "gradients"
    model: ModelSetting
    choice: ModelChoice
    policy: PolicySetting
    adapter: str
    moments: str
    max_length: int = Field(gt=0)
    truncate: Truncation
    dimensions: int = Field(default=16384, gt=0)
    seed: int = 0
    sample: int = Field(default=32, gt=0)


def measure_gradients(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says; parts that are there are kept. Raises ModelUnavailable, BadInput."""
    from trainer.adapters import with_adapters
    from trainer.base import load_chosen, with_policy

    plan = read_plan(folder, GradientsPlan)
    out = folder / PARTS
    out.mkdir(exist_ok=True)
    done = {key for path in out.glob("[0-9]*.parquet") for key in pq.read_table(path).column("key").to_pylist()}
    rows = pq.read_table(folder / ROWS).to_pylist()
    left = [row for row in rows if row["key"] not in done]
    if not left:
        return
    events.emit("stage", what="loading the model")
    base, policy = with_policy(load_chosen(plan.model, plan.choice), plan.policy)
    wearing = with_adapters(base, {_ADAPTER: folder / plan.adapter})
    with wearing(_ADAPTER) as model:
        gradient = AdapterGradient(base, model, plan, policy)
        _divide(gradient, folder / plan.moments, [row for row in rows if not row["last"]][: plan.sample], events)
        keys: list[str] = []
        vectors: list[list[float] | None] = []
        saved = time.monotonic()
        for number, row in enumerate(left, 1):
            keys.append(row["key"])
            vectors.append(gradient.of(*_read(row), last=row["last"], against=_parsed(row["against"])))
            events.emit("progress", done=len(done) + number, total=len(rows), what="gradients of rows")
            if number == len(left) or time.monotonic() - saved > _SECONDS:
                _write(out / f"{len(done) + number:08}.parquet", keys, vectors)
                keys, vectors, saved = [], [], time.monotonic()


def _read(row: dict[str, Any]) -> tuple[Any, Any]:
    return json.loads(row["messages"]), _parsed(row["tools"])


def _parsed(text: str | None) -> Any:
    return json.loads(text) if text else None


def _divide(gradient: AdapterGradient, path: Path, sample: Sequence[dict[str, Any]], events: Events) -> None:
    """Divide by the second moments at `path`; where none are kept there, by those of `sample`, which are kept."""
    import numpy as np
    import torch

    if path.exists():
        moments = torch.from_numpy(np.load(path))
    else:
        moments = gradient.moments(_told(sample, events))
        part = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, moments.cpu().numpy())
        part.replace(path)
    gradient.divide_by(moments)


def _told(sample: Sequence[dict[str, Any]], events: Events) -> Iterator[tuple[Any, Any]]:
    for number, row in enumerate(sample):
        events.emit("progress", done=number, total=len(sample), what="sizes of gradients")
        yield _read(row)


class AdapterGradient:
    """Projected gradients of one adapter, whose parameters alone get any."""

    def __init__(self, base: Base, model: Any, plan: GradientsPlan, policy: MaskPolicy) -> None:
        """`model` wears the adapter. Raises BadInput where it has no LoRA parameters."""
        import torch

        self._base, self._model, self._plan, self._policy = base, model, plan, policy
        self._parameters = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
        if not self._parameters:
            raise BadInput("it has no LoRA parameters", where="the adapter", do="--by neighbours needs none.")
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self._limit = min(plan.max_length, window(base.tokenizer, base.source.path) or plan.max_length)
        generator = torch.Generator().manual_seed(plan.seed)
        count = sum(parameter.numel() for parameter in self._parameters)
        self._places = torch.randint(plan.dimensions, (count,), generator=generator).to(base.device)
        self._weights = (torch.randint(2, (count,), generator=generator, dtype=torch.int8) * 2 - 1).to(base.device)

    def moments(self, conversations: Iterable[tuple[Any, Any]]) -> torch.Tensor:
        """The mean square of each parameter's gradient over (messages, tools), each gradient of length 1."""
        import torch

        total, count = torch.zeros(len(self._places), device=self._places.device), 0
        for messages, tools in conversations:
            if self._backward(messages, tools, self._policy, 1.0, fresh=True):
                flat = self._flat()
                length = float(flat.norm())
                if 0 < length < float("inf"):
                    total += (flat / length) ** 2
                    count += 1
        return total / max(count, 1)

    def divide_by(self, moments: torch.Tensor) -> None:
        """Divide every gradient from now on by the root of the second moments."""
        root = moments.sqrt()
        signs = self._weights.float()
        self._weights = signs / (root + _DAMPING * root.mean()).to(signs.device) if float(root.mean()) > 0 else signs

    def of(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[Any] | None,
        *,
        last: bool,
        against: Sequence[dict[str, Any]] | None = None,
    ) -> list[float] | None:
        """The unit vector of a conversation's gradient, rendered, masked and cut as in training.

        It is that of the sum of its trained tokens' losses; with `last`, of the last turn's; less that of `against`,
        so that what the two have in common cancels. None without any trained token.
        """
        import torch

        policy = self._policy_of_last() if last else self._policy
        there = self._backward(messages, tools, policy, 1.0, fresh=True)
        if against is not None:
            there = self._backward(against, tools, policy, -1.0, fresh=False) or there
        if not there:
            return None
        flat = self._flat() * self._weights
        sketch = torch.zeros(self._plan.dimensions, device=flat.device).index_add_(0, self._places, flat)
        length = float(sketch.norm())
        return (sketch / length).tolist() if 0 < length < float("inf") else None

    def _backward(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[Any] | None, policy: MaskPolicy, sign: float, *,
        fresh: bool,
    ) -> bool:  # fmt: skip
        """Add the loss's gradient to what the parameters have, `fresh` to nothing; False without trained tokens."""
        from trainer.losses import padded, scored_positions, token_losses

        if fresh:
            for parameter in self._parameters:
                parameter.grad = None
        done = tokenise(self._base.tokenizer, messages, tools, policy)
        fitted = fit(self._base.tokenizer, done, messages, tools, policy, self._limit, self._plan.truncate)
        examples = [one for one in fitted.examples if any(one.trained[1:])]
        self._model.train()
        with scored_positions(self._base.model) as select:
            for one in examples:
                self._base.check_ids(one.input_ids)
                batch = padded([(one.input_ids, one.labels)])
                batch = {name: value.to(self._base.device) for name, value in batch.items()}
                with self._base.autocast():
                    losses, _ = token_losses(self._model, select, batch)
                (sign * losses.sum()).backward()  # type: ignore[no-untyped-call]
        return bool(examples)

    def _flat(self) -> torch.Tensor:
        import torch

        return torch.cat([_flat(parameter) for parameter in self._parameters])

    def _policy_of_last(self) -> MaskPolicy:
        from dataclasses import replace

        return replace(self._policy, turns="last")


def _flat(parameter: torch.Tensor) -> torch.Tensor:
    import torch

    gradient = parameter.grad
    return torch.zeros(parameter.numel(), device=parameter.device) if gradient is None else gradient.float().flatten()


def _write(path: Path, keys: Sequence[str], vectors: Sequence[Sequence[float] | None]) -> None:
    part = path.with_name(f".{path.name}.part")
    column = pa.array(vectors, pa.list_(pa.float32()))
    pq.write_table(pa.table({"key": pa.array(keys, pa.string()), "embedding": column}), part)
    part.replace(path)
