"""While imports, recipes and jobs run, keys are answered: nothing of it is done in the UI thread."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from filters.recipe import parse_recipe
from workbench import experiments
from workbench.errors import Stopped
from workbench.experiments import Question
from workbench.jobs import run_job
from workbench.tui.widgets.row_list import RowList
from workbench.tui.workers import background

RECIPE = "steps:\n  - repetition: {threshold: 0.3}\n  - markup: {on: response}\n  - language\n  - exact: {on: both}\n"
KEYS = [("G", 59), ("g", 0), *(("j", n) for n in range(1, 16)), *(("k", n) for n in range(14, 4, -1))] * 2
"""Keys of the list, and the row that each leads to."""
BEAT = 0.01  # seconds
WORKED = 0.1  # seconds of processor time at a time: a screen takes a hundredth, a query or a file much more
STOOD_STILL = 0.3  # seconds beyond what other threads of the process had to wait as well
ANSWERED = 0.06  # seconds, the median, on a machine that does all of this at once


def write_rows(path, count: int) -> None:
    text = "it goes down to the sea, slowly, past the mill and the two bridges, and nobody ever asked it why. " * 4
    rows = ({"prompt": f"Where does river {n} go?", "completion": f"Number {n}: {text}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Heart:
    """Beats in the app's own loop, and in a thread beside it that has to share processors and the GIL just as well.

    `worked` is the most processor time that the loop took between two beats, in seconds, and `stood_still` the longest
    that it took longer to beat than the thread did meanwhile: what keeps both from beating is not the loop's doing.
    """

    def __init__(self) -> None:
        self.worked = self.stood_still = 0.0
        self._beside = 0.0  # the longest beat of the thread since the loop's last
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat_beside, daemon=True)
        self._thread.start()
        self._beating = asyncio.create_task(self._beat())

    def _beat_beside(self) -> None:
        while not self._stopped.is_set():
            before = time.perf_counter()
            time.sleep(BEAT)
            self._beside = max(self._beside, time.perf_counter() - before)

    async def _beat(self) -> None:
        while True:
            before, worked, self._beside = time.perf_counter(), time.thread_time(), 0.0
            await asyncio.sleep(BEAT)
            self.worked = max(self.worked, time.thread_time() - worked)
            self.stood_still = max(self.stood_still, time.perf_counter() - before - max(self._beside, BEAT))

    def stop(self) -> None:
        self._beating.cancel()
        self._stopped.set()
        self._thread.join()


async def press_keys(rows, pilot, tui) -> list[float]:
    """Seconds until the list followed each of KEYS."""
    answers = []
    for key, to in KEYS:
        pressed = time.perf_counter()
        tui.type_ahead(pilot.app, key)
        while rows.cursor != to:
            await asyncio.sleep(0.001)
            assert time.perf_counter() - pressed < 20
        answers.append(time.perf_counter() - pressed)
        await pilot.pause(0.02)
    return answers


async def test_keys_are_answered_while_an_import_a_recipe_and_a_training_job_run(
    tui, workspace, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_rows(tmp_path / "many.jsonl", 150_000)
    write_rows(tmp_path / "some.jsonl", 12_000)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "items.jsonl").write_text('{"prompt": "Which way is up?", "completion": "That way."}\n' * 2)
    workspace.import_file(tmp_path / "some.jsonl")
    workspace.import_evalset(tmp_path / "items.jsonl", "items")
    question = Question("curated", None, model=str(tiny_model), trained_tokens=200_000, seeds=1, evalset="items")
    planned = experiments.plan(workspace, question)
    seen, wish = [], ["watch"]

    def train(cancelled):
        run_job("trainer", planned.folder, lambda event: seen.append(event["event"]), wish=lambda: wish[0])

    def bring_in(progress, cancelled):
        return workspace.import_file(tmp_path / "many.jsonl", progress=progress)

    def curate(progress, cancelled):
        recipe = tmp_path / "recipe.yaml"
        return workspace.run_recipe(
            recipe, ["some"], "curated-some", allow_wipeout=True, progress=progress, cancelled=cancelled
        )

    async with tui.running(workspace) as pilot:
        app = pilot.app
        rows = app.screen.query_one(RowList)
        background(app, train, lambda _: None)
        await tui.until(pilot, lambda: "train" in seen, 60)
        app.run_worker(app.tasks.run("importing", bring_in, in_bytes=True), exit_on_error=False)
        app.run_worker(app.tasks.run("curating", curate), exit_on_error=False)
        await tui.until(pilot, lambda: len(app.tasks.running) == 2 and all(task.told for task in app.tasks.running))
        heart, steps = Heart(), seen.count("train")
        answers = await press_keys(rows, pilot, tui)
        working = len(app.tasks.running)
        heart.stop()
        tui.type_text(app, "xdull\n")  # and what is changed is committed meanwhile
        await tui.until(pilot, lambda: tui.said(app).startswith("Dropped 1 row"))
        dropped_beside = len(app.tasks.running)
        for task in app.tasks.running:
            task.stopped.set()
        wish[0] = "stop"
        await tui.until(pilot, lambda: not app.tasks.running)
    assert working == dropped_beside == 2, "all of it ran while keys were pressed"
    assert seen.count("train") > steps
    assert heart.worked < WORKED
    assert heart.stood_still < STOOD_STILL
    assert statistics.median(answers) < ANSWERED, answers


OF_JOBS = ("openai", "trainer.base", "trainer.likelihood", "filters.judge.endpoint")
"""What loads models and asks endpoints: for processes of their own."""


class Imports:
    """Remembers which of OF_JOBS anybody imports from now on; they are as good as never imported before."""

    def __init__(self, monkeypatch) -> None:
        self.seen: list[str] = []
        for name in OF_JOBS:
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "meta_path", [self, *sys.meta_path])

    def find_spec(self, name, path=None, target=None) -> None:
        if name in OF_JOBS:
            self.seen.append(name)


class SlowJudge(BaseHTTPRequestHandler):
    """Rates every row 4, after a while."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.5)
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": "Fine.\nRating: 4"}}
        raw = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def judge_url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowJudge)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def scored(folder) -> int:
    """How many rows each scoring job that has begun has scored, the slowest one's."""
    told = [path.read_text().splitlines() for path in folder.glob("score-*/events.jsonl")]
    done = [[json.loads(line).get("done", 0) for line in lines] for lines in told]
    return min(max(numbers, default=0) for numbers in done) if len(done) == 2 else 0


