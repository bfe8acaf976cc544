"""Processes that are forked from the tests' own: they find their libraries loaded, which takes others seconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


class Forked:
    """What a started process is to its caller, as a `subprocess.Popen` is."""

    def __init__(self, work: Callable[[], int]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                os.setsid()
                code = work()
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._ended(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        return self._ended(0)

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _ended(self, how: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


class ForkedCommand(Forked):
    """A `workbench` command; what it prints goes to files in `folder`. Its jobs are begun by `start`."""

    def __init__(self, argv: list[str], folder: Path, start: Callable[[str, Path], Forked]) -> None:
        self._printed = [folder / "out", folder / "err"]

        def work() -> int:
            from workbench import jobs
            from workbench.cli import main

            for number, path in enumerate(self._printed, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            jobs.start = start
            sys.argv = ["workbench", *argv]
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
            return 0

        super().__init__(work)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it printed and what it told."""
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self._printed)
        return out, err
