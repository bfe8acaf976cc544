"""Adapters made of others: the same outputs as PEFT's own combinations, and saved as an adapter that was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from trainer.adapters import with_adapters  # noqa: E402
from trainer.base import Base, load_base  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.merged_arm import merged_adapter  # noqa: E402
from trainer.plan import Combination, MergedArm, ModelChoice  # noqa: E402
from trainer.quantize import bitsandbytes  # noqa: E402

IDS = torch.tensor([[5, 9, 17, 4, 23, 40]])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, tiny_setting: Any) -> Path:
    """Folders with adapters of unlike ranks and layers, `a` and `b`, and two whose ranks come to the model's width."""
    bitsandbytes()
    from peft import LoHaConfig, LoraConfig, get_peft_model

    every = ["q_proj", "o_proj", "down_proj"]
    configs: dict[str, Any] = {
        "a": LoraConfig(r=4, lora_alpha=16, target_modules=every, task_type="CAUSAL_LM"),
        "b": LoraConfig(
            r=6, lora_alpha=16, target_modules=["q_proj", "o_proj"], use_rslora=True, task_type="CAUSAL_LM"
        ),
        "whole": LoraConfig(r=16, lora_alpha=16, target_modules=every, task_type="CAUSAL_LM"),
        "whole2": LoraConfig(r=16, lora_alpha=16, target_modules=every, task_type="CAUSAL_LM"),
        "dora": LoraConfig(r=4, lora_alpha=16, target_modules=every, use_dora=True, task_type="CAUSAL_LM"),
        "loha": LoHaConfig(r=4, target_modules=every, task_type="CAUSAL_LM"),
        "by-pattern": LoraConfig(r=4, target_modules=r".*\.q_proj", task_type="CAUSAL_LM"),
    }
    out = tmp_path_factory.mktemp("adapters")
    base = load_base(tiny_setting)
    for seed, (name, config) in enumerate(configs.items()):
        torch.manual_seed(seed)
        model = get_peft_model(base.model, config)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "lora_" in key or "hada_" in key:
                    weight.normal_(std=0.2)
        model.save_pretrained(out / name)
        model.unload()
    shutil.copytree(out / "a", out / "wider")
    config = out / "wider" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 8}))
    return out


@pytest.fixture(scope="module")
def base(tiny_setting: Any) -> Iterator[Base]:
    """One model for all tests: each must leave it as it was."""
    loaded = load_base(tiny_setting)
    before = logits(loaded.model)
    yield loaded
    assert torch.equal(logits(loaded.model), before)


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def made(
    base: Base, adapters: Path, out: Path, how: Combination, of: dict[str, float], **more: Any
) -> tuple[Any, float]:
    """The outputs with the parts combined, and the share of the update that was kept."""
    folders = [adapters / name for name in of]
    with merged_adapter(base, MergedArm(how=how, of=of, **more), folders, seed=0, out=out) as (model, kept):
        return logits(model), kept


def by_peft(base: Base, adapters: Path, of: dict[str, float], **options: Any) -> Any:
    """The outputs with what PEFT makes of the parts."""
    folders = {name: adapters / name for name in of}
    with with_adapters(base, folders)(next(iter(of))) as model:
        model.add_weighted_adapter(list(of), list(of.values()), "theirs", **options)
        model.set_adapter("theirs")
        found = logits(model)
        model.unload()
    return found


def test_a_sum_gives_the_outputs_of_peft_with_weights_of_either_sign(base, adapters, tmp_path):
    of = {"a": 0.7, "whole": -0.4}
    found, kept = made(base, adapters, tmp_path / "out", "linear", of)
    assert (found - logits(base.model)).abs().max() > 0.1, "it does something"
    torch.testing.assert_close(found, by_peft(base, adapters, of, combination_type="cat"), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        found, by_peft(base, adapters, of, combination_type="svd", svd_rank=32), atol=1e-4, rtol=1e-4
    )
    assert kept == 1.0


def test_ties_gives_the_outputs_of_peft(base, adapters, tmp_path):
    of = {"whole": 1.0, "whole2": 1.0}
    found, kept = made(base, adapters, tmp_path / "out", "ties", of, density=0.25)
    theirs = by_peft(base, adapters, of, combination_type="ties_svd", density=0.25, svd_rank=32)
    torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)
    assert kept == pytest.approx(1.0), "no update of these layers has more than 32 dimensions"
    summed, _ = made(base, adapters, tmp_path / "sum", "linear", of)
    assert (found - summed).abs().max() > 0.1