async def test_scores_are_computed_elsewhere_and_keys_are_answered_meanwhile(
    tui, workspace, tiny_model, judge_url, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_rows(tmp_path / "some.jsonl", 3_000)
    workspace.import_file(tmp_path / "some.jsonl", name="some")
    recipes = {
        # Row by row, so that there is something to do while keys are pressed.
        "likely": parse_recipe(f"steps: [{{likelihood: {{model: '{tiny_model}', micro_tokens: 8}}}}]"),
        "rated": parse_recipe(f"steps: [{{judge: {{base_url: '{judge_url}', model: m}}}}]"),
    }

    def scores(name):
        def work(progress, cancelled):
            try:
                workspace.run_recipe(
                    recipes[name], ["some"], name, progress=progress, cancelled=cancelled, agrees=lambda calls: True
                )
            except Stopped:
                return

        return work

    imports = Imports(monkeypatch)
    async with tui.running(workspace) as pilot:
        app = pilot.app
        rows = app.screen.query_one(RowList)
        for name in recipes:
            app.run_worker(app.tasks.run(name, scores(name)), exit_on_error=False)
        await tui.until(pilot, lambda: scored(workspace.runs_dir) > 0, 90)
        heart, before = Heart(), scored(workspace.runs_dir)
        answers = await press_keys(rows, pilot, tui)
        working = len(app.tasks.running)
        heart.stop()
        await tui.until(pilot, lambda: scored(workspace.runs_dir) > before)
        for task in app.tasks.running:
            task.stopped.set()
        await tui.until(pilot, lambda: not app.tasks.running)
    assert working == 2, "both jobs ran while keys were pressed"
    assert imports.seen == []
    assert heart.worked < WORKED
    assert heart.stood_still < STOOD_STILL
    assert statistics.median(answers) < ANSWERED, answers
