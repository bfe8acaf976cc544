"""What is said of memory before a training: what it needs, what is free, and what would fit where it does not."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainer.footprint import footprint, saved_shape
from trainer.plan import SHORT, STANDARD_FROM, ArmSetting, Budget, ExperimentPlan, ModelSetting, Run
from workbench import fitting
from workbench.fitting import bytes_of_models, fit

GB = 1_000_000_000
HIDDEN, INNER, LAYERS, VOCABULARY = 2048, 8192, 16, 32_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head of the weights of a model of 1.2 billion parameters: a folder without the weights themselves."""
    shapes = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN]}
    for layer in range(LAYERS):
        names = {f"self_attn.{part}_proj": [HIDDEN, HIDDEN] for part in "qkvo"}
        names |= {"mlp.gate_proj": [INNER, HIDDEN], "mlp.up_proj": [INNER, HIDDEN], "mlp.down_proj": [HIDDEN, INNER]}
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    head = json.dumps(
        {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head.encode())
    return folder


@pytest.fixture
def told(model, monkeypatch):
    """The sentences on arms that are trained by these methods (of a sweep), or by none of their own."""

    def sentences(
        *methods: str, free: float, gpu: bool = False, quantize: str = "auto", tokens: int = 5000
    ) -> list[str]:
        monkeypatch.setattr(fitting.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free * GB)))
        monkeypatch.setattr(fitting, "_free_on_gpu", lambda: int(free * GB) if gpu else None)
        found = fit(plan(model, *methods, quantize=quantize, tokens=tokens), {method: method for method in methods})
        assert found is not None
        return found.sentences()

    return sentences


def plan(model: Path, *methods: str, quantize: str = "auto", tokens: int = 5000) -> ExperimentPlan:
    settings = {
        method: ArmSetting(
            training=SHORT.model_copy(update={"method": method.lstrip("q")}),
            quantize="nf4" if method.startswith("q") else "none",
        )
        for method in methods
    }
    return ExperimentPlan(
        model=ModelSetting(name=str(model), quantize=quantize),
        training=SHORT if methods else None,
        budget=Budget(trained_tokens=tokens),
        arms={arm: f"{arm}.parquet" for arm in methods or ("baseline", "candidate")},
        settings=settings,
        runs=[],
    )


def needed(sentence: str) -> float:
    """The first number of gigabytes."""
    return float(sentence.split(" GB")[0].split()[-1])


def test_where_it_fits_the_hungriest_arm_is_told_and_nothing_is_warned_of(told):
    [sentence] = told("lora", "full", free=64)
    assert sentence.endswith("GB of memory at most (full), where 64.0 GB are free")
    [alone] = told("lora", free=64)
    assert "(" not in alone
    assert needed(sentence) > 1.2 * 4 * 5 > needed(alone) > 1.2 * 4


def test_an_arm_that_will_hardly_fit_is_warned_of_with_what_would(told):
    _, warning = told("lora", "full", free=16)
    assert warning.startswith("warning: ")
    assert "GB for full will hardly fit into the memory: it would fit with --method lora (about " in warning
    _, warning = told("dora", free=9)
    assert "it would fit with --method lora" in warning
    _, full, lora = told("lora", "full", free=3)
    assert full.endswith("for full will hardly fit into the memory: only a smaller model would fit")
    assert lora.endswith("for lora will hardly fit into the memory: only a smaller model would fit")


def test_on_a_gpu_four_bits_would_fit_and_are_called_as_each_command_has_them(told):
    _, warning = told("full", "qlora", free=2, gpu=True)
    assert "for full will hardly fit" in warning
    assert "a base in 4 bits, --method qlora (about " in warning
    _, warning = told(free=2, gpu=True, quantize="none")
    assert "a base in 4 bits, --quantize nf4 (about " in warning
    assert "on the GPU at most" in told(free=24, gpu=True)[0]


def test_auto_is_not_proposed_to_those_who_have_it(told):
    _, warning = told(free=7, quantize="none")
    assert "a base in 4 bits, --quantize auto (about " in warning
    [sentence] = told(free=7)
    assert needed(sentence) < 7
    _, warning = told(free=9.5, tokens=STANDARD_FROM)
    assert warning.endswith("only a smaller model would fit"), (
        "half of it would hold the weights: they stay as they are"
    )


def test_what_is_told_is_enough_for_either_arithmetic_of_a_cpu(told, model):
    """With 8 GB free, weights in float32 would be more than half of it, and are packed; in bfloat16 they are not."""
    shape = saved_shape(model)
    packed, dense = (
        footprint(shape, SHORT, held=held, bits16=bits16, tokens=512, trained=512).total / GB
        for held, bits16 in (("nf4-packed", False), ("dense", True))
    )
    [sentence] = told(free=8)
    assert needed(sentence) == pytest.approx(max(packed, dense), abs=0.05)
    assert dense > packed + 0.1


def test_of_a_model_that_is_not_here_nothing_is_told(tmp_path):
    assert fit(plan(tmp_path), {}) is None


def test_whole_models_are_counted_with_the_checkpoint_of_one(model):
    swept = plan(model, "lora", "full")
    runs = [Run(id=f"{arm}-{seed}", arm=arm, seed=seed) for arm in ("lora", "full") for seed in (0, 1)]
    parameters = VOCABULARY * HIDDEN + LAYERS * (4 * HIDDEN * HIDDEN + 3 * INNER * HIDDEN)
    assert bytes_of_models(swept, runs) == 4 * parameters * (2 + 3)
    assert bytes_of_models(swept, runs[:2]) == 0
    assert math.isclose(parameters, 1.14e9, rel_tol=0.01)
