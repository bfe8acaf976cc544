from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "../shared/tokenizers"
REAL = ["smollm2", "qwen3", "llama3_1"]


def _load(name: str):
    from trainer.models import DEFAULT_MODEL, load_tokenizer, quiet_libraries

    quiet_libraries()
    if (SHARED / name).is_dir():
        return load_tokenizer(str(SHARED / name))
    if name == "smollm2":
        return load_tokenizer(DEFAULT_MODEL)  # the packaged one, so that most tests run on every machine
    pytest.skip(f"the {name} tokenizer is not on this machine")


_LOADED: dict[str, object] = {}


@pytest.fixture(scope="session")
def load():
    """load(name): one of REAL. It is shared by all tests of a run: copy it before changing it."""

    def cached(name: str):
        if name not in _LOADED:
            _LOADED[name] = _load(name)
        return _LOADED[name]

    return cached


@pytest.fixture(scope="session")
def smollm2(load):
    return load("smollm2")


@pytest.fixture(scope="session")
def qwen3(load):
    return load("qwen3")


@pytest.fixture(scope="session")
def llama(load):
    return load("llama3_1")


@pytest.fixture(params=REAL)
def tokenizer(request, load):
    return load(request.param)
