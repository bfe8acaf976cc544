"""Worker processes under the real protocol, with work that is cheap: `run_job` against a module made here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped, UsageProblem
from trainer.protocol import DONE, LOG, STARTING, Events, read_events
from workbench.jobs import is_running, run_job, start, stop

from ..waiting import until

WORK = """
import json, os, signal, sys, time
from pathlib import Path
from trainer import errors
from trainer.protocol import run_as_job

def work(folder, events):
    what, number = (folder / "plan.json").read_text().split()
    if what == "fail":
        raise getattr(errors, number)("the rows are odd", where="row 7", do="Look at row 7.")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    for step in range(int(number)):
        events.emit("train", step=step)
        try:
            time.sleep(0.1)
        except errors.Stopped:
            time.sleep(0.5)
            (folder / "checkpoint").touch()
            raise

sys.exit(run_as_job(Path(sys.argv[1]), work))
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job("count 5"): a run folder; the module `cheap_job` does what it says."""
    (tmp_path / "cheap_job.py").write_text(WORK)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(root)]))

    def make(plan: str) -> Path:
        folder = tmp_path / "job"
        folder.mkdir()
        (folder / "plan.json").write_text(plan)
        return folder

    return make


def run(folder: Path, on_event=lambda event: None) -> None:
    run_job("cheap_job", folder, on_event)


def processes_of(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = process.info["cmdline"] or []
        if "cheap_job" in command and str(folder) in command:
            found.append(process.info["pid"])
    return found


def test_every_event_is_passed_on_and_a_done_job_is_not_run_again(job):
    folder = job("count 3")
    seen: list = []
    run(folder, seen.append)
    assert [event["event"] for event in seen] == ["started", "train", "train", "train", "done"]
    assert not is_running(folder)
    run(folder, seen.append)
    assert len(seen) == 5


def test_a_second_caller_attaches_to_the_job_that_runs(job):
    folder = job("count 15")
    first: list = []
    second: list = []
    thread = threading.Thread(target=run, args=(folder, first.append))
    thread.start()
    until(lambda: len(first) > 2)
    run(folder, second.append)
    thread.join()
    assert first[-1]["event"] == second[-1]["event"] == "done"
    assert second == first[-len(second) :]
    assert [e["event"] for e in read_events(folder)[0]].count("started") == 1


def test_two_callers_at_the_same_moment_share_one_job(job):
    folder = job("count 5")
    ends: list[list] = [[], []]
    threads = [threading.Thread(target=run, args=(folder, seen.append)) for seen in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [seen[-1]["event"] for seen in ends] == ["done", "done"]
    assert [e["event"] for e in read_events(folder)[0]].count("started") == 1


@pytest.mark.parametrize(
    ("kind", "code"),
    [(BadInput, 3), (ModelUnavailable, 5), (UsageProblem, 2), (Problem, 1)],
)
def test_an_error_of_the_job_is_raised_as_what_it_was(job, kind, code):
    with pytest.raises(Problem) as caught:
        run(job(f"fail {kind.__name__}"))
    assert type(caught.value) is kind
    assert caught.value.exit_code == code
    assert str(caught.value) == "row 7: the rows are odd. Look at row 7."


def test_a_bug_in_the_job_is_one_sentence_and_the_traceback_is_in_its_log(job):
    folder = job("count many")
    with pytest.raises(Problem, match="ValueError") as caught:
        run(folder)
    assert caught.value.exit_code == 1
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in (folder / LOG).read_text()


def test_a_job_that_dies_without_a_word_is_a_problem_that_names_its_log(job):
    folder = job("die now")
    with pytest.raises(Problem, match="without a word") as caught:
        run(folder)
    assert str(folder / LOG) in str(caught.value)
    assert (folder / LOG).exists()
    (folder / "plan.json").write_text("count 1")
    run(folder)
    assert (folder / DONE).exists()


def test_a_job_that_dies_on_a_full_disk_is_not_said_to_have_died_of_memory(job, monkeypatch):
    monkeypatch.setattr("workbench.jobs._NO_ROOM", 1 << 62)  # as much as no disk has
    with pytest.raises(Problem, match=r"the disk is full.*Free some space; the same command resumes"):
        run(job("die now"))


def test_stop_waits_until_the_job_has_left_its_checkpoint(job):
    folder = job("count 600")
    ended: list[BaseException] = []

    def watched() -> None:
        try:
            run(folder)
        except Stopped as error:
            ended.append(error)

    thread = threading.Thread(target=watched)
    thread.start()
    until(lambda: any(e["event"] == "train" for e in read_events(folder)[0]))
    stop(folder)
    assert (folder / "checkpoint").exists()
    assert not is_running(folder)
    thread.join()
    assert len(ended) == 1
    assert ended[0].exit_code == 6
    stop(folder)  # nothing runs: nothing to do


def test_who_watches_can_leave_the_job_alone_and_stop_it_also_in_its_first_moment(job):
    folder = job("count 600")
    with pytest.raises(Stopped, match="runs on"):
        run_job("cheap_job", folder, lambda event: None, wish=lambda: "leave")
    until(lambda: is_running(folder))
    seen: list = []
    with pytest.raises(Stopped):
        run_job("cheap_job", folder, seen.append, wish=lambda: "stop" if seen else "watch")
    until(lambda: processes_of(folder) == [])  # it has let go of the folder and is about to end
    with pytest.raises(Stopped):
        run_job("cheap_job", folder, seen.append, wish=lambda: "stop")
    assert processes_of(folder) == []


def test_a_job_counts_as_running_from_its_first_moment_and_whoever_finds_it_can_stop_it(job):
    folder = job("count 600")
    Events(folder).emit("started", pid=999_999_999)  # of an earlier time
    process = start("cheap_job", folder)
    assert is_running(folder), "its libraries are not loaded yet"
    stop(folder)
    assert process.wait() != 0
    assert not is_running(folder)


def test_a_process_that_died_before_it_held_the_folder_does_not_count(job):
    folder = job("count 1")
    (folder / STARTING).write_text("999999999")
    assert not is_running(folder)
    (folder / STARTING).write_text("half a numb")
    assert not is_running(folder)
    # The machine was restarted, or the folder copied: another process has the number now.
    (folder / STARTING).write_text(f"{os.getpid()} {psutil.Process().create_time() - 3600}")
    assert not is_running(folder)
    (folder / STARTING).write_text(f"{os.getpid()} {psutil.Process().create_time()}")
    assert is_running(folder)
    (folder / STARTING).write_text(f"{os.getpid()}")
    assert not is_running(folder)
    run(folder)
    assert not (folder / STARTING).exists()


CALLER = """
import signal, sys
from pathlib import Path
from trainer.errors import Stopped
from workbench.jobs import run_job

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
print("ready", flush=True)
try:
    run_job("cheap_job", Path(sys.argv[1]), lambda event: None)
