"""How soon a long list of rows is painted, and how soon after a key: ours beside Textual's own and another table.

    python benchmarks/browse_latency.py [--rows 100000 1000000] [--rounds 3] [--variants workbench ...] [--timeout 1200]

Every variant shows the same rows in a process of its own, in turn, on a screen of 160x48 in memory: all that an app
writes to its terminal arrives there and is put where a terminal would show it, without a terminal's own time.

- `workbench`: the app on a workspace in a DuckDB file. First paint counts from the moment the workspace is open; the
  preview beside the list and the facets are there as well and do their work meanwhile.
- `fastdatatable`: textual-fastdatatable on a Parquet file of the columns that our list shows. First paint counts from
  before the file is read.
- `DataTable`: Textual's, with all rows as Python tuples. First paint counts from when they are in memory already.

Seconds for a key count from when it arrives until the line of the row that the cursor went to was written, with its
text, and stands on the screen amid an unbroken run of at least 40 rows in their order: a list that is there only in
part, or a row that is shown beside the list, does not count. "move" is a row or a page down, "jump" the first row, the
last and rows anywhere. Memory is the process's own peak.

The rows are made on the spot: workspaces and files of them are kept in `benchmarks/out/browse/` (about 0.8 GB for a
million), finished runs in `benchmarks/out/browse_latency.jsonl`; a second call goes on where it was, also with other
variants. A run that took longer than `--timeout` says so in the table, and is tried again when more time is given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memory import peak_mb  # beside this file

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "browse_latency.jsonl"
DATA = OUT.parent / "browse"
PEERS = DATA / "peers"
VARIANTS = ("workbench", "fastdatatable", "DataTable")
SIZE = (160, 48)
RUN = 40  # rows that stand in order on a screen that is painted
WIDTHS = [9, 6, 6, 60, 70]  # cells of a peer's columns
MOST_MEMORY = 9 << 30  # bytes of address space for a peer, so that it cannot take the machine down
WORDS = re.findall(r"\w+", (Path(__file__).parent.parent / "LICENSE").read_text(encoding="utf-8").lower())


def text(random_: random.Random, words: int) -> str:
    return " ".join(random_.choices(WORDS, k=words)) + "."


def made_rows(count: int) -> Iterator[dict[str, str]]:
    """Prompts of about 90 and answers of about 600 characters; row n asks question n."""
    random_ = random.Random(0)
    for number in range(count):
        prompt = f"Question {number}: {text(random_, random_.randint(8, 20))}"
        yield {"prompt": prompt, "completion": text(random_, random_.randint(20, 200))}


def make(rows: int) -> None:
    """The workspace and the Parquet file for so many rows, unless they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from workbench.workspace import Workspace

    folder = DATA / str(rows)
    if (folder / "made").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"making {rows:,} rows", file=sys.stderr)
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in made_rows(rows))
    workspace = Workspace.init(folder / "workspace")
    workspace.import_file(folder / "rows.jsonl", name="rows")
    workspace.close()
    (folder / "rows.jsonl").unlink()
    columns: dict[str, list[Any]] = {"row": [], "turns": [], "chars": [], "prompt": [], "response": []}
    for number, row in enumerate(made_rows(rows)):
        prompt, response = row["prompt"], row["completion"]
        for name, value in zip(columns, (number, 2, len(prompt + response), prompt[:200], response[:200]), strict=True):
            columns[name].append(value)
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    (folder / "made").touch()


def peer_package() -> bool:
    """Puts textual-fastdatatable where only its variant sees it; whether it is there."""
    if not (PEERS / "textual_fastdatatable").exists():
        target = ["--target", str(PEERS), "textual-fastdatatable"]
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *target], check=False)
    return (PEERS / "textual_fastdatatable").exists()


