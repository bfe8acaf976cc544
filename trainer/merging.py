"""The merge job: adapters combined and folded into their base, as a model folder that loads without PEFT.

    plan.json      MergePlan: the base as the experiment held it, the adapters with their weights, how to combine them
    merged/        the model and its tokenizer in the Hugging Face layout, complete when it is there
    checks.json    how near its outputs are to those of the base with the adapters on

What is combined are the updates of the weights (for LoRA: scaling times B times A), layer by layer. PEFT's own
`linear`, `ties` and `dare` combine A with A and B with B, which for two adapters adds the products of one's A with the
other's B to the sum that was asked for.

TIES: arXiv:2306.01708. DARE: arXiv:2311.03099. Task arithmetic, with negative weights: arXiv:2212.04089.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.adapters import with_adapters
from trainer.base import Base, load_chosen, with_policy
from trainer.errors import BadInput, Problem
from trainer.plan import Combination, ModelChoice, ModelSetting, PolicySetting
from trainer.protocol import Events, read_plan, write_atomic

if TYPE_CHECKING:
    import torch

MERGED = "merged"
CHECKS = "checks.json"

_CONTINUED = 24
"""Tokens that the models write after each prompt for the check; all positions of prompt and answer are compared."""

_EXACT = 1e-3
"""The greatest difference of a log-probability (nats) that float32 arithmetic in another order may make."""

_MORE = (
    "modules_to_save", "lora_bias", "trainable_token_indices", "target_parameters", "layer_replication",
    "use_dora", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
)  # fmt: skip
"""Keys of PEFT's config of LoRA: with these an adapter trains other weights, too, or works on the layers otherwise."""

_ROUNDED = 0.05
"""With weights in 16 bits: the divergence from the tuned model may be this share of the base's own from it."""


class MergedAdapter(BaseModel):
    """An adapter that takes part: its folder, seen from that of the job, and its weight, which may be negative."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    weight: float = 1.0


class MergePlan(BaseModel):
    """`plan.json` of the job. `prompts` are conversations that end where an answer is wanted; the check uses them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["merge"] = "merge"
    model: ModelSetting
    chosen: ModelChoice
    policy: PolicySetting
    adapters: list[MergedAdapter] = Field(min_length=1)
    how: Combination = "linear"
    density: float = Field(0.5, gt=0, le=1)
    """The share of each update that `ties` (its largest numbers) and `dare` (numbers drawn at random) keep."""
    seed: int = 0
    """Of what `dare` draws."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the saved weights."""
    prompts: list[list[dict[str, Any]]] = Field(min_length=1)


class Checks(BaseModel):
    """`checks.json`: outputs on `positions` positions of the prompts and the tuned model's answers to them.

    `largest` is the greatest difference of a log-probability in nats, `divergence` the mean KL(tuned || merged) in
    nats, `untuned` the mean KL(tuned || base): how much there was to keep. `same_token` is the share of positions at
    which tuned and merged model prefer the same token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int
    positions: int
    largest: float
    divergence: float
    untuned: float
    same_token: float


def merge_folder(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises Problem kinds; see the module's text for the files.

    The merged model is read back from the disk and compared before its folder gets its name. Raises Problem where its
    outputs are not those of the tuned model.
    """
    from trainer.evaluate import answering_prompt

    plan = read_plan(folder, MergePlan)
    out = folder / MERGED
    if out.exists():
        return
    events.emit("stage", what="loading the model")
    # Weights of 4 bits cannot take up an update: the same values, held densely, can.
    held: Literal["dense", "nf4-rounded"] = "dense" if plan.chosen.held == "dense" else "nf4-rounded"
    chosen = plan.chosen.model_copy(update={"dtype": "float32", "held": held})
    base, policy = with_policy(load_chosen(plan.model, chosen), plan.policy)
    prompts = [answering_prompt(base, turns, None, policy) for turns in plan.prompts]
    untuned = [_log_probabilities(base.model, base, ids) for ids in prompts]
    names = {f"adapter-{i}": folder / adapter.folder for i, adapter in enumerate(plan.adapters)}
    for path in names.values():
        check_adapter(base, path)
    with with_adapters(base, names)(next(iter(names))) as model:
        events.emit("stage", what="combining the adapters")
        wear_all(model, {name: adapter.weight for name, adapter in zip(names, plan.adapters, strict=True)})
        if plan.how == "linear":  # what it is meant to be can be seen before anything is folded in
            whole, tuned = _answers(model, base, prompts)
        fold(model, list(names), plan.how, plan.density, plan.seed)
        if plan.how != "linear":
            with model.disable_adapter():
                whole, tuned = _answers(model, base, prompts)
        plain = model.base_model.unload()
    part = folder / f".{MERGED}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        events.emit("stage", what="saving")
        _save(plain, base, part, plan.dtype)
        del plain, model
        events.emit("stage", what="reading it back")
        checks = _compare(base, part, whole, tuned, [len(ids) for ids in prompts], untuned)
        _require_equal(checks, plan.dtype)
        write_atomic(folder / CHECKS, checks.model_dump_json())
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def wear_all(model: Any, weights: Mapping[str, float]) -> None:
    """Put all adapters on at once, each multiplied with its weight: PEFT adds their outputs, which is their sum."""
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name in weights.keys() & layer.scaling.keys():
                layer.scaling[name] *= weights[name]
    model.base_model.set_adapter(list(weights), inference_mode=True)


