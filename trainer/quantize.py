"""bitsandbytes, brought in quietly and safely: NF4 weights on GPU and CPU alike.

Three traps of bitsandbytes are guarded here; each has a test that fails without its guard.

- Importing it asks for a kernel from the hub when the package `kernels` is installed, and warns when it is not.
- Importing it has torch's compiler loaded, a fifth of what starting a job costs, for functions that neither CPUs nor
  GPUs use: both have kernels of their own.
- On CPUs with AVX512-BF16 a `Linear4bit` repacks its weight at the first forward in eval mode; training after
  that has no gradient upstream of the layer while the loss still falls.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BLOCK_SIZE = 64  # weights that share one scale, as in the QLoRA paper (arXiv:2305.14314)


def bitsandbytes() -> ModuleType:
    """The module, imported without a look at the network and without its warning. Call before importing peft."""
    if "bitsandbytes" in sys.modules:
        return sys.modules["bitsandbytes"]
    importlib.import_module("torch")  # whole: what is hidden below, it may want
    with _hidden("kernels", "torch._dynamo"):
        logging.disable(logging.WARNING)
        try:
            return importlib.import_module("bitsandbytes")
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Within the block modules cannot be imported by these names, which bitsandbytes takes for "not installed"."""
    known = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(known)


def nf4_config(compute_dtype: torch.dtype, *, sharded: bool = False) -> Any:
    """NF4 with double quantisation as a transformers quantisation config (QLoRA, arXiv:2305.14314).

    `sharded` is for FSDP, which lays the weights of a layer end to end: bitsandbytes then stores its bytes as numbers
    of the type that the other weights have.
    """
    bitsandbytes()
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        bnb_4bit_quant_storage=compute_dtype if sharded else torch.uint8,
    )


def keep_trainable(model: PreTrainedModel) -> None:
    """Stop every 4-bit layer from repacking its weight at a forward in eval mode. Call before the first forward."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def round_to_nf4(model: PreTrainedModel) -> int:
    """Round the weights of the linear layers to NF4 and hold the rounded values densely; returns how many layers.

    The numbers are those of a 4-bit model, since bitsandbytes itself quantises and dequantises them; no memory
    is saved. On CPUs this trains several times faster than unpacking 4-bit weights in every forward. The output
    head stays as it is, as `from_pretrained` leaves it.
    """
    import torch

    functional = bitsandbytes().functional
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    with torch.no_grad():
        for layer in layers:
            packed, state = functional.quantize_4bit(
                layer.weight.data.contiguous(), blocksize=BLOCK_SIZE, quant_type="nf4", compress_statistics=True
            )
            layer.weight.data.copy_(functional.dequantize_4bit(packed, state))
    return len(layers)
