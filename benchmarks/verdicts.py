"""Do verdicts follow the truth? Data whose truth is known is compared, again and again.

    python benchmarks/verdicts.py PAIRS.json [--trained-tokens 2560] [--seeds 3] [--pairs 8]
    python benchmarks/verdicts.py --report          only the tables, of what was measured so far

PAIRS.json holds good pairs (any file that `workbench import` reads). A recipe leaves the short ones, some are held out,
and the rest is the version `clean`. Of it are made: versions in which a share of the prompts got the answer of another
of them (the shares are nested: whoever got a wrong answer at 10% has it at 25%, too), and one with every answer cut in
half. Each is compared with `clean` as `workbench compare` does it. Then A/A: `clean` against itself with other seeds.
What would have been said had only some of these runs been made?

Everything lies in a workspace of its own: interrupted, the same command goes on where it was; no run is made twice.
Each finished comparison is a line of `verdicts.jsonl`.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from seeds import run_tables

from trainer.plan import PolicySetting
from trainer.statistics import estimate_noise_floor, pool_noise_floors
from trainer.verdict import decide, measure, specs_for
from workbench import experiments, outcomes
from workbench.errors import Problem
from workbench.experiments import Question
from workbench.store.experiments import find_experiment
from workbench.workspace import Workspace

OUT = Path(__file__).parent / "out"
EVALSET = "held"
DOSES = (10, 25, 50, 100)
HALVES = "halves"
DRAWS = 200

Sides = tuple[list[Path], list[Path]]

# Short rows, so that a run of a minute sees many of them.
RECIPE = """\
steps:
  - exact: {on: prompt}
  - length: {on: prompt, max_words: 40, max_drop: 0.95}
  - length: {on: response, min_words: 5, max_words: 60, max_drop: 0.95}
  - cut-off
