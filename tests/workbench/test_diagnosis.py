from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.diagnosis import shadows, tree_size


def test_packages_that_nobody_else_installs_are_ours():
    assert {finding.status for finding in shadows({"trainer": ["sft-workbench"], "yaml": ["PyYAML"]})} == {"ok"}


def test_a_distribution_that_installs_a_package_of_our_name_is_named():
    found = {finding.what: finding for finding in shadows({"trainer": ["sft-workbench", "coqui-ai-trainer"]})}
    bad = found["package trainer"]
    assert (bad.status, "coqui-ai-trainer installs" in bad.detail, "environment of its own" in bad.detail) == (
        "bad", True, True,
    )  # fmt: skip
    assert found["package filters is ours"].status == "ok"


@pytest.mark.parametrize("package", ["trainer", "filters"])
def test_another_package_in_the_place_of_ours_is_told_in_a_sentence(tmp_path, package):
    (tmp_path / f"{package}.py").write_text("x = 1\n")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", "from workbench.cli import main; main()", "-w", str(tmp_path), "versions", "ls"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "")
    [line] = done.stderr.splitlines()
    assert f"{tmp_path / package}.py" in line
    assert "environment of its own" in line


def test_links_are_no_part_of_a_folders_size(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(1000))
    before = tree_size(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    assert before == 1000
    assert tree_size(tmp_path) < 2000
    assert tree_size(tmp_path / "nothing") == 0
