"""How far apart are runs on the same data, and how far are real differences? What the defaults are chosen by.

    python benchmarks/seeds.py [--trained-tokens 6000] [--seeds 4 3 2] [--folder benchmarks/out/seeds]

Trains the starter set in three forms, each with so many seeds: `raw` as it came, `curated` by the recipe
safe-default, and `shuffled`: the curated rows with their answers dealt out among the prompts. Then takes the runs
apart again: what would a comparison have said with one, two, three or four seeds, on the same data and on other?

It is a job folder like any other (`trainer.protocol`): interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.conversation import canonical_json, content_hash
from trainer.plan import SHORT, Budget, Evaluation, ExperimentPlan, ModelSetting, PolicySetting, Run
from trainer.statistics import estimate_noise_floor
from trainer.verdict import DEFAULT_METRICS, decide, measure

JUDGED = [spec for spec in DEFAULT_METRICS if spec.role != "report"]

ROOT = Path(__file__).parent.parent
ARMS = ("raw", "curated", "shuffled")


def write_arm(path: Path, rows: list[tuple[str, str | None]]) -> None:
    columns = {
        "content_hash": [content_hash(messages, tools) for messages, tools in rows],
        "messages": [messages for messages, _ in rows],
        "tools": [tools for _, tools in rows],
    }
    pq.write_table(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), path)


def make_folder(folder: Path, trained_tokens: int, seeds: list[int]) -> None:
    from workbench.demo import CURATED, RAW, bring_in, curate
    from workbench.workspace import Workspace

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        ws = Workspace.init(Path(scratch) / "ws")
        bring_in(ws)
        curate(ws)
        forms = {}
        for arm, name in (("raw", RAW), ("curated", CURATED)):
            forms[arm] = [(row["messages"], row["tools"]) for batch in ws.rows(name) for row in batch.to_pylist()]
        items = ws.eval_rows("starter-eval")
        ws.close()
    conversations = [json.loads(messages) for messages, _ in forms["curated"]]
    answers = [conversation[-1] for conversation in conversations]
    random.Random(0).shuffle(answers)
    forms["shuffled"] = [
        (canonical_json([*conversation[:-1], answer]), tools)
        for conversation, answer, (_, tools) in zip(conversations, answers, forms["curated"], strict=True)
    ]
    for arm, rows in forms.items():
        write_arm(folder / f"{arm}.parquet", rows)
    clusters = pa.array([str(i) for i in range(len(items))])
    pq.write_table(items.set_column(items.column_names.index("cluster"), "cluster", clusters), folder / "eval.parquet")
    plan = ExperimentPlan(
        model=ModelSetting(name="HuggingFaceTB/SmolLM2-135M-Instruct", quantize="nf4"),
        policy=PolicySetting(date="2026-01-01"),
        training=SHORT,
        budget=Budget(trained_tokens=trained_tokens),
        arms={arm: f"{arm}.parquet" for arm in ARMS},
        runs=[
            Run(id=f"{arm}-{seed}", arm=arm, seed=seed)
            for seed in range(max(seeds))
            for arm, count in zip(ARMS, seeds, strict=True)
            if seed < count
        ],
        evaluation=Evaluation(max_new_tokens=64),
    )
    (folder / "plan.json").write_text(plan.model_dump_json(indent=1))


def run_tables(runs: Sequence[Path], items: int) -> dict[str, np.ndarray]:
    """For each metric, runs x items. `runs` are the folders of their results."""
    found: dict[str, np.ndarray] = {}
    for r, run in enumerate(runs):
        for row in pq.read_table(run / "metrics.parquet").to_pylist():
            table = found.setdefault(row["metric"], np.full((len(runs), items), np.nan))
            table[r, row["item"]] = row["value"]
    return found


def tables(folder: Path, runs: list[str]) -> dict[str, np.ndarray]:
    """The same of runs by their ids."""
    items = pq.read_metadata(folder / "eval.parquet").num_rows
    return run_tables([folder / "results" / run for run in runs], items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained-tokens", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs=3, default=[4, 3, 2], help="seeds of raw, curated, shuffled")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "out" / "seeds")
    options = parser.parse_args()
    if not (options.folder / "plan.json").exists():
        make_folder(options.folder, options.trained_tokens, options.seeds)
    code = subprocess.run([sys.executable, "-m", "trainer", str(options.folder)], check=False).returncode
    if code:
        sys.exit(f"the job ended with {code}; see {options.folder}/log.txt")
    report(options.folder)


def report(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    budget = json.loads((folder / "budget.json").read_text())
    runs = {arm: tables(folder, [run["id"] for run in plan["runs"] if run["arm"] == arm]) for arm in ARMS}
    counts = {arm: len(runs[arm]["response_nll"]) for arm in ARMS}
    base = tables(folder, ["base"])
    summaries = [json.loads((folder / "results" / r["id"] / "summary.json").read_text()) for r in plan["runs"]]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {budget['dtype']}, {packages}")
    print(f"{budget['steps']} steps of {budget['training']['tokens_per_step']} trained tokens")
    wall = sorted(s["wall_seconds"] for s in summaries)
    peak = max(s["peak_mb"] for s in summaries)
    print(f"a run with its evaluation: median {wall[len(wall) // 2]:.0f} s; peak memory of all runs {peak} MB\n")
    print("| metric | base | " + " | ".join(ARMS) + " | sd between seeds (raw) | raw, seed by seed |")
    print("|---|---|---|---|---|---|---|")
    for spec in JUDGED:
        means = [float(np.nanmean(base[spec.name])), *(float(np.nanmean(runs[arm][spec.name])) for arm in ARMS)]
        by_seed = np.nanmean(runs["raw"][spec.name], axis=1)
        shown = ", ".join(f"{value:.3f}" for value in by_seed)
        print(f"| {spec.name} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {by_seed.std(ddof=1):.4f} | {shown} |")
    for baseline, candidate in (("raw", "raw"), ("raw", "curated"), ("curated", "shuffled")):
        print(f"\n{candidate} against {baseline}:\n")
        print("| seeds an arm | comparisons | mean change of NLL | smallest found | verdicts |")
        print("|---|---|---|---|---|")
        seeds = min(counts[baseline], counts[candidate])
        for count in range(1, seeds + 1):
            line = outcomes(runs, baseline, candidate, count, seeds)
            if line:
                print(line)


def outcomes(runs: dict, baseline: str, candidate: str, count: int, n: int) -> str | None:
    """The verdicts of all comparisons with `count` seeds an arm that the runs allow, as a table row."""
    deltas, mdes, verdicts = [], [], []
    for first in itertools.combinations(range(n), count):
        second = first
        if baseline == candidate:
            # The same data needs other seeds on the other side, and each split of the seeds once.
            rest = [seed for seed in range(n) if seed not in first]
            if len(rest) < count or first > tuple(rest[:count]):
                continue
            second = tuple(rest[:count])
        measured = []
        for spec in JUDGED:
            a, b = runs[baseline][spec.name][list(first)], runs[candidate][spec.name][list(second)]
            noise = None
            if count == 1:
                # What the product does: this seed's run and one more of the same baseline.
                pair = [first[0], next(seed for seed in range(n + 1) if seed not in (*first, *second))]
                noise = estimate_noise_floor(runs["raw"][spec.name][pair], yes_no=spec.yes_no)
            measured.append(measure(spec, a, b, noise=noise))
        verdict = decide(measured)
        verdicts.append(verdict.verdict)
        deltas.append(verdict.metrics[0].delta)
        mdes.append(verdict.metrics[0].mde)
    if not verdicts:
        return None
    told = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
    return f"| {count} | {len(verdicts)} | {np.mean(deltas):+.4f} | {np.median(mdes):.3f} | {told} |"


if __name__ == "__main__":
    main()