def test_what_a_rank_cannot_hold_is_told_and_the_rest_is_the_nearest_of_that_rank(base, adapters, tmp_path):
    of = {"a": 1.0, "b": 1.0}
    found, kept = made(base, adapters, tmp_path / "out", "ties", of, density=0.25)
    nearest = by_peft(base, adapters, of, combination_type="ties_svd", density=0.25, svd_rank=10)
    torch.testing.assert_close(found, nearest, atol=2e-3, rtol=2e-3)
    assert 0.5 < kept < 0.99
    _, more = made(base, adapters, tmp_path / "more", "ties", of, density=1.0)
    assert more > kept


def test_dare_draws_the_same_for_a_seed_and_keeps_the_sum_where_nothing_is_left_out(base, adapters, tmp_path):
    first, kept = made(base, adapters, tmp_path / "one", "dare-linear", {"a": 1.0, "b": 1.0})
    again, _ = made(base, adapters, tmp_path / "two", "dare-linear", {"a": 1.0, "b": 1.0})
    assert torch.equal(first, again)
    summed, _ = made(base, adapters, tmp_path / "sum", "dare-linear", {"a": 1.0, "b": 1.0}, density=1.0)
    exact, _ = made(base, adapters, tmp_path / "exact", "linear", {"a": 1.0, "b": 1.0})
    torch.testing.assert_close(summed, exact, atol=1e-3, rtol=1e-3)
    assert (first - exact).abs().max() > 0.01
    assert kept < 0.99


@pytest.mark.parametrize("how", ["linear", "ties"])
def test_a_part_of_weight_one_beside_another_of_weight_nought_is_that_part(base, adapters, tmp_path, how):
    with with_adapters(base, {"b": adapters / "b"})("b") as model:
        alone = logits(model)
        model.unload()
    found, _ = made(base, adapters, tmp_path / "out", how, {"b": 1.0, "a": 0.0}, density=1.0)
    torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_one_part_taken_away_is_the_part_with_its_sign_turned(base, adapters, tmp_path):
    made(base, adapters, tmp_path / "out", "linear", {"b": -1.0})
    found, _ = made(base, tmp_path, tmp_path / "back", "linear", {"out": -1.0})
    with with_adapters(base, {"b": adapters / "b"})("b") as model:
        torch.testing.assert_close(found, logits(model), atol=1e-5, rtol=1e-5)
        model.unload()


def test_what_is_saved_is_an_adapter_as_training_saves_it(base, adapters, tmp_path):
    found, _ = made(base, adapters, tmp_path / "out", "ties", {"b": 1.0, "a": 0.5})
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["r"] == 10
    with with_adapters(base, {"x": tmp_path / "out"})("x") as model:
        torch.testing.assert_close(logits(model), found)
        model.unload()


def test_on_four_bit_weights_the_updates_are_the_same(adapters, tiny_setting, tmp_path):
    choice = ModelChoice(revision="", dtype="float32", held="nf4-packed")
    packed = load_base(tiny_setting, choice)
    found, _ = made(packed, adapters, tmp_path / "out", "linear", {"a": 0.7, "b": -0.4})
    rounded = load_base(tiny_setting, choice.model_copy(update={"held": "nf4-rounded"}))
    expected, _ = made(rounded, adapters, tmp_path / "rounded", "linear", {"a": 0.7, "b": -0.4})
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("dora", "use_dora"),
        ("loha", "LOHA"),
        ("by-pattern", "mix of list/set and string"),
        ("wider", "no adapter of this model"),
        ("gone", "no adapter"),
    ],
)
def test_what_cannot_be_combined_is_refused_and_leaves_the_model_as_it_was(base, adapters, tmp_path, other, says):
    before = logits(base.model)
    with pytest.raises(BadInput, match=says):
        made(base, adapters, tmp_path / "out", "linear", {"a": 1.0, other: 1.0})
    assert torch.equal(logits(base.model), before)
    assert not (tmp_path / "out").exists()
