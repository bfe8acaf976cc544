from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import random  # noqa: E402

from trainer.errors import BadInput  # noqa: E402
from trainer.finetune import finetune  # noqa: E402
from trainer.forgetting import GENERAL_KL, GENERAL_NLL, WINDOW, forgetting, read_windows  # noqa: E402
from trainer.methods import adapter  # noqa: E402
from trainer.schedule import TrainRow  # noqa: E402

TEXT = "The bus stopped at the last house, and nobody got off. " * 12


@pytest.fixture
def windows(tiny, tmp_path):
    (tmp_path / "general.txt").write_text(TEXT)
    return read_windows(tiny, tmp_path / "general.txt")


def values(metrics, name):
    return [m.value for m in metrics if m.metric == name]


def test_windows_hold_the_text_but_for_a_short_rest(tiny, windows, tmp_path):
    ids = tiny.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    joined = [token for window in windows for token in window[-WINDOW:]]
    assert joined == ids[: len(joined)]
    assert 0 <= len(ids) - len(joined) < WINDOW // 2
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(BadInput, match="fewer than"):
        read_windows(tiny, tmp_path / "short.txt")


def test_general_nll_is_the_mean_loss_of_the_text(tiny, windows):
    found = forgetting(tiny, tiny.model, windows)
    assert values(found, GENERAL_KL) == []
    assert sorted((m.item for m in found), reverse=True) == [-1 - n for n in range(len(windows))]
    ids = torch.tensor([windows[1]])
    with torch.inference_mode():
        assert found[1].value == pytest.approx(float(tiny.model(input_ids=ids, labels=ids).loss), abs=1e-5)


def test_an_adapter_that_was_not_trained_has_forgotten_exactly_nothing(tiny, setting, windows):
    before = values(forgetting(tiny, tiny.model, windows), GENERAL_NLL)
    with adapter(tiny, setting, seed=0) as model:
        found = forgetting(tiny, model, windows)
    assert values(found, GENERAL_KL) == [0.0] * len(windows)
    assert values(found, GENERAL_NLL) == before


def test_a_model_trained_on_noise_forgets_measurably(tiny, setting, rows, windows, tmp_path):
    draw = random.Random(0)
    ids = sorted(set(range(3, len(tiny.tokenizer))) - {token for window in windows for token in window})[-20:]
    noise = []
    for row in rows:
        drawn = [draw.choice(ids) for _ in row.input_ids]
        noise.append(TrainRow(row.key, drawn, drawn))
    before = values(forgetting(tiny, tiny.model, windows), GENERAL_NLL)
    found = []
    finetune(
        tiny, noise, setting, seed=0, steps=24, out=tmp_path,
        then=lambda model: found.extend(forgetting(tiny, model, windows)),
    )  # fmt: skip
    after = values(found, GENERAL_NLL)
    assert min(b - a for a, b in zip(before, after, strict=True)) > 0.05
    assert min(values(found, GENERAL_KL)) > 0.01
