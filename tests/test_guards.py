"""The guards of the tests themselves: what would hang a run of all of them, if only once in some thousand tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HANGS = """
import signal, subprocess, time
from pathlib import Path
import pytest

def test_leaves():
    signal.signal(signal.SIGTERM, print)
    Path("child").write_text(str(subprocess.Popen(["sleep", "300"]).pid))

@pytest.mark.timeout(0.5)
def test_hangs():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    time.sleep(300)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_signal_that_comes_with_a_fork_is_heeded():
    before = signal.signal(signal.SIGTERM, print)
    try:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_test_leaves_is_named_and_ended_and_a_test_that_hangs_is_ended_each_time(tmp_path):
    (tmp_path / "test_it.py").write_text(HANGS)
    plugins = ("guards", "pytest_timeout", "pytest_rerunfailures")
    argv = [*(f"-p{plugin}" for plugin in plugins), "--timeout=60", "--reruns=1", "--only-rerun=from pytest-timeout"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *argv, "test_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "1 failed, 1 passed, " in done.stdout, done.stderr
    assert " 1 rerun in " in done.stdout
    assert "left <built-in function print> as handler of SIGTERM" in done.stdout
    assert "left the process sleep 300" in done.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text()), 0)
