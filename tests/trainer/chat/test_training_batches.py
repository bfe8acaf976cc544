"""What the running trainer is fed, against what `workbench tokens` shows; and what a loss depends on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from trainer import finetune as finetune_module  # noqa: E402
from trainer.arms import read_arm  # noqa: E402
from trainer.base import load_base  # noqa: E402
from trainer.chat import IGNORED, MaskPolicy, tokenise  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.evaluate import EvalItem, prepare  # noqa: E402
from trainer.finetune import finetune  # noqa: E402
from trainer.losses import padded, scored_positions, token_losses  # noqa: E402
from workbench.cli import app  # noqa: E402

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)
# The same, with reasoning in the last turn alone, so that conversations with reasoning must be expanded.
DROPS_THOUGHTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if loop.last and m['reasoning_content'] %}{{ '<think>' + m['reasoning_content'] + '</think>' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)


def conversation(i: int) -> list[dict]:
    """Conversations of one to three turns, of unequal lengths; in every fourth the first answer is not trained."""
    messages: list[dict] = [{"role": "system", "content": "Be kind."}] if i % 3 == 0 else []
    for turn in range(1 + i % 3):
        messages.append({"role": "user", "content": f"Say {i}, {turn}."})
        messages.append({"role": "assistant", "content": f"ä{i} " * (1 + 3 * (i % 5)), "reasoning_content": f"{i}?"})
    if i % 4 == 3:
        next(m for m in messages if m["role"] == "assistant")["train"] = False
    return messages


ROWS = [conversation(i) for i in range(12)]


@pytest.fixture(params=["whole rows", "expanded"])
def model_folder(request, tiny_model, tmp_path):
    """The tiny model as it is, and with a template under which rows must be expanded."""
    if request.param == "whole rows":
        return tiny_model
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(DROPS_THOUGHTS)
    return folder


@pytest.fixture
def shown(model_folder, tmp_path):
    """Every training example as `workbench tokens --row N --json` shows it: (ids, labels)."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in ROWS))
    found = []
    for row in range(len(ROWS)):
        told = CliRunner().invoke(app, ["tokens", str(path), "--model", str(model_folder), "--row", str(row), "--json"])
        assert told.exit_code == 0, told.output
        data = json.loads(told.stdout)
        tokens = iter(data["tokens"])
        for example in data["examples"]:
            part = list(islice(tokens, example["total"]))
            found.append(([t["id"] for t in part], [t["id"] if t["trained"] else IGNORED for t in part]))
    return found


def write_arm(path):
    texts = [canonical_json(messages) for messages in ROWS]
    columns = {"content_hash": [content_hash(text) for text in texts], "messages": texts, "tools": [None] * len(texts)}
    pq.write_table(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), path)


def as_shown(ids, labels, shown):
    """Index of the shown example that a row of a padded batch is: equal tokens, equal labels, only padding behind."""
    for i, (its_ids, its_labels) in enumerate(shown):
        n = len(its_ids)
        if ids[:n] == its_ids and labels[:n] == its_labels and set(labels[n:]) <= {IGNORED}:
            return i
    return None


