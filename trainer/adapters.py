"""What runs saved, an adapter or a whole model, brought back beside the base model: none, or one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from trainer.base import Base
from trainer.errors import BadInput
from trainer.quantize import bitsandbytes

Wearing = Callable[[str | None], AbstractContextManager[Any]]
"""`with wearing(name) as model`: the model with the adapter of that name, or as it came where `name` is None."""


_UNREADABLE = (OSError, ValueError, RuntimeError, TypeError, KeyError)

ADAPTER_CONFIG = "adapter_config.json"
_MODEL_CONFIG = "config.json"


def is_whole_model(folder: Path) -> bool:
    """Whether a run saved all of a model's weights there."""
    return (folder / _MODEL_CONFIG).exists() and not (folder / ADAPTER_CONFIG).exists()


def is_saved(folder: Path) -> bool:
    """Whether what a run trained is there, an adapter or a whole model."""
    return (folder / ADAPTER_CONFIG).exists() or is_whole_model(folder)


def with_adapters(base: Base, folders: Mapping[str, Path]) -> Wearing:
    """Put the adapters (PEFT form) of `folders` on the base, whose own weights stay as they are.

    Where a folder holds a whole model, that takes the base's place while it is worn. Raises BadInput where a folder
    holds neither, or one of another model.
    """
    bitsandbytes()  # before peft, which imports it without our guard
    from peft import PeftModel

    model: Any = None
    for name, folder in folders.items():
        if is_whole_model(folder):
            continue
        try:
            if model is None:
                model = PeftModel.from_pretrained(base.model, str(folder), adapter_name=name)
            else:
                model.load_adapter(str(folder), adapter_name=name)
        except _UNREADABLE as error:
            if model is not None:  # else the base would go on with those that could be read
                model.unload()
            raise _unreadable("adapter of this model", folder, error) from error

    @contextmanager
    def wearing(name: str | None) -> Iterator[Any]:
        if name is not None and is_whole_model(folders[name]):
            yield _whole_model(base, folders[name])
        elif model is None:
            yield base.model
        elif name is None:
            with model.disable_adapter():
                yield model
        else:
            model.set_adapter(name)
            yield model

    return wearing


def _whole_model(base: Base, folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    except _UNREADABLE as error:
        raise _unreadable("model", folder, error) from error
    return model.to(base.device).requires_grad_(False).eval()


def _unreadable(what: str, folder: Path, error: Exception) -> BadInput:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BadInput(f"no {what} could be read ({first_line})", where=str(folder), do="Training again writes it again.")