"""


def prepare(folder: Path, pairs: Path, items: int) -> None:
    """Make the workspace with its versions and the eval set; what is there already stays."""
    ws = Workspace.init(folder / "ws")
    try:
        recipe = folder / "short-pairs.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        ws.import_file(pairs, name="pairs")
        ws.run_recipe(recipe, ["pairs"], "good")
        ws.hold_out("good", EVALSET, items)
        ws.freeze("good", "clean", without=[EVALSET])
        rows = [json.loads(text) for batch in ws.rows("clean") for text in batch.column("messages").to_pylist()]
        for name, conversations in forms(rows).items():
            path = folder / f"{name}.jsonl"
            text = "".join(json.dumps({"messages": messages}) + "\n" for messages in conversations)
            path.write_text(text, encoding="utf-8")
            ws.import_file(path, name=f"{name}-rows")
            ws.freeze(f"{name}-rows", name)
        print(f"{len(rows)} rows to train on, {items} held out", file=sys.stderr)
    finally:
        ws.close()


def forms(rows: Sequence[list[dict]]) -> dict[str, list[list[dict]]]:
    """The damaged versions of good conversations, by name."""
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    found = {}
    for dose in DOSES:
        hit = order[: round(len(rows) * dose / 100)]
        answers = {i: rows[other][-1] for i, other in zip(hit, [*hit[1:], *hit[:1]], strict=True)}
        found[f"wrong-{dose}"] = [[*row[:-1], answers.get(i, row[-1])] for i, row in enumerate(rows)]
    found[HALVES] = [[*row[:-1], row[-1] | {"content": half(row[-1]["content"])}] for row in rows]
    return found


def half(answer: str) -> str:
    """The first half of an answer, by words."""
    words = answer.split(" ")
    return " ".join(words[: max(1, len(words) // 2)])


def question(candidate: str, seeds: int, options: argparse.Namespace) -> Question:
    return Question(
        "clean",
        candidate,
        evalset=EVALSET,
        quantize="none",
        seeds=seeds,
        trained_tokens=options.trained_tokens,
        # Without the system turn that the model's own template writes above every row: a third fewer tokens.
        policy=PolicySetting(template=options.template),
        max_new_tokens=options.max_new_tokens,
    )


def compare(folder: Path, asked: Question, record: Path) -> None:
    """Make one comparison, or go on with it, and append its result to `record`."""
    started = time.monotonic()
    ws = Workspace.open(folder / "ws")
    try:
        planned = experiments.plan(ws, asked)
    finally:
        ws.close()
    if planned.done:
        return
    name = f"{asked.candidate}, {asked.seeds} seeds"
    print(f"{datetime.datetime.now():%H:%M:%S} {name}: {len(planned.plan.runs)} runs, {len(planned.taken)} taken over")
    experiments.run(planned, tell)
    ws = Workspace.open(folder / "ws")
    try:
        result = outcomes.conclude(ws, planned.id).as_json()
    finally:
        ws.close()
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "seconds": round(time.monotonic() - started),
        "taken_over": len(planned.taken),
    }
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line | result) + "\n")
    print(f"{datetime.datetime.now():%H:%M:%S} {name}: {result['verdict']}; {result['sentences'][0]}", flush=True)


def tell(event: dict) -> None:
    if event["event"] in ("run-done", "budget"):
        print(f"{datetime.datetime.now():%H:%M:%S} {event}", flush=True)


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def report(folder: Path, options: argparse.Namespace) -> None:
    """Print the tables of what is there."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    ws = Workspace.open(folder / "ws")
    try:
        found: dict[str, tuple[str, dict]] = {}
        for name in ("clean", *(f"wrong-{dose}" for dose in DOSES), HALVES):
            planned = experiments.foresee(ws, question(name, options.seeds, options))
            if planned.done:
                found[name] = planned.id, json.loads(find_experiment(ws.store, planned.id).result or "{}")
        aa = experiments.foresee(ws, question("clean", options.pairs, options))
        rows = ws.show_version("clean").version.rows
        clusters = outcomes.clusters_of(ws, EVALSET)
        runs_dir = ws.runs_dir
    finally:
        ws.close()
    if not found:
        sys.exit("no comparison is finished yet")
    settings = next(iter(found.values()))[1]["settings"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {settings['dtype']}, {packages}, commit {commit()}")
    print(
        f"{settings['model']}, {rows} rows, {len(clusters)} held-out prompts; a run is {settings['steps']} "
        f"steps of {settings['training']['tokens_per_step']} trained tokens at {settings['training']['learning_rate']}"
    )
    dose_table(found, runs_dir)
    # Of an experiment that is under way, what is there.
    clean = [run_folder(runs_dir, aa.id, run.id) for run in aa.plan.runs]
    clean = [folder for folder in clean if (folder / "summary.json").exists()]
    if len(clean) < 2:
        sys.exit("no run was made twice yet")
    damaged = {
        name: [run_folder(runs_dir, id, f"candidate-{seed}") for seed in range(options.seeds)]
        for name, (id, _) in found.items()
        if name != "clean"
    }
    other_runs_table(clean, damaged, clusters)
    aa_table(clean, damaged, clusters)
    fewer_seeds_table(clean, damaged, clusters)


def run_folder(runs_dir: Path, experiment: str, run: str) -> Path:
    return runs_dir / experiment / "results" / run


def dose_table(found: dict[str, tuple[str, dict]], runs_dir: Path) -> None:
    """One line for each damaged version: what `compare` said."""
    walls, peaks = [], []
    for id, result in found.values():
        for run in result["sanity"]:
            summary = json.loads((run_folder(runs_dir, id, run) / "summary.json").read_text())
            if "taken_over_from" not in summary:
                walls.append(summary["wall_seconds"])
                peaks.append(summary["peak_mb"])
    print(f"a run with its evaluation: median {np.median(walls):.0f} s; peak memory {max(peaks)} MB\n")
    print("| answers | change of NLL, nats | 95% interval | could be found | prompt gain | stop rate | verdict |")
    print("|---|---|---|---|---|---|---|")
    base = next(iter(found.values()))[1]["means"]["base"]
    nll, gain, stop = (base[name] for name in ("response_nll", "prompt_gain", "stop_rate"))
    print(f"| untrained model | NLL {nll:.3f} | | | {gain:.3f} | {stop:.2f} | |")
    for name, (_, result) in found.items():
        metrics = {metric["name"]: metric for metric in result["metrics"]}
        nll, gain, stop = (metrics[key] for key in ("response_nll", "prompt_gain", "stop_rate"))
        low, high = nll["ci"]
        print(
            f"| {name} | {nll['delta']:+.3f} | {low:+.3f} to {high:+.3f} | {nll['mde']:.3f} | {shown(gain, 3)} "
            f"| {shown(stop, 2)} | {result['verdict']} |"
        )


def shown(metric: dict, digits: int) -> str:
    """Both arms' means of a guardrail, and whether it found harm."""
    told = f"{metric['baseline']:.{digits}f} to {metric['candidate']:.{digits}f}"
    return f"**{told}**" if metric["verdict"] == "worse" else told


def other_runs_table(clean: Sequence[Path], damaged: dict[str, list[Path]], clusters: Sequence[str]) -> None:
    """The damaged versions against whichever three runs on good data: all comparisons above share three of them."""
    print(f"\nThe same runs against others of the {len(clean)} on `clean`, {DRAWS} times three that were drawn:\n")
    print("| answers | change of NLL against all | smallest and largest change drawn | worse |")
    print("|---|---|---|---|")
    draw = random.Random(0)
    sides = [draw.sample(list(clean), 3) for _ in range(DRAWS)]
    for name, runs in damaged.items():
        verdicts = [judged(side, runs, [], clusters) for side in sides]
        changes = [verdict.metrics[0].delta for verdict in verdicts]
        against_all = np.mean([mean_nll(run) for run in runs]) - np.mean([mean_nll(run) for run in clean])
        worse = sum(verdict.verdict == "worse" for verdict in verdicts)
        print(f"| {name} | {against_all:+.3f} | {min(changes):+.3f}, {max(changes):+.3f} | {worse / DRAWS:.0%} |")


def aa_table(clean: Sequence[Path], damaged: dict[str, list[Path]], clusters: Sequence[str]) -> None:
    """How often each verdict comes where both arms had the same data."""
    spread = np.std([mean_nll(run) for run in clean], ddof=1)
    print(f"\nThe same data in both arms; the NLL of runs on `clean` has a standard deviation of {spread:.4f}:\n")
    words = "better | worse | mixed | no difference"
    print(f"| seeds an arm | noise floor | comparisons | {words} | largest change | median MDE |")
    print("|---|---|---|---|---|---|---|---|---|")
    versions = [list(clean), *damaged.values()]
    apart = [([runs[i]], [runs[i + 1]]) for runs in versions for i in range(0, len(runs) - 1, 2)]
    pairs = [([a], [b]) for runs in versions for a, b in itertools.combinations(runs, 2)]
    for sides, kind in ((apart, "no run twice"), (pairs, "all pairs")):
        for floor in ("a third run", "all other runs"):
            print(aa_line(sides, floor, versions, clusters, kind))
    draw = random.Random(0)
    for count in (2, 3, 4):
        groups = [list(clean[start : start + count]) for start in range(0, len(clean) - count + 1, count)]
        whole = list(zip(groups[::2], groups[1::2], strict=False))
        drawn = [draw.sample(list(clean), 2 * count) for _ in range(DRAWS)]
        for sides, kind in ((whole, "no run twice"), ([(d[:count], d[count:]) for d in drawn], "drawn")):
            print(aa_line(sides, "", versions, clusters, kind))


def aa_line(
    sides: Sequence[Sides], floor: str, versions: Sequence[list[Path]], clusters: Sequence[str], kind: str
) -> str:
    verdicts, deltas, mdes = collections.Counter(), [], []
    for first, second in sides:
        verdict = judged(first, second, floor_runs(floor, first[0], versions, [*first, *second]), clusters)
        verdicts[verdict.verdict] += 1
        deltas.append(abs(verdict.metrics[0].delta))
        mdes.append(verdict.metrics[0].mde)
    told = " | ".join(str(verdicts[word]) for word in ("better", "worse", "mixed", "no difference detected"))
    count = len(sides[0][0])
    return f"| {count} | {floor} | {len(sides)}, {kind} | {told} | {max(deltas):.3f} | {np.median(mdes):.3f} |"


def floor_runs(floor: str, run: Path, versions: Sequence[list[Path]], used: Sequence[Path]) -> list[list[Path]]:
    """The runs that a noise floor is taken from, by version: `run` and another one on its data, or all not `used`."""
    if floor == "all other runs":
        return [[other for other in runs if other not in used] for runs in versions]
    own = next(runs for runs in versions if run in runs)
    return [[run, next(other for other in own if other not in used)]] if floor else []


def fewer_seeds_table(clean: Sequence[Path], damaged: dict[str, list[Path]], clusters: Sequence[str]) -> None:
    """What one or two seeds would have said of the damaged versions."""
    print("\nDamaged against clean, had fewer seeds been trained:\n")
    print("| answers | one seed, floor of a third run | one seed, floor of all other runs | two seeds |")
    print("|---|---|---|---|")
    for name, runs in damaged.items():
        cells = []
        for count, floor in ((1, "a third run"), (1, "all other runs"), (2, "")):
            verdicts = collections.Counter()
            for chosen in itertools.combinations(range(len(runs)), count):
                sides = [clean[i] for i in chosen], [runs[i] for i in chosen]
                noise = floor_runs(floor, sides[0][0], [list(clean), *damaged.values()], [*sides[0], *sides[1]])
                verdicts[judged(*sides, noise, clusters).verdict] += 1
            cells.append(", ".join(f"{n} {word}" for word, n in verdicts.most_common()))
        print(f"| {name} | " + " | ".join(cells) + " |")


@functools.cache
def table_of(run: Path, items: int) -> dict[str, np.ndarray]:
    return run_tables([run], items)


def mean_nll(run: Path) -> float:
    rows = pq.read_table(run / "metrics.parquet", filters=[("metric", "=", "response_nll")])
    return float(np.mean(rows.column("value").to_numpy()))


def together(runs: Sequence[Path], items: int) -> dict[str, np.ndarray]:
    """For each metric, runs x items."""
    tables = [table_of(run, items) for run in runs]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]} if tables else {}