def test_the_batches_of_the_running_trainer_hold_the_labels_that_are_shown(
    model_folder, shown, setting, tiny_setting, tmp_path, monkeypatch
):
    base = load_base(tiny_setting.model_copy(update={"name": str(model_folder)}))
    write_arm(tmp_path / "arm.parquet")
    arm = read_arm(base, tmp_path / "arm.parquet", MaskPolicy(), max_length=4096)
    batches, losses = [], []

    def watched(model, select, batch):
        if model.training:
            batches.append({key: value.tolist() for key, value in batch.items()})
        return token_losses(model, select, batch)

    monkeypatch.setattr(finetune_module, "token_losses", watched)
    total = sum(row.trained for row in arm.rows)
    setting = setting.model_copy(update={"tokens_per_step": total // 3, "micro_tokens": 200})
    finetune(base, arm.rows, setting, seed=0, steps=3, out=tmp_path / "out", on_step=lambda *told: losses.append(told))
    fed = [
        as_shown(ids, labels, shown)
        for batch in batches
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    expands = (model_folder / "chat_template.jinja").read_text() == DROPS_THOUGHTS
    assert (len(shown) > len(ROWS)) == expands
    # Three steps are one pass over the rows: each example that has something to train comes once (the last ones may
    # fall behind the third step's end).
    assert None not in fed
    trainable = [i for i, (_, labels) in enumerate(shown) if set(labels) != {IGNORED}]
    assert sorted(fed) == sorted(set(fed))
    assert set(fed) <= set(trainable)
    assert len(fed) >= len(trainable) - 1
    assert len(batches) > 3, "steps are cut into several micro-batches"
    assert any(0 in ids for batch in batches for ids in batch["input_ids"]), "some rows are padded"
    trained = sum(label != IGNORED for i in fed for label in shown[i][1])
    assert losses[-1][3] == trained, "what the trainer counts as trained is what is shown as trained"


def test_the_loss_that_the_trainer_reports_is_the_mean_over_the_tokens_shown_as_trained(tiny, rows, setting, tmp_path):
    expected = []
    for row in rows[:3]:
        with torch.inference_mode():
            logits = tiny.model(torch.tensor([row.input_ids]), use_cache=False).logits[0].log_softmax(-1)
        expected += [-logits[t - 1, id_] for t, id_ in enumerate(row.labels) if id_ != IGNORED]
    losses = []
    setting = setting.model_copy(update={"tokens_per_step": len(expected), "micro_tokens": 1})
    finetune(
        tiny, rows[:3], setting, seed=0, steps=1, out=tmp_path, on_step=lambda step, steps, loss, _: losses.append(loss)
    )
    # The adapter begins at zero, so the first step's loss is the base's.
    assert losses == [pytest.approx(float(torch.stack(expected).mean()), abs=1e-3)]


def summed_loss(base, pairs, pad_id=0) -> float:
    with torch.inference_mode(), scored_positions(base.model) as select:
        losses, _ = token_losses(base.model, select, padded(pairs, pad_id))
    return float(losses.double().sum())


@pytest.fixture
def example(tiny):
    (made,) = tokenise(tiny.tokenizer, [*ROWS[2], {"role": "user", "content": "Bye."}]).examples
    return made


def test_the_target_of_an_ignored_token_changes_no_loss_and_that_of_a_trained_one_does(tiny, example):
    def loss_with_targets(change: int | None) -> float:
        ids = [*example.input_ids]
        if change is not None:
            ids[change] = (ids[change] + 7) % len(tiny.tokenizer)
        return summed_loss(tiny, [(example.input_ids, dataclasses.replace(example, input_ids=ids).labels)])

    before = loss_with_targets(None)
    for position, trained in enumerate(example.trained):
        assert (loss_with_targets(position) != before) == trained


def test_what_stands_behind_the_last_trained_token_changes_no_loss_and_neither_does_the_padding(tiny, example):
    before = summed_loss(tiny, [(example.input_ids, example.labels)])
    end = len(example.trained) - example.trained[::-1].index(True)
    assert end < len(example.input_ids)
    other = [*example.input_ids[:end], *[9] * (len(example.input_ids) - end)]
    assert summed_loss(tiny, [(other, example.labels)]) == pytest.approx(before, abs=1e-4)
    alone = summed_loss(tiny, [(example.input_ids[:3], [IGNORED, 5, IGNORED])])
    for pad_id in (0, tiny.tokenizer.eos_token_id):
        pairs = [(example.input_ids, example.labels), (example.input_ids[:3], [IGNORED, 5, IGNORED])]
        assert summed_loss(tiny, pairs, pad_id) == pytest.approx(before + alone, abs=1e-4)


def test_a_row_expanded_by_hand_has_the_summed_loss_of_the_whole_row(tiny):
    messages = [m for m in conversation(5) if "reasoning_content" in m or m["role"] != "assistant"]
    (whole,) = tokenise(tiny.tokenizer, messages).examples
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    assert whole.turns == tuple(turns)
    assert len(turns) == 3
    expanded = [
        example
        for turn in turns
        for example in tokenise(tiny.tokenizer, messages[: turn + 1], None, MaskPolicy(turns="last")).examples
    ]
    assert sum(sum(example.trained) for example in expanded) == sum(whole.trained)
    apart = summed_loss(tiny, [(example.input_ids, example.labels) for example in expanded])
    assert apart == pytest.approx(summed_loss(tiny, [(whole.input_ids, whole.labels)]), abs=1e-3)


def test_our_labels_survive_trls_packing_and_packed_rows_give_the_logits_of_single_ones(tiny, rows):
    """We do not pack (docs/decisions/padding-not-packing.md); whoever does it with TRL gets the same numbers."""
    from datasets import Dataset
    from trl import pack_dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    given = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in rows[:8]]
    packed = pack_dataset(Dataset.from_list(given), seq_length=200, strategy="bfd")
    assert len(packed) < len(given)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    seen = []
    for pack in packed:
        batch = collate([pack])
        with torch.inference_mode():
            together = tiny.model(
                input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
            ).logits[0]
        start = 0
        for length in pack["seq_lengths"]:
            part = slice(start, start + length)
            ids, labels = batch["input_ids"][0, part].tolist(), batch["labels"][0, part].tolist()
            seen.append({"input_ids": ids, "labels": labels})
            with torch.inference_mode():
                alone = tiny.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            torch.testing.assert_close(together[part], alone, rtol=1e-4, atol=1e-5)
            start += length
    assert sorted(map(repr, seen)) == sorted(map(repr, given))


def test_packed_rows_leak_into_each_other_where_the_model_keeps_its_cache(tiny, rows):
    first, second = (list(row.input_ids) for row in rows[:2])
    ids = torch.tensor([first + second])
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    with torch.inference_mode():
        alone = tiny.model(input_ids=torch.tensor([second]), use_cache=False).logits[0]
        leaking = tiny.model(input_ids=ids, position_ids=positions, use_cache=True).logits[0, len(first) :]
    assert (leaking - alone).abs().max() > 1e-3


def test_evaluation_asks_and_scores_under_the_policy_of_training(tiny):
    tiny.tokenizer.chat_template = "{{ strftime_now('%Y') }}{% if polite %}Please. {% endif %}" + CHATML
    policy = MaskPolicy(date="1999-12-31", template_args=(("polite", True),))
    messages = conversation(4)
    (prepared,) = prepare(tiny, [EvalItem(0, messages, None, "0")], policy)
    assert tiny.tokenizer.decode(prepared.prompt).startswith("1999Please. <|im_start|>user\nSay 4, 0.")
    assert tiny.tokenizer.decode(prepared.prompt).endswith("<|im_start|>assistant\n")
    ids, labels = prepared.own
    assert ids[: len(prepared.prompt)] == prepared.prompt
    trained = [label for label in labels if label != IGNORED]
    assert tiny.tokenizer.decode(trained) == messages[-1]["content"] + "<|im_end|>"