class Screen:
    """What stands on an app's terminal, and when it was written."""

    PIECES = re.compile(
        r"\x1b\[(\d+);(\d+)H|\x1b\[[0-9;:?<=>]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|([^\x1b\r\n]+)"
    )
    ROW = re.compile(r"Question (\d+):")

    def __init__(self) -> None:
        self.written: list[tuple[float, str]] = []
        self.lines = [" " * SIZE[0]] * SIZE[1]

    def driver(self) -> type:
        """A driver that writes here."""
        from textual.drivers.headless_driver import HeadlessDriver

        screen = self

        class Driver(HeadlessDriver):
            @property
            def is_headless(self) -> bool:
                return False

            def write(self, data: str) -> None:
                screen.written.append((time.perf_counter(), data))

        return Driver

    async def painted(self, row: Callable[[], int], since: float, within: float = 30.0) -> float:
        """Seconds from `since` until row number `row()` was written to the list and all rows about it stand there."""
        touched: set[int] = set()
        while True:
            while self.written:
                at, data = self.written.pop(0)
                rows = self.put(data)
                if at >= since:
                    touched |= rows
                    if row() in touched and self.stands(row()):
                        return at - since
            if time.perf_counter() - since > within:
                raise TimeoutError(f"row {row()} was not painted:\n" + "\n".join(self.lines))
            await asyncio.sleep(0.001)

    def put(self, data: str) -> set[int]:
        """Put what was written in its place; returns the rows of the list among it, which is in the left half."""
        x, y, rows = 0, 0, set()
        for piece in self.PIECES.finditer(data):
            line, column, text = piece.groups()
            if line:
                y, x = int(line) - 1, int(column) - 1
            elif text and y < SIZE[1]:
                if x < SIZE[0] // 2:
                    rows.update(int(number) for number in self.ROW.findall(text)[:1])
                before = self.lines[y]
                self.lines[y] = before[:x] + text + before[x + len(text) :]
                x += len(text)
        return rows

    def stands(self, row: int) -> bool:
        """Whether the row is on the screen amid others in order."""
        found = [int(match[1]) if (match := self.ROW.search(line)) else None for line in self.lines]
        if row not in found:
            return False
        first = last = found.index(row)
        while first and found[first - 1] == found[first] - 1:
            first -= 1
        while last + 1 < len(found) and found[last + 1] == found[last] + 1:
            last += 1
        return last - first + 1 >= RUN


async def keys(
    app: Any, screen: Screen, rows: int, cursor: Callable[[], int], named: dict[str, str], go: Callable[[int], None]
) -> dict:
    """Presses them as a terminal would deliver them; seconds to paint for moves and for jumps."""
    from textual import events

    random_ = random.Random(1)
    took: dict[str, list[float]] = {"move": [], "jump": []}

    async def one(kind: str, act: Callable[[], Any]) -> None:
        await asyncio.sleep(0.033)  # as fast as a held key repeats
        before, since = cursor(), time.perf_counter()
        act()
        while cursor() == before:
            await asyncio.sleep(0.0005)
        took[kind].append(await screen.painted(cursor, since))

    def press(key: str) -> Callable[[], Any]:
        return lambda: app.post_message(events.Key(named[key], named[key] if len(named[key]) == 1 else None))

    for _ in range(60):
        await one("move", press("down"))
    for _ in range(30):
        await one("move", press("page"))
    for _ in range(10):
        await one("jump", press("last"))
        await one("jump", press("first"))
    for _ in range(40):
        target = random_.randrange(rows)
        if target != cursor():
            await one("jump", lambda target=target: go(target))
    return took


async def show(app: Any, screen: Screen, since: float, drive: Callable[[], Awaitable[dict]]) -> dict:
    """Run the app, wait for the first row, press keys, leave."""
    found: dict[str, Any] = {}

    async def pilot(_: Any) -> None:
        try:
            found["first_paint"] = await screen.painted(lambda: 0, since, within=3600)
            await asyncio.sleep(0.5)
            found.update(await drive())
        finally:
            app.exit()

    app.driver_class = screen.driver()
    await app.run_async(size=SIZE, auto_pilot=pilot)
    return found


def workbench(rows: int) -> dict:
    from workbench.tui.app import WorkbenchApp
    from workbench.tui.widgets.row_list import RowList
    from workbench.workspace import Workspace

    screen = Screen()
    workspace = Workspace.open(DATA / str(rows) / "workspace")
    since = time.perf_counter()
    app = WorkbenchApp(workspace, light=False)

    async def drive() -> dict:
        listed = app.screen.query_one(RowList)
        named = {"down": "j", "page": "pagedown", "last": "G", "first": "g"}
        return await keys(app, screen, rows, lambda: listed.cursor, named, listed.move_to)

    found = asyncio.run(show(app, screen, since, drive))
    app.close_workspace()
    return found


def table(rows: int, make_table: Callable[[], Any], since: float) -> dict:
    from textual.app import App, ComposeResult

    screen = Screen()

    class Table(App[None]):
        def compose(self) -> ComposeResult:
            yield make_table()

    app = Table()

    async def drive() -> dict:
        shown = app.screen.focused or app.screen.children[0]
        shown.focus()
        named = {"down": "down", "page": "pagedown", "last": "ctrl+end", "first": "ctrl+home"}
        return await keys(
            app, screen, rows, lambda: shown.cursor_coordinate.row, named, lambda row: shown.move_cursor(row=row)
        )

    return asyncio.run(show(app, screen, since, drive))