def judged(
    baseline: Sequence[Path], candidate: Sequence[Path], noise: Sequence[Sequence[Path]], clusters: Sequence[str]
):
    """The verdict that these runs give; `noise` are runs by version: the floor of one seed is taken from them."""
    a, b = (together(side, len(clusters)) for side in (baseline, candidate))
    others = [together(runs, len(clusters)) for runs in noise if len(runs) > 1]
    measured = []
    for spec in specs_for(a.keys() & b.keys()):
        floors = [estimate_noise_floor(t[spec.name], clusters=clusters, yes_no=spec.yes_no) for t in others]
        floor = pool_noise_floors(floors) if floors else None
        measured.append(measure(spec, a[spec.name], b[spec.name], clusters=clusters, noise=floor))
    return decide(measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs_file", type=Path, nargs="?", metavar="PAIRS.json")
    parser.add_argument("--trained-tokens", type=int, default=2560)
    parser.add_argument("--seeds", type=int, default=3, help="of each arm, where versions are compared")
    parser.add_argument("--pairs", type=int, default=8, help="disjoint pairs of runs on the same data")
    parser.add_argument("--items", type=int, default=64, help="held-out prompts")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--template", default="chatml", help="instead of the model's own chat template")
    parser.add_argument("--only", nargs="*", help="make only the comparisons of these versions with clean")
    parser.add_argument("--folder", type=Path, default=OUT / "verdicts")
    parser.add_argument("--report", action="store_true", help="print the tables and make nothing")
    options = parser.parse_args()
    if not options.report:
        options.folder.mkdir(parents=True, exist_ok=True)
        if options.pairs_file:
            prepare(options.folder, options.pairs_file, options.items)
        record = options.folder.with_suffix(".jsonl")
        wanted = [(f"wrong-{dose}", options.seeds) for dose in reversed(DOSES)] + [(HALVES, options.seeds)]
        wanted += [("clean", options.seeds), ("clean", options.pairs)]
        for name, seeds in wanted:
            if options.only is None or name in options.only:
                try:
                    compare(options.folder, question(name, seeds, options), record)
                except Problem as problem:
                    sys.exit(str(problem))
    report(options.folder, options)


if __name__ == "__main__":
    main()
