"""The house as DESIGN draws it: who may import whom, what `--help` loads, what the wheel carries."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from workbench.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PACKAGES = ("workbench", "filters", "trainer")
HEAVY = {"torch", "transformers", "textual", "datasets", "duckdb", "pyarrow"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

HELP = """
import json, sys
from workbench.cli import main
for command in json.loads(sys.argv.pop()):
    sys.argv = ["workbench", *command.split(), "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
print(json.dumps(list(sys.modules)))
"""


@pytest.mark.parametrize("commands", [[""], ["compare"], list(COMMANDS)], ids=["workbench", "compare", "every command"])
def test_help_imports_nothing_heavy(commands):
    done = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *text, loaded = done.stdout.splitlines()
    assert sum(line.startswith("Usage: workbench") for line in text) == len(commands)
    assert HEAVY.intersection(json.loads(loaded)) == set()


def test_the_contracts_of_import_linter_hold():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if command is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def imports(path: Path) -> set[str]:
    """Top-level names of all that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_duckdb_is_imported_by_the_store_alone():
    # The contract in pyproject.toml lists modules by name; a new one would not be in that list.
    importers = {path.relative_to(ROOT).parent.as_posix() for path in MODULES if "duckdb" in imports(path)}
    assert importers == {"workbench/store"}


def test_every_module_says_what_it_is_for():
    silent = [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_datasets_holds_data_only_and_shadows_nothing():
    assert list((ROOT / "datasets").rglob("*.py")) == []
    spec = importlib.util.find_spec("datasets")
    assert spec is not None
    assert spec.origin is not None, "a folder without __init__.py: ours, not the library"
    assert not Path(spec.origin).is_relative_to(ROOT / "datasets")


def shipped() -> set[str]:
    """The data files as they must lie in `workbench/`."""
    data = ROOT / "datasets"
    return {f"_data/{path.relative_to(data).as_posix()}" for path in data.rglob("*") if path.is_file()}


def test_the_wheel_carries_the_data(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; the layout it is told to make is tested below")
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "tests")
    shutil.copytree(ROOT, source, ignore=ignore)
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"workbench/{name}" for name in shipped()} <= names
    assert not any(name.startswith(("datasets/", "tests/")) for name in names)


def test_installed_elsewhere_the_packages_find_their_data(tmp_path):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    site = tmp_path / "site"
    for package in build["packages"]:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in build["force-include"].items():
        shutil.copytree(ROOT / source, site / target)
    script = (
        "import json; from workbench.resources import data_dir, recipe_names; "
        "print(json.dumps([str(data_dir()), recipe_names(), [str(p) for p in data_dir().rglob('*') if p.is_file()]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, recipes, files = json.loads(done.stdout)
    assert Path(folder) == site / "workbench" / "_data"
    assert "safe-default" in recipes
    assert {Path(file).relative_to(site / "workbench").as_posix() for file in files} == shipped()
    assert {"_data/starter/raw.jsonl", "_data/starter/answer_key.jsonl", "_data/eval/starter-eval.jsonl"} <= shipped()
