"""A command line to call, a workspace to call it in, and the files to import."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workbench.workspace import Workspace

DATA = Path(__file__).parents[3] / "../shared/data"
ALPACA = DATA / "alpaca" / "alpaca_en.json"

RECIPE = """\
steps:
  - exact: {on: both}
  - length: {on: response, min_words: 3}
  - refusal
"""


@dataclass(frozen=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        [line] = self.out.splitlines()
        data = json.loads(line)
        assert isinstance(data, dict)
        return data


Bench = Callable[..., Called]

# Imports once what commands need, then for every line that it reads has a child run a command. Real processes, without
# a second of imports for each.
APART = """
import contextlib, ctypes, json, os, resource, signal, sys, time
import filters.pipeline, filters.recipe, workbench.workspace
from workbench.cli import common, main

@contextlib.contextmanager
def deadly_bar(title):
    def progress(done, total, what):
        if what == asked["die_at"] and done:
            os.kill(os.getpid(), signal.SIGKILL)
    yield progress

for line in sys.stdin:
    asked = json.loads(line)
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        if asked["quota"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["quota"],) * 2)
        if asked["bound"] and os.geteuid() == 0:  # no capabilities (linux/capability.h, version 3)
            if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
                os._exit(77)
        if asked["die_at"]:
            common.progress_bar = deadly_bar
        sys.argv = ["workbench", *asked["argv"]]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
    if asked["after"] is not None:
        time.sleep(asked["after"])
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([code, time.monotonic() - started]), flush=True)
"""


class Apart:
    """Calls commands in other processes, with what can befall one. `seconds` is what the last took."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.seconds = 0.0

    def __call__(
        self,
        *argv: object,
        after: float | None = None,
        die_at: str | None = None,
        quota: int | None = None,
        bound: bool = False,
    ) -> Called:
        """Call the command; with SIGKILL `after` seconds or when it tells of progress in the recipe step `die_at`.

        With `quota` no file that it writes can grow beyond so many bytes, as on a full disk. With `bound` permissions
        hold for it even where it is root.
        """
        out, err = self._folder / "out", self._folder / "err"
        asked = {"argv": list(map(str, argv)), "after": after, "die_at": die_at, "quota": quota, "bound": bound}
        self._process.stdin.write(json.dumps({**asked, "out": str(out), "err": str(err)}) + "\n")
        self._process.stdin.flush()
        code, self.seconds = json.loads(self._process.stdout.readline())
        if code == 77:
            pytest.skip("root, and its capabilities cannot be dropped here")
        return Called(code, out.read_text(), err.read_text())


@pytest.fixture(scope="session")
def apart(tmp_path_factory) -> Iterator[Apart]:
    """apart(*argv): the `workbench` command in a process of its own."""
    argv = [sys.executable, "-c", APART]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Apart(process, tmp_path_factory.mktemp("apart"))
        process.stdin.close()


@pytest.fixture
def anywhere(monkeypatch, capsys) -> Bench:
    """anywhere(*argv): the `workbench` command, called by the function that its entry point calls."""

    def call(*argv: object) -> Called:
        from workbench.cli import main

        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, argv)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Called(int(caught.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def empty(tmp_path_factory) -> Path:
    """An empty workspace, made once and copied: making one waits for the disk."""
    folder = tmp_path_factory.mktemp("empty") / "ws"
    Workspace.init(folder).close()
    return folder


@pytest.fixture
def root(empty, tmp_path) -> Path:
    """The folder of an empty workspace."""
    return Path(shutil.copytree(empty, tmp_path / "ws"))


@pytest.fixture
def bench(anywhere, root) -> Bench:
    """bench(*argv): the command inside the workspace `root`."""
    return lambda *argv: anywhere("-w", root, *argv)


@pytest.fixture
def alpaca() -> Path:
    if not ALPACA.exists():
        pytest.skip(f"{ALPACA} is not here")
    return ALPACA


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with two workspaces, made once and copied: `imported` has the source `raw`, `curated` a version too."""
    if not ALPACA.exists():
        pytest.skip(f"{ALPACA} is not here")
    folder = tmp_path_factory.mktemp("made")
    (folder / "recipe.yaml").write_text(RECIPE)
    for name in ("imported", "curated"):
        workspace = Workspace.init(folder / name)
        workspace.import_file(ALPACA, name="raw")
        if name == "curated":
            workspace.run_recipe(folder / "recipe.yaml", ["raw"], "curated")
        workspace.close()
    return folder


@pytest.fixture
def imported(bench, root, made) -> Bench:
    """The command inside a workspace with the source `raw`."""
    shutil.copytree(made / "imported", root, dirs_exist_ok=True)
    return bench


@pytest.fixture
def curated(bench, root, made) -> Bench:
    """The command inside a workspace with the source `raw` and the version `curated`, made by `recipe`."""
    shutil.copytree(made / "curated", root, dirs_exist_ok=True)
    return bench


def assert_intact(root: Path) -> None:
    """Nothing in the workspace is missing, left over, or other than its counts and hashes say."""
    workspace = Workspace.open(root)
    try:
        assert [check for check in workspace.check() if check.problem] == []
    finally:
        workspace.close()


@pytest.fixture
def write_pairs(tmp_path) -> Callable[..., Path]:
    """write_pairs(*rows, name="pairs"): a file of (prompt, response) rows."""

    def write(*rows: tuple[str, str], name: str = "pairs", **meta: object) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"prompt": q, "completion": a, **meta}) + "\n" for q, a in rows))
        return path

    return write
