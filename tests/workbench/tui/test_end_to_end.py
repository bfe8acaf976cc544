"""The real program in a real terminal, from an empty workspace to what a person reads at the end."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from workbench.comparing import listing
from workbench.workspace import Workspace

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A tmux session of its own, 120x40, in which the program runs."""

    def __init__(self, folder, *argv: str, **environment: str) -> None:
        self._socket = str(folder / "tmux")
        given = {
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLORTERM": "truecolor", "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "HOME": str(folder), **environment,
        }  # fmt: skip
        assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
        program = f"env -u COLUMNS -u LINES {assigned} {shlex.join(argv)}"
        command = f"cd {shlex.quote(str(folder))} && {program}; echo left with $?; sleep 60"
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", "120", "-y", "40", command)

    def _tmux(self, *argv: str) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *argv], capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def screen(self) -> str:
        """What is on it."""
        return self._tmux("capture-pane", "-p")

    @property
    def mouse(self) -> str:
        """1 where the program asked for the mouse."""
        return self._tmux("display-message", "-p", "#{mouse_any_flag}").strip()

    def press(self, *keys: str) -> None:
        """Press keys by their tmux names."""
        self._tmux("send-keys", *keys)

    def type(self, text: str, end: str = "Enter") -> None:
        """Type a text, and a key behind it."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", end)

    def wait(self, *texts: str, seconds: float = 60.0) -> str:
        """The screen, once all of the texts are on it."""
        deadline = time.monotonic() + seconds
        while not all(text in (screen := self.screen) for text in texts):
            assert time.monotonic() < deadline, f"{texts} never came; on the screen:\n{screen}"
            time.sleep(0.1)
        return screen

    def settle(self, seconds: float = 0.5) -> str:
        """The screen, once it has stood still for so long."""
        before, screen = "", self.screen
        while before != screen:
            time.sleep(seconds)
            before, screen = screen, self.screen
        return screen

    def close(self) -> None:
        """End the session and what runs in it."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(tmp_path, tiny_model):
    """The app over an empty workspace `ws` that has an eval set and the tiny model; `data.jsonl` lies beside it."""
    workspace = Workspace.init(tmp_path / "ws")
    (tmp_path / "ws" / "workbench.toml").write_text(f"model = {json.dumps(str(tiny_model))}\n")
    rows = [{"prompt": f"Question {n}?", "completion": f"yes {n}" if n % 2 else f"no {n}"} for n in range(24)]
    items = [{"prompt": f"Item {n}?", "completion": f"yes {n}"} for n in range(6)]
    for name, found in (("data", rows), ("items", items)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    workspace.import_evalset(tmp_path / "items.jsonl", "items")
    workspace.close()
    opened = Terminal(tmp_path, sys.executable, "-m", "workbench", "-w", "ws")
    yield opened
    opened.close()


@pytest.mark.timeout(300)
def test_import_drop_freeze_two_compare_and_read_the_verdict(terminal, tmp_path):
    terminal.wait("Open the starter set", "Import a file")
    terminal.press("i")
    terminal.wait("enter looks, then imports")
    terminal.type("data.jsonl")
    terminal.wait("enter imports this", "all 24: 24 can be imported")
    terminal.press("Enter")
    terminal.wait("data · 24 rows", "Question 3?")

    terminal.press("f")
    terminal.wait("Freeze data as version")
    terminal.type("all")
    terminal.wait("Froze all: 24 rows.")
    terminal.press("g", "Space", "Space", "Space", "x")
    terminal.wait("Drop 3 rows")
    terminal.type("too short")
    terminal.wait("Dropped 3 rows", "by hand: 3 dropped")
    terminal.press("f")
    terminal.wait("It will hold 21 rows of data")
    terminal.type("trimmed")
    terminal.wait("Froze trimmed: 21 rows.")

    terminal.press("V")
    terminal.wait("all", "trimmed")
    terminal.press("G", "Space", "k", "Space", "c")
    terminal.wait("Train versions alike", "items: 6 items", "baseline    trimmed")
    terminal.settle()
    terminal.press("C-x", "C-u")
    terminal.settle()
    terminal.type("300", "Down")
    terminal.press("Right", "Down", "C-u")
    terminal.settle()
    terminal.type("1", "Down")
    terminal.wait("baseline    all", "candidate   trimmed", "budget      300 ", "tokens a run", "seeds       1 ")
    terminal.press("Enter")
    screen = terminal.wait("all vs trimmed  done", "response NLL", "smallest found", seconds=180)

    terminal.press("C-q")
    terminal.wait("left with 0")
    workspace = Workspace.open(tmp_path / "ws")
    assert {version.name: version.rows for version in workspace.versions()} == {"all": 24, "trimmed": 21}
    [experiment] = listing(workspace)
    workspace.close()
    assert f"trimmed against all: {experiment.verdict}" in screen


@pytest.mark.parametrize(("option", "wanted"), [((), "1"), (("--no-mouse",), "0")])
def test_the_mouse_is_the_terminals_own_where_that_is_wanted(tmp_path, option, wanted):
    opened = Terminal(tmp_path, sys.executable, "-m", "workbench", "-w", "new", *option)
    try:
        opened.wait("Make one here")
        assert opened.mouse == wanted
    finally:
        opened.close()
