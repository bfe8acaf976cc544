"""The base model of an experiment: loaded, quantised and placed once, then lent to every run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from trainer import processes
from trainer.chat import MaskPolicy, configured_stops, with_template
from trainer.errors import BadInput, ModelUnavailable
from trainer.models import ModelSource, load_tokenizer, quiet_libraries, resolve_model
from trainer.plan import ModelChoice, ModelSetting, PolicySetting
from trainer.quantize import bitsandbytes, keep_trainable, nf4_config, round_to_nf4

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DtypeName = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Base:
    """A causal model ready to be trained on or measured, with its tokenizer and where it came from.

    `held` says how the weights lie in memory: `dense`, `nf4-packed` (4 bits each) or `nf4-rounded` (values of
    NF4 held densely).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    device: torch.device
    dtype: DtypeName
    held: Literal["dense", "nf4-packed", "nf4-rounded"]

    def autocast(self) -> Any:
        """The context in which forward passes run: mixed precision for bfloat16, nothing for float32."""
        import torch

        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16")

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise BadInput where the tokenizer gives an id that the model has no embedding for: it would crash.

        Tokens that were added to a tokenizer alone are such; a fresh embedding would be noise that LoRA, which does
        not train it, could never mend.
        """
        known = int(self.model.get_input_embeddings().num_embeddings)
        if (beyond := max(ids, default=0)) >= known:
            token = self.tokenizer.convert_ids_to_tokens(beyond)
            named = f"{token!r}, token" if token else "token"
            raise BadInput(
                f"the model has no embedding for {named} {beyond:,} of its tokenizer (it has {known:,})",
                where=f"model {self.source.name}",
                do="Take the tokenizer that came with the model, or a model whose embeddings were resized to the added "
                "tokens and trained with them.",
            )


def load_base(setting: ModelSetting, choice: ModelChoice | None = None, *, packed: bool | None = None) -> Base:
    """Load the model of `setting`; a `choice` made before settles what `auto` leaves open.

    `packed` keeps 4-bit weights packed; by default GPUs do, and CPUs only where `auto` chose NF4 to save memory.
    Raises ModelUnavailable.
    """
    quiet_libraries()
    source = resolve_model(setting.name)
    tokenizer = load_tokenizer(setting.name)
    import torch

    bitsandbytes()
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    device = pick_device(setting.device)
    name = choice.dtype if choice else pick_dtype(setting.dtype, device)
    torch_dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    if choice:
        nf4, packed = choice.held != "dense", choice.held == "nf4-packed"
    else:
        nf4 = setting.quantize == "nf4" or (setting.quantize == "auto" and needs_nf4(source, device, torch_dtype))
    if packed is None:
        packed = device.type == "cuda" or setting.quantize == "auto"
    kwargs: dict[str, Any] = {"dtype": torch_dtype, **source.pin}
    if nf4 and packed:
        kwargs["quantization_config"] = nf4_config(torch_dtype, sharded=processes.sharded())
    if device.type == "cuda" and not processes.sharded():  # FSDP places the weights by itself
        kwargs["device_map"] = {"": device.index or 0}
    try:
        model = AutoModelForCausalLM.from_pretrained(source.path, **kwargs)
    except (OSError, ValueError, RuntimeError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailable(
            f"it could not be loaded as a causal language model ({first_line})",
            where=f"model {setting.name}",
            do="Give a model with weights for text generation; if memory ran out, a smaller one.",
        ) from error
    held: Literal["dense", "nf4-packed", "nf4-rounded"] = "dense"
    if nf4 and packed:
        keep_trainable(model)
        held = "nf4-packed"
    elif nf4:
        round_to_nf4(model)
        held = "nf4-rounded"
    model.requires_grad_(False)
    model.eval()
    return Base(model, tokenizer, source, device, name, held)


def load_chosen(setting: ModelSetting, choice: ModelChoice) -> Base:
    """The model held as it was before. Raises BadInput where the name stands for other weights by now."""
    base = load_base(setting, choice)
    if choice.revision not in ("", base.source.revision):
        raise BadInput(
            f"the model is not the one that this experiment began with ({base.source.revision}, not {choice.revision})",
            where=f"model {setting.name}",
            do="Bring the old one back, or compare again: the changed model makes another experiment.",
        )
    return base


def with_policy(base: Base, setting: PolicySetting) -> tuple[Base, MaskPolicy]:
    """The base with the chat template that `setting` asks for, and the policy as the mask algorithm takes it."""
    if setting.template:
        base = replace(base, tokenizer=with_template(base.tokenizer, setting.template))
    return base, replace(setting.mask_policy(), stop_ids=configured_stops(base.source.path))


def needs_nf4(source: ModelSource, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the model's weights in `dtype` would fill more than half of the device's free memory."""
    import psutil
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            shape = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source.path, **source.pin))
    except (OSError, ValueError):
        return False  # loading it says what is wrong, better than we can
    needed = dtype.itemsize * sum(parameter.numel() for parameter in shape.parameters())
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    return bool(needed > free / 2)


def pick_device(wish: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to work on. Raises ModelUnavailable where a GPU is asked for and none is there."""
    import torch

    if wish == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailable(
            "no CUDA device can be used here",
            where="--device cuda",
            do="Leave --device away to train on the CPU, or install a PyTorch build for your GPU.",
        )
    if wish == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", processes.local_rank()) if processes.count() > 1 else torch.device("cuda")


def pick_dtype(wish: Literal["auto", "float32", "bfloat16"], device: torch.device) -> DtypeName:
    """The arithmetic to train in: as wished, bfloat16 on GPUs that have it, and on CPUs whichever is faster.

    bfloat16 is up to four times faster than float32 on CPUs with AVX512-BF16 or AMX and slower on others, so
    a CPU is measured: one matrix product of the size that small models have, a few milliseconds each.
    """
    import torch

    if wish != "auto":
        return wish
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _product_seconds(torch.bfloat16) * 1.5 < _product_seconds(torch.float32) else "float32"


def _product_seconds(dtype: torch.dtype) -> float:
    import torch

    left, right = torch.ones(512, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - start)
    return sorted(times)[3]
