"""Every method of fine-tuning, really trained on the tiny model, saved and brought back; refusals."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainer.adapters import is_whole_model, with_adapters  # noqa: E402
from trainer.base import load_base  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.finetune import finetune  # noqa: E402
from trainer.forgetting import GENERAL_KL, GENERAL_NLL, forgetting  # noqa: E402
from trainer.methods import check_config, measuring, trainable  # noqa: E402
from trainer.sanity import step0_difference  # noqa: E402

METHODS = {
    "lora": {"method": "lora", "lora_r": 4, "lora_alpha": 8},
    "dora": {"method": "dora", "lora_r": 4, "lora_alpha": 8},
    "full": {"method": "full", "learning_rate": 3e-3},
    "ia3": {"method": "peft", "peft": {"peft_type": "IA3"}},
    "loha": {"method": "peft", "peft": {"peft_type": "LOHA", "r": 4, "target_modules": "all-linear"}},
}


def logits(model, row):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([row.input_ids])).logits


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_leaves_the_base_alone_and_comes_back_from_the_disk_with_the_same_outputs(
    name, tiny, setting, rows, tmp_path
):
    own = setting.model_copy(update=METHODS[name])
    before = {key: value.clone() for key, value in tiny.model.state_dict().items()}
    trained = []
    windows = [list(row.input_ids[:12]) for row in rows[:2]]

    def look(model):
        found = forgetting(tiny, model, windows)
        trained.append((logits(model, rows[0]), {m.metric: m.value for m in found if m.item == -1}))

    result = finetune(tiny, rows, own, seed=0, steps=6, out=tmp_path, validation=rows[:4], then=look)
    assert result.sanity.validation_after < result.sanity.validation_before
    assert result.sanity.step0_difference == pytest.approx(0.0, abs=1e-6)
    assert (result.sanity.trainable_share == 1.0) == (name == "full")
    [(after, told)] = trained
    assert not torch.allclose(after, logits(tiny.model, rows[0]), atol=1e-3)
    assert told[GENERAL_KL] > 1e-6
    assert told.keys() == {GENERAL_NLL, GENERAL_KL}
    now = tiny.model.state_dict()
    assert now.keys() == before.keys()
    assert all(torch.equal(before[key], now[key]) for key in before)

    folder = tmp_path / "adapter"
    assert is_whole_model(folder) == (name == "full")
    assert result.cost.saved_bytes == sum(path.stat().st_size for path in folder.iterdir())
    wearing = with_adapters(tiny, {"run": folder})
    with wearing("run") as model:
        torch.testing.assert_close(logits(model, rows[0]), after)
    with wearing(None) as model:
        torch.testing.assert_close(logits(model, rows[0]), logits(tiny.model, rows[0]))


def test_dora_takes_the_norms_of_its_weights_once_while_it_is_measured_and_anew_after_a_step(
    tiny, setting, rows, monkeypatch
):
    from peft.helpers import DoraCaching

    norms = []
    norm = torch.linalg.norm
    monkeypatch.setattr(torch.linalg, "norm", lambda *args, **options: norms.append(1) or norm(*args, **options))
    with trainable(tiny, setting.model_copy(update=METHODS["dora"]), 0) as model, measuring():
        for step in range(2):
            model.train()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter += 0.1 * (step + 1)
            model.eval()
            norms.clear()
            first = logits(model, rows[0])
            assert norms
            norms.clear()
            torch.testing.assert_close(logits(model, rows[0]), first)
            assert not norms
            with DoraCaching(enabled=False):
                torch.testing.assert_close(logits(model, rows[0]), first)


def test_a_run_of_all_weights_that_was_stopped_goes_on_to_the_same_end(tiny, setting, rows, tmp_path):
    from trainer.errors import Stopped

    own = setting.model_copy(update=METHODS["full"])
    whole = finetune(tiny, rows, own, seed=0, steps=4, out=tmp_path / "whole")
    seen: list[int] = []

    def note(step, *_):
        seen.append(step)

    with pytest.raises(Stopped):
        finetune(tiny, rows, own, seed=0, steps=4, out=tmp_path / "cut", on_step=note, wants_stop=lambda: len(seen) > 1)
    resumed = finetune(tiny, rows, own, seed=0, steps=4, out=tmp_path / "cut", on_step=note)
    assert len(seen) < 7
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-5)


@pytest.mark.parametrize(("quantize", "packed"), [("none", None), ("nf4", True)])
def test_dora_begins_at_the_base_in_bfloat16_too(quantize, packed, tiny_setting, setting, rows):
    base = load_base(tiny_setting.model_copy(update={"dtype": "bfloat16", "quantize": quantize}), packed=packed)
    with trainable(base, setting.model_copy(update=METHODS["dora"]), 0) as model:
        assert step0_difference(base, model, rows[:4]) < 1e-6


def test_all_weights_are_trained_in_float32_where_the_base_is_in_16_bits(tiny_setting, setting):
    base = load_base(tiny_setting.model_copy(update={"dtype": "bfloat16"}))
    with trainable(base, setting.model_copy(update={"method": "full"}), 0) as model:
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}, "tokens of its own"),
        ({"peft_type": "ADALORA", "total_step": 10}, "training loop of its own"),
        ({"peft_type": "NO_SUCH"}, "PEFT has no method 'NO_SUCH'"),
        ({"peft_type": "LORA", "ranks": 4}, "ranks"),
        ({"peft_type": "LORA", "target_modules": ["nowhere"]}, "PEFT cannot put"),
    ],
)
def test_a_config_that_cannot_be_trained_here_is_refused(config, why, tiny, setting):
    own = setting.model_copy(update={"method": "peft", "peft": config})
    with pytest.raises(BadInput, match=why), trainable(tiny, own, 0):
        pass


@pytest.mark.parametrize("config", [{"peft_type": "POLY"}, {"peft_type": "LORA", "target_modules": ["nowhere"]}])
def test_a_config_that_only_fails_when_it_is_put_on_or_run_is_found_out_before(config, tiny, setting):
    own = setting.model_copy(update={"method": "peft", "peft": config})
    with pytest.raises(BadInput, match=f"{config['peft_type']}: PEFT cannot put"):
        check_config(tiny, own)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_config_that_takes_from_the_weights_of_the_base_is_refused(init, tiny_setting, setting):
    peft = {"peft_type": "LORA", "init_lora_weights": init, "target_modules": "all-linear"}
    with pytest.raises(BadInput, match="changes the weights of the base"):
        check_config(load_base(tiny_setting), setting.model_copy(update={"method": "peft", "peft": peft}))


def test_a_config_that_was_found_good_left_the_base_as_it_was(tiny, setting):
    before = {key: value.clone() for key, value in tiny.model.state_dict().items()}
    check_config(tiny, setting.model_copy(update=METHODS["ia3"]))
    assert all(torch.equal(before[key], value) for key, value in tiny.model.state_dict().items())


def test_all_weights_of_a_model_in_four_bits_cannot_be_trained(tiny_setting, setting):
    base = load_base(tiny_setting.model_copy(update={"quantize": "nf4"}))
    with (
        pytest.raises(BadInput, match="weights in 4 bits"),
        trainable(base, setting.model_copy(update={"method": "full"}), 0),
    ):
        pass
