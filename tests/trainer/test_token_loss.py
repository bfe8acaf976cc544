"""The loss of every token, piece by piece, and the job around it."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer import token_loss  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.methods import adapter  # noqa: E402
from trainer.plan import ModelChoice  # noqa: E402
from trainer.protocol import Events, read_events  # noqa: E402
from trainer.token_loss import LOSSES, SEQUENCES, TokenLossPlan, measure_folder, token_losses  # noqa: E402

IDS = [1 + (7 * i * i + 3 * i) % 250 for i in range(90)]


def by_one_pass(model, ids):
    with torch.inference_mode():
        log_p = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [-float(log_p[t - 1, ids[t]]) for t in range(1, len(ids))]


@pytest.mark.parametrize("length", [1, 2, 16, 17, 32, 90])
def test_pieces_with_a_cache_give_the_losses_of_one_pass_over_all(tiny, monkeypatch, length):
    monkeypatch.setattr(token_loss, "CHUNK", 16)
    done = []
    losses = token_losses(tiny, tiny.model, IDS[:length], done.append)
    assert losses[0] is None
    assert losses[1:] == pytest.approx(by_one_pass(tiny.model, IDS[:length]), abs=1e-4)
    assert done == [*range(16, length, 16), length]


def test_no_token_sees_those_behind_it(tiny):
    short = token_losses(tiny, tiny.model, IDS[:20])
    assert token_losses(tiny, tiny.model, [*IDS[:20], *reversed(IDS)])[:20] == pytest.approx(short, abs=1e-4)


def test_ids_that_the_model_does_not_know_are_told(tiny):
    with pytest.raises(BadInput, match="the model has no embedding for token 10,000"):
        token_losses(tiny, tiny.model, [1, 2, 10_000])


def folder_with(tmp_path, plan, sequences):
    folder = tmp_path / "job"
    folder.mkdir()
    pq.write_table(pa.table({"ids": sequences}), folder / SEQUENCES)
    (folder / "plan.json").write_text(plan.model_dump_json())
    return folder


def test_the_job_measures_an_adapter_by_itself_and_tells_how_far_it_is(tiny, tiny_setting, setting, tmp_path):
    with adapter(tiny, setting, seed=1) as model:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.05)
        model.save_pretrained(tmp_path / "adapter")
        adapted = by_one_pass(model, IDS)
    plain = by_one_pass(tiny.model, IDS)
    assert max(abs(a - b) for a, b in zip(plain, adapted, strict=True)) > 0.01
    folder = folder_with(tmp_path, TokenLossPlan(model=tiny_setting, adapter="../adapter"), [IDS, IDS[:3]])
    measure_folder(folder, Events(folder))
    whole, start = pq.read_table(folder / LOSSES).column("losses").to_pylist()
    assert whole[0] is None
    assert whole[1:] == pytest.approx(adapted, abs=1e-4)
    assert start[1:] == pytest.approx(adapted[:2], abs=1e-4)
    told = [event for event in read_events(folder)[0] if event["event"] == "progress"]
    assert (told[-1]["done"], told[-1]["total"]) == (93, 93)


def test_an_adapter_that_cannot_be_loaded_is_a_sentence(tiny_setting, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    folder = folder_with(tmp_path, TokenLossPlan(model=tiny_setting, adapter="../adapter"), [IDS])
    with pytest.raises(BadInput, match="no adapter of this model could be read"):
        measure_folder(folder, Events(folder))


def test_an_adapter_is_not_measured_on_other_weights_than_those_it_was_trained_on(tiny_setting, tmp_path):
    choice = ModelChoice(revision="an older one", dtype="float32", held="dense")
    folder = folder_with(tmp_path, TokenLossPlan(model=tiny_setting, choice=choice, adapter="../adapter"), [IDS])
    with pytest.raises(BadInput, match="the model is not the one"):
        measure_folder(folder, Events(folder))


def test_the_loss_of_a_model_that_guesses_evenly_is_the_log_of_its_vocabulary(tiny):
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight.zero_()
    assert token_losses(tiny, tiny.model, IDS[:5])[1:] == pytest.approx([math.log(tiny.model.config.vocab_size)] * 4)
