from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from trainer.base import load_base  # noqa: E402
from trainer.chat import tokenise  # noqa: E402
from trainer.errors import BadInput, Problem, Stopped  # noqa: E402
from trainer.finetune import finetune  # noqa: E402
from trainer.losses import padded, scored_positions, token_losses  # noqa: E402
from trainer.methods import adapter  # noqa: E402
from trainer.schedule import TrainRow, micro_batches  # noqa: E402


def pairs(rows):
    return [(row.input_ids, row.labels) for row in rows]


def gradients(base, setting, rows, micro_tokens):
    """Gradients of one step's loss, cut into micro-batches of `micro_tokens`, as the trainer computes it."""
    total = sum(row.trained for row in rows)
    with adapter(base, setting, 0) as model, scored_positions(base.model) as select:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # B starts at zero, which would hide A's gradients
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
        for cut in micro_batches([len(row.input_ids) for row in rows], micro_tokens):
            losses, _ = token_losses(model, select, padded(pairs([rows[i] for i in cut]), 2))
            (losses.sum() / total).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_gradients_do_not_depend_on_how_a_step_is_cut(tiny, setting, rows):
    whole = gradients(tiny, setting, rows[:8], micro_tokens=10_000)
    cut = gradients(tiny, setting, rows[:8], micro_tokens=1)
    assert whole.keys() == cut.keys()
    assert whole
    for name in whole:
        torch.testing.assert_close(whole[name], cut[name], rtol=1e-4, atol=1e-7)


def test_rows_of_a_batch_do_not_see_each_other_nor_the_padding(tiny, rows):
    with torch.inference_mode(), scored_positions(tiny.model) as select:
        together, owners = token_losses(tiny.model, select, padded(pairs(rows[:6]), 2))
        for i, row in enumerate(rows[:6]):
            alone, _ = token_losses(tiny.model, select, padded(pairs([row]), 2))
            torch.testing.assert_close(together[owners == i], alone, rtol=1e-4, atol=1e-5)


def test_padding_is_masked_by_length_where_the_pad_id_is_the_stop_token(tiny, rows):
    batch = padded(pairs(rows[:6]), tiny.tokenizer.eos_token_id)
    trained_stops = (batch["labels"] == tiny.tokenizer.eos_token_id).sum()
    assert trained_stops == 6, "each row's own stop token, and no padding"


def test_logits_only_where_trained_give_the_loss_of_all_logits(tiny, rows):
    batch = padded(pairs(rows[:6]), 2)
    with torch.inference_mode():
        full = tiny.model(input_ids=batch["input_ids"]).logits
        expected = torch.nn.functional.cross_entropy(
            full[:, :-1].reshape(-1, full.shape[-1]), batch["labels"][:, 1:].reshape(-1), reduction="sum"
        )
        with scored_positions(tiny.model) as select:
            losses, _ = token_losses(tiny.model, select, batch)
    torch.testing.assert_close(losses.sum(), expected)


def test_a_run_learns_saves_its_adapter_and_leaves_the_base_as_it_was(tiny, setting, rows, tmp_path):
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    losses = []
    result = finetune(
        tiny, rows, setting, seed=0, steps=12, out=tmp_path, validation=rows[:4],
        on_step=lambda step, steps, loss, tokens: losses.append((step, loss)),
    )  # fmt: skip
    assert [step for step, _ in losses] == list(range(1, 13))
    assert result.losses == pytest.approx([loss for _, loss in losses])
    assert result.losses[-1] < result.losses[0] - 0.15
    assert 12 * 60 <= result.trained_tokens < 12 * 60 + 20
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == setting.lora_r
    after = tiny.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "forward" not in tiny.model.__dict__


def test_rows_longer_than_a_step_are_counted_by_their_parts(tiny, setting, tmp_path):
    long = [TrainRow(f"k{i}", list(range(3, 63)), [-100, *range(4, 63)]) for i in range(2)]
    small = setting.model_copy(update={"tokens_per_step": 20})
    result = finetune(tiny, long, small, seed=0, steps=4, out=tmp_path)
    assert 80 <= result.trained_tokens < 100
    assert all(1 < loss < 10 for loss in result.losses), "the mean over the tokens of the step"


def test_the_sanity_block_says_what_it_should(tiny, setting, rows, tmp_path):
    sanity = finetune(tiny, rows, setting, seed=0, steps=10, out=tmp_path, validation=rows[:4]).sanity
    assert sanity.step0_difference == 0.0
    assert sanity.gradient_reach == 1.0
    assert sanity.foreign_gradients == 0
    assert 0 < sanity.trainable_share < 0.5
    assert sanity.validation_after < sanity.validation_before


def test_equal_seeds_repeat_and_other_seeds_differ(tiny, setting, rows, tmp_path):
    runs = [
        finetune(tiny, rows, setting, seed=seed, steps=5, out=tmp_path / str(i)).losses
        for i, seed in enumerate((0, 0, 1))
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_stopped_run_goes_on_from_its_checkpoint_to_the_same_end(tiny, setting, rows, tmp_path):
    whole = finetune(tiny, rows, setting, seed=0, steps=10, out=tmp_path / "whole")
    seen = []
    with pytest.raises(Stopped):
        finetune(
            tiny, rows, setting, seed=0, steps=10, out=tmp_path / "cut",
            on_step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) >= 3,
        )  # fmt: skip
    resumed = finetune(
        tiny, rows, setting, seed=0, steps=10, out=tmp_path / "cut", on_step=lambda step, *_: seen.append(step)
    )
    assert len(seen) < 14, "the steps before the checkpoint are not done again"
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-5)
    assert resumed.sanity.gradient_reach == 1.0