def fastdatatable(rows: int) -> dict:
    sys.path.insert(0, str(PEERS))
    from textual_fastdatatable import DataTable

    since = time.perf_counter()

    def make_table() -> DataTable:
        path = DATA / str(rows) / "rows.parquet"
        return DataTable(data=path, column_widths=WIDTHS, cursor_type="row", render_markup=False)

    return table(rows, make_table, since)


def datatable(rows: int) -> dict:
    import pyarrow.parquet as pq
    from textual.widgets import DataTable

    records = list(zip(*pq.read_table(DATA / str(rows) / "rows.parquet").to_pydict().values(), strict=True))

    def make_table() -> DataTable:
        made: DataTable = DataTable(cursor_type="row")
        for name, width in zip(("row", "turns", "chars", "prompt", "response"), WIDTHS, strict=True):
            made.add_column(name, width=width)
        made.add_rows(records)
        return made

    return table(rows, make_table, time.perf_counter())


def one(variant: str, rows: int) -> dict:
    if variant != "workbench":
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    found = {"workbench": workbench, "fastdatatable": fastdatatable, "DataTable": datatable}[variant](rows)
    moves, jumps = found["move"], found["jump"]
    return {
        "first_paint": round(found["first_paint"], 3),
        **{
            f"{kind}_{name}_ms": round(1000 * statistics.quantiles(took, n=100)[share - 1], 1)
            for kind, took in (("move", moves), ("jump", jumps), ("all", moves + jumps))
            for name, share in (("p50", 50), ("p95", 95))
        },
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--timeout", type=int, default=1200, help="seconds that one run may take (default 1200)")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make)
        return
    if options.one:
        print(json.dumps(one(options.one[0], int(options.one[1]))))
        return
    DATA.mkdir(parents=True, exist_ok=True)
    if "fastdatatable" in options.variants and not peer_package():
        print("textual-fastdatatable cannot be had: it is left out", file=sys.stderr)
        options.variants.remove("fastdatatable")
    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    for rows in options.rows:
        subprocess.run([sys.executable, __file__, "--make", str(rows)], check=True, env=environment())
        for done in range(options.rounds):
            for variant in options.variants:
                same = [r for r in results if (r["variant"], r["rows"]) == (variant, rows)]
                good = [r for r in same if "failed" not in r]
                if len(good) > done or (same and not may_try_again(same[-1], options.timeout)):
                    continue
                results.append({"variant": variant, "rows": rows, **measured(variant, rows, options.timeout)})
                with OUT.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
                print(json.dumps(results[-1]), file=sys.stderr)
    report(results, options)


def may_try_again(run: dict, timeout: int) -> bool:
    """Whether another run could end otherwise than this one."""
    return "failed" not in run or run.get("timeout", timeout) < timeout


def environment() -> dict[str, str]:
    """That of a good terminal, with this tree's packages."""
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_ANIMATIONS": "none"}
    return {**os.environ, **terminal, "PYTHONPATH": str(ROOT)}


def measured(variant: str, rows: int, timeout: int) -> dict:
    """One run in a process of its own; what failed says so and is not tried again."""
    command = [sys.executable, __file__, "--one", variant, str(rows)]
    try:
        run = subprocess.run(command, capture_output=True, env=environment(), timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {timeout} s", "timeout": timeout}
    if run.returncode:
        if variant == "workbench":
            sys.exit(run.stderr.decode()[-3000:])
        return {"failed": "out of memory" if b"MemoryError" in run.stderr else run.stderr.decode()[-300:]}
    return json.loads(run.stdout.splitlines()[-1])


def report(results: list[dict], options: argparse.Namespace) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("textual", "duckdb", "pyarrow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    print(f"{options.rounds} rounds, medians; milliseconds from key to paint as p50 / p95\n")
    print("| rows | variant | first paint, s | move, ms | jump, ms | p95 of all keys, ms | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for rows in options.rows:
        for variant in options.variants:
            runs = [r for r in results if (r["variant"], r["rows"]) == (variant, rows)]
            good = [r for r in runs if "failed" not in r]
            if not good:
                print(f"| {rows:,} | {variant} | {runs[-1]['failed'] if runs else 'not run'} | | | | |")
                continue

            def median(key: str, runs: list[dict] = good) -> float:
                return statistics.median(r[key] for r in runs)

            spans = [f"{median(f'{k}_p50_ms'):.0f} / {median(f'{k}_p95_ms'):.0f}" for k in ("move", "jump")]
            cells = [f"{median('first_paint'):.2f}", *spans, f"{median('all_p95_ms'):.0f}", f"{median('peak_mb'):,.0f}"]
            print(f"| {rows:,} | {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
