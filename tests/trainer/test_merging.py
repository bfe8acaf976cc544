"""Adapters combined and folded into their base: outputs as those of the base with the adapters on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from trainer.adapters import with_adapters  # noqa: E402
from trainer.base import load_base  # noqa: E402
from trainer.errors import BadInput, Problem  # noqa: E402
from trainer.merging import (  # noqa: E402
    CHECKS,
    MERGED,
    Checks,
    MergedAdapter,
    MergePlan,
    check_adapter,
    combine,
    fold,
    merge_folder,
    wear_all,
)
from trainer.plan import ModelChoice, PolicySetting  # noqa: E402
from trainer.protocol import Events  # noqa: E402
from trainer.quantize import bitsandbytes  # noqa: E402

PROMPT = [{"role": "user", "content": "What is seven?"}]
IDS = torch.tensor([[5, 9, 17, 4, 23, 40]])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, tiny_setting) -> Path:
    """Two folders, `a` and `b`, with adapters whose updates are not small."""
    bitsandbytes()
    from peft import LoraConfig, get_peft_model

    out = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        targets = ["q_proj", "v_proj", "down_proj"] if name == "a" else ["q_proj", "o_proj"]
        config = LoraConfig(r=4 + 2 * seed, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
        model = get_peft_model(load_base(tiny_setting).model, config)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "lora_" in key:
                    weight.normal_(std=0.2)
        model.save_pretrained(out / name)
    return out


def plan(setting, adapters: Path, job: Path, weights: dict[str, float], **more) -> Path:
    job.mkdir()
    made = MergePlan(
        model=setting,
        chosen=ModelChoice(revision="", dtype="float32", held=more.pop("held", "dense")),
        policy=PolicySetting(),
        adapters=[MergedAdapter(folder=str(adapters / name), weight=weight) for name, weight in weights.items()],
        prompts=[PROMPT, [{"role": "user", "content": "and a longer prompt than the other one"}]],
        **more,
    )
    (job / "plan.json").write_text(made.model_dump_json())
    return job


def merged_logits(job: Path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job / MERGED, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def test_a_folded_adapter_gives_the_outputs_of_the_adapter_on_its_base(adapters, tiny_setting, tmp_path):
    job = plan(tiny_setting, adapters, tmp_path / "job", {"a": 1.0})
    merge_folder(job, Events(job))
    base = load_base(tiny_setting)
    untuned = logits(base.model)
    with with_adapters(base, {"a": adapters / "a"})("a") as model:
        tuned = logits(model)
    assert (tuned - untuned).abs().max() > 0.1, "the adapter does something"
    torch.testing.assert_close(merged_logits(job), tuned, atol=1e-4, rtol=1e-4)
    checks = Checks.model_validate_json((job / CHECKS).read_text())
    assert checks.largest < 1e-3
    assert checks.same_token == 1
    assert checks.untuned > 100 * checks.divergence
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in (job / MERGED).iterdir()}


def test_weights_add_the_updates_and_not_their_factors_also_negative_ones(adapters, tiny_setting, tmp_path):
    job = plan(tiny_setting, adapters, tmp_path / "job", {"a": 0.7, "b": -0.4})
    merge_folder(job, Events(job))
    base = load_base(tiny_setting)
    expected = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    for name, weight in {"a": 0.7, "b": -0.4}.items():
        from safetensors.torch import load_file

        factors = load_file(adapters / name / "adapter_model.safetensors")
        config = json.loads((adapters / name / "adapter_config.json").read_text())
        for key in [key for key in factors if "lora_A" in key]:
            update = factors[key.replace("lora_A", "lora_B")] @ factors[key] * (config["lora_alpha"] / config["r"])
            expected[key.removeprefix("base_model.model.").replace("lora_A.", "")] += weight * update
    base.model.load_state_dict(expected)
    torch.testing.assert_close(merged_logits(job), logits(base.model), atol=1e-4, rtol=1e-4)


def test_an_adapter_taken_away_from_itself_leaves_the_base(adapters, tiny_setting):
    base = load_base(tiny_setting)
    before = logits(base.model)
    with with_adapters(base, {"x": adapters / "a", "y": adapters / "a"})("x") as model:
        wear_all(model, {"x": 1.0, "y": -1.0})
        torch.testing.assert_close(logits(model), before, atol=1e-4, rtol=1e-4)
        fold(model, ["x", "y"], "linear")
        with model.disable_adapter():
            torch.testing.assert_close(logits(model), before, atol=1e-4, rtol=1e-4)


def test_ties_keeps_the_largest_elects_a_sign_and_averages_those_that_have_it():
    first = torch.tensor([4.0, -3.0, 0.1, 2.0])
    second = torch.tensor([2.0, 5.0, 0.2, -0.1])
    found = combine([first, second], "ties", 0.5, torch.Generator())
    # kept: 4, -3 and 2, 5; signs: +, +; places 3 and 4 held nothing that was kept
    assert found.tolist() == [3.0, 5.0, 0.0, 0.0]
    turned = combine([first, -second], "ties", 1.0, torch.Generator())
    assert turned.tolist() == pytest.approx([4.0, -4.0, -0.2, 1.05])


def test_dare_keeps_the_sum_on_average_and_draws_the_same_for_a_seed():
    update = torch.full((400, 100), 2.0)
    found = combine([update, update], "dare-linear", 0.25, torch.Generator().manual_seed(3))
    assert found.mean() == pytest.approx(4.0, rel=0.02)
    assert set(found.unique().tolist()) == {0.0, 8.0, 16.0}
    again = combine([update, update], "dare-linear", 0.25, torch.Generator().manual_seed(3))
    assert torch.equal(found, again)


@pytest.mark.parametrize("how", ["ties", "dare-linear", "dare-ties"])
def test_other_combinations_are_saved_as_they_were_made(adapters, tiny_setting, tmp_path, how):
    job = plan(tiny_setting, adapters, tmp_path / "job", {"a": 1.0, "b": 1.0}, how=how, density=0.5)
    merge_folder(job, Events(job))
    assert Checks.model_validate_json((job / CHECKS).read_text()).largest < 1e-3


def test_an_adapter_of_four_bit_weights_is_folded_into_the_rounded_values(adapters, tiny_setting, tmp_path):
    job = plan(tiny_setting, adapters, tmp_path / "job", {"a": 1.0}, held="nf4-packed")
    merge_folder(job, Events(job))
    base = load_base(tiny_setting, ModelChoice(revision="", dtype="float32", held="nf4-rounded"))
    with with_adapters(base, {"a": adapters / "a"})("a") as model:
        torch.testing.assert_close(merged_logits(job), logits(model), atol=1e-4, rtol=1e-4)


def test_sixteen_bits_are_measured_against_what_tuning_changed(adapters, tiny_setting, tmp_path):
    job = plan(tiny_setting, adapters, tmp_path / "job", {"a": 1.0}, dtype="bfloat16")
    merge_folder(job, Events(job))
    checks = Checks.model_validate_json((job / CHECKS).read_text())
    assert 0 < checks.divergence < 0.05 * checks.untuned
    small = plan(tiny_setting, adapters, tmp_path / "small", {"a": 1e-4}, dtype="bfloat16")
    with pytest.raises(Problem, match="does not answer as the tuned one"):
        merge_folder(small, Events(small))
    assert not list(small.glob(f"*{MERGED}*")), "as large as a model"


def test_more_than_low_rank_updates_is_refused(adapters, tiny_setting, tmp_path):
    config = adapters / "a" / "adapter_config.json"
    told = json.loads(config.read_text())
    other = tmp_path / "dora"
    other.mkdir()
    (other / "adapter_model.safetensors").write_bytes((adapters / "a" / "adapter_model.safetensors").read_bytes())
    (other / "adapter_config.json").write_text(json.dumps(told | {"use_dora": True}))
    job = plan(tiny_setting, tmp_path, tmp_path / "job", {"dora": 1.0})
    with pytest.raises(BadInput, match="low-rank updates"):
        merge_folder(job, Events(job))
    base = load_base(tiny_setting)
    for change in ({"bias": "all"}, {"modules_to_save": ["embed_tokens"]}, {"lora_bias": True}, {"peft_type": "IA3"}):
        (other / "adapter_config.json").write_text(json.dumps(told | change))
        with pytest.raises(BadInput, match="low-rank updates"):
            check_adapter(base, other)
    (other / "adapter_config.json").write_text(json.dumps(told))
    check_adapter(base, other)
    factors = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 8)}
    save_file(factors, other / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="layers of embeddings"):
        check_adapter(base, other)


def test_an_adapter_on_an_output_layer_that_is_the_embeddings_too_is_refused_however_it_is_named(
    adapters, tiny_setting, tmp_path
):
    base = load_base(tiny_setting)
    told = json.loads((adapters / "a" / "adapter_config.json").read_text()) | {"target_modules": r".*(q_proj|head)"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    save_file({"base_model.model.lm_head.lora_A.weight": torch.ones(4, 8)}, tmp_path / "adapter_model.safetensors")
    check_adapter(base, tmp_path)
    base.model.config.tie_word_embeddings = True
    with pytest.raises(BadInput, match="shares with its embeddings"):
        check_adapter(base, tmp_path)