def test_early_stop_ends_a_run_whose_validation_loss_rises(tiny, setting, rows, tmp_path):
    # Trained on the opposite of what it is validated on, at a rate that hurts.
    wrong = [TrainRow(r.key, r.input_ids[::-1], [i if i != 2 else -100 for i in r.input_ids[::-1]]) for r in rows]
    eager = setting.model_copy(update={"early_stop": True, "learning_rate": 0.3})
    result = finetune(tiny, wrong, eager, seed=0, steps=40, out=tmp_path, validation=rows[:6])
    assert result.stopped_early
    assert result.steps < 40
    assert result.steps == len(result.losses)

    for stop_at in (result.steps - 2, result.steps):
        seen: list[int] = []
        out = tmp_path / f"cut-{stop_at}"
        with pytest.raises(Stopped):
            finetune(
                tiny, wrong, eager, seed=0, steps=40, out=out, validation=rows[:6],
                on_step=lambda step, *_, seen=seen: seen.append(step),
                wants_stop=lambda seen=seen, stop_at=stop_at: len(seen) + 1 >= stop_at,
            )  # fmt: skip
        resumed = finetune(tiny, wrong, eager, seed=0, steps=40, out=out, validation=rows[:6])
        assert (resumed.steps, resumed.stopped_early) == (result.steps, True), "what was seen before the stop counts"
        assert resumed.losses == pytest.approx(result.losses, abs=1e-5)


def test_rows_without_trained_tokens_are_bad_input(tiny, setting, tmp_path):
    with pytest.raises(BadInput, match="no row has a trained token"):
        finetune(tiny, [TrainRow("k", [3, 4], [-100, -100])], setting, seed=0, steps=2, out=tmp_path)


def test_labels_in_the_running_trainers_batches_are_the_labels_that_are_shown(tiny, setting, tmp_path, monkeypatch):
    import trainer.finetune as module

    shown = [
        example
        for i in range(20)
        for example in tokenise(
            tiny.tokenizer,
            [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "yes " * (1 + i % 4)}]
            * (1 + i % 3),
        ).examples
    ]
    rows = [TrainRow(f"{i}/0/0", example.input_ids, example.labels) for i, example in enumerate(shown)]
    trained = []
    original = module.token_losses

    def spy(model, select, batch):
        if model.training:
            for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
                trained.append((ids, labels))
        return original(model, select, batch)

    monkeypatch.setattr(module, "token_losses", spy)
    finetune(tiny, rows, setting, seed=0, steps=6, out=tmp_path)
    assert len(trained) > 10
    for ids, labels in trained:
        match = next(
            (ex for ex in shown if ids[: len(ex.input_ids)] == ex.input_ids
             and labels[: len(ex.input_ids)] == ex.labels and set(labels[len(ex.input_ids) :]) <= {-100}),
            None,
        )  # fmt: skip
        assert match is not None


@pytest.mark.parametrize("quantize", ["nf4", "none"])
def test_every_way_to_hold_the_base_trains(tiny_setting, setting, rows, tmp_path, quantize):
    base = load_base(tiny_setting.model_copy(update={"quantize": quantize}))
    assert base.held == {"nf4": "nf4-rounded", "none": "dense"}[quantize]
    result = finetune(base, rows, setting, seed=0, steps=8, out=tmp_path)
    assert result.losses[-1] < result.losses[0] - 0.15


def test_a_checkpoint_that_a_kill_cut_in_half_is_passed_over(tiny, setting, rows, tmp_path):
    seen = []
    with pytest.raises(Stopped):
        finetune(
            tiny, rows, setting, seed=0, steps=8, out=tmp_path,
            on_step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) >= 3,
        )  # fmt: skip
    half = tmp_path / "checkpoints" / "checkpoint-7"
    half.mkdir()
    (half / "adapter_config.json").write_text("{}")
    result = finetune(tiny, rows, setting, seed=0, steps=8, out=tmp_path, on_step=lambda step, *_: seen.append(step))
    assert len(result.losses) == 8
    assert seen[3:] == [4, 5, 6, 7, 8], "from the whole checkpoint, not from the start and not from the half one"
    assert not half.exists()


def test_stopped_in_the_evaluation_a_run_is_not_trained_again(tiny, setting, rows, tmp_path):
    def stop(_model):
        raise Stopped("Stopped")

    with pytest.raises(Stopped):
        finetune(tiny, rows, setting, seed=0, steps=5, out=tmp_path, then=stop)
    seen = []
    result = finetune(tiny, rows, setting, seed=0, steps=5, out=tmp_path, on_step=lambda step, *_: seen.append(step))
    assert seen == []
    assert len(result.losses) == 5


def test_a_loss_that_is_no_number_ends_the_run_with_a_word(tiny, setting, rows, tmp_path):
    with torch.no_grad():
        tiny.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Problem, match=r"the loss of step 1 is nan|gradients reached"):
        finetune(tiny, rows, setting, seed=0, steps=3, out=tmp_path)
