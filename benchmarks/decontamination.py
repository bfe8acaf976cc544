"""Decontamination: seconds for `decontaminate` over real rows against real prompts, and what it finds.

    python benchmarks/decontamination.py [--rows 60000] [--rounds 3]

The rows are those of the shared data, as often as it takes, each round of them with other words at the end. The prompts
are IFEval's, MT-bench's and some of the rows' own, which must all be found: 800 in all.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
from memory import peak_mb  # beside this file

from filters.pipeline import run
from filters.recipe import parse_recipe
from trainer.conversation import canonical_json, content_hash

SHARED = Path(__file__).parents[1] / "../shared/data"
FILES = (
    "prompt_completion/gsm8k_train.jsonl",
    "alpaca/alpaca_en.json",
    "alpaca/alpaca_zh.json",
    "alpaca/codegen_instruct.json",
    "alpaca/roleplay_instruct.json",
    "near_duplicates/toolformer_exact_deduped.json",
)
PROMPTS = 800


def records(name: str) -> list[dict[str, str]]:
    text = (SHARED / name).read_text(encoding="utf-8")
    loaded: list[dict[str, str]] = (
        json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    )
    return loaded


def pairs() -> list[tuple[str, str]]:
    found = []
    for name in FILES:
        for row in records(name):
            prompt = row.get("question") or "\n".join(filter(None, [row.get("instruction"), row.get("input")]))
            answer = row.get("answer") or row.get("output") or row.get("response") or row.get("text") or ""
            if prompt or answer:
                found.append((str(prompt or "Go on."), str(answer)))
    return found


def rows(count: int) -> pa.Table:
    real = pairs()
    messages = []
    for i in range(count):
        prompt, answer = real[i % len(real)]
        again = f" (again, {i})" if i >= len(real) else ""
        messages.append(talk(prompt + again, answer))
    return table(messages)


def talk(prompt: str, answer: str) -> str:
    return canonical_json([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}])


def table(messages: list[str]) -> pa.Table:
    count = len(messages)
    return pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "content_hash": [content_hash(text) for text in messages],
            "messages": messages,
            "tools": pa.array([None] * count, pa.string()),
            "source": ["shared"] * count,
            "category": pa.array([None] * count, pa.string()),
        }
    )


def eval_prompts() -> list[str]:
    known = [str(row["prompt"]) for row in records("eval/ifeval_prompts.jsonl")]
    known += [
        "\n".join(row.get("turns") or row.get("prompt") or []) for row in records("eval/mt_bench_questions.jsonl")
    ]
    own = [prompt for prompt, _ in islice(pairs(), 0, None, 29)]
    return known + own[: PROMPTS - len(known)]


def batches(of: pa.Table) -> Iterator[pa.RecordBatch]:
    return iter(of.to_batches(max_chunksize=4096))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    data, prompts = rows(asked.rows), eval_prompts()
    items = table([talk(prompt, "-") for prompt in prompts])
    recipe = parse_recipe("steps:\n  - decontaminate: {against: [gold], max_drop: 1}\n")
    seconds = []
    for _ in range(asked.rounds):
        started = time.perf_counter()
        (outcome,) = run(recipe, lambda: batches(data), items=lambda _: lambda: batches(items))
        seconds.append(time.perf_counter() - started)
    planted = len(prompts) - sum(len(records(f"eval/{n}.jsonl")) for n in ("ifeval_prompts", "mt_bench_questions"))
    named = {drop.detail.split(" of item ")[1].split(" ")[0] for drop in outcome.drops if drop.detail}
    print(
        f"{data.num_rows} rows against {len(prompts)} prompts: {statistics.median(seconds):.1f} s, {peak_mb()} MB peak"
    )
    found = len(named & {str(len(prompts) - 1 - i) for i in range(planted)})
    print(f"{len(outcome.drops)} rows dropped; of {planted} planted prompts {found} are named; {platform.machine()}")
    for drop in [drop for drop in outcome.drops if (drop.score or 0) < 1][:12]:
        print("  ", drop.detail)


if __name__ == "__main__":
    main()