def fold(model: Any, names: Sequence[str], how: Combination, density: float = 1.0, seed: int = 0) -> None:
    """Add the combined update of the adapters, as they are worn, to the weights of every layer that they lie on.

    The adapters stay on: take them off, or disable them, to see the model that was made.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                target = layer.get_base_layer().weight
                updates = [layer.get_delta_weight(name).to(target.dtype) for name in names if name in layer.lora_A]
                target.data += combine(updates, how, density, generator)


def combine(updates: list[torch.Tensor], how: Combination, density: float, generator: torch.Generator) -> torch.Tensor:
    """One update of several, each multiplied with its weight already, so that a negative one turns its signs.

    `linear` adds them. `dare-linear` first sets all but a share `density` of each one's numbers to 0, drawn at random,
    and divides the others by it. `ties` keeps the `density` largest of each, lets each place's greater sum choose the
    sign, and averages what has that sign; `dare-ties` does so with what is drawn.
    """
    import torch

    if how.startswith("dare"):
        drawn = [torch.rand(update.shape, generator=generator).to(update.device) < density for update in updates]
        updates = [update * mask / density for update, mask in zip(updates, drawn, strict=True)]
    elif how == "ties":
        updates = [_largest(update, density) for update in updates]
    stacked = torch.stack(updates)
    if how in ("linear", "dare-linear"):
        return stacked.sum(0)
    agreeing = stacked.sign() == torch.where(stacked.sum(0) >= 0, 1, -1)
    return (stacked * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def _largest(update: torch.Tensor, density: float) -> torch.Tensor:
    import torch

    count = max(1, math.ceil(density * update.numel()))
    kept = torch.zeros_like(update).flatten()
    places = update.abs().flatten().topk(count).indices
    kept[places] = update.flatten()[places]
    return kept.view_as(update)


def check_adapter(base: Base, folder: Path) -> None:
    """Raise BadInput for an adapter that is more than an update of weights, or lies on weights that are shared."""
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            weights = list(file.keys())
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(
            "no adapter can be read here", where=str(folder), do="Give the folder that PEFT saved one in."
        ) from error
    more = [key for key in _MORE if config.get(key)]
    more += ["bias"] if config.get("bias", "none") != "none" else []
    more += ["layers of embeddings"] if any(".lora_embedding_" in name for name in weights) else []
    kind = config.get("peft_type")
    if kind != "LORA" or more:
        raise BadInput(
            f"it trains more than, or something other than, low-rank updates ({', '.join([str(kind), *more])})",
            where=str(path),
            do="Plain LoRA adapters can be merged here.",
        )
    shared = {base.model.get_output_embeddings(), base.model.get_input_embeddings()}
    names = [f"{name}.lora_" for name, module in base.model.named_modules() if module in shared]
    if base.model.config.tie_word_embeddings and any(name in weight for name in names for weight in weights):
        raise BadInput(
            "it changes the output layer, whose weights this model shares with its embeddings: folded in, the update "
            "would change both",
            where=str(path),
            do="Train without lm_head and embed_tokens, or keep the adapter as it is.",
        )


def _answers(model: Any, base: Base, prompts: list[list[int]]) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Each prompt with the greedy answer behind it, and the log-probabilities at all of its positions."""
    import torch

    whole = []
    for ids in prompts:
        asked = torch.tensor([ids], device=base.device)
        with torch.inference_mode():
            given = model.generate(
                input_ids=asked,
                attention_mask=torch.ones_like(asked),
                max_new_tokens=_CONTINUED,
                do_sample=False,
                pad_token_id=base.tokenizer.pad_token_id or 0,
            )
        whole.append(given[0].tolist())
    return whole, [_log_probabilities(model, base, ids) for ids in whole]


def _log_probabilities(model: Any, base: Base, ids: Sequence[int]) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)], device=base.device)).logits[0]
    found: torch.Tensor = logits.float().log_softmax(-1).cpu()
    return found


def _save(model: Any, base: Base, folder: Path, dtype: str) -> None:
    import torch

    model.to(getattr(torch, dtype))
    model.config.dtype = dtype
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def _compare(
    base: Base,
    folder: Path,
    whole: list[list[int]],
    tuned: list[torch.Tensor],
    asked: list[int],
    untuned: list[torch.Tensor],
) -> Checks:
    """The saved model's outputs beside the tuned model's; the base's own are known for the prompts alone."""
    import torch
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(base.device).eval()
    largest, divergence, same, positions = 0.0, 0.0, 0, 0
    own, own_positions = 0.0, 0
    for ids, expected, length, before in zip(whole, tuned, asked, untuned, strict=True):
        found = _log_probabilities(saved, base, ids)
        likely = expected.exp()
        # Of tokens that neither holds for possible, only the tuned model's share counts.
        largest = max(largest, float(((found - expected).abs() * (likely > 1e-6)).max()))
        divergence += float((likely * (expected - found)).sum())
        same += int((found.argmax(-1) == expected.argmax(-1)).sum())
        positions += len(ids)
        own += float((likely[:length] * (expected[:length] - before)).sum())
        own_positions += length
    return Checks(
        prompts=len(whole),
        positions=positions,
        largest=largest,
        divergence=max(0.0, divergence / positions),
        untuned=max(0.0, own / own_positions),
        same_token=same / positions,
    )


def _require_equal(checks: Checks, dtype: str) -> None:
    equal = checks.largest <= _EXACT if dtype == "float32" else checks.divergence <= _ROUNDED * checks.untuned
    if not equal:
        raise Problem(
            f"the saved model does not answer as the tuned one does: log-probabilities differ by up to "
            f"{checks.largest:.2g} nats, {checks.divergence:.2g} of divergence where the base has {checks.untuned:.2g}",
            where=MERGED,
            do="Save it in float32." if dtype != "float32" else "Keep the adapter, and tell us: this is our bug.",
        )
