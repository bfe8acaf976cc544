"""Rows a second and peak memory of an import, beside DuckDB's read_json and datasets.load_dataset on the same files.

    python benchmarks/import_speed.py [--megabytes 1024] [--rounds 3]

The files are chats made here, as JSON Lines and as one JSON array of the same rows, and two published data sets where
they are (../shared/data). Every variant reads every file into a new store on the disk, in a process of its own, in turn
(A B C A B C ...), so that a machine that slows down slows all alike:

- ours: `workbench import` into a new workspace: every row told apart as a conversation or a reject, made canonical,
  hashed, and written to DuckDB in one transaction, the file hashed besides
- duckdb: `CREATE TABLE ... AS SELECT * FROM read_json(FILE)` into a new database, its schema detected
- datasets: `load_dataset("json", data_files=FILE)` into a new cache

Seconds are from the call to the closed store, without the imports of the libraries; CPU seconds are those of all
threads and change less when the machine does other work. Peak memory is that of the whole process.

Results of finished runs are kept in `benchmarks/out/import_speed.jsonl`, made files beside it; a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from memory import peak_mb  # beside this file

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "import_speed.jsonl"
PUBLISHED = ("prompt_completion/gsm8k_train.jsonl", "near_duplicates/toolformer_exact_deduped.json")
VARIANTS = ("ours", "duckdb", "datasets")
WORDS = [
    *("river", "model", "answer", "because", "the", "and", "of", "in", "step", "value", "function", "returns"),
    *("naïve", '"quoted"', "line\nbreak", "數據", "然后", "😀", "path\\to", "tab\tbed", "1,234.5", "`x = {}`"),
    *(f"w{i}" for i in range(3000)),
]


def made_rows(seed: int) -> Iterator[str]:
    """Chats of one to three exchanges, 1.6 kB in the mean, as JSON text; without end."""
    dice = random.Random(seed)
    number = 0
    while True:
        turns = []
        for _ in range(dice.choice([1, 1, 2, 3])):
            turns.append({"role": "user", "content": " ".join(dice.choices(WORDS, k=dice.randint(5, 60)))})
            turns.append({"role": "assistant", "content": " ".join(dice.choices(WORDS, k=dice.randint(20, 200)))})
        yield json.dumps({"id": number, "messages": turns, "topic": "made"}, ensure_ascii=False)
        number += 1


def make_files(megabytes: int) -> list[Path]:
    """The made files of that size, written if they are not there; the same bytes every time."""
    lines, array = (OUT.parent / f"made-{megabytes}.{suffix}" for suffix in ("jsonl", "json"))
    if not array.exists():
        with lines.open("w", encoding="utf-8") as one, array.with_suffix(".part").open("w", encoding="utf-8") as other:
            size = 0
            for row in made_rows(seed=0):
                one.write(f"{row}\n")
                other.write(f"{',' if size else '['}\n{row}")
                size += len(row.encode("utf-8")) + 2
                if size >= megabytes << 20:
                    break
            other.write("\n]\n")
        array.with_suffix(".part").rename(array)
    return [lines, array]


class Clock:
    """Seconds and CPU seconds of all threads, from its making to `stop`."""

    def __init__(self) -> None:
        self.seconds = -time.perf_counter()
        self.cpu_seconds = -time.process_time()

    def stop(self) -> Clock:
        """This clock, with what it measured."""
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()
        return self


def ours(path: Path, folder: Path) -> tuple[Clock, int]:
    import contextlib
    import io

    import duckdb  # noqa: F401  (what the command imports itself, before the clock starts)
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    import workbench.importing  # noqa: F401
    from workbench.cli import app
    from workbench.workspace import Workspace

    Workspace.init(folder / "workspace").close()
    answer = io.StringIO()
    clock = Clock()
    with contextlib.redirect_stdout(answer):
        app.main(["-w", str(folder / "workspace"), "import", str(path), "--json"], standalone_mode=False)
    return clock.stop(), json.loads(answer.getvalue())["imported"]


def duckdb_(path: Path, folder: Path) -> tuple[Clock, int]:
    import duckdb
    import pyarrow  # noqa: F401

    clock = Clock()
    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        connection.execute("CREATE TABLE rows AS SELECT * FROM read_json(?)", [str(path)])
    clock.stop()
    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM rows").fetchall()
    return clock, rows


def datasets_(path: Path, folder: Path) -> tuple[Clock, int]:
    import datasets

    datasets.disable_progress_bars()
    clock = Clock()
    data = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder))
    return clock.stop(), len(data)


def one(variant: str, path: Path) -> dict:
    with tempfile.TemporaryDirectory(dir=OUT.parent) as folder:
        read = {"ours": ours, "duckdb": duckdb_, "datasets": datasets_}[variant]
        clock, rows = read(path, Path(folder))
    return {
        "variant": variant,
        "file": path.name,
        "bytes": path.stat().st_size,
        "rows": rows,
        "seconds": round(clock.seconds, 3),
        "cpu_seconds": round(clock.cpu_seconds, 3),
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of each made file (default 1024)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    OUT.parent.mkdir(exist_ok=True)
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]))))
        return
    files = make_files(options.megabytes)
    files += [path for name in PUBLISHED if (path := ROOT.parent / "shared/data" / name).exists()]
    sizes = {path.name: path.stat().st_size for path in files}
    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    results = [result for result in results if sizes.get(result["file"]) == result["bytes"]]
    for done in range(options.rounds):
        for path in files:
            for variant in VARIANTS:
                if sum((r["variant"], r["file"]) == (variant, path.name) for r in results) > done:
                    continue
                command = [sys.executable, __file__, "--one", variant, str(path)]
                run = subprocess.run(
                    command, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
                )
                if run.returncode:
                    sys.exit(run.stderr.decode()[-2000:])
                results.append(json.loads(run.stdout.splitlines()[-1]))
                with OUT.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
                print(json.dumps(results[-1]), file=sys.stderr)
    report(results, files, options.rounds)


def report(results: list[dict], files: list[Path], rounds: int) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "datasets", "pyarrow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    print(f"{rounds} rounds, medians\n")
    print("| file | variant | rows | rows/s | DuckDB's rows/s are | rows per CPU second | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for path in files:

        def median(variant: str, key: str, name: str = path.name) -> float:
            return statistics.median(r[key] for r in results if (r["variant"], r["file"]) == (variant, name))

        for variant in VARIANTS:
            rows = median(variant, "rows")
            rate, theirs = (median(v, "rows") / median(v, "seconds") for v in (variant, "duckdb"))
            cpu = rows / median(variant, "cpu_seconds")
            cells = [f"{path.name} ({path.stat().st_size / 1e6:,.0f} MB)", variant, f"{rows:,.0f}", f"{rate:,.0f}"]
            print(f"| {' | '.join(cells)} | {theirs / rate:.1f}x | {cpu:,.0f} | {median(variant, 'peak_mb'):,.0f} |")


if __name__ == "__main__":
    main()
