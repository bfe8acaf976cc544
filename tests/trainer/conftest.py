from __future__ import annotations

import pytest

from trainer.chat import MaskPolicy, tokenise
from trainer.plan import ModelSetting, TrainingSetting
from trainer.schedule import TrainRow


@pytest.fixture(scope="session")
def tiny_setting(tiny_model) -> ModelSetting:
    return ModelSetting(name=str(tiny_model), quantize="none", device="cpu", dtype="float32")


@pytest.fixture
def tiny(tiny_setting):
    """The tiny model, loaded anew for each test that might change it."""
    from trainer.base import load_base

    return load_base(tiny_setting)


@pytest.fixture
def setting() -> TrainingSetting:
    return TrainingSetting(preset="test", learning_rate=3e-2, tokens_per_step=60, micro_tokens=128)


def conversation(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i} " * (2 + i % 5)}]


@pytest.fixture
def rows(tiny) -> list[TrainRow]:
    """Thirty rows of unequal lengths."""
    made = []
    for i in range(30):
        example = tokenise(tiny.tokenizer, conversation(i), None, MaskPolicy()).examples[0]
        made.append(TrainRow(f"{i:064x}/0/0", example.input_ids, example.labels))
    return made
