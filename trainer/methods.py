"""What a run trains: an adapter that PEFT puts on the base, or a copy of all the base's weights."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from trainer.base import Base
from trainer.errors import BadInput
from trainer.plan import TrainingSetting
from trainer.quantize import bitsandbytes

bitsandbytes()  # before peft, which imports it without our guard

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model  # noqa: E402
from peft.helpers import DoraCaching  # noqa: E402
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING  # noqa: E402
from peft.utils.integrations import dequantize_module_weight  # noqa: E402
from transformers import PreTrainedModel, set_seed  # noqa: E402

NEEDS_ITS_OWN_LOOP = frozenset({"ADALORA", "OSF"})
"""Methods of PEFT that change their parameters between steps, by calls that our loop does not make."""


def trainable(base: Base, setting: TrainingSetting, seed: int) -> AbstractContextManager[PeftModel | PreTrainedModel]:
    """What is to be trained by `setting`, fresh, for a block; the base is afterwards as it was before.

    Raises BadInput where the method does not go with this base, or is none.
    """
    return _all_weights(base, seed) if setting.method == "full" else adapter(base, setting, seed)


@contextmanager
def adapter(base: Base, setting: TrainingSetting, seed: int) -> Iterator[PeftModel]:
    """The base with a fresh adapter, initialised by `seed`; removed afterwards.

    The base itself is handed out, not a copy: only one adapter at a time.
    """
    set_seed(seed)
    forward = base.model.__dict__.get("forward")
    try:
        model = get_peft_model(base.model, adapter_config(setting))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if setting.method != "peft":
            raise
        raise _unfit(setting, error) from error
    if setting.method == "dora":
        _begin_at_the_base(model)
    try:
        yield model
    finally:
        model.unload()
        # SFTTrainer patches the base's `forward` on the instance; patches must not pile up over the runs.
        if forward is None:
            base.model.__dict__.pop("forward", None)
        base.model.requires_grad_(False)
        base.model.eval()


def check_config(base: Base, setting: TrainingSetting) -> None:
    """Put the adapter of a PEFT config on the base and have it run once. Raises BadInput where that cannot be done.

    Raises it too where the base is another one afterwards, as with initialisations of LoRA that take from its weights
    what they give the adapter (pissa, olora): all runs behind it would train another model. A base that a config was
    refused for is of no more use, since PEFT may leave it half changed.
    """
    import torch

    before = _weights(base.model)
    with adapter(base, setting, seed=0) as model, torch.inference_mode(), base.autocast():
        try:
            model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=base.device))
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise _unfit(setting, error) from error
    if _weights(base.model) != before:
        raise BadInput(
            "its initialisation changes the weights of the base, which other runs and the comparison need as they are",
            where=f"the config of {setting.peft.get('peft_type')}",
            do="Take another init_lora_weights; without one LoRA begins at the base.",
        )


def _weights(model: PreTrainedModel) -> dict[str, float]:
    """A number for each tensor of weights, which changes with it."""
    return {name: float(weight.detach().float().abs().sum()) for name, weight in model.named_parameters()}


def _unfit(setting: TrainingSetting, error: Exception) -> BadInput:
    return BadInput(
        f"PEFT cannot put this adapter on the model ({_first_line(error)})",
        where=f"the config of {setting.peft.get('peft_type')}",
        do="Name the layers in target_modules; the documentation of PEFT has each method's keys.",
    )


def _begin_at_the_base(model: PeftModel) -> None:
    """Give DoRA the magnitudes that its forward passes compare them with.

    PEFT takes them in the precision of the weights and compares in float32: in bfloat16 a run would not begin at the
    base, but off it by what was rounded.
    """
    for module in model.modules():
        for vector in getattr(module, "lora_magnitude_vector", {}).values():
            weight = dequantize_module_weight(module.get_base_layer()).float()
            vector.weight.data = vector.get_weight_norm(weight, 0.0, 1.0)


def adapter_config(setting: TrainingSetting) -> PeftConfig:
    """The setting's adapter as PEFT takes it. Raises BadInput for a config that cannot be trained here."""
    if setting.method != "peft":
        return LoraConfig(
            r=setting.lora_r,
            lora_alpha=setting.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
            use_dora=setting.method == "dora",
        )
    kind = str(setting.peft.get("peft_type", ""))
    where = f"the config of {kind}"
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise BadInput(
            f"PEFT has no method {kind!r}",
            where="peft_type",
            do=f"It has {', '.join(sorted(known.value for known in PEFT_TYPE_TO_CONFIG_MAPPING))}.",
        )
    try:
        config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**(setting.peft | {"task_type": "CAUSAL_LM"}))
    except (ValueError, TypeError) as error:
        raise BadInput(_first_line(error), where=where, do="Take the keys that PEFT has for this method.") from error
    if config.is_prompt_learning or not hasattr(config, "target_modules"):
        raise BadInput(
            "it puts tokens of its own before the prompt, and would not be trained and measured on the tokens that are "
            "shown",
            where=where,
            do="Methods that change the layers of a model can be trained here.",
        )
    if kind in NEEDS_ITS_OWN_LOOP:
        raise BadInput("it needs a training loop of its own", where=where, do="Take LORA, or another method.")
    return config


@contextmanager
def _all_weights(base: Base, seed: int) -> Iterator[PreTrainedModel]:
    """A copy of the base with all weights to be trained; the base stays beside it, to be compared with.

    The copy is in float32: in bfloat16 a weight has 8 bits, and steps of the usual learning rates round to nothing.
    """
    if base.held != "dense":
        raise BadInput(
            "full fine-tuning changes the weights themselves, and weights in 4 bits cannot be changed in small steps",
            where=f"model {base.source.name}",
            do="Hold the model as it is (--quantize none), or train an adapter.",
        )
    set_seed(seed)
    model = copy.deepcopy(base.model).float()
    model.requires_grad_(True)
    yield model


def untrained(base: Base, model: Any) -> AbstractContextManager[Any]:
    """For a block, what `model` was before it was trained: its adapter switched off, or the base beside it."""
    if not isinstance(model, PeftModel):
        return contextlib.nullcontext(base.model)

    @contextmanager
    def switched_off() -> Iterator[PeftModel]:
        with model.disable_adapter():
            yield model

    return switched_off()


def measuring() -> AbstractContextManager[None]:
    """For a block that only measures models: DoRA takes the norms of its weights once there, not for every token."""
    return DoraCaching()  # type: ignore[no-any-return]


def trainable_share(model: PeftModel | PreTrainedModel) -> float:
    """The part of all parameters that is trained."""
    if not isinstance(model, PeftModel):
        return 1.0
    trained, total = model.get_nb_trainable_parameters()
    return float(trained / total)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
