"""SIGKILL in the middle of the work, then the same command again: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from workbench.workspace import Workspace

from .conftest import assert_intact

IMPORT = """
import os, signal, sys
from pathlib import Path
from workbench.workspace import Workspace

def die(done, total, what):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

Workspace.open(sys.argv[1]).import_file(Path(sys.argv[2]), progress=die)
"""

RUN = """
import os, signal, sys
from workbench.workspace import Workspace

def die(done, total, what):
    if what == "refusal" and done:
        os.kill(os.getpid(), signal.SIGKILL)

Workspace.open(sys.argv[1]).run_recipe(sys.argv[2], ["raw"], "curated", progress=die)
"""


def _killed(program: str, *argv: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def _tables(root: Path) -> dict[str, int]:
    workspace = Workspace.open(root)
    names = [
        name for (name,) in workspace.store.rows("SELECT table_name FROM duckdb_tables() WHERE database_name <> 'temp'")
    ]
    counts = {
        name: workspace.store.rows(f"SELECT count(*) FROM {name}")[0][0] for name in names if name != "migrations"
    }
    workspace.close()
    return counts


def test_a_killed_import_leaves_nothing_and_the_next_one_brings_all(bench, root, tmp_path):
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for number in range(12_000):
            file.write(json.dumps({"prompt": f"question {number}", "completion": "answer " * 20}) + "\n")
    empty = _tables(root)
    _killed(IMPORT, root, path)
    assert _tables(root) == empty
    called = bench("import", path, "--json")
    assert (called.code, called.json["imported"]) == (0, 12_000)
    assert called.json["duplicates_of_known"] == 0
    assert_intact(root)


def test_a_killed_run_goes_on_behind_its_finished_steps_to_the_same_version(bench, anywhere, tmp_path, alpaca, recipe):
    root, other = tmp_path / "ws", tmp_path / "undisturbed"
    Workspace.init(other).close()
    for folder in (root, other):
        assert anywhere("-w", folder, "import", alpaca, "--name", "raw").code == 0
    _killed(RUN, root, recipe)
    half = _tables(root)
    assert (half["recipe_runs"], half["steps"], half["versions"]) == (1, 2, 0)
    resumed = bench("run", recipe, "--from", "raw", "--name", "curated", "--json").json
    straight = anywhere("-w", other, "run", recipe, "--from", "raw", "--name", "curated", "--json").json
    assert (resumed["resumed_steps"], straight["resumed_steps"]) == (2, 0)
    for key in ("rows_in", "rows_out", "manifest_hash"):
        assert resumed[key] == straight[key]
    assert [step["reasons"] for step in resumed["steps"]] == [step["reasons"] for step in straight["steps"]]
    assert _tables(root) == _tables(other)
    assert_intact(root)
