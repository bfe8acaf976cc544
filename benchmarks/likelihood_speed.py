"""Likelihood of answers, tokens a second: ours beside two plain loops of transformers on the same rows.

    python benchmarks/likelihood_speed.py [--rows 120] [--rounds 3] [--data FILE]

`one by one` is the loop of most published IFD scripts: a row a forward pass, the model's own loss over labels.
`padded` puts 8 rows in the order of the file into a batch, as a DataLoader does. Ours is `trainer.likelihood`. All take
the same token ids and labels, in float32, alternately in one process; the losses must agree. Tokens are those of whole
rows, padding not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import transformers

from trainer.base import Base, load_base
from trainer.chat import MaskPolicy, fit, tokenise_many
from trainer.likelihood import answer_losses
from trainer.models import DEFAULT_MODEL
from trainer.plan import ModelSetting

POLICY = MaskPolicy(date="2025-01-01")
LONGEST = 1024
BATCH = 8
STARTER = Path(__file__).parents[1] / "datasets/starter/raw.jsonl"

Sequence = tuple[list[int], list[int]]


def conversations(path: Path, rows: int) -> list[list[dict[str, str]]]:
    """The first `rows` rows of a file of messages, or of instruction, input and output."""
    text = path.read_text(encoding="utf-8")
    loaded = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    found = []
    for row in loaded:
        if messages := row.get("messages"):
            found.append(messages)
            continue
        prompt = "\n".join(filter(None, [row.get("instruction") or row.get("prompt"), row.get("input")]))
        answer = row.get("output") or row.get("response") or row.get("completion") or ""
        if prompt and answer:
            found.append([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}])
    return found[:rows]


def one_by_one(base: Base, rows: list[Sequence]) -> list[float]:
    losses = []
    for ids, labels in rows:
        with torch.inference_mode():
            out = base.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), use_cache=False)
        losses.append(float(out.loss))
    return losses


def padded(base: Base, rows: list[Sequence]) -> list[float]:
    losses = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in batch])
        labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in batch])
        with torch.inference_mode():
            logits = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none"
        )
        losses += (each.sum(1) / (labels[:, 1:] != -100).sum(1)).tolist()
    return losses


def ours(base: Base, rows: list[list[dict[str, str]]]) -> list[float]:
    found = dict(
        answer_losses(base, POLICY, ((row, None) for row in rows), alone=False, max_length=LONGEST, micro_tokens=2048)
    )
    return [found[i].loss or 0.0 for i in range(len(rows))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=STARTER)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    asked = parser.parse_args()
    base = load_base(ModelSetting(name=asked.model, quantize="none", device="cpu", dtype="float32"))
    talks = conversations(asked.data, asked.rows)
    rows: list[Sequence] = []
    kept = []
    for talk, done in zip(talks, tokenise_many(base.tokenizer, ((t, None) for t in talks), POLICY), strict=True):
        fitted = fit(base.tokenizer, done, talk, None, POLICY, LONGEST, "drop")
        if len(fitted.examples) == 1 and any(fitted.examples[0].trained[1:]):
            rows.append((list(fitted.examples[0].input_ids), list(fitted.examples[0].labels)))
            kept.append(talk)
    tokens = sum(len(ids) for ids, _ in rows)
    print(f"{len(rows)} rows, {tokens} tokens; torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads")
    subjects = {
        "one by one": lambda: one_by_one(base, rows),
        "padded": lambda: padded(base, rows),
        "ours": lambda: ours(base, kept),
    }
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    results: dict[str, list[float]] = {}
    for _ in range(asked.rounds):
        for name, work in subjects.items():
            started = time.perf_counter()
            results[name] = work()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        off = max(abs(a - b) for a, b in zip(results[name], results["one by one"], strict=True))
        print(f"{name:<11} {tokens / median:8,.0f} tokens/s   {medians['one by one'] / median:.2f}x   off by {off:.1e}")


if __name__ == "__main__":
    main()
