"""What does masking buy, and what does a wrong template cost? Measured with the project's own training and evaluation.

    python benchmarks/masking_value.py [--trained-tokens 6000] [--seeds 3] [--folder benchmarks/out/masking]

One model is trained on the same rows, in the same order, in equally many steps, and always evaluated with its own
chat template, as a server would ask it. The arms differ in how the rows become tokens and labels:

    answers      the model's own template; trained is what it must write
    every token  the same tokens, all of them trained
    no stop      as answers, but the stop token has no label, as where padding is masked by an id that it shares
    by hand      answers behind the headers of the Alpaca format, as many scripts write them, with the same eos token

The rows are the starter set, curated by the recipe safe-default. A run whose results are there is not repeated, and
one that was interrupted goes on from its checkpoint. Prints a Markdown table for docs/masks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ARMS = ("answers", "every token", "no stop", "by hand")
MAX_NEW_TOKENS = 96


def make_data(folder: Path) -> None:
    """`rows.parquet` and `eval.parquet`: the starter set, brought in and curated as the demo does it."""
    from workbench.demo import CURATED, bring_in, curate
    from workbench.workspace import Workspace

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        ws = Workspace.init(Path(scratch) / "ws")
        bring_in(ws)
        curate(ws)
        rows = pa.Table.from_batches(list(ws.rows(CURATED))).select(["content_hash", "messages", "tools"])
        items = ws.eval_rows("starter-eval")
        ws.close()
    pq.write_table(rows, folder / "rows.parquet")
    clusters = pa.array([str(i) for i in range(len(items))])
    pq.write_table(items.set_column(items.column_names.index("cluster"), "cluster", clusters), folder / "eval.parquet")


def make_arms(base, folder: Path, policy, max_length: int) -> dict:
    """The rows of each arm; only rows that every arm has."""
    from trainer.arms import read_arm
    from trainer.chat import IGNORED, stop_ids
    from trainer.chat.plain_formats import with_template

    path = folder / "rows.parquet"
    by_hand = replace(base, tokenizer=with_template(base.tokenizer, "alpaca"))
    answers = read_arm(base, path, policy, max_length).rows
    stops = stop_ids(base.tokenizer, base.model.generation_config)
    arms = {
        "answers": answers,
        "every token": read_arm(base, path, replace(policy, turns="full"), max_length).rows,
        "no stop": [replace(r, labels=[IGNORED if label in stops else label for label in r.labels]) for r in answers],
        "by hand": read_arm(by_hand, path, policy, max_length).rows,
    }
    shared = set.intersection(*({row.key for row in rows} for rows in arms.values()))
    return {arm: [row for row in rows if row.key in shared] for arm, rows in arms.items()}


def evaluate(base, model, items, micro_tokens: int, path: Path) -> None:
    """Write the metrics of all items to `path`; the file is there whole or not at all."""
    from trainer.answer_metrics import answer_metrics
    from trainer.evaluate import generate, reference_losses

    metrics = reference_losses(base, model, items, micro_tokens)
    metrics += answer_metrics(base, items, generate(base, model, items, MAX_NEW_TOKENS))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist([asdict(metric) for metric in metrics]), part)
    part.replace(path)


def read_metric(paths: Sequence[Path], metric: str) -> np.ndarray:
    """Runs x items."""
    rows = [[r for r in pq.read_table(path).to_pylist() if r["metric"] == metric] for path in paths]
    items = sorted({r["item"] for run in rows for r in run})
    return np.array([[{r["item"]: r["value"] for r in run}[item] for item in items] for run in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained-tokens", type=int, default=6000, help="of a run of the arm `answers`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "out" / "masking")
    options = parser.parse_args()

    warnings.simplefilter("ignore", FutureWarning)  # libraries talk to each other through these
    from trainer.arms import read_items
    from trainer.base import load_base
    from trainer.chat import MaskPolicy, configured_stops
    from trainer.evaluate import prepare
    from trainer.finetune import finetune
    from trainer.plan import SHORT, ModelSetting
    from trainer.schedule import steps_of

    folder = options.folder
    if not (folder / "eval.parquet").exists():
        make_data(folder)
    base = load_base(ModelSetting(name=options.model, quantize="none", dtype="float32"))
    policy = MaskPolicy(date="2026-01-01", stop_ids=configured_stops(base.source.path))
    items = prepare(base, read_items(folder / "eval.parquet"), policy)
    arms = make_arms(base, folder, policy, SHORT.max_length)
    steps = max(1, round(options.trained_tokens / SHORT.tokens_per_step))
    trained = {arm: sum(row.trained for row in rows) for arm, rows in arms.items()}
    results = {"untrained": [folder / "untrained" / "metrics.parquet"]}
    if not results["untrained"][0].exists():
        evaluate(base, base.model, items, SHORT.micro_tokens, results["untrained"][0])
    told = {}
    for arm, rows in arms.items():
        # As many steps over as many rows as `answers`: a step is worth the tokens that its rows have in this arm.
        per_step = round(SHORT.tokens_per_step * trained[arm] / trained["answers"])
        setting = SHORT.model_copy(update={"tokens_per_step": per_step})
        seen = steps_of(rows, seed=0, steps=steps, tokens_per_step=per_step)
        told[arm] = (sum(map(len, seen)), sum(rows[i].trained for step in seen for i in step))
        results[arm] = [folder / f"{arm.replace(' ', '-')}-{seed}" / "metrics.parquet" for seed in range(options.seeds)]
        for seed, path in enumerate(results[arm]):
            if path.exists():
                continue
            print(f"{arm}, seed {seed}: {steps} steps of {per_step} trained tokens", flush=True)
            finetune(
                base,
                rows,
                setting,
                seed=seed,
                steps=steps,
                out=path.parent,
                then=lambda model, path=path: evaluate(base, model, items, SHORT.micro_tokens, path),
            )
            shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
    report(results, told, steps, options.trained_tokens)


def report(results: dict[str, list[Path]], told: dict[str, tuple[int, int]], steps: int, budget: int) -> None:
    from trainer.verdict import DEFAULT_METRICS, decide, measure

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {packages}")
    print(f"{steps} steps; {budget} trained tokens asked for; {len(results['answers'])} seeds an arm\n")
    judged = [spec for spec in DEFAULT_METRICS if spec.role != "report"]
    names = [spec.name for spec in judged]
    print(f"| arm | rows, trained tokens (seed 0) | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for arm, paths in results.items():
        runs = {name: read_metric(paths, name) for name in names}
        cells = [f"{np.nanmean(runs[name]):.3f}" for name in names]
        seen = f"{told[arm][0]}, {told[arm][1]}" if arm in told else "-"
        print(f"| {arm} | {seen} | {' | '.join(cells)} |")
    if len(results["answers"]) < 2:
        print("\none seed an arm: no intervals")
        return
    print(f"\nChange against `answers`, with its 95% interval:\n\n| arm | {' | '.join(names)} | verdict |")
    print(f"|---|---|{'---|' * len(names)}")
    for arm in ARMS[1:]:
        pairs = [[read_metric(results[one], name) for one in ("answers", arm)] for name in names]
        verdict = decide([measure(spec, *pair) for spec, pair in zip(judged, pairs, strict=True)])
        cells = [f"{m.delta:+.3f} [{m.ci[0]:+.3f}, {m.ci[1]:+.3f}]" for m in verdict.metrics]
        print(f"| {arm} | {' | '.join(cells)} | {verdict.verdict} |")


if __name__ == "__main__":
    main()
