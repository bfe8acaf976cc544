"""Does Browse answer as soon while scores are computed? The same keys without and with a likelihood and a judge job.

    python benchmarks/browse_with_jobs.py [--rows 100000 1000000] [--scored 2000] [--rounds 3]

One app on a copy of the workspace that `browse_latency.py` makes, on the same screen in memory and with the same keys;
what is timed is said there. It is timed in three phases of one run: `alone`; `beginning`, from the moment that two
recipes are run in the app, as a person runs them, until both of their jobs have scored rows (the app reads the rows and
writes them down for the jobs, and loads the tokenizer of the model); and `running`, while both jobs score. One recipe
has the likelihood of `--scored` rows computed by SmolLM2-135M, the other has them rated by an endpoint: a server in a
process of its own, which takes a second to answer. Their scores come into the database meanwhile.

The phases are compared within a run. A job takes a processor of its own: with two processors the app shares what is
left with the judge's job and its server.

Said as well: how many rows each job scored while the keys of `running` were pressed, and whether the process of the app
loaded what only a job may (a model, the client of endpoints).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

from browse_latency import DATA, OUT, Screen, environment, keys, made_rows, make, show  # beside this file

RESULTS = OUT.with_name("browse_with_jobs.jsonl")
ANSWERS_AFTER = 1.0  # seconds
PHASES = ("alone", "beginning", "running")
OF_JOBS = ("openai", "trainer.likelihood", "trainer.base", "filters.judge.endpoint", "transformers.modeling_utils")
MOST = 40  # rounds of keys until both jobs have scored rows


class Judge(BaseHTTPRequestHandler):
    """An endpoint that gives every row the same rating."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a call."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(ANSWERS_AFTER)
        message = {"role": "assistant", "content": "It does what was asked.\nRating: 4"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        raw = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 300, "completion_tokens": 9}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def scored(runs: Path) -> list[int]:
    """Of each scoring job that has scored rows: how many."""
    found = []
    for path in runs.glob("score-*/events.jsonl"):
        told = [json.loads(line) for line in path.read_text().splitlines() if '"progress"' in line]
        found += [told[-1]["done"]] if told and told[-1]["done"] else []
    return found


def one(rows: int, count: int, port: int) -> dict:
    from filters.recipe import parse_recipe
    from workbench.errors import Stopped
    from workbench.tui.app import WorkbenchApp
    from workbench.tui.widgets.row_list import RowList
    from workbench.workspace import Workspace

    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        copied = Path(shutil.copytree(DATA / str(rows) / "workspace", Path(folder) / "workspace"))
        (Path(folder) / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_rows(count)))
        workspace = Workspace.open(copied)
        workspace.import_file(Path(folder) / "scored.jsonl", name="scored")
        screen = Screen()
        app = WorkbenchApp(workspace, light=False)
        endpoint = f"http://127.0.0.1:{port}/v1"
        recipes = {
            "likely": parse_recipe("steps: [{likelihood: {metric: perplexity}}]"),
            "rated": parse_recipe(f"steps: [{{judge: {{base_url: '{endpoint}', model: scripted}}}}]"),
        }

        async def run(name: str) -> None:
            def work(progress, cancelled) -> None:
                workspace.run_recipe(
                    recipes[name], ["scored"], name, progress=progress, cancelled=cancelled, agrees=lambda calls: True
                )

            try:
                await app.tasks.run(name, work)
            except Stopped:
                return

        async def drive() -> dict:
            app.action_open_base("rows")
            while app.base != "rows" or not (listed := app.screen.query(RowList)) or listed.first().rows != rows:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            shown = app.screen.query_one(RowList)
            named = {"down": "j", "page": "pagedown", "last": "G", "first": "g"}

            async def times() -> list[float]:
                shown.move_to(0)
                await asyncio.sleep(0.3)
                took = await keys(app, screen, rows, lambda: shown.cursor, named, shown.move_to)
                return took["move"] + took["jump"]

            found: dict = {"alone": await times()}
            runs = [asyncio.create_task(run(name)) for name in recipes]
            found["beginning"] = []
            for _ in range(MOST):
                found["beginning"] += await times()
                if len(scored(workspace.runs_dir)) == len(recipes) or len(app.tasks.running) < len(recipes):
                    break
            before = scored(workspace.runs_dir)
            found["running"] = await times()
            after = scored(workspace.runs_dir)
            ran = len(before) == len(after) == len(recipes) and len(app.tasks.running) == len(recipes)
            found["scored"] = sum(after) - sum(before) if ran else None
            found["loaded"] = [name for name in OF_JOBS if name in sys.modules]
            for task in app.tasks.running:
                task.stopped.set()
            await asyncio.gather(*runs)
            return found

        found = asyncio.run(show(app, screen, time.perf_counter(), drive))
        app.close_workspace()
    figures = {
        f"{phase}_{name}_ms": round(1000 * statistics.quantiles(found[phase], n=100)[share - 1], 1)
        for phase in PHASES
        for name, share in (("p50", 50), ("p95", 95))
    }
    return {**figures, "keys": len(found["running"]), "scored": found["scored"], "loaded": found["loaded"]}


def report(results: list[dict], options: argparse.Namespace) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("textual", "duckdb", "torch", "transformers"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    print(f"{options.rounds} rounds, medians; milliseconds from key to paint as p50 / p95\n")
    print("| rows | alone | jobs beginning | jobs running | rows scored meanwhile | loaded by the app |")
    print("|---|---|---|---|---|---|")
    for rows in options.rows:
        runs = [result for result in results if result["rows"] == rows]

        def median(key: str, runs: list[dict] = runs) -> float:
            return statistics.median(run[key] for run in runs)

        cells = [f"{median(f'{phase}_p50_ms'):.0f} / {median(f'{phase}_p95_ms'):.0f}" for phase in PHASES]
        ran = [run["scored"] for run in runs]
        told = "a job had ended" if None in ran else f"{statistics.median(ran):,.0f}"
        loaded = ", ".join(sorted({name for run in runs for name in run["loaded"]})) or "nothing"
        print(f"| {rows:,} | {' | '.join(cells)} | {told} | {loaded} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--scored", type=int, default=2000, help="rows that each job is to score (default 2000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, type=int, metavar=("ROWS", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.one:
        print(json.dumps(one(options.one[0], options.scored, options.one[1])))
        return
    DATA.mkdir(parents=True, exist_ok=True)
    results = []
    for rows in options.rows:
        make(rows)
        for _ in range(options.rounds):
            server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
            try:
                port = server.stdout.readline().strip() if server.stdout else ""
                command = [sys.executable, __file__, "--one", str(rows), port, "--scored", str(options.scored)]
                run = subprocess.run(command, capture_output=True, env=environment(), check=False)
            finally:
                server.terminate()
                server.wait()
            if run.returncode:
                sys.exit(run.stderr.decode()[-3000:])
            results.append({"rows": rows, **json.loads(run.stdout.splitlines()[-1])})
            with RESULTS.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
            print(json.dumps(results[-1]), file=sys.stderr)
    report(results, options)


if __name__ == "__main__":
    main()
