"""Worker processes: started, watched, attached to, stopped. A model never loads in the bench's own process.

A job lives in its own session, so closing the terminal does not end it; its run folder (`trainer.protocol`) is
all that connects the two, and whoever opens the folder again attaches to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped, UsageProblem
from trainer.protocol import DONE, EVENTS, LOG, holding, read_events

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

_POLL = 0.1  # seconds between looks at the event file
_GRACE = 60.0  # seconds a stopped job has to leave its checkpoint
_BUSY = 4  # exit code of a job that found another process at work on its folder


def run_job(module: Literal["trainer", "filters"], folder: Path, on_event: OnEvent) -> None:
    """Run the job of `folder` to its end, passing every new event to `on_event`; attach if it already runs.

    Returns at once when the folder is done. Ctrl-c stops the job and raises Stopped; a job that failed raises
    the Problem that it reported.
    """
    if (folder / DONE).exists():
        return
    position = (folder / EVENTS).stat().st_size if (folder / EVENTS).exists() else 0
    process = None
    try:
        process = None if is_running(folder) else _start(module, folder)
        _watch(folder, position, on_event, process)
    except KeyboardInterrupt:
        stop(folder, process)
        raise Stopped("Stopped", do="The same command resumes where it was.") from None


def is_running(folder: Path) -> bool:
    """Whether a process works on the run folder now."""
    with holding(folder) as free:
        return not free


def stop(folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Ask the folder's process to stop and wait until it has left its checkpoint.

    Give `process` where this process started it: in its first moments a job holds no lock and has no event yet.
    """
    ours = process is not None and process.poll() is None
    events, _ = read_events(folder)
    pids = [event["pid"] for event in events if event["event"] == "started"]
    if not ours and (not pids or not is_running(folder)):
        return
    pid = process.pid if process is not None and ours else int(str(pids[-1]))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while process.poll() is None if process is not None and ours else is_running(folder):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL)


def _start(module: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            # -P: a trainer.py or filters/ in the folder where the user happens to be must not run in place of ours.
            [sys.executable, "-P", "-m", module, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _watch(folder: Path, position: int, on_event: OnEvent, process: subprocess.Popen[bytes] | None) -> None:
    while True:
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
            raise Problem(
                "the worker process ended without a word (killed, or out of memory)",
                where=str(folder),
                do=f"The end of {folder / LOG} may say why; the same command resumes where it was.",
            )
        time.sleep(_POLL)


def _problem(event: Event) -> Problem:
    kinds: dict[int, type[Problem]] = {2: UsageProblem, 3: BadInput, 5: ModelUnavailable}
    kind = kinds.get(int(event["exit_code"]), Problem)
    return kind(str(event["what"]), where=str(event["where"]), do=str(event["do"]))
