"""Memory, speed and checkpoint size of each method of fine-tuning: what was estimated, and what a run took.

    python benchmarks/methods.py [--steps 6] [--rounds 1] [VARIANT ...]

Every variant trains SmolLM2-135M-Instruct on the same rows of the starter set in a process of its own, as an experiment
would, but for the evaluation. `estimated` is what `trainer.footprint` says before the first step, from the shape of the
model and of the batches; `peak` is the most that the process had in use from then on (its resident size; on a GPU, what
was allocated there). Seconds count the steps after the first.

Results of finished runs are kept in `benchmarks/out/methods.jsonl`; a second call goes on where it was.
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
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
OUT = Path(__file__).parent / "out" / "methods.jsonl"

VARIANTS: dict[str, tuple[dict, str, str, int]] = {
    "LoRA r=8": ({"lora_r": 8, "lora_alpha": 16}, "dense", "float32", 512),
    "LoRA r=16": ({}, "dense", "float32", 512),
    "LoRA r=64": ({"lora_r": 64, "lora_alpha": 128}, "dense", "float32", 512),
    "LoRA r=16, 256 tokens": ({}, "dense", "float32", 256),
    "LoRA r=16, 1,024 tokens": ({}, "dense", "float32", 1024),
    "LoRA r=16, bfloat16": ({}, "dense", "bfloat16", 512),
    "QLoRA r=16": ({}, "nf4-rounded", "float32", 512),
    "QLoRA r=16, packed": ({}, "nf4-packed", "float32", 512),
    "DoRA r=16": ({"method": "dora"}, "dense", "float32", 512),
    "IA3": ({"method": "peft", "peft": {"peft_type": "IA3"}}, "dense", "float32", 512),
    "full": ({"method": "full", "learning_rate": 1e-4}, "dense", "float32", 512),
    "full, bfloat16": ({"method": "full", "learning_rate": 1e-4}, "dense", "bfloat16", 512),
}
"""What is changed in the setting, how the base is held, arithmetic, and tokens of a forward pass at most."""


def one(variant: str, steps: int) -> dict:
    from trainer.base import load_base
    from trainer.chat import MaskPolicy, tokenise
    from trainer.finetune import finetune
    from trainer.plan import ModelSetting, TrainingSetting
    from trainer.schedule import TrainRow

    changed, held, dtype, micro_tokens = VARIANTS[variant]
    setting = ModelSetting(name=MODEL, quantize="none" if held == "dense" else "nf4", dtype=dtype)
    base = load_base(setting, packed=held == "nf4-packed")
    rows = []
    for number, line in enumerate((ROOT / "datasets/starter/good.jsonl").read_text(encoding="utf-8").splitlines()):
        for example in tokenise(base.tokenizer, json.loads(line)["messages"], None, MaskPolicy()).examples:
            rows.append(TrainRow(f"{number:04}", example.input_ids, example.labels))
    usual = TrainingSetting(preset="benchmark", learning_rate=1e-3, tokens_per_step=512, micro_tokens=micro_tokens)
    rows = [row for row in rows if len(row.input_ids) <= 256]  # else one long row is the largest batch of them all
    with tempfile.TemporaryDirectory() as out:
        result = finetune(base, rows, usual.model_copy(update=changed), seed=0, steps=steps, out=Path(out))
    return {
        "variant": variant,
        "steps": steps,
        "estimated": result.cost.estimated_bytes,
        "peak": result.cost.peak_bytes,
        "rate": result.cost.tokens_per_second,
        "saved": result.cost.saved_bytes,
        "share": result.sanity.trainable_share,
        "losses": [result.losses[0], result.losses[-1]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"Of {', '.join(VARIANTS)}. Default: all.")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one", metavar="VARIANT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.steps)))
        return
    OUT.parent.mkdir(exist_ok=True)
    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    results = [result for result in results if result["steps"] == options.steps]
    for done in range(options.rounds):
        for variant in options.variants or VARIANTS:
            if sum(result["variant"] == variant for result in results) > done:
                continue
            command = [sys.executable, __file__, "--one", variant, "--steps", str(options.steps)]
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
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes"))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}")
    print(f"{packages}\nSmolLM2-135M-Instruct, {options.steps} steps of 512 trained tokens, {options.rounds} rounds\n")
    print("| method | parameters trained | estimated, GB | peak, GB | estimated / peak | tokens/s | saved, MB |")
    print("|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        if not (mine := [result for result in results if result["variant"] == variant]):
            continue
        middle = {
            key: statistics.median(result[key] for result in mine)
            for key in ("estimated", "peak", "rate", "saved", "share")
        }
        print(
            f"| {variant} | {middle['share']:.1%} | {middle['estimated'] / 1e9:.2f} | {middle['peak'] / 1e9:.2f} | "
            f"{middle['estimated'] / middle['peak']:.2f} | {middle['rate']:.0f} | {middle['saved'] / 1e6:,.1f} |"
        )


if __name__ == "__main__":
    main()
