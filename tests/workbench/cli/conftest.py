"""A command line to call, a workspace to call it in, and the files to import."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
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


@pytest.fixture
def root(tmp_path) -> Path:
    """The folder of an empty workspace."""
    folder = tmp_path / "ws"
    Workspace.init(folder).close()
    return folder


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
