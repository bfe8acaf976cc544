"""One fine-tuning run: TRL's SFTTrainer fed with our labels, our schedule, and logits only where they are trained.

TRL brings the loop, the optimizer, mixed precision, checkpoints and resume. What it lacks is added here: an
optimizer step made of rows that are matched in trained tokens across arms, cut into micro-batches of like
length, whose loss is the mean over all trained tokens of the step however it was cut, also where several processes
take their share of its rows.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import processes
from trainer.base import Base
from trainer.errors import BadInput, Problem, Stopped
from trainer.footprint import footprint, give_back, loaded_shape, peak_bytes, reset_peak
from trainer.losses import Select, mean_loss, padded, scored_positions, token_losses
from trainer.methods import trainable, trainable_share
from trainer.plan import TrainingSetting
from trainer.protocol import write_atomic
from trainer.quantize import bitsandbytes
from trainer.sanity import Sanity, note_gradients, step0_difference
from trainer.schedule import TrainRow, cut_to_steps, epochs_in_steps, micro_batches, steps_of

bitsandbytes()  # before peft and trl, which import it without our guard

import datasets  # noqa: E402
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import PrinterCallback, TrainerCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

CHECKPOINT_SECONDS = 60.0
"""A killed run loses at most this much training."""

OnStep = Callable[[int, int, float, int], None]
"""`on_step(step, steps, loss, trained_tokens_so_far)`, after every optimizer step."""


@dataclass(frozen=True)
class Cost:
    """What training took: trained tokens a second (None of a single step), the most memory in use meanwhile and what
    was estimated before, and what was saved, in bytes. See `trainer.footprint`.
    """

    tokens_per_second: float | None
    peak_bytes: int
    estimated_bytes: int | None
    saved_bytes: int


@dataclass
class RunResult:
    """What a finished run tells: `losses` per optimizer step, nats per trained token."""

    steps: int
    trained_tokens: int
    seconds: float
    losses: list[float]
    sanity: Sanity
    cost: Cost
    stopped_early: bool = False


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose batch is a whole optimizer step, cut into micro-batches by us."""

    select: Select
    check_first_step: Callable[[], None] | None = None

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: object = None
    ) -> torch.Tensor:
        """Forward and backward of one optimizer step; returns its mean loss per trained token."""
        model.train()
        loss_sum = torch.zeros((), device=self.args.device)
        batches = self._prepare_inputs(inputs["micro"])
        for number, batch in enumerate(batches, 1):
            # Processes have unlike numbers of micro-batches; they meet once a step, in the last one.
            with contextlib.nullcontext() if number == len(batches) else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    losses, _ = token_losses(model, self.select, batch)
                    loss = losses.sum() / inputs["tokens"]
                self.accelerator.backward(loss)
            loss_sum += loss.detach()
        if self.check_first_step:
            self.check_first_step()
            self.check_first_step = None
        return loss_sum

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: our batches are not the shape that the estimate expects."""
        return 0


class _Schedule:
    """A run's optimizer steps: which rows, how many trained tokens, and each step as micro-batches."""

    def __init__(
        self,
        rows: Sequence[TrainRow],
        setting: TrainingSetting,
        seed: int,
        steps: int,
        epochs: int | None,
    ) -> None:
        if not any(row.trained for row in rows):
            raise BadInput("no row has a trained token", do="Look at `workbench tokens` with --audit.")
        self._rows = rows if epochs else cut_to_steps(rows, setting.tokens_per_step)
        self._micro_tokens = setting.micro_tokens
        if epochs is None:
            self._steps = steps_of(self._rows, seed=seed, steps=steps, tokens_per_step=setting.tokens_per_step)
        else:
            self._steps = epochs_in_steps(rows, seed=seed, epochs=epochs, steps=steps)
        self.tokens = [sum(self._rows[i].trained for i in step) for step in self._steps]

    def largest(self) -> tuple[int, int]:
        """The most tokens that a forward pass has, with its padding, and the most that are trained."""
        tokens, trained = 0, 0
        for step in self._steps:
            rows = [self._rows[i] for i in step]
            for cut in micro_batches([len(row.input_ids) for row in rows], self._micro_tokens):
                tokens = max(tokens, len(cut) * max(len(rows[i].input_ids) for i in cut))
                trained = max(trained, sum(rows[i].trained for i in cut))
        return tokens, trained

    def collate(self, items: list[dict[str, int]]) -> dict[str, Any]:
        """The batch of one step, or of a process's part of it: what our trainer's `training_step` takes."""
        [item] = items
        rows = sorted((self._rows[i] for i in self._steps[item["step"]]), key=lambda row: len(row.input_ids))
        mine = rows[item["part"] :: processes.count()]
        # PyTorch averages gradients over processes, as if each had as many tokens; we want the mean over all tokens.
        tokens = self.tokens[item["step"]] / processes.count()
        if not mine:  # a step of fewer rows than processes: this one takes part, and adds nothing
            mine, tokens = rows[:1], math.inf
        pairs = [(row.input_ids, row.labels) for row in mine]
        cuts = micro_batches([len(ids) for ids, _ in pairs], self._micro_tokens)
        return {"micro": [padded([pairs[i] for i in cut]) for cut in cuts], "tokens": tokens}

    def parts(self, steps: int) -> datasets.Dataset:
        """The first `steps` steps as a data set, with an item for each process, which it is dealt in turn."""
        count = processes.count()
        return datasets.Dataset.from_dict(
            {"step": [step for step in range(steps) for _ in range(count)], "part": list(range(count)) * steps}
        )


