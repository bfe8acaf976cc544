"""What keeps one test from hanging another, or the whole run: registered by conftest.py as a plugin of pytest.

Tests fork jobs, send signals and start processes within one process that runs thousands of them. What a test leaves is
ended and named as a warning, and the time of every part of a test is limited.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any

import psutil
import pytest
import pytest_timeout

# A shell that starts a program in the background has it ignore ctrl-c, and the programs it starts as well; tests of
# ctrl-c would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

Handlers = dict[signal.Signals, Any]


def _handlers() -> Handlers:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


STOPS = _handlers()
"""The signals that stop a program, and what they do between files of tests."""


def _put_back(handlers: Handlers, item: pytest.Item) -> None:
    for number, handler in handlers.items():
        if (left := signal.getsignal(number)) != handler:
            item.warn(pytest.PytestWarning(f"left {left} as handler of {number.name}"))
            signal.signal(number, handler)


# Forks. A signal that reaches a child before Python has looked after its own state there is forgotten where the parent
# has a handler for it, as Ray leaves one: a job that is stopped so early would never stop.

_held_back = threading.local()


def _before_fork() -> None:
    _held_back.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held_back.mask)


def _in_child() -> None:
    gc.freeze()  # what the parent has left to be collected may wait, as it ends, for threads that are not here
    signal.set_wakeup_fd(-1)  # of an event loop of the parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


# Processes.

_STARTS = ("os.fork", "os.posix_spawn", "subprocess.Popen")
_SERVANTS = ("resource_tracker", "forkserver")  # of Python's own, for as long as this process lives
_started = False  # a process since somebody looked last
_known: set[int] = set()


def _note_start(event: str, _args: object) -> None:
    global _started
    _started = _started or event in _STARTS


sys.addaudithook(_note_start)


def _children() -> list[psutil.Process]:
    """The processes that this one has started and that live."""
    global _started
    _started = False
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and not any(name in line for name in _SERVANTS):
                found.append(process)
    return found


def _end(process: psutil.Process, item: pytest.Item) -> None:
    line = " ".join(process.cmdline())
    try:
        process.wait(5)  # one that is ending is let end
    except psutil.TimeoutExpired:
        item.warn(pytest.PytestWarning(f"left the process {line[:200]}"))
        process.kill()
        process.wait(10)


# Time.

_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the standard error that is not captured."""
    config.stash[_STDERR] = os.dup(2)


def _limit_time(item: pytest.Item) -> None:
    """Begin the time that pytest-timeout gives a test.

    It does so once: a test that is run again, or that tears down what a failed one has left, would have no limit. And
    it cannot end what hangs in a library: then this process goes, and says where it was.
    """
    settings = pytest_timeout._get_item_settings(item)
    if settings.timeout:
        item.ihook.pytest_timeout_set_timer(item=item, settings=settings)
        faulthandler.dump_traceback_later(settings.timeout + 60, exit=True, file=item.config.stash[_STDERR])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Limit the time of what is set up and of the test."""
    _limit_time(item)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Remember the processes that fixtures have started, and have the test leave signal handlers as they were."""
    if _started:
        _known.update(process.pid for process in _children())
    before = _handlers()
    try:
        return (yield)
    finally:
        _put_back(before, item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Limit the time of taking down; then end processes that the test left, and put back what its file changed."""
    _limit_time(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        if nextitem is None or nextitem.path != item.path:
            _put_back(STOPS, item)
        for process in _children() if _started else ():
            if process.pid not in _known:
                with contextlib.suppress(psutil.NoSuchProcess):
                    _end(process, item)
