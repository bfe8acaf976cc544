"""While imports, recipes and jobs run, keys are answered: nothing of it is done in the UI thread."""

from __future__ import annotations

import asyncio
import json
import selectors
import statistics
import sys
import threading
import time
import traceback
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
STOOD_STILL = 30  # looks in a row, while which a thread beside it went on
TURNS = 20  # of the loop, the median, until a key is answered: it takes a few, and more where others go before it


def write_rows(path, count: int) -> None:
    text = "it goes down to the sea, slowly, past the mill and the two bridges, and nobody ever asked it why. " * 4
    rows = ({"prompt": f"Where does river {n} go?", "completion": f"Number {n}: {text}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Watch:
    """Looks at the loop of the app from within and from a thread beside it, in what a slow machine does not change.

    `worked` is the most processor time that the loop took between two beats, in seconds. `stood_still` is how many
    looks of the thread in a row found the loop at the same place, waiting for something else than what comes next, and
    `place` is where: on a machine that stalls, the thread looks as seldom as the loop goes on.
    """

    def __init__(self) -> None:
        self.worked = 0.0
        self.stood_still, self.place = 0, ""
        self._loop = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        self._beating = asyncio.create_task(self._beat())

    def _look(self) -> None:
        before, looks = None, 0
        while not self._stopped.is_set():
            time.sleep(BEAT)
            frame = sys._current_frames()[self._loop]
            place = frame, frame.f_lasti
            waits_for_events = frame.f_code.co_filename == selectors.__file__
            looks = looks + 1 if place == before and not waits_for_events else 0
            before = place
            if looks > self.stood_still:
                self.stood_still, self.place = looks, "".join(traceback.format_stack(frame))

    async def _beat(self) -> None:
        while True:
            worked = time.thread_time()
            await asyncio.sleep(BEAT)
            self.worked = max(self.worked, time.thread_time() - worked)

    def stop(self) -> None:
        self._beating.cancel()
        self._stopped.set()
        self._thread.join()


def expect_free(watch: Watch, turns: list[int]) -> None:
    """The loop did nothing but answer keys."""
    assert watch.worked < WORKED
    assert watch.stood_still < STOOD_STILL, watch.place
    assert statistics.median(turns) < TURNS, turns


async def press_keys(rows, pilot, tui) -> list[int]:
    """How often the loop came round until the list followed each of KEYS."""
    turns = []
    for key, to in KEYS:
        pressed, count = time.perf_counter(), 0
        tui.type_ahead(pilot.app, key)
        while rows.cursor != to:
            await asyncio.sleep(0)
            count += 1
            assert time.perf_counter() - pressed < 20
        turns.append(count)
        await pilot.pause(0.02)
    return turns


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
        watch, steps = Watch(), seen.count("train")
        turns = await press_keys(rows, pilot, tui)
        working = len(app.tasks.running)
        watch.stop()
        tui.type_text(app, "xdull\n")  # and what is changed is committed meanwhile
        await tui.until(pilot, lambda: tui.said(app).startswith("Dropped 1 row"))
        dropped_beside = len(app.tasks.running)
        for task in app.tasks.running:
            task.stopped.set()
        wish[0] = "stop"
        await tui.until(pilot, lambda: not app.tasks.running)
    assert working == dropped_beside == 2, "all of it ran while keys were pressed"
    assert seen.count("train") > steps
    expect_free(watch, turns)


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
        watch, before = Watch(), scored(workspace.runs_dir)
        turns = await press_keys(rows, pilot, tui)
        working = len(app.tasks.running)
        watch.stop()
        await tui.until(pilot, lambda: scored(workspace.runs_dir) > before)
        for task in app.tasks.running:
            task.stopped.set()
        await tui.until(pilot, lambda: not app.tasks.running)
    assert working == 2, "both jobs ran while keys were pressed"
    assert imports.seen == []
    expect_free(watch, turns)


async def test_a_loop_that_waits_for_a_thread_is_seen_with_where():
    watch, seen = Watch(), threading.Event()

    def look() -> None:
        while watch.stood_still < STOOD_STILL:
            time.sleep(BEAT)
        seen.set()

    threading.Thread(target=look, daemon=True).start()
    seen.wait(20)
    watch.stop()
    with pytest.raises(AssertionError, match=r"seen\.wait"):
        expect_free(watch, [1])


async def test_a_loop_that_works_itself_is_seen():
    watch, began = Watch(), time.thread_time()
    await asyncio.sleep(2 * BEAT)
    while time.thread_time() - began < 2 * WORKED:
        pass
    await asyncio.sleep(2 * BEAT)
    watch.stop()
    assert watch.worked >= WORKED
