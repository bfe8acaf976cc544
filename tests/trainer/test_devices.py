"""Runs side by side: one worker for each device, no run made twice, what dies taken up by the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer import devices  # noqa: E402
from trainer.devices import parse_devices, read_devices, side_by_side, write_devices  # noqa: E402
from trainer.errors import BadInput, UsageProblem  # noqa: E402
from trainer.protocol import holding, read_events  # noqa: E402

from ..waiting import until  # noqa: E402
from .test_experiment import folder, metrics, summary  # noqa: E402, F401

RUNS = ("a-0", "b-0", "a-1", "b-1")


@pytest.fixture(autouse=True)
def forked_workers(monkeypatch) -> None:
    """Workers find their libraries loaded, which costs more than a tiny model."""
    monkeypatch.setattr(devices, "_PROCESSES", multiprocessing.get_context("fork"))


def test_runs_on_two_devices_are_those_of_one(folder, fork_job):  # noqa: F811
    alone, both = folder("alone"), folder("both")
    assert fork_job("trainer", alone).wait() == 0
    write_devices(both, ["cpu", "cpu"])
    assert fork_job("trainer", both).wait() == 0, (both / "log.txt").read_text()
    told, _ = read_events(both)
    assert sorted(event["run"] for event in told if event["event"] == "run-done") == sorted((*RUNS, "base"))
    assert sorted(event["run"] for event in told if event["event"] == "train" and event["step"] == 1) == sorted(RUNS)
    for run in RUNS:
        assert metrics(both, run) == metrics(alone, run)
        assert summary(both, run)["losses"] == summary(alone, run)["losses"]


def test_a_run_of_a_worker_that_died_is_taken_up(folder, fork_job):  # noqa: F811
    job = folder()
    (job / "results" / "a-0").mkdir(parents=True)
    other = os.fork()
    if other == 0:
        try:
            with holding(job / "results" / "a-0"):
                (job / "held").touch()
                time.sleep(300)
        finally:
            os._exit(0)
    until((job / "held").exists)
    ours = fork_job("trainer", job)

    def others_made() -> bool:
        assert ours.poll() is None, (job / "log.txt").read_text()
        return all((job / "results" / run / "summary.json").exists() for run in RUNS[1:])

    until(others_made)
    assert ours.poll() is None
    assert not (job / "results" / "a-0" / "summary.json").exists()
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert ours.wait() == 0
    assert summary(job, "a-0")["steps"] == 5


def meet(folder: Path, count: int, _began: float) -> None:  # noqa: F811
    """Wait for the other workers, who must be there at the same time."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)


def test_workers_are_at_work_at_the_same_time(tmp_path):
    side_by_side(tmp_path, ["cpu", "cpu"], meet, 0.0)
    assert len(list(tmp_path.iterdir())) == 2


def first_fails(folder: Path, _count: int, _began: float) -> None:  # noqa: F811
    """The first that comes fails; the other one waits for ever."""
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        time.sleep(300)
    raise BadInput("nothing to train", where="here")


def test_what_one_worker_ends_of_stops_the_others_and_is_told(tmp_path):
    with pytest.raises(BadInput, match="nothing to train") as raised:
        side_by_side(tmp_path, ["cpu", "cpu"], first_fails, 0.0)
    assert raised.value.where == "here"
    assert not multiprocessing.active_children()


def fails_beside_a_deaf_one(folder: Path, _count: int, _began: float) -> None:  # noqa: F811
    """The first that comes hears no stop; the other one fails as soon as that is so."""
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        while not (folder / "deaf").exists():
            time.sleep(0.01)
        raise BadInput("nothing to train") from None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "deaf").touch()
    time.sleep(300)


def test_a_worker_that_does_not_heed_its_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_GRACE_SECONDS", 0.2)
    with pytest.raises(BadInput, match="nothing to train"):
        side_by_side(tmp_path, ["cpu", "cpu"], fails_beside_a_deaf_one, 0.0)
    assert not multiprocessing.active_children()


def dies(_folder: Path, _count: int, _began: float) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_no_problem_of_the_others(tmp_path):
    side_by_side(tmp_path, ["cpu", "cpu"], dies, 0.0)


def test_devices_are_gpus_or_workers_on_the_cpu(tmp_path):
    assert parse_devices("0, 2") == ["0", "2"]
    assert parse_devices("cpu,cpu") == ["cpu", "cpu"]
    for wrong in ("", "gpu", "auto,0", "0;1", "-1"):
        with pytest.raises(UsageProblem, match="no list of devices"):
            parse_devices(wrong)
    with pytest.raises(UsageProblem, match="not the same arithmetic"):
        parse_devices("0,cpu")
    assert read_devices(tmp_path) == []
    write_devices(tmp_path, ["auto"])
    count = torch.cuda.device_count()
    assert read_devices(tmp_path) == [str(n) for n in range(count)]
    write_devices(tmp_path, [str(count)])
    with pytest.raises(UsageProblem, match=f"no GPU {count} here"):
        read_devices(tmp_path)
