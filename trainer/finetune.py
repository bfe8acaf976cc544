"""One QLoRA run: TRL's SFTTrainer fed with our labels, our schedule, and logits only where they are trained.

TRL brings the loop, the optimizer, mixed precision, checkpoints and resume. What it lacks is added here: an
optimizer step made of rows that are matched in trained tokens across arms, cut into micro-batches of like
length, whose loss is the mean over all trained tokens of the step however it was cut.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base import Base
from trainer.errors import BadInput, Problem, Stopped
from trainer.plan import TrainingSetting
from trainer.protocol import write_atomic
from trainer.quantize import bitsandbytes
from trainer.schedule import TrainRow, micro_batches, steps_of

bitsandbytes()  # before peft and trl, which import it without our guard

import datasets  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from transformers import PrinterCallback, TrainerCallback, set_seed  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINT_SECONDS = 60.0
"""A killed run loses at most this much training."""

OnStep = Callable[[int, int, float, int], None]
"""`on_step(step, steps, loss, trained_tokens_so_far)`, after every optimizer step."""


@dataclass(frozen=True)
class Sanity:
    """What every run checks of itself. Losses in nats per trained token.

    `step0_difference`: largest difference between the untouched adapter's loss and the base's on single rows.
    `gradient_reach`: share of the adapter's B matrices with a gradient after the first step (A's is zero then,
    because B starts at zero). `foreign_gradients`: parameters outside the adapter that have one.
    """

    step0_difference: float
    gradient_reach: float
    foreign_gradients: int
    trainable_share: float
    validation_before: float | None
    validation_after: float | None


@dataclass
class RunResult:
    """What a finished run tells: `losses` per optimizer step, nats per trained token."""

    steps: int
    trained_tokens: int
    seconds: float
    losses: list[float]
    sanity: Sanity
    stopped_early: bool = False


@contextmanager
def adapter(base: Base, setting: TrainingSetting, seed: int) -> Iterator[PeftModel]:
    """The base with a fresh LoRA adapter on all its linear layers, initialised by `seed`; removed afterwards.

    The base itself is handed out, not a copy: only one adapter at a time.
    """
    set_seed(seed)
    forward = base.model.__dict__.get("forward")
    config = LoraConfig(
        r=setting.lora_r, lora_alpha=setting.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base.model, config)
    try:
        yield model
    finally:
        model.unload()
        # SFTTrainer patches the base's `forward` on the instance; patches must not pile up over the runs.
        if forward is None:
            base.model.__dict__.pop("forward", None)
        base.model.requires_grad_(False)
        base.model.eval()


@contextmanager
def scored_positions(model: PreTrainedModel) -> Iterator[Callable[[torch.Tensor], None]]:
    """Make the model compute logits only where asked: yields a setter for the (rows, tokens) boolean mask.

    Within the block the model's logits come out as (number of True, vocabulary). The vocabulary is the widest
    layer of a small model; most positions (prompt, padding) need none of it.
    """
    state: dict[str, torch.Tensor] = {}

    def select(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0][state["mask"]], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield lambda mask: state.__setitem__("mask", mask)
    finally:
        handle.remove()


def padded(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """(ids, labels) rows as right-padded tensors `input_ids`, `labels` of shape (rows, longest).

    No attention mask is needed: in a causal model no real token can see the padding behind it, and padding
    has no label. Padding is known by length, never by its id, which is often the stop token's.
    """
    width = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), width), -100, dtype=torch.long)
    for i, (ids, row_labels) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        labels[i, : len(ids)] = torch.tensor(row_labels, dtype=torch.long)
    return {"input_ids": input_ids, "labels": labels}


def token_losses(
    model: Any, select: Callable[[torch.Tensor], None], batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihoods (nats) of a padded batch's labelled tokens, and each one's row, both flat.

    A label at position t is predicted at t-1; the first position of a row cannot be predicted.
    """
    targets = batch["labels"][:, 1:]
    mask = torch.zeros_like(batch["labels"], dtype=torch.bool)
    mask[:, :-1] = targets != -100
    select(mask)
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[mask[:, :-1]], reduction="none")
    return losses, mask.nonzero()[:, 0]


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose batch is a whole optimizer step, cut into micro-batches by us."""

    select: Callable[[torch.Tensor], None]
    check_first_step: Callable[[], None] | None = None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: object = None
    ) -> torch.Tensor:
        """Forward and backward of one optimizer step; returns its mean loss per trained token."""
        model.train()
        total = inputs["trained"]
        loss_sum = torch.zeros((), device=self.args.device)
        for batch in self._prepare_inputs(inputs["micro"]):
            with self.compute_loss_context_manager():
                losses, _ = token_losses(model, self.select, batch)
                loss = losses.sum() / total
            self.accelerator.backward(loss)
            loss_sum += loss.detach()
        if self.check_first_step:
            self.check_first_step()
            self.check_first_step = None
        return loss_sum

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: our batches are not the shape that the estimate expects."""
        return 0


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Reports steps, saves a checkpoint now and then, and ends the run when asked to."""

    def __init__(self, on_step: OnStep, tokens: Sequence[int], wants_stop: Callable[[], bool]) -> None:
        self.on_step, self.tokens, self.wants_stop = on_step, tokens, wants_stop
        self.validate: Callable[[int], bool] | None = None
        self.saved = time.monotonic()
        self.interrupted = False
        self.stopped_early = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save if it is time, stop if asked."""
        if self.wants_stop():
            self.interrupted = True
            control.should_save = control.should_training_stop = True
        elif state.global_step == len(self.tokens):
            control.should_save = True  # what follows is evaluation; stopped there, nothing is trained again
        elif time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            control.should_save = True
            self.saved = time.monotonic()
        if self.validate and self.validate(state.global_step):
            self.stopped_early = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Report the loss of the step."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise Problem(
                    f"the loss of step {state.global_step} is {logs['loss']}",
                    do="The learning rate is too high for this model or the numbers overflow: try --preset standard.",
                )
            done = state.global_step
            self.on_step(done, len(self.tokens), float(logs["loss"]), sum(self.tokens[:done]))


