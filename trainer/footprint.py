"""How much memory a fine-tuning takes: told from the model's shape before a run, and measured in it.

The estimate is a sum of what is held at the worst moment, the first layers of a backward pass:

- weights: bytes of a number times parameters; 4.127 bits for each weight of a linear layer held in NF4 with double
  quantisation (QLoRA, arXiv:2305.14314, section 3). Full fine-tuning trains a copy in float32 beside the base, which
  is kept to compare with.
- gradients: 4 bytes for each trained parameter. AdamW: 8 more, or 2 in 8 bits (arXiv:2110.02861).
- activations: what a backward pass needs of a forward one, counted as in arXiv:2205.05198 (section 4), but for layers
  with a gated MLP and attention that keeps no scores. For each token and layer, of width h and inner width i, the
  outputs of its linear layers are kept (their sum is o), three more tensors of width h and two of width i; trained
  norms keep two more of width h. LoRA adds its rank for each linear layer; DoRA keeps 2 o more, since it scales
  outputs. With gradient checkpointing a layer keeps its input alone, and one layer at a time is whole.
- logits: computed where tokens are trained alone; three float32 numbers for each of them and each entry of the
  vocabulary (log-probabilities and two gradients), in 16-bit arithmetic two numbers of 2 bytes besides.
- the process itself: Python and the libraries; on a GPU that is not the device's memory.
- what the allocator holds: on a CPU the C library keeps blocks that were freed between others, 0.75 times the
  activations and logits. That is a measured number, not a derived one.

docs/methods.md compares estimates with measured peaks.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import re
import resource
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.plan import TrainingSetting

if TYPE_CHECKING:
    import torch

Held = Literal["dense", "nf4-packed", "nf4-rounded"]

NF4_BYTES = (4 + 0.127) / 8
PROCESS = 800_000_000
"""Bytes of a process that has loaded torch, transformers, PEFT and TRL, and no model: measured on Linux."""

HELD_BACK = 0.75
"""What the allocator of a CPU holds beyond activations and logits, as a share of them: measured, too."""

_EMBEDDING = re.compile(r"(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Shape:
    """What a causal model is made of: `parameters` in all, and the (out, in) of every linear layer in its blocks."""

    parameters: int
    hidden: int
    vocabulary: int
    layers: int
    linears: tuple[tuple[int, int], ...]

    @property
    def in_linears(self) -> int:
        """Parameters in the linear layers of the blocks."""
        return sum(out * width for out, width in self.linears)


def shape_of(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> Shape | None:
    """The shape of a model from the names and shapes of its weights; None where they are named in no known way."""
    known = dict(tensors)
    embedding = next((shape for name, shape in known.items() if _EMBEDDING.search(name)), None)
    blocks = {name: shape for name, shape in known.items() if _LAYER.search(name)}
    if embedding is None or not blocks:
        return None
    return Shape(
        parameters=sum(math.prod(shape) for shape in known.values()),
        hidden=embedding[1],
        vocabulary=embedding[0],
        layers=len({found[1] for name in blocks if (found := _LAYER.search(name))}),
        linears=tuple((shape[0], shape[1]) for shape in blocks.values() if len(shape) == 2),
    )


def saved_shape(folder: Path) -> Shape | None:
    """The shape of a model folder, from the heads of its safetensors files; None where it has none that are known.

    Nor has one whose files are cut short: what is wrong with them, loading them says.
    """
    found: dict[str, tuple[int, ...]] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header: Mapping[str, Mapping[str, list[int]]] = json.loads(file.read(length))
            found |= {name: tuple(told["shape"]) for name, told in header.items() if name != "__metadata__"}
    except (OSError, ValueError, struct.error):
        return None
    return shape_of(found.items())


def loaded_shape(model: Any) -> Shape | None:
    """The shape of a model that is loaded, packed to 4 bits or not; None where it is built in no known way."""
    found = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        if f"{name}.weight" in found and hasattr(module, "in_features"):
            found[f"{name}.weight"] = (module.out_features, module.in_features)
    return shape_of(found.items())


@dataclass(frozen=True)
class Footprint:
    """The bytes of a fine-tuning at its worst moment, by what they are for."""

    process: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    allocator: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


def footprint(
    shape: Shape,
    setting: TrainingSetting,
    *,
    held: Held,
    bits16: bool,
    tokens: int,
    trained: int,
    on_gpu: bool = False,
) -> Footprint:
    """The memory that training takes whose largest forward pass has `tokens` tokens, `trained` of them trained.

    `bits16` tells of bfloat16 arithmetic. GPUs checkpoint activations here, and keep AdamW's state of adapters on 4-bit
    weights in 8 bits. Of methods that a PEFT config names, the trained parameters are taken to be those of LoRA with
    its rank `r`, 16 where it has none.
    """
    number = 2 if bits16 else 4
    packed = shape.in_linears if held == "nf4-packed" else 0
    weights = (shape.parameters - packed) * number + packed * NF4_BYTES
    rank = _rank(setting)
    if setting.method == "full":
        trainable = shape.parameters
        weights += 4 * shape.parameters + (number * shape.parameters if bits16 else 0)  # and a 16-bit copy to multiply
    else:
        trainable = sum(rank * (out + width) for out, width in shape.linears)
    if setting.method == "dora":
        trainable += sum(out for out, _ in shape.linears)
    state = 2 if on_gpu and held == "nf4-packed" else 8
    kept = _kept(shape, setting, rank) * number
    activations = kept * shape.layers
    if on_gpu:
        activations = shape.hidden * number * shape.layers + kept
    activations *= tokens
    logits = trained * shape.vocabulary * (12 + (4 if bits16 else 0))
    return Footprint(
        process=0 if on_gpu else PROCESS,
        weights=round(weights),
        gradients=4 * trainable,
        optimizer=state * trainable,
        activations=round(activations),
        logits=logits,
        allocator=0 if on_gpu else round(HELD_BACK * (activations + logits)),
    )


def _rank(setting: TrainingSetting) -> int:
    told = setting.peft.get("r") if setting.method == "peft" else setting.lora_r
    return told if isinstance(told, int) and told > 0 else 16  # a config may say anything: PEFT refuses it later


def _kept(shape: Shape, setting: TrainingSetting, rank: int) -> float:
    """Numbers that one layer keeps for one token."""
    outputs = sum(out for out, _ in shape.linears) / shape.layers
    inner = max((max(linear) for linear in shape.linears), default=shape.hidden)
    kept = outputs + 3 * shape.hidden + 2 * inner
    if setting.method == "full":
        return kept + 2 * shape.hidden
    return kept + rank * len(shape.linears) / shape.layers + (2 * outputs if setting.method == "dora" else 0)


def give_back(device: torch.device) -> None:
    """Have a CPU's memory that was freed given back to the system: a matter of 60 ms after a step of SmolLM2-135M.

    The C library keeps it else. Forward passes of unlike lengths leave holes in its heap, which grows by them with
    every step, and after a run that trained all weights the next run would look as hungry.
    """
    if device.type == "cpu" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # of glibc alone
        trim(0)


def reset_peak(device: torch.device) -> None:
    """Begin to look for the peak anew, where the system can: on GPUs, and on Linux. What is not in use goes before."""
    gc.collect()
    give_back(device)
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak resident size becomes the present one


def peak_bytes(device: torch.device) -> int:
    """The most memory in use since `reset_peak`: of the GPU, else of this process (on macOS since it began)."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
