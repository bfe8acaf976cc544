"""The run folder: how a job is told what to do, how it is watched, and how it hands over its results.

A job is a folder. `plan.json` says what to do and Parquet files beside it hold the inputs; the process appends
one JSON object a line to `events.jsonl`, writes Parquet results, and last of all `done.json`. Nothing else ties
the two sides together, so a folder can be copied to another machine, run there and be copied back.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from trainer import processes
from trainer.disk import disk_problem
from trainer.errors import BadInput, Problem, Stopped
from trainer.memory import memory_problem

PLAN = "plan.json"
EVENTS = "events.jsonl"
DONE = "done.json"
LOG = "log.txt"
LOCK = "lock"
STARTING = "starting"
"""Holds the id of a process that was started and does not hold the lock yet, and when it began (seconds since the
epoch); the process itself removes it."""

Plan = TypeVar("Plan", bound=BaseModel)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old content or the new, never half of it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_plan(folder: Path, model: type[Plan]) -> Plan:
    """The plan of the run folder `folder`. Raises BadInput where it is missing or does not fit `model`."""
    path = folder / PLAN
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInput("no plan.json here", where=str(folder), do="Give the path of a run folder.") from None
    except ValidationError as error:
        first = error.errors()[0]
        spot = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{spot}: {first['msg']}", where=str(path)) from None


class Events:
    """Appends events to the folder's `events.jsonl`, one JSON object a line, each with its time `t` in seconds.

    `began` is when a job made it, before it loaded any library: a time of the monotonic clock. Where several processes
    make a job, the first one tells of it.
    """

    def __init__(self, folder: Path) -> None:
        self.began = time.monotonic()
        self._path = folder / EVENTS
        if processes.is_first():
            _end_torn_line(self._path)

    def emit(self, event: str, **fields: object) -> None:
        """Append one event. `fields` must be JSON-able and finite."""
        if not processes.is_first() and event != "error":
            return
        line = json.dumps({"t": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _end_torn_line(path: Path) -> None:
    """A killed process may have left half a line: end it, so that the next event starts on its own."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def read_events(folder: Path, position: int = 0) -> tuple[list[dict[str, object]], int]:
    """Whole events after byte `position` of the folder's event file, and the position to go on from."""
    path = folder / EVENTS
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        # A torn line of a killed process is not an event.
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events, position + len(whole)


@contextlib.contextmanager
def holding(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the folder's lock for the block; yields False where another process holds it, or waits until it is free.

    The kernel drops the lock with its process, so a killed job never blocks the next one.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True


def run_as_job(folder: Path, work: Callable[[Path, Events], None]) -> int:
    """Run `work(folder, events)` as this process's whole purpose and return the exit code.

    SIGTERM and SIGINT raise `Stopped` in the main thread, so that work can leave a checkpoint. Library output
    goes to the folder's `log.txt`: as a rule nobody watches this process's terminal. What it ends of is said there.
    """
    if not folder.is_dir():
        sys.stderr.write(f"{folder}: no such run folder\n")
        return BadInput.exit_code
    if not processes.is_first():
        return _run(folder, work)
    for last_try in (False, False, False, True):
        with holding(folder) as ours:
            if ours:
                (folder / STARTING).unlink(missing_ok=True)
                return _run(folder, work)
        if last_try:
            break
        time.sleep(0.1)  # whoever looks whether a job runs holds the lock for a moment
    sys.stderr.write(f"{folder}: another process works on this run folder\n")
    return 4


def _run(folder: Path, work: Callable[[Path, Events], None]) -> int:
    events = Events(folder)
    with _stop_signals(), _output_to(folder / LOG):
        try:
            events.emit("started", pid=os.getpid())
            work(folder, events)
            if processes.is_first():
                write_atomic(folder / DONE, json.dumps({"t": round(time.time(), 3)}))
            events.emit("done")
            return 0
        except Stopped as stopped:
            told: Problem = stopped
            events.emit("stopped")
        except Problem as problem:
            traceback.print_exc()
            told = problem
            events.emit("error", what=told.what, where=told.where, do=told.do, exit_code=told.exit_code)
        except BaseException as error:
            traceback.print_exc()
            bug = f"This is our bug; {folder.name}/{LOG} has the traceback."
            told = disk_problem(error) or memory_problem(error) or Problem(f"{type(error).__name__}: {error}", do=bug)
            with contextlib.suppress(OSError):  # on a full disk there may be no room for the event either
                events.emit("error", what=told.what, where=told.where, do=told.do, exit_code=told.exit_code)
    sys.stderr.write(f"{told}\n")
    return told.exit_code


@contextlib.contextmanager
def deferred_stop() -> Iterator[Callable[[], bool]]:
    """Within the block a stop signal does not raise: yields a function that tells whether one has come.

    For work that must reach a point where it can save itself. A signal that nobody asked about raises Stopped
    at the end of the block.
    """
    asked: list[int] = []
    seen: list[bool] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    def wants_stop() -> bool:
        if asked:
            seen.append(True)
        return bool(asked)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield wants_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked and not seen:
        raise Stopped("Stopped")


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped("Stopped")


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    with path.open("a", encoding="utf-8", buffering=1) as log:
        faulthandler.enable(log)
        # Libraries in C write to the descriptors themselves, so redirecting Python's streams is not enough.
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            faulthandler.disable()
            for kept, number in zip(saved, (1, 2), strict=True):
                os.dup2(kept, number)
                os.close(kept)