def finetune(
    base: Base,
    rows: Sequence[TrainRow],
    setting: TrainingSetting,
    *,
    seed: int,
    steps: int,
    out: Path,
    validation: Sequence[TrainRow] = (),
    on_step: OnStep = lambda *_: None,
    wants_stop: Callable[[], bool] = lambda: False,
    then: Callable[[PeftModel], None] = lambda _: None,
) -> RunResult:
    """Train one adapter for `steps` optimizer steps, save it in PEFT form to `out/adapter`, pass it to `then`.

    Resumes from the newest checkpoint below `out/checkpoints`. `wants_stop` is asked after every step; when it
    says yes a checkpoint is written and Stopped raised. `then(model)` runs with the trained adapter in place
    (evaluation). Raises BadInput where no row has a trained token, Problem where gradients do not reach the
    whole adapter.
    """
    if not any(row.trained for row in rows):
        raise BadInput("no row has a trained token", do="Look at `workbench tokens` with --audit.")
    plan = steps_of(rows, seed=seed, steps=steps, tokens_per_step=setting.tokens_per_step)
    tokens = [sum(rows[i].trained for i in step) for step in plan]
    pad_id = base.tokenizer.pad_token_id if base.tokenizer.pad_token_id is not None else 0

    def collate(items: list[dict[str, int]]) -> dict[str, Any]:
        step = plan[items[0]["step"]]
        pairs = [(rows[i].input_ids, rows[i].labels) for i in step]
        cuts = micro_batches([len(ids) for ids, _ in pairs], setting.micro_tokens)
        return {
            "micro": [padded([pairs[i] for i in cut], pad_id) for cut in cuts],
            "trained": tokens[items[0]["step"]],
        }

    checkpoints = out / "checkpoints"
    checkpoint = _whole_checkpoint(checkpoints)
    sanity: dict[str, Any] = {}
    first_step = out / "first_step.json"
    started = time.monotonic()
    with adapter(base, setting, seed) as model:
        with scored_positions(base.model) as select:
            probe = [(row.input_ids, row.labels) for row in rows[:4] if row.trained]
            sanity["step0_difference"] = _step0_difference(base, model, select, probe, pad_id)
            trainable, total = model.get_nb_trainable_parameters()
            sanity["trainable_share"] = trainable / total
            sanity["validation_before"] = mean_loss(base, model, select, validation, setting.micro_tokens)
            watch = _Watch(on_step, tokens, wants_stop)
            trainer = _Trainer(
                model=model,
                args=_arguments(base, setting, seed, len(plan), checkpoints),
                train_dataset=datasets.Dataset.from_dict({"step": list(range(len(plan)))}),
                processing_class=base.tokenizer,
                data_collator=collate,
                callbacks=[watch],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.select = select
            if checkpoint is None:
                trainer.check_first_step = lambda: _note_gradients(model, first_step)
            if setting.early_stop and validation:
                best: list[float] = [sanity["validation_before"] or float("inf")]

                def validate(step: int) -> bool:
                    """Whether validation loss has risen twice in a row, looked at eight times a run."""
                    if step % max(1, len(plan) // 8):
                        return False
                    best.append(mean_loss(base, model, select, validation, setting.micro_tokens) or 0.0)
                    model.train()
                    return len(best) > 2 and best[-1] > best[-2] > best[-3]

                watch.validate = validate
            trainer.train(resume_from_checkpoint=checkpoint)
            if watch.interrupted:
                raise Stopped("Stopped", do="The same command resumes where it was.")
            sanity |= json.loads(first_step.read_text())
            model.eval()
            sanity["validation_after"] = mean_loss(base, model, select, validation, setting.micro_tokens)
            model.save_pretrained(str(out / "adapter"))
            seconds = time.monotonic() - started
        losses = [float(log["loss"]) for log in trainer.state.log_history if "loss" in log]
        del trainer
        then(model)
    done = len(losses) if watch.stopped_early else len(plan)
    return RunResult(
        steps=done,
        trained_tokens=sum(tokens[:done]),
        seconds=seconds,
        losses=losses,
        sanity=Sanity(**sanity),
        stopped_early=watch.stopped_early,
    )


def mean_loss(
    base: Base, model: Any, select: Callable[[torch.Tensor], None], rows: Sequence[TrainRow], micro_tokens: int
) -> float | None:
    """Mean loss (nats) over all trained tokens of `rows`, or None where there are none."""
    pad_id = base.tokenizer.pad_token_id if base.tokenizer.pad_token_id is not None else 0
    total, count = 0.0, 0
    model.eval()
    for cut in micro_batches([len(row.input_ids) for row in rows], micro_tokens):
        batch = padded([(rows[i].input_ids, rows[i].labels) for i in cut], pad_id)
        batch = {key: value.to(base.device) for key, value in batch.items()}
        with torch.inference_mode(), base.autocast():
            losses, _ = token_losses(model, select, batch)
        total, count = total + float(losses.double().sum()), count + len(losses)
    return total / count if count else None


def _arguments(base: Base, setting: TrainingSetting, seed: int, steps: int, checkpoints: Path) -> SFTConfig:
    on_gpu = base.device.type == "cuda"
    return SFTConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,  # one of our batches is one optimizer step
        gradient_accumulation_steps=1,
        train_sampling_strategy="sequential",
        learning_rate=setting.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(setting.warmup * steps),  # the first of them has rate 0: a short run cannot spare it
        max_grad_norm=setting.clip,
        optim="paged_adamw_8bit" if on_gpu and base.held == "nf4-packed" else "adamw_torch",
        weight_decay=0.0,
        # TRL's own defaults assume a GPU and cut labels at 1,024 tokens without a word.
        max_length=None,
        bf16=base.dtype == "bfloat16",
        gradient_checkpointing=on_gpu,
        use_cpu=not on_gpu,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )


def _step0_difference(
    base: Base, model: PeftModel, select: Callable[[torch.Tensor], None], rows: Sequence[Any], pad_id: int
) -> float:
    """Largest difference of single rows' losses between the untouched adapter and the base (nats); 0 is right."""
    worst = 0.0
    model.eval()
    for row in rows:
        batch = {key: value.to(base.device) for key, value in padded([row], pad_id).items()}
        with torch.inference_mode(), base.autocast():
            ours, _ = token_losses(model, select, batch)
            with model.disable_adapter():
                theirs, _ = token_losses(model, select, batch)
        worst = max(worst, abs(float(ours.mean()) - float(theirs.mean())))
    return worst


def _gradients(model: PeftModel) -> dict[str, Any]:
    """Where gradients arrived after the first backward pass."""
    reached, matrices, foreign = 0, 0, 0
    for name, parameter in model.named_parameters():
        has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        if "lora_B" in name:
            matrices += 1
            reached += has
        elif "lora_" not in name:
            foreign += has
    return {"gradient_reach": reached / max(matrices, 1), "foreign_gradients": foreign}


def _note_gradients(model: PeftModel, path: Path) -> None:
    """Write where gradients arrived. Raises Problem where they miss part of the adapter or go elsewhere."""
    found = _gradients(model)
    if found["gradient_reach"] < 1.0 or found["foreign_gradients"]:
        raise Problem(
            f"gradients reached {found['gradient_reach']:.0%} of the adapter and {found['foreign_gradients']} other "
            "parameters in the first step",
            do="The run would not train what it should; try --quantize none and report the model's name.",
        )
    write_atomic(path, json.dumps(found))


def _whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; halves that a kill left behind are removed.

    transformers writes into the final folder, `trainer_state.json` last.
    """
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            whole.append((int(json.loads((path / "trainer_state.json").read_text())["global_step"]), path))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
    return str(max(whole)[1]) if whole else None
