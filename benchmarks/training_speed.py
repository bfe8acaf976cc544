"""Trained tokens a second and peak memory: our run beside plain SFTTrainer on the same rows, model and settings.

    python benchmarks/training_speed.py [--rounds 3] [--trained-tokens 6000] [--dtype float32 bfloat16]

Every variant trains the same LoRA adapter (r 16, alpha 32, all linear layers, AdamW, cosine, same learning rate) on
the same pre-tokenised rows with the same labels, in a process of its own, in turn (A B C A B C ...), so that a
machine that slows down slows all alike. Medians are reported. `loss` is the mean loss on 24 rows that no variant
trains on, before and after. Seconds count optimizer steps alone: loading is the same for all.

Results of finished runs are kept in `benchmarks/out/training_speed.jsonl`; a second call goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from memory import peak_mb  # beside this file

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "training_speed.jsonl"
VARIANTS = ("ours", "trl packed", "trl unpacked")
TOKENS_PER_STEP = 512  # trained tokens; what a packed row of 1,024 tokens holds here


def load_rows():
    from trainer.base import load_base
    from trainer.chat import MaskPolicy, tokenise
    from trainer.plan import ModelSetting
    from trainer.schedule import TrainRow

    def prepare(dtype: str):
        base = load_base(ModelSetting(name="HuggingFaceTB/SmolLM2-135M-Instruct", quantize="none", dtype=dtype))
        rows = []
        for i, line in enumerate((ROOT / "datasets/starter/good.jsonl").read_text(encoding="utf-8").splitlines()):
            record = json.loads(line)
            for n, e in enumerate(
                tokenise(base.tokenizer, record["messages"], record.get("tools"), MaskPolicy()).examples
            ):
                rows.append(TrainRow(f"{i:04}/{n}", e.input_ids, e.labels))
        return base, rows[24:], rows[:24]

    return prepare


def ours(dtype: str, trained_tokens: int) -> dict:
    from trainer.finetune import finetune
    from trainer.plan import TrainingSetting

    base, rows, held_out = load_rows()(dtype)
    setting = TrainingSetting(
        preset="benchmark", learning_rate=5e-4, tokens_per_step=TOKENS_PER_STEP, micro_tokens=1024
    )
    moments = [time.perf_counter()]
    counted = [0]

    def on_step(step: int, steps: int, loss: float, tokens: int) -> None:
        moments.append(time.perf_counter())
        counted.append(tokens)

    with tempfile.TemporaryDirectory() as out:
        result = finetune(
            base, rows, setting, seed=0, steps=round(trained_tokens / TOKENS_PER_STEP), out=Path(out),
            validation=held_out, on_step=on_step,
        )  # fmt: skip
    # The first step warms up (and holds the run's checks); it is left out for every variant.
    return {
        "tokens": counted[-1] - counted[1],
        "seconds": moments[-1] - moments[1],
        "before": result.sanity.validation_before,
        "after": result.sanity.validation_after,
    }


def trl(dtype: str, trained_tokens: int, packed: bool) -> dict:
    from trainer.quantize import bitsandbytes

    bitsandbytes()
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from trainer.losses import mean_loss, scored_positions
    from trainer.schedule import seeded_order

    base, rows, held_out = load_rows()(dtype)
    order = [rows[i] for epoch in range(9) for i in seeded_order([r.key for r in rows], 0, epoch)]
    chosen, total = [], 0
    for row in order:
        if total >= trained_tokens:
            break
        chosen.append(row)
        total += row.trained
    per_step = 8  # rows: the batch of the plain trainer; about as many trained tokens as a packed row
    set_seed(0)
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=1,
        per_device_train_batch_size=1 if packed else per_step,
        packing=packed,
        max_length=1024 if packed else None,
        train_sampling_strategy="sequential",
        learning_rate=5e-4,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        bf16=dtype == "bfloat16",
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        seed=0,
        dataloader_pin_memory=False,
    )
    data = datasets.Dataset.from_dict(
        {"input_ids": [list(r.input_ids) for r in chosen], "labels": [list(r.labels) for r in chosen]}
    )
    moments = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            moments.append(time.perf_counter())

    with scored_positions(base.model) as select:
        before = mean_loss(base, base.model, select, held_out, 2048)
    trainer = SFTTrainer(
        model=base.model,
        args=args,
        train_dataset=data,
        processing_class=base.tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        callbacks=[Clock()],
    )
    trainer.train()
    first = trainer.train_dataset[: 1 if packed else per_step]["labels"]
    skipped = sum(label != -100 for labels in first for label in labels[1:])
    with scored_positions(base.model) as select:
        after = mean_loss(base, trainer.model, select, held_out, 2048)
    return {"tokens": total - skipped, "seconds": moments[-1] - moments[0], "before": before, "after": after}


def one(variant: str, dtype: str, trained_tokens: int) -> dict:
    result = ours(dtype, trained_tokens) if variant == "ours" else trl(dtype, trained_tokens, "unpacked" not in variant)
    return {
        "variant": variant,
        "dtype": dtype,
        "asked": trained_tokens,
        **result,
        "rate": round(result["tokens"] / result["seconds"], 1),
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trained-tokens", type=int, default=6000)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, options.trained_tokens)))
        return
    OUT.parent.mkdir(exist_ok=True)
    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    results = [r for r in results if r["asked"] == options.trained_tokens]
    for done in range(options.rounds):
        for dtype in options.dtype:
            for variant in VARIANTS:
                if sum((r["variant"], r["dtype"]) == (variant, dtype) for r in results) > done:
                    continue
                command = [
                    sys.executable, __file__, "--one", variant, dtype, "--trained-tokens", str(options.trained_tokens),
                ]  # fmt: skip
                environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
                run = subprocess.run(command, capture_output=True, env=environment, check=False)
                if run.returncode:
                    sys.exit(run.stderr.decode()[-2000:])
                results.append(json.loads(run.stdout.splitlines()[-1]))
                with OUT.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
                print(json.dumps(results[-1]), file=sys.stderr)
    report(results, options)


def report(results: list[dict], options: argparse.Namespace) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    tokens = f"{options.trained_tokens:,} trained tokens"
    print(f"SmolLM2-135M-Instruct, LoRA r 16, {tokens}, {options.rounds} rounds, medians\n")
    print("| arithmetic | variant | trained tokens/s | ratio to TRL packed | peak memory, MB | held-out loss |")
    print("|---|---|---|---|---|---|")
    for dtype in options.dtype:

        def median(variant: str, key: str, dtype: str = dtype) -> float:
            return statistics.median(r[key] for r in results if (r["variant"], r["dtype"]) == (variant, dtype))

        for variant in VARIANTS:
            rate, packed = median(variant, "rate"), median("trl packed", "rate")
            loss = f"{median(variant, 'before'):.3f} → {median(variant, 'after'):.3f}"
            numbers = f"{rate:.0f} | {rate / packed:.2f} | {median(variant, 'peak_mb'):,.0f}"
            print(f"| {dtype} | {variant} | {numbers} | {loss} |")


if __name__ == "__main__":
    main()
