"""Worker processes: started, watched, attached to, stopped. A model never loads in the bench's own process.

A job lives in its own session, so closing the terminal does not end it; its run folder (`trainer.protocol`) is
all that connects the two, and whoever opens the folder again attaches to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psutil

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped, UsageProblem
from trainer.protocol import DONE, EVENTS, LOG, STARTING, holding, read_events

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Wish = Literal["watch", "leave", "stop"]

_POLL = 0.1  # seconds between looks at the event file
_GRACE = 60.0  # seconds a stopped job has to leave its checkpoint
_NO_ROOM = 1 << 20  # bytes free on a disk on which a job could not even write why it ended
_SAME = 1.0  # seconds that two readings of when a process began may lie apart
_BUSY = 4  # exit code of a job that found another process at work on its folder


def run_job(
    module: Literal["trainer", "filters"],
    folder: Path,
    on_event: OnEvent,
    *,
    wish: Callable[[], Wish] = lambda: "watch",
) -> None:
    """Run the job of `folder` to its end, passing every new event to `on_event`; attach if it already runs.

    Returns at once when the folder is done. Ctrl-c stops the job and raises Stopped; a job that failed raises
    the Problem that it reported. `wish` is asked ten times a second what its caller wants: `stop` stops the job,
    `leave` lets it run on by itself; both raise Stopped.
    """
    if (folder / DONE).exists():
        return
    position = (folder / EVENTS).stat().st_size if (folder / EVENTS).exists() else 0
    process = None
    try:
        process = None if is_running(folder) else start(module, folder)
        _watch(folder, position, on_event, process, wish)
    except (KeyboardInterrupt, _StopWished):
        stop(folder, process)
        raise Stopped("Stopped", do="The same command resumes where it was.") from None


class _StopWished(Exception):
    """The caller of `run_job` wants the job to stop."""


def is_running(folder: Path) -> bool:
    """Whether a process works on the run folder now, or has been started and is still loading its libraries."""
    with holding(folder) as free:
        return not free or _starting(folder) is not None


def stop(folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Ask the folder's process to stop and wait until it has left its checkpoint.

    Give `process` where this process started it: in its first moments a job holds no lock and has no event yet.
    """
    ours = process is not None and process.poll() is None
    if not ours and not is_running(folder):
        return
    events, _ = read_events(folder)
    pids = [int(str(event["pid"])) for event in events if event["event"] == "started"]
    pid = process.pid if process is not None and ours else _starting(folder) or (pids[-1] if pids else None)
    if pid is None:  # somebody only looks whether it runs
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while process.poll() is None if process is not None and ours else is_running(folder):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL)


def start(module: Literal["trainer", "filters"], folder: Path) -> subprocess.Popen[bytes]:
    """Start the job of `folder` and return at once. Its process outlives this one."""
    with _uninterrupted(), (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            # -P: a trainer.py or filters/ in the folder where the user happens to be must not run in place of ours.
            [sys.executable, "-P", "-m", module, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        (folder / STARTING).write_text(f"{process.pid} {_born(process.pid)}", encoding="utf-8")
    return process


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Within the block ctrl-c waits for its end: it must not leave a process that nobody knows of."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _starting(folder: Path) -> int | None:
    """The process that was started last, where it lives and has not come to hold the folder yet."""
    try:
        pid, _, born = (folder / STARTING).read_text(encoding="utf-8").partition(" ")
        # After a restart of the machine, or on another one, the number may be that of any process.
        if abs(_born(int(pid)) - float(born)) > _SAME:
            return None
    except (OSError, ValueError, psutil.Error):
        return None
    with contextlib.suppress(ChildProcessError, AttributeError):  # no child of this process, or no way to ask (macOS)
        if os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOHANG | os.WNOWAIT):  # dead, and nobody has asked yet
            return None
    return int(pid)


def _born(pid: int) -> float:
    """When a process began, in seconds since the epoch. Raises psutil.Error where there is none."""
    return float(psutil.Process(pid).create_time())


def ending(folder: Path) -> Problem:
    """Why the job of `folder`, which neither runs nor has finished, is at rest: Stopped, or what it failed of."""
    events, _ = read_events(folder)
    last = events[-1] if events else None
    if last is None or last["event"] == "stopped":
        return Stopped("It is stopped", do="Resumed, it goes on where it was.")
    return _problem(last) if last["event"] == "error" else _without_a_word(folder)


def _watch(
    folder: Path,
    position: int,
    on_event: OnEvent,
    process: subprocess.Popen[bytes] | None,
    wish: Callable[[], Wish],
) -> None:
    while True:
        if (wished := wish()) == "stop":
            raise _StopWished
        if wished == "leave":
            raise Stopped("Nobody watches the job any more", do="It runs on; the same command attaches to it.")
        ended = process.poll() is not None if process else not is_running(folder)
        events, position = read_events(folder, position)
        for event in events:
            kind = event["event"]
            if kind == "error":
                raise _problem(event)
            if kind == "stopped":
                raise Stopped("The job was stopped", do="The same command resumes where it was.")
            on_event(event)
            if kind == "done":
                if process:
                    process.wait()
                return
        if ended and not events:
            if (folder / DONE).exists():
                return
            if process and process.returncode == _BUSY:
                process = None  # somebody else's job was quicker: watch that one
                continue
            raise _without_a_word(folder)
        time.sleep(_POLL)


def _without_a_word(folder: Path) -> Problem:
    if shutil.disk_usage(folder).free < _NO_ROOM:
        return Problem(
            "the worker process ended, and the disk is full",
            where=str(folder),
            do="Free some space; the same command resumes where it was.",
        )
    return Problem(
        "the worker process ended without a word (killed, or out of memory)",
        where=str(folder),
        do=f"The end of {folder / LOG} may say why; the same command resumes where it was. "
        "Shorter rows (--max-length), weights in 4 bits (--quantize nf4) and a smaller model need less memory.",
    )


def _problem(event: Event) -> Problem:
    kinds: dict[int, type[Problem]] = {2: UsageProblem, 3: BadInput, 5: ModelUnavailable}
    kind = kinds.get(int(event["exit_code"]), Problem)
    return kind(str(event["what"]), where=str(event["where"]), do=str(event["do"]))