class _EarlyStop:
    """Validation loss, looked at eight times a run; its history outlives the process, as the checkpoint does."""

    LOOKS = 8

    def __init__(self, path: Path, before: float | None, loss: Callable[[], float | None]) -> None:
        self._path, self._loss = path, loss
        self._seen: dict[str, float] = json.loads(path.read_text()) if path.exists() else {"0": before or 0.0}

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the loss has risen twice in a row, the second time at `step`."""
        if step % max(1, steps // self.LOOKS):
            return False
        self._seen[str(step)] = self._loss() or 0.0
        write_atomic(self._path, json.dumps(self._seen))
        return self.was_due(step)

    def was_due(self, step: int) -> bool:
        """Whether `step` was looked at before and found to be the end."""
        seen = [loss for at, loss in self._seen.items() if int(at) <= step]
        return str(step) in self._seen and len(seen) > 2 and seen[-1] > seen[-2] > seen[-3]


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Reports steps, saves a checkpoint now and then, and ends the run when asked to."""

    def __init__(self, on_step: OnStep, tokens: Sequence[int], wants_stop: Callable[[], bool]) -> None:
        self.on_step, self.tokens, self.wants_stop = on_step, tokens, wants_stop
        self.early_stop: _EarlyStop | None = None
        self.saved = time.monotonic()
        self.steps: list[tuple[float, int]] = []
        self.interrupted = False
        self.stopped_early = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save if it is time, stop if asked; all processes alike."""
        give_back(args.device)
        rises = bool(
            processes.is_first() and self.early_stop and self.early_stop.is_due(state.global_step, len(self.tokens))
        )
        old = time.monotonic() - self.saved > CHECKPOINT_SECONDS
        stop, old, rises = processes.any_of(self.wants_stop(), old, rises)
        if stop:
            self.interrupted = True
            control.should_save = control.should_training_stop = True
        elif state.global_step == len(self.tokens):
            control.should_save = True  # what follows is evaluation; stopped there, nothing is trained again
        elif old:
            control.should_save = True
            self.saved = time.monotonic()
        if rises:
            self.stopped_early = True
            control.should_save = control.should_training_stop = True

    @property
    def tokens_per_second(self) -> float | None:
        """Trained tokens a second after the first step that this process made, which warms up."""
        if len(self.steps) < 2:
            return None
        (begun, before), (ended, after) = self.steps[0], self.steps[-1]
        return (after - before) / max(ended - begun, 1e-6)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Report the loss of the step."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise Problem(
                    f"the loss of step {state.global_step} is {logs['loss']}",
                    do="The learning rate is too high for this model or the numbers overflow: try --preset standard.",
                )
            done = state.global_step
            self.steps.append((time.monotonic(), sum(self.tokens[:done])))
            self.on_step(done, len(self.tokens), float(logs["loss"]), sum(self.tokens[:done]))


def finetune(
    base: Base,
    rows: Sequence[TrainRow],
    setting: TrainingSetting,
    *,
    seed: int,
    steps: int,
    epochs: int | None = None,
    out: Path,
    validation: Sequence[TrainRow] = (),
    on_step: OnStep = lambda *_: None,
    wants_stop: Callable[[], bool] = lambda: False,
    then: Callable[[Any], None] = lambda _: None,
) -> RunResult:
    """Train for `steps` optimizer steps, save to `out/adapter` what was trained, pass the model to `then`.

    That is an adapter in PEFT form or, where all weights were trained, a model folder. With `epochs` the steps are so
    many passes over the rows, whatever their size comes to. Resumes from the newest checkpoint below
    `out/checkpoints`. `wants_stop` is asked after every step; when it says yes a checkpoint is written and Stopped
    raised. `then(model)` runs with what was trained in place (evaluation). Raises BadInput where no row has a trained
    token or the method does not go with the model, Problem where gradients do not reach what is trained.
    """
    schedule = _Schedule(rows, setting, seed, steps, epochs)
    checkpoints, first_step = out / "checkpoints", out / "first_step.json"
    checkpoint = processes.from_first(_whole_checkpoint(checkpoints) if processes.is_first() else None)
    watch = _Watch(on_step, schedule.tokens, wants_stop)
    started = time.monotonic()
    estimated = _estimate(base, setting, schedule)
    reset_peak(base.device)
    whole = not processes.sharded()  # else no process can use the model for itself, before or after
    with trainable(base, setting, seed) as model:
        step0 = step0_difference(base, model, [row for row in rows[:4] if row.trained]) if whole else None
        with scored_positions(model) as select:

            def validation_loss() -> float | None:
                return mean_loss(base, model, select, validation, setting.micro_tokens) if whole else None

            sanity: dict[str, Any] = {
                "step0_difference": step0,
                "trainable_share": trainable_share(model),
                "validation_before": validation_loss(),
            }
            last = steps
            if setting.early_stop and validation and whole:
                watch.early_stop = _EarlyStop(out / "validation.json", sanity["validation_before"], validation_loss)
                if checkpoint and watch.early_stop.was_due(_step_of(checkpoint)):  # stopped again in its evaluation
                    last, watch.stopped_early = _step_of(checkpoint), True
            trainer = _Trainer(
                model=model,
                args=_arguments(base, setting, seed, last, checkpoints),
                train_dataset=schedule.parts(last),
                processing_class=base.tokenizer,
                data_collator=schedule.collate,
                callbacks=[watch],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.select = select
            if checkpoint is None and whole:
                trainer.check_first_step = lambda: note_gradients(model, first_step)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if watch.interrupted:
                raise Stopped("Stopped", do="The same command resumes where it was.")
            unknown = {"gradient_reach": None, "foreign_gradients": None}
            sanity |= json.loads(first_step.read_text()) if whole else unknown
            sanity["validation_after"] = validation_loss()
            peak = peak_bytes(base.device)
            if whole:
                saved_bytes = _save(base, model, out / "adapter") if processes.is_first() else 0
            else:
                trainer.save_model(str(out / "adapter"))  # all processes bring their parts
                saved_bytes = _size(out / "adapter") if processes.is_first() else 0
            saved_bytes = processes.from_first(saved_bytes)
            seconds = time.monotonic() - started
        losses = [float(log["loss"]) for log in trainer.state.log_history if "loss" in log]
        del trainer
        then(model)
    done = len(losses) if watch.stopped_early else steps
    return RunResult(
        steps=done,
        trained_tokens=sum(schedule.tokens[:done]),
        seconds=seconds,
        losses=losses,
        sanity=Sanity(**sanity),
        cost=Cost(watch.tokens_per_second, peak, estimated, saved_bytes),
        stopped_early=watch.stopped_early,
    )


def _estimate(base: Base, setting: TrainingSetting, schedule: _Schedule) -> int | None:
    """The memory that the run will take, in bytes; None for a model whose weights are named in no known way."""
    on_gpu = base.device.type == "cuda"
    shape = loaded_shape(base.model)
    if shape is None:
        return None
    tokens, trained = schedule.largest()
    bits16 = base.dtype == "bfloat16"
    found = footprint(shape, setting, held=base.held, bits16=bits16, tokens=tokens, trained=trained, on_gpu=on_gpu)
    return found.total


def _save(base: Base, model: Any, folder: Path) -> int:
    """Write what was trained and return its size in bytes; a whole model gets its tokenizer, to be used alone."""
    model.save_pretrained(str(folder))
    if not isinstance(model, PeftModel):
        base.tokenizer.save_pretrained(str(folder))
    return _size(folder)


def _size(folder: Path) -> int:
    """The bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


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
        ddp_find_unused_parameters=False,
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


def _step_of(checkpoint: Path) -> int:
    return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])


def _whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; halves that a kill left behind are removed.

    transformers writes into the final folder, `trainer_state.json` last.
    """
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            whole.append((_step_of(path), path))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
    return max(whole)[1] if whole else None