except Stopped as stopped:
    sys.exit(stopped.exit_code)
"""


@pytest.mark.parametrize("when", ["at once", "at work"])
def test_ctrl_c_stops_the_job_also_in_its_first_moment(job, when):
    folder = job("count 600")
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(folder)], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    caller.stdout.readline()
    if when == "at once":
        until(lambda: processes_of(folder))
        assert not read_events(folder)[0]
    else:
        until(lambda: any(e["event"] == "train" for e in read_events(folder)[0]))
    caller.send_signal(signal.SIGINT)
    assert caller.wait(30) == 6
    assert processes_of(folder) == []
    assert not (folder / DONE).exists()


def test_the_job_outlives_a_caller_that_was_killed_and_can_be_attached_to(job):
    folder = job("count 20")
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(folder)], stdout=subprocess.DEVNULL)
    until(lambda: any(e["event"] == "train" for e in read_events(folder)[0]))
    caller.kill()
    caller.wait()
    seen: list = []
    run(folder, seen.append)
    assert seen[-1]["event"] == "done"
    assert [e["event"] for e in read_events(folder)[0]].count("started") == 1


def test_a_trainer_py_where_the_user_is_does_not_run_in_place_of_ours(tmp_path, monkeypatch):
    (tmp_path / "trainer.py").write_text("print('the decoy ran')\n")
    folder = tmp_path / "job"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"no plan\.json here"):
        run_job("trainer", folder, lambda event: None)
