"""Runs of an experiment side by side: a worker process for each device, each with a model of its own.

Which devices is no part of the plan, because it changes no number: `devices.json` in the run folder has them. The
workers find the runs that are left by themselves (see `trainer.experiment`): whoever holds the lock of a run makes it,
and the kernel gives the locks of a dead one to the others.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from trainer.disk import disk_problem
from trainer.errors import Problem, Stopped, UsageProblem
from trainer.memory import memory_problem
from trainer.protocol import LOG, write_atomic

DEVICES = "devices.json"
AUTO = "auto"
CPU = "cpu"

_GRACE_SECONDS = 30.0
"""How long a worker may take to stop. A run writes no more than a checkpoint then, and is safe without that one."""

_PROCESSES: Any = multiprocessing.get_context("spawn")  # CUDA cannot be used in a forked process

Work = Callable[[Path, int, float], None]
"""What a worker does: takes the run folder, how many workers there are, and when the job began (monotonic clock)."""


def parse_devices(text: str) -> list[str]:
    """`auto`, numbers of GPUs, or `cpu` as often as there shall be workers. Raises UsageProblem for anything else."""
    devices = [part.strip() for part in text.split(",") if part.strip()]
    where = f"--devices {text}"
    if not devices or not all(device.isdecimal() or device == CPU or devices == [AUTO] for device in devices):
        raise UsageProblem(
            "no list of devices",
            where=where,
            do="Give numbers of GPUs as in 0,1, or auto for all of them; cpu,cpu makes two workers on the CPU.",
        )
    if CPU in devices and set(devices) != {CPU}:
        raise UsageProblem("runs on a GPU and on a CPU are not the same arithmetic", where=where, do="Take one kind.")
    return devices


def write_devices(folder: Path, devices: Sequence[str]) -> None:
    """Note which devices the job of `folder` is to use."""
    write_atomic(folder / DEVICES, json.dumps(list(devices)))


def read_devices(folder: Path) -> list[str]:
    """The devices that a job is to use, those of `auto` counted; nothing where nobody has asked for any.

    Raises UsageProblem for a GPU that is not here.
    """
    path = folder / DEVICES
    asked: list[str] = json.loads(path.read_bytes()) if path.exists() else []
    if not asked or CPU in asked:
        return asked
    import torch

    count = torch.cuda.device_count()
    if asked == [AUTO]:
        return [str(number) for number in range(count)]
    if beyond := [device for device in asked if int(device) >= count]:
        raise UsageProblem(f"there is no GPU {beyond[0]} here", where="--devices", do=f"PyTorch finds {count} of them.")
    return asked


def side_by_side(folder: Path, devices: Sequence[str], work: Work, began: float) -> None:
    """Have a worker on each device do `work` and wait for all of them; a stop of this process stops them.

    Raises the Problem that a worker ended of, after stopping the others. One that ends without a word is no problem
    here: what it had begun is taken up by the others, or left. One that does not heed its stop, as it hangs in a
    library or the exception was lost in a finalizer, is killed.
    """
    told = _PROCESSES.SimpleQueue()
    workers = [
        _PROCESSES.Process(target=_worker, args=(work, folder, device, len(devices), began, told)) for device in devices
    ]
    try:
        for worker in workers:
            worker.start()
        alive = list(workers)
        while alive and told.empty():
            wait([worker.sentinel for worker in alive])
            alive = [worker for worker in alive if worker.is_alive()]
    finally:
        for worker in workers:
            if worker.pid and worker.is_alive():
                worker.terminate()
        latest = time.monotonic() + _GRACE_SECONDS
        for worker in workers:
            if worker.pid:
                worker.join(max(0.0, latest - time.monotonic()))
                worker.kill()
                worker.join()
    if not told.empty():
        raise told.get()


def _worker(work: Work, folder: Path, device: str, count: int, began: float, told: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _bind(device, count)
        work(folder, count, began)
    except Problem as problem:
        told.put(problem)
    except BaseException as error:
        traceback.print_exc()
        bug = f"This is our bug; {folder.name}/{LOG} has the traceback."
        told.put(disk_problem(error) or memory_problem(error) or Problem(f"{type(error).__name__}: {error}", do=bug))


def _bind(device: str, count: int) -> None:
    """Let this process see its device alone; of a CPU it takes its share of the threads. Call before CUDA is used."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if device != CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[int(device)] if seen else device
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, of which nobody else would tell it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(_number: int, _frame: object) -> None:
    raise Stopped("Stopped", do="The same command resumes where it was.")
