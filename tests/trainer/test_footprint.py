"""The memory of a fine-tuning: what is counted is what the model has, and the peak is that of what came after."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from trainer.base import load_base  # noqa: E402
from trainer.footprint import NF4_BYTES, footprint, loaded_shape, peak_bytes, reset_peak, saved_shape  # noqa: E402
from trainer.methods import trainable  # noqa: E402

LENGTHS = {"held": "dense", "bits16": False, "tokens": 64, "trained": 10}


def test_a_model_has_the_same_shape_on_the_disk_in_memory_and_in_four_bits(tiny, tiny_setting, tiny_model):
    saved, loaded = saved_shape(tiny_model), loaded_shape(tiny.model)
    assert replace(saved, linears=sorted(saved.linears)) == replace(loaded, linears=sorted(loaded.linears))
    assert saved.parameters == sum(p.numel() for p in tiny.model.parameters())
    assert (saved.hidden, saved.layers, len(saved.linears)) == (32, 2, 14)
    packed = load_base(tiny_setting.model_copy(update={"quantize": "nf4"}), packed=True)
    assert loaded_shape(packed.model) == loaded


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_gradients_and_the_optimizer_are_counted_for_what_is_trained(method, tiny, setting):
    own = setting.model_copy(update={"method": method, "lora_r": 4})
    told = footprint(loaded_shape(tiny.model), own, **LENGTHS)
    with trainable(tiny, own, 0) as model:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        weights = sum(p.numel() * p.element_size() for p in tiny.model.parameters() if not p.requires_grad)
        copied = 0 if method != "full" else 4 * trained
    assert (told.gradients, told.optimizer) == (4 * trained, 8 * trained)
    assert told.weights == pytest.approx(weights + copied, rel=0 if method == "full" else 0.2)
    assert told.total > told.weights + told.gradients + told.optimizer + told.process


def test_four_bits_spare_the_weights_of_layers_and_a_gpu_has_no_process_of_ours(tiny, setting):
    shape = loaded_shape(tiny.model)
    dense, packed = (footprint(shape, setting, **LENGTHS | {"held": held}) for held in ("dense", "nf4-packed"))
    assert dense.weights - packed.weights == pytest.approx(shape.in_linears * (4 - NF4_BYTES), abs=1)
    on_gpu = footprint(shape, setting, **LENGTHS | {"held": "nf4-packed"}, on_gpu=True)
    assert (on_gpu.process, on_gpu.allocator) == (0, 0)
    assert on_gpu.optimizer * 4 == packed.optimizer
    assert on_gpu.activations < packed.activations, "GPUs keep the inputs of layers alone"


@pytest.mark.parametrize("rank", ["eight", None, -1, {"q_proj": 4}])
def test_a_config_with_a_rank_that_is_none_is_reckoned_with_all_the_same(rank, tiny, setting):
    shape = loaded_shape(tiny.model)
    own = setting.model_copy(update={"method": "peft", "peft": {"peft_type": "LORA", "r": rank}})
    assert footprint(shape, own, **LENGTHS) == footprint(shape, setting, **LENGTHS)


def test_of_a_file_that_is_cut_short_nothing_is_told(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    assert saved_shape(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert saved_shape(tmp_path) is None
    assert saved_shape(tmp_path / "nowhere") is None


def test_the_peak_is_that_of_what_came_after_it_was_reset():
    """Blocks of this size come from the heap, which the C library keeps: as after a run that trained all weights."""
    device = torch.device("cpu")
    reset_peak(device)
    before = peak_bytes(device)
    blocks = [torch.ones(16_000) for _ in range(5000)]
    last = torch.ones(16_000)
    assert peak_bytes(device) - before > 250e6
    del blocks
    reset_peak(device)
    assert peak_bytes(device) - before < 100e6
    assert last.sum() == 16_000
