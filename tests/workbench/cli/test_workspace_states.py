"""Workspaces that are not there, in use, newer, read-only or damaged: the exit code and one helpful message."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import duckdb
import pytest

from workbench.cli import COMMANDS
from workbench.workspace import DATABASE, Workspace

HOLD = """
import sys
from workbench.workspace import Workspace
workspace = Workspace.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""

IMPORT = """
import sys
from pathlib import Path
from workbench.workspace import Workspace

def wait(done, total, what):
    if done:
        print("importing", flush=True)
        sys.stdin.readline()
        sys.stdin.close()
        sys.stdin = open("/dev/null")

Workspace.open(sys.argv[1]).import_file(Path(sys.argv[2]), progress=wait)
"""

# Every command, called as if its workspace were free.
IN_USE: dict[str, list[str]] = {
    "init": [],
    "import": ["x.json"],
    "run": ["safe-default", "--from", "s", "--name", "v"],
    "examples": ["s"],
    "dupes": ["s"],
    "clusters": ["s"],
    "versions": ["ls"],
    "tokens": ["s", "--model", "m"],
    "evalset": ["ls"],
    "train": ["v"],
    "compare": ["a", "b"],
    "sweep": ["a", "--method", "lora,dora", "--trained-tokens", "9"],
    "ablate": ["safe-default", "--from", "s", "--evalset", "e"],
    "judge": ["score", "s"],
    "experiments": ["ls"],
    "merge": ["e", "-o", "out"],
    "sources": ["ls"],
    "rejects": ["ls", "a"],
    "doctor": [],
    "vacuum": [],
    "demo": [],
}


@pytest.fixture
def holder(root):
    """Another process that has the workspace open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


def test_without_a_workspace_the_way_to_make_one_is_named(anywhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_WORKSPACE", raising=False)
    for argv in (["versions", "ls"], ["-w", tmp_path / "nowhere", "versions", "ls"]):
        called = anywhere(*argv)
        assert called.code == 2
        assert "workbench init" in called.err


def test_the_nearest_parent_is_found_and_environment_and_option_win(anywhere, root, tmp_path, monkeypatch, write_pairs):
    monkeypatch.delenv("WORKBENCH_WORKSPACE", raising=False)
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    other = tmp_path / "other"
    Workspace.init(other).close()
    for folder, name in ((root, "here"), (other, "there")):
        anywhere("-w", folder, "import", write_pairs((name, "x"), name=name))

    def seen(*options: object) -> list[str]:
        return [source["name"] for source in anywhere(*options, "versions", "ls", "--json").json["sources"]]

    assert seen() == ["here"]
    monkeypatch.setenv("WORKBENCH_WORKSPACE", str(other))
    assert seen() == ["there"]
    assert seen("-w", root) == ["here"]


def test_init_again_keeps_what_is_there(anywhere, root, write_pairs):
    anywhere("-w", root, "import", write_pairs(("a", "b")))
    (root / "workbench.toml").write_text('model = "org/name"\n')
    assert anywhere("init", root, "--json").json == {"workspace": str(root)}
    workspace = Workspace.open(root)
    assert ([source.name for source in workspace.sources()], workspace.config.model) == (["pairs"], "org/name")
    workspace.close()


def test_every_command_that_needs_a_workspace_in_use_names_the_process_that_holds_it(anywhere, bench, root, holder):
    assert IN_USE.keys() == COMMANDS.keys()
    for command, argv in IN_USE.items():
        called = anywhere(command, root) if command == "init" else bench(command, *argv)
        said = called.out if command == "doctor" else called.err
        assert called.code == 4, (command, called)
        assert f"in use by process {holder.pid}" in said
        assert "Close it there" in said
        if command != "doctor":
            assert (called.out, len(called.err.splitlines())) == ("", 1), command


def test_while_an_import_runs_others_are_told_and_it_goes_on(bench, root, write_pairs):
    pairs = write_pairs(*((f"question {n}", f"answer {n}") for n in range(5000)))
    argv = [sys.executable, "-c", IMPORT, str(root), str(pairs)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "importing\n"
        for command in (["versions", "ls"], ["import", pairs], ["vacuum"]):
            called = bench(*command)
            assert (called.code, f"process {process.pid}" in called.err) == (4, True)
        process.communicate("go on\n")
    assert process.returncode == 0
    assert [source["imported"] for source in bench("versions", "ls", "--json").json["sources"]] == [5000]


def test_a_holder_that_was_killed_blocks_nobody(bench, holder):
    assert bench("versions", "ls").code == 4
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert bench("versions", "ls").code == 0


def test_a_newer_workspace_is_refused_and_left_alone(bench, root):
    connection = duckdb.connect(str(root / DATABASE))
    connection.execute("INSERT INTO migrations VALUES (99, NULL)")
    connection.close()
    before = (root / DATABASE).read_bytes()
    called = bench("versions", "ls")
    assert called.code == 4
    assert "newer release" in called.err
    assert "pip install --upgrade" in called.err
    assert (root / DATABASE).read_bytes() == before


def test_a_file_that_is_no_database_is_refused(bench, root):
    (root / DATABASE).write_bytes(b"not a database " * 500)
    called = bench("versions", "ls")
    assert called.code == 4
    assert "not a workbench database" in called.err


def test_a_read_only_workspace_is_refused_in_one_sentence(bench, root):
    argv = [sys.executable, "-m", "workbench", "-w", str(root), "versions", "ls"]
    if os.geteuid() != 0:
        root.chmod(0o555)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        root.chmod(0o755)
    else:
        # Permissions do not bind root: a read-only mount, in a mount namespace of its own, does.
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 77; exec "$@"'
        if not shutil.which("unshare"):
            pytest.skip("root, and no unshare to mount read-only with")
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", mount, str(root), *argv], capture_output=True, text=True, check=False
        )
        if done.returncode in (1, 77) and "workbench" not in done.stderr:
            pytest.skip(f"root, and no read-only mount possible: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (4, "")
    assert "cannot be written to" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_place_where_no_workspace_can_be_made_is_refused(anywhere, tmp_path):
    (tmp_path / "file").touch()
    called = anywhere("init", tmp_path / "file" / "ws")
    assert called.code == 4
    assert "cannot be made a workspace" in called.err


def test_a_setting_that_is_unknown_is_named_with_the_one_that_comes_near(bench, root):
    (root / "workbench.toml").write_text('modle = "x"\n')
    called = bench("versions", "ls")
    assert called.code == 3
    assert "Did you mean 'model'?" in called.err


def test_doctor_says_what_is_wrong_with_the_workspace(bench, root, holder):
    called = bench("doctor", "--json")
    assert called.code == 4
    [finding] = [check for check in called.json["checks"] if check["area"] == "workspace"]
    assert (finding["status"], str(holder.pid) in finding["detail"]) == ("bad", True)


def test_doctor_is_readable_and_says_all_is_well(bench):
    called = bench("doctor")
    assert called.code == 0, called.out
    assert "torch" in called.out
    assert "All well" in called.err
