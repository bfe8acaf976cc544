"""SIGKILL in the middle of the work, then the same command again: nothing lost, nothing doubled.

A few moments each; `benchmarks/faults.py` takes twenty of the real commands.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

from workbench.workspace import Workspace

from .conftest import assert_intact

MOMENTS = (0.15, 0.4, 0.65, 0.9)  # of the time that the work takes undisturbed


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


def test_a_killed_import_leaves_all_or_nothing_and_the_next_one_brings_all(bench, root, tmp_path, apart):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q {n}", "completion": "answer " * 20}) + "\n" for n in range(8000)))
    whole = tmp_path / "whole"
    Workspace.init(whole).close()
    assert apart("-w", whole, "import", path).code == 0
    empty, full, seconds = _tables(root), _tables(whole), apart.seconds
    assert full["examples"] == 8000
    killed = 0
    for moment in MOMENTS:
        killed += apart("-w", root, "import", path, after=seconds * moment).code == -signal.SIGKILL
        assert _tables(root) in (empty, full)
        assert_intact(root)
    assert killed
    called = bench("import", path, "--json")
    assert (called.code, called.json["imported"], called.json["rejected"]) == (0, 8000, 0)
    assert _tables(root) == full
    assert_intact(root)


def test_a_killed_run_goes_on_behind_its_finished_steps_to_the_same_version(bench, anywhere, root, made, apart):
    other = root.with_name("undisturbed")
    shutil.copytree(made / "imported", root, dirs_exist_ok=True)
    shutil.copytree(made / "curated", other)
    recipe = made / "recipe.yaml"
    for finished, step in enumerate(("exact", "length", "refusal")):
        called = apart("-w", root, "run", recipe, "--from", "raw", "--name", "curated", die_at=step)
        assert called.code == -signal.SIGKILL
        half = _tables(root)
        assert (half["recipe_runs"], half["steps"], half["versions"]) == (1, finished, 0)
        assert_intact(root)
    resumed = bench("run", recipe, "--from", "raw", "--name", "curated", "--json").json
    straight = anywhere("-w", other, "run", recipe, "--from", "raw", "--name", "curated", "--json").json
    assert (resumed["resumed_steps"], straight["resumed_steps"]) == (2, 0)
    for key in ("rows_in", "rows_out", "manifest_hash"):
        assert resumed[key] == straight[key]
    assert [step["reasons"] for step in resumed["steps"]] == [step["reasons"] for step in straight["steps"]]
    assert _tables(root) == _tables(other)
    assert_intact(root)
