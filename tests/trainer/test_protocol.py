from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from pydantic import BaseModel

from trainer.errors import BadInput
from trainer.protocol import EVENTS, LOCK, PLAN, Events, deferred_stop, holding, read_events, read_plan, write_atomic

from ..waiting import until


def test_events_are_read_from_where_the_last_reading_ended(tmp_path):
    events = Events(tmp_path)
    assert read_events(tmp_path) == ([], 0)
    events.emit("started", pid=1)
    first, position = read_events(tmp_path)
    assert [e["event"] for e in first] == ["started"]
    assert read_events(tmp_path, position) == ([], position)
    events.emit("train", what="Zeile\nmit Umbruch, 日本")
    second, end = read_events(tmp_path, position)
    assert [e["what"] for e in second] == ["Zeile\nmit Umbruch, 日本"]
    assert end == (tmp_path / EVENTS).stat().st_size


def test_half_a_line_is_not_read_until_it_is_whole(tmp_path):
    path = tmp_path / EVENTS
    path.write_bytes(b'{"event":"a"}\n{"event":"\xc3')
    found, position = read_events(tmp_path)
    assert [e["event"] for e in found] == ["a"]
    with path.open("ab") as file:
        file.write(b'\xa4"}\n')
    found, _ = read_events(tmp_path, position)
    assert [e["event"] for e in found] == ["ä"]


def test_the_torn_line_of_a_killed_process_is_ended_and_costs_no_event_after_it(tmp_path):
    (tmp_path / EVENTS).write_bytes(b'{"event":"a"}\n{"event":"tr')
    _, position = read_events(tmp_path)
    Events(tmp_path).emit("started")
    assert [e["event"] for e in read_events(tmp_path)[0]] == ["a", "started"]
    assert [e["event"] for e in read_events(tmp_path, position)[0]] == ["started"]


def test_an_event_must_be_finite(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Events(tmp_path).emit("train", loss=float("nan"))
    assert read_events(tmp_path) == ([], 0)


WRITER = """
import os, sys
from pathlib import Path
from trainer import protocol

real = os.fsync
def die(number):
    real(number)
    os.kill(os.getpid(), 9)
os.fsync = die
protocol.write_atomic(Path(sys.argv[1]), "new " * 1000)
"""


def test_a_kill_while_a_file_is_written_leaves_the_old_one_whole(tmp_path):
    path = tmp_path / "budget.json"
    write_atomic(path, "old")
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_atomic(path, "newer")
    assert path.read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["budget.json"]


HOLDER = """
import sys
from pathlib import Path
from trainer.protocol import holding
with holding(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# A job that, where it finds its folder held, waits before it looks again until the file `free` is there.
PATIENT = """
import sys, time
from pathlib import Path
from trainer.protocol import run_as_job
folder, sleep = Path(sys.argv[1]), time.sleep

def wait(seconds):
    (folder / "waits").touch()
    while not (folder / "free").exists():
        sleep(0.01)

time.sleep = wait
sys.exit(run_as_job(folder, lambda folder, events: None))
"""


def test_one_process_holds_a_folder_and_its_death_frees_it(tmp_path, hold):
    holder = hold()
    assert holder.stdout.readline() == "True\n"
    with holding(tmp_path) as ours:
        assert not ours
    assert hold().stdout.readline() == "False\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists(), "the file stays; the kernel's lock on it went with the process"
    with holding(tmp_path) as ours:
        assert ours
        assert hold().stdout.readline() == "False\n"
    assert hold().stdout.readline() == "True\n"


def test_a_job_on_a_folder_that_is_held_leaves_it_alone(tmp_path, hold):
    assert hold().stdout.readline() == "True\n"
    done = subprocess.run(
        [sys.executable, "-m", "trainer", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "another process works on this run folder" in done.stderr
    assert not (tmp_path / EVENTS).exists()


class Plan(BaseModel):
    steps: int


def test_a_job_that_begins_while_somebody_looks_whether_it_runs_begins_all_the_same(tmp_path):
    with holding(tmp_path):
        job = subprocess.Popen([sys.executable, "-c", PATIENT, str(tmp_path)])
        until((tmp_path / "waits").exists)
    (tmp_path / "free").touch()
    assert job.wait(60) == 0
    assert [event["event"] for event in read_events(tmp_path)[0]] == ["started", "done"]


def test_a_plan_that_is_missing_or_wrong_is_named_with_its_spot(tmp_path):
    with pytest.raises(BadInput, match=r"no plan\.json"):
        read_plan(tmp_path, Plan)
    (tmp_path / PLAN).write_text(json.dumps({"steps": "many"}))
    with pytest.raises(BadInput, match="steps: ") as caught:
        read_plan(tmp_path, Plan)
    assert caught.value.where == str(tmp_path / PLAN)
    (tmp_path / PLAN).write_text('{"steps": 3}')
    assert read_plan(tmp_path, Plan).steps == 3


def test_a_stop_is_held_back_until_the_work_asks_and_never_lost():
    from trainer.errors import Stopped

    reached = []

    def work() -> None:
        with deferred_stop():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("the end")

    with pytest.raises(Stopped):
        work()
    assert reached == ["the end"]
    before = signal.getsignal(signal.SIGTERM)
    with deferred_stop() as wants_stop:
        assert not wants_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert wants_stop()
    assert signal.getsignal(signal.SIGTERM) is before
