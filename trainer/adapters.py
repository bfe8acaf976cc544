"""Adapters that were saved before, put on the base model again: none, or one at a time."""

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


def with_adapters(base: Base, folders: Mapping[str, Path]) -> Wearing:
    """Put the adapters (PEFT form) of `folders` on the base, whose own weights stay as they are.

    Raises BadInput where a folder holds no adapter, or one of another model.
    """
    bitsandbytes()  # before peft, which imports it without our guard
    from peft import PeftModel

    model: Any = None
    for name, folder in folders.items():
        try:
            if model is None:
                model = PeftModel.from_pretrained(base.model, str(folder), adapter_name=name)
            else:
                model.load_adapter(str(folder), adapter_name=name)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BadInput(
                f"no adapter of this model could be read ({first_line})",
                where=str(folder),
                do="Training again writes it again.",
            ) from error

    @contextmanager
    def wearing(name: str | None) -> Iterator[Any]:
        if model is None:
            yield base.model
        elif name is None:
            with model.disable_adapter():
                yield model
        else:
            model.set_adapter(name)
            yield model

    return wearing
