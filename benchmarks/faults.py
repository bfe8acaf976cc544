"""What becomes of a workspace when the process is killed, the disk is full, or somebody copies it meanwhile.

    python benchmarks/faults.py [--moments 20] [--rows 40000] [--seed 0]

The commands are the real ones, each in a process of its own. After every fault all rows are read and all counts and
hashes computed again, as `workbench doctor` does it; then the same command has to bring the result of a run that
nothing disturbed. The tables go to stdout; docs/reliability.md has them. The first line of every table that does not
hold ends the program with exit code 1.

The full disk is a tmpfs and the read-only one a mount, both in a mount namespace of their own: they need root and
Linux, and are left out with a word elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from workbench.errors import WorkspaceUnusable
from workbench.maintenance import findings, repairs
from workbench.workspace import DATABASE, Workspace

COMMAND = [sys.executable, "-m", "workbench"]
RECIPE = """\
steps:
  - exact: {on: both}
  - length: {on: response, min_words: 8}
  - repetition
  - refusal
  - random-k: {k: 5000, seed: 0}
"""
WORDS = [start + end for start in ("ba", "ce", "di", "fo", "gu", "ha") for end in ("ran", "sel", "tin", "dor", "pul")]


class Failed(Exception):
    """The workspace was not as it should be."""


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Failed(what)


def write_rows(path: Path, rows: int, seed: int) -> None:
    """So many made-up pairs, one in twenty a copy of an earlier one, one in fifty without an answer."""
    rng = random.Random(seed)
    kept: list[str] = []
    with path.open("w") as file:
        for _ in range(rows):
            if kept and rng.random() < 0.05:
                line = rng.choice(kept)
            else:
                prompt, answer = (" ".join(rng.choices(WORDS, k=rng.randint(4, most))) for most in (20, 60))
                line = json.dumps({"prompt": prompt, "completion": None if rng.random() < 0.02 else answer})
                kept.append(line)
            file.write(line + "\n")


def call(root: Path, *argv: object, quota: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if quota is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (quota, quota))

    command = [*COMMAND, "-w", str(root), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)


def killed(root: Path, argv: tuple[object, ...], after: float) -> int:
    """Start the command, kill it after so many seconds; its exit code (-9, or what it ended with before)."""
    process = subprocess.Popen(
        [*COMMAND, "-w", str(root), *map(str, argv)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def look(root: Path) -> tuple[dict[str, int], Counter[str]]:
    """The number of rows in every table, and how often what was left behind. Raises Failed for anything bad."""
    workspace = Workspace.open(root)
    try:
        found = findings(workspace)
        bad = [f"{finding.what}: {finding.detail}" for finding in found if finding.status == "bad"]
        expect(not bad, "; ".join(bad))
        for repair in repairs(workspace):
            if not repair.by_choice:
                repair.run()
        left = [finding.what for finding in findings(workspace) if finding.status != "ok"]
        expect(not left, f"after the repair there still is {left}")
        tables = workspace.store.rows(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY 1"
        )
        counts = {table: workspace.store.rows(f"SELECT count(*) FROM {table}")[0][0] for (table,) in tables}
        return counts, Counter(finding.what for finding in found if finding.status == "note")
    finally:
        workspace.close()


def manifest(root: Path) -> str | None:
    workspace = Workspace.open(root)
    try:
        return next((version.manifest_hash for version in workspace.versions()), None)
    finally:
        workspace.close()


def timed(root: Path, *argv: object) -> float:
    started = time.perf_counter()
    done = call(root, *argv)
    expect(done.returncode == 0, done.stderr)
    return time.perf_counter() - started


def table(head: str, rows: list[tuple[object, ...]]) -> None:
    columns = head.split("|")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


State = Callable[[Path, dict[str, int]], str]


def kills(
    start: Path, end: Path, argv: tuple[object, ...], seconds: float, moments: int, rng: random.Random, state: State
) -> tuple[object, ...]:
    """Kill the command at random moments, so many times: on from what was left, and anew when it was all done."""
    counts = look(end)[0]
    done, version = state(end, counts), manifest(end)
    there: Counter[str] = Counter()
    left: Counter[str] = Counter()
    root = end.with_name("killed")
    while there.total() < moments:
        if not root.exists():
            shutil.copytree(start, root)
        code = killed(root, argv, rng.uniform(0.5, seconds))
        seen, notes = look(root)
        left += notes
        if code == -signal.SIGKILL:
            there[state(root, seen)] += 1
        if state(root, seen) == done:
            expect((seen, manifest(root)) == (counts, version), f"{seen}, undisturbed {counts}")
            shutil.rmtree(root)
    if not root.exists():
        shutil.copytree(start, root)
    ended = call(root, *argv)
    expect(ended.returncode == 0, ended.stderr)
    expect((look(root)[0], manifest(root)) == (counts, version), "the end is another than undisturbed")
    shutil.rmtree(root)
    states = ", ".join(f"{what}: {count}" for what, count in there.most_common())
    leftovers = ", ".join(f"{what}: {count}" for what, count in left.items()) or "nothing"
    return argv[0], there.total(), f"0.5 to {seconds:.1f} s", states, leftovers


def import_state(root: Path, counts: dict[str, int]) -> str:
    expect(counts["sources"] == min(counts["examples"], 1), f"neither nothing nor all: {counts}")
    return "all" if counts["sources"] else "nothing"


def run_state(root: Path, counts: dict[str, int]) -> str:
    expect(counts["versions"] == 0 or counts["steps"] == 5, f"a version of half a run: {counts}")
    return "the version" if counts["versions"] else f"{counts['steps']} of 5 steps"


def copies(
    start: Path, source: Path, seconds: float, moments: int, rng: random.Random, scratch: Path
) -> list[tuple[object, ...]]:
    """Copy the folder while an import writes to it; each copy is clean, or says what to do and is clean after that."""
    seen: Counter[str] = Counter()
    for _ in range(moments):
        root, copy = scratch / "copied-from", scratch / "copy"
        shutil.copytree(start, root)
        process = subprocess.Popen(
            [*COMMAND, "-w", str(root), "import", str(source)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(seconds / 3, seconds))
        running = process.poll() is None
        shutil.copytree(root, copy)
        process.wait()
        try:
            counts, _ = look(copy)
            state = "clean, without the import" if not counts["sources"] else "clean, with the import"
        except WorkspaceUnusable as problem:
            (copy / f"{DATABASE}.wal").unlink(missing_ok=True)
            try:
                look(copy)
                state = f"told ({problem.what}); clean without the .wal"
            except (WorkspaceUnusable, Failed) as still:
                state = f"told ({problem.what}); then told ({still})"
        except Failed as problem:
            state = f"told by doctor ({problem})"
        seen[f"{state}{'' if running else ' (the import had ended)'}"] += 1
        shutil.rmtree(root)
        shutil.rmtree(copy)
    return list(seen.most_common())


def quotas(
    start: Path, end: Path, argv: tuple[object, ...], moments: int, rng: random.Random, scratch: Path
) -> Counter[str]:
    """The command under random limits on the size of a file; then once more without."""
    seen: Counter[str] = Counter()
    after = look(end)[0]
    most = max(2 * (end / DATABASE).stat().st_size, 1 << 20)
    for _ in range(moments):
        root = scratch / "quota"
        shutil.copytree(start, root)
        done = call(root, *argv, quota=int(2 ** rng.uniform(12, most.bit_length())))
        expect(done.returncode in (0, 4), f"exit code {done.returncode}: {done.stderr}")
        expect(done.returncode == 0 or "the disk is full" in done.stderr, done.stderr)
        counts, _ = look(root)
        expect(done.returncode == 0 or counts["versions"] == 0, str(counts))
        again = call(root, *argv)
        expect(again.returncode == 0, again.stderr)
        expect(look(root)[0] == after, f"{look(root)[0]}, undisturbed {after}")
        seen["refused in a sentence, exit code 4" if done.returncode else "there was room enough"] += 1
        shutil.rmtree(root)
    return seen


FULL = """
mount -t tmpfs -o size={size} tmpfs {root} || exit 77
{run} init {root} && {run} -w {root} import {few} && {run} -w {root} import {many}; echo "full: $?"
{run} -w {root} doctor --json > {out}/full.json; echo "doctor: $?"
mount -o remount,size=200m {root}
{run} -w {root} import {many}; echo "with room: $?"
{run} -w {root} doctor --json > {out}/room.json; echo "doctor: $?"
mount -o remount,ro {root}
{run} -w {root} versions ls; echo "read-only: $?"
mount -o remount,rw {root}
{run} -w {root} doctor --json > {out}/rw.json; echo "doctor: $?"
"""


def full_disk(source: Path, size: int, scratch: Path) -> str:
    """Import onto a tmpfs of `size` bytes, then with more room, then look at it read-only."""
    few, root = scratch / "few.jsonl", scratch / "tmpfs"
    few.write_text('{"prompt": "a", "completion": "b"}\n')
    root.mkdir()
    script = FULL.format(size=size, run=" ".join(COMMAND), root=root, few=few, many=source, out=scratch)
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or not shutil.which("unshare"):
        return " left out, no file system can be mounted here"
    ends = [line for line in done.stdout.splitlines() if line.partition(": ")[2].isdigit()]
    wanted = ["full: 4", "doctor: 0", "with room: 0", "doctor: 0", "read-only: 4", "doctor: 0"]
    expect(ends == wanted, f"{ends}: {done.stderr}")
    return "\n".join(["", *ends, *(line for line in done.stderr.splitlines() if line.startswith("error"))])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source, recipe = scratch / "rows.jsonl", scratch / "recipe.yaml"
        write_rows(source, given.rows, given.seed)
        recipe.write_text(RECIPE)
        empty, imported, curated, loose, tight = (
            scratch / n for n in ("empty", "imported", "curated", "loose", "tight")
        )
        Workspace.init(empty).close()
        run = ("run", recipe, "--from", "rows", "--name", "v")
        shutil.copytree(empty, imported)
        import_seconds = timed(imported, "import", source)
        shutil.copytree(imported, curated)
        run_seconds = timed(curated, *run)
        shutil.copytree(curated, loose)
        loosen(loose)
        shutil.copytree(loose, tight)
        vacuum_seconds = timed(tight, "vacuum")
        print(f"{given.rows:,} rows, {source.stat().st_size / 1e6:.1f} MB; seed {given.seed}; {os.cpu_count()} cores")

        def vacuum_state(root: Path, counts: dict[str, int]) -> str:
            size, most = ((folder / DATABASE).stat().st_size for folder in (root, loose))
            return "the new file" if size < most // 2 else "the old file"

        table(
            "command|kills|moments|what was there after a kill|what `doctor --repair` had to remove",
            [
                kills(empty, imported, ("import", source), import_seconds, given.moments, rng, import_state),
                kills(imported, curated, run, run_seconds, given.moments, rng, run_state),
                kills(loose, tight, ("vacuum",), vacuum_seconds, given.moments, rng, vacuum_state),
            ],
        )
        table("copied during an import|copies", copies(empty, source, import_seconds, given.moments, rng, scratch))
        rows: list[tuple[object, ...]] = []
        for name, start, end, argv in (
            ("import", empty, imported, ("import", source)),
            ("run", imported, curated, run),
        ):
            for state, count in quotas(start, end, argv, given.moments, rng, scratch).most_common():
                rows.append((name, state, count))
        table("under a quota|outcome|times", rows)
        size = (imported / DATABASE).stat().st_size // 2
        print(f"\nA disk of {size / 1e6:.1f} MB, then one of 200 MB, then read-only:{full_disk(source, size, scratch)}")


def loosen(root: Path) -> None:
    """Leave the room of many deleted rows in the database."""
    workspace = Workspace.open(root)
    workspace.store.rows(
        "CREATE TABLE mine AS SELECT i, md5(i::TEXT) || md5((-i)::TEXT) AS t FROM range(2_000_000) r(i)"
    )
    workspace.store.rows("CHECKPOINT")
    workspace.store.rows("DELETE FROM mine WHERE i % 10 <> 0")
    workspace.close()


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
