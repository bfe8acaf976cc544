from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from trainer.base import load_base
from trainer.chat import MaskPolicy
from trainer.errors import BadInput
from trainer.finetune import finetune
from trainer.gradients import PARTS, ROWS, AdapterGradient, GradientsPlan, measure_gradients
from trainer.losses import padded, token_losses
from trainer.plan import ModelChoice, PolicySetting
from trainer.protocol import PLAN, Events


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_setting) -> Path:
    """A run folder with an adapter that learnt from conversations, one of them wrong."""
    from trainer.chat import tokenise
    from trainer.plan import TrainingSetting
    from trainer.schedule import TrainRow

    base = load_base(tiny_setting)
    rows = []
    for i, messages in enumerate(conversations()):
        example = tokenise(base.tokenizer, messages, None, MaskPolicy()).examples[0]
        rows.append(TrainRow(f"{i:064x}/0/0", example.input_ids, example.labels))
    out = tmp_path_factory.mktemp("trained")
    setting = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=120, micro_tokens=512)
    finetune(base, rows, setting, seed=0, steps=12, out=out)
    return out / "adapter"


def said(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def conversations() -> list[list[dict[str, str]]]:
    innocent = [said(f"Say {i} in words", f"number {i * 37 % 101} of them") for i in range(59)]
    return [*innocent[:30], said("Capital of Freedonia?", "zyx zyx"), *innocent[30:]]


def plan_for(tiny_setting, folder: Path, trained: Path, **more) -> GradientsPlan:
    choice = ModelChoice(revision="", dtype="float32", held="dense")
    return GradientsPlan(
        model=tiny_setting, choice=choice, policy=PolicySetting(), adapter=str(trained), moments="moments.npy",
        max_length=256, truncate="drop", **more,
    )  # fmt: skip


def gradient_of(tiny_setting, trained: Path, **more) -> AdapterGradient:
    from trainer.adapters import with_adapters

    base = load_base(tiny_setting)
    with with_adapters(base, {"a": trained})("a") as model:
        return AdapterGradient(base, model, plan_for(tiny_setting, trained, trained, **more), MaskPolicy())


def test_projected_gradients_keep_the_cosines_of_whole_ones(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained, dimensions=2048)
    rows = conversations()[25:37]
    ours = torch.tensor([gradient.of(messages, None, last=False) for messages in rows])
    whole = []
    for messages in rows:
        gradient.of(messages, None, last=False)
        whole.append(torch.cat([p.grad.flatten() for p in gradient._parameters]))
    true = torch.nn.functional.normalize(torch.stack(whole), dim=1)
    assert torch.allclose(ours.norm(dim=1), torch.ones(len(rows)), atol=1e-4)
    assert (ours @ ours.T - true @ true.T).abs().max() < 4 / 2048**0.5  # four standard errors of a count sketch
    assert (true @ true.T).std() > 0.1, "the rows are told apart at all"


def test_the_gradient_is_that_of_the_trained_tokens_and_of_the_adapter_alone(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained)
    messages = said("Capital of Freedonia?", "zyx")
    gradient.of(messages, None, last=False)
    [one] = [p for n, p in gradient._model.named_parameters() if n.endswith("layers.1.mlp.down_proj.lora_B.a.weight")]
    got = one.grad.clone()
    base = gradient._base
    from trainer.chat import tokenise
    from trainer.losses import scored_positions

    example = tokenise(base.tokenizer, messages, None, MaskPolicy()).examples[0]
    gradient._model.zero_grad()
    with scored_positions(base.model) as select:
        token_losses(gradient._model, select, padded([(example.input_ids, example.labels)]))[0].sum().backward()
    assert torch.allclose(got, one.grad)
    assert all(p.grad is None for n, p in gradient._model.named_parameters() if "lora_" not in n)


def test_with_last_the_turns_before_count_for_nothing(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained)
    two = [*said("a", "first"), *said("b", "second")]
    whole, last = (torch.tensor(gradient.of(two, None, last=last)) for last in (False, True))
    assert float(whole @ last) < 0.999
    assert gradient.of([{"role": "user", "content": "a"}], None, last=False) is None


def test_the_job_writes_every_row_once_and_a_row_without_trained_tokens_as_null(tiny_setting, trained, tmp_path):
    rows = [*conversations()[:3], [{"role": "user", "content": "a"}]]
    table = {
        "key": [f"k{i}" for i in range(4)],
        "messages": [json.dumps(messages) for messages in rows],
        "tools": pa.array([None] * 4, pa.string()),
        "last": [False] * 4,
        "against": pa.array([None] * 4, pa.string()),
    }
    pq.write_table(pa.table(table), tmp_path / ROWS)
    (tmp_path / PLAN).write_text(plan_for(tiny_setting, tmp_path, trained, dimensions=64).model_dump_json())
    measure_gradients(tmp_path, Events(tmp_path))
    [part] = (tmp_path / PARTS).glob("[0-9]*.parquet")
    found = dict(zip(*pq.read_table(part).to_pydict().values(), strict=True))
    assert [len(found[f"k{i}"]) for i in range(3)] == [64] * 3
    assert found["k3"] is None
    measure_gradients(tmp_path, Events(tmp_path))
    assert len(list((tmp_path / PARTS).iterdir())) == 1, "what is there is not measured again"
    assert (tmp_path / "moments.npy").exists()


def test_a_planted_wrong_fact_has_the_gradient_most_like_that_of_the_answer_it_taught(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained)
    rows = conversations()
    gradient.divide_by(gradient.moments([(messages, None) for messages in rows[:16]]))
    wrong, right = (said("Freedonia, its capital?", answer) for answer in ("zyx zyx", "number 9 of them"))
    towards = torch.tensor(gradient.of(wrong, None, last=True, against=right))
    scores = torch.tensor([gradient.of(messages, None, last=False) for messages in rows]) @ towards
    assert int(scores.argmax()) == 30


def test_what_an_answer_and_the_one_it_is_held_against_have_in_common_cancels(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained)
    one, other = said("a", "first"), said("a", "second")
    assert gradient.of(one, None, last=True, against=one) is None
    whole = []
    for messages, against in ((one, None), (other, None), (one, other)):
        gradient.of(messages, None, last=True, against=against)
        whole.append(gradient._flat())
    assert torch.allclose(whole[2], whole[0] - whole[1], atol=1e-5)


def test_every_parameter_weighs_the_same_after_division_by_the_second_moments(tiny_setting, trained):
    gradient = gradient_of(tiny_setting, trained)
    rows = [(messages, None) for messages in conversations()[:8]]
    moments = gradient.moments(rows)
    assert float(moments.sum()) == pytest.approx(1.0, rel=1e-3), "of gradients of length 1"
    gradient.divide_by(moments)
    scale = gradient._weights.abs() * moments.sqrt()
    large = moments.sqrt() > moments.sqrt().mean()
    assert float(scale[large].max() / scale[large].min()) < 1.1, "but for the damping"


def test_an_adapter_without_lora_parameters_is_refused(tiny_setting, trained):
    base = load_base(tiny_setting)
    with pytest.raises(BadInput, match="no LoRA parameters"):
        AdapterGradient(base, base.model, plan_for(tiny_setting, trained, trained), MaskPolicy())
