"""What disks, permissions and people do to a workspace: one sentence, the right exit code, and nothing lost.

`benchmarks/faults.py` does the same with more moments and a disk that is really full; its results are in
docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from workbench.errors import BadInput
from workbench.workspace import DATABASE, Workspace

from .conftest import Called, assert_intact

LOG = f"{DATABASE}.wal"


def said_once(called: Called, code: int, *words: str) -> None:
    """The command ended with this exit code and one line that has these words."""
    assert (called.code, called.out) == (code, ""), called
    [line] = called.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def sources(called: Called) -> dict[str, int]:
    return {source["name"]: source["imported"] for source in called.json["sources"]}


@pytest.fixture
def many(tmp_path) -> Path:
    path = tmp_path / "many.jsonl"
    rows = ({"prompt": f"question {n}", "completion": f"{n * 7919} answer {n**3} " * 9} for n in range(4000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# A full disk


def test_an_import_that_fills_the_disk_leaves_nothing_and_comes_in_once_there_is_room(
    apart, bench, root, many, write_pairs
):
    bench("import", write_pairs(("a", "b")))
    said_once(apart("-w", root, "import", many, quota=800_000), 4, "the disk is full", "taken back", "Free some space")
    assert sources(bench("versions", "ls", "--json")) == {"pairs": 1}
    assert_intact(root)
    assert bench("import", many, "--json").json["imported"] == 4000
    assert_intact(root)


def test_a_run_that_fills_the_disk_goes_on_once_there_is_room(apart, bench, root, many, tmp_path):
    bench("import", many)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps:\n  - exact: {on: both}\n  - random-k: {k: 100, seed: 0}\n")
    argv = ["run", recipe, "--from", "many", "--name", "v"]
    said_once(apart("-w", root, *argv, quota=20_000), 4, "the disk is full")
    assert bench("versions", "ls", "--json").json["versions"] == []
    assert_intact(root)
    called = bench(*argv, "--json").json
    assert (called["rows_in"], called["rows_out"]) == (4000, 100)
    assert_intact(root)


def test_a_workspace_that_finds_no_room_at_its_birth_is_refused_in_a_sentence(apart, tmp_path):
    called = apart("init", tmp_path / "new", quota=1000)
    said_once(called, 4, "the disk is full")
    assert apart("init", tmp_path / "new").code == 0
    assert_intact(tmp_path / "new")


def test_an_export_that_fills_the_disk_leaves_no_file(apart, bench, root, many, tmp_path):
    bench("import", many)
    out = tmp_path / "out" / "rows.jsonl"
    out.parent.mkdir()
    called = apart("-w", root, "versions", "export", "many", "-o", out, "--format", "messages", quota=200_000)
    assert (called.code, called.out) == (2, "")
    assert list(out.parent.iterdir()) == []


# Permissions


def test_a_file_that_may_not_be_read_is_named(apart, root, write_pairs):
    path = write_pairs(("a", "b"))
    path.chmod(0)
    said_once(apart("-w", root, "import", path, bound=True), 3, str(path), "Permission denied")
    assert_intact(root)


@pytest.mark.parametrize("what", ["folder", "database"])
def test_a_workspace_that_may_not_be_read_is_named(apart, root, what):
    target = root if what == "folder" else root / DATABASE
    target.chmod(0)
    called = apart("-w", root, "versions", "ls", bound=True)
    target.chmod(0o755)
    said_once(called, 4, str(target))
    assert_intact(root)


def test_a_file_in_a_folder_that_is_read_only_can_be_imported(apart, root, write_pairs):
    path = write_pairs(("a", "b"))
    path.chmod(0o400)
    path.parent.chmod(0o500)
    called = apart("-w", root, "import", path, "--json", bound=True)
    path.parent.chmod(0o700)
    assert (called.code, called.json["imported"]) == (0, 1)


# Files that others write to


@pytest.mark.parametrize("what", ["grows", "is cut", "is replaced", "goes"])
def test_of_a_file_that_changes_while_it_is_read_nothing_is_kept(root, many, what):
    def meddle(done: int, total: int | None, said: str) -> None:
        """Called with the progress of the import, in the middle of it."""
        if what == "grows":
            with many.open("a") as file:
                file.write('{"prompt": "late", "completion": "row"}\n')
        elif what == "is cut":
            os.truncate(many, many.stat().st_size // 2)
        elif what == "is replaced":
            other = many.with_name("other")
            other.write_bytes(many.read_bytes().replace(b"answer", b"reply!"))
            other.replace(many)
        elif many.exists():
            many.unlink()

    workspace = Workspace.open(root)
    with pytest.raises(BadInput, match="no such file" if what == "goes" else "changed while it was read"):
        workspace.import_file(many, progress=meddle)
    assert (workspace.sources(), workspace.store.rows("SELECT count(*) FROM examples")) == ([], [(0,)])
    workspace.close()
    assert_intact(root)


# Copies


@pytest.fixture
def copied(root) -> Path:
    return root.with_name("copied")


def test_a_copy_of_a_closed_workspace_is_a_backup(bench, anywhere, root, copied, write_pairs):
    bench("import", write_pairs(("a", "b"), ("c", "d")))
    bench("versions", "freeze", "pairs", "--name", "v")
    shutil.copytree(root, copied)
    shutil.rmtree(root)
    assert_intact(copied)
    assert sources(anywhere("-w", copied, "versions", "ls", "--json")) == {"pairs": 2}
    again = anywhere("-w", copied, "versions", "freeze", "pairs", "--name", "v", "--json")
    assert (again.code, again.json["new"]) == (0, False)


def test_a_copy_made_while_the_workspace_is_open_is_whole_as_of_its_moment(root, copied, write_pairs, tmp_path):
    workspace = Workspace.open(root)
    workspace.import_file(write_pairs(("a", "b")))
    with workspace.store.transaction() as cursor:
        cursor.execute("INSERT INTO rejects (source_id, row, reason, raw) VALUES (1, 9, 'not committed', 'x')")
        shutil.copytree(root, copied)
    workspace.close()
    assert (copied / LOG).exists(), "else this copy would be one of a closed workspace"
    assert_intact(copied)
    opened = Workspace.open(copied)
    assert [(source.name, source.imported) for source in opened.sources()] == [("pairs", 1)]
    opened.close()


@pytest.mark.parametrize("older", ["database", "log"])
def test_a_copy_of_two_moments_says_so_and_what_to_do_and_that_works(bench, anywhere, root, copied, write_pairs, older):
    database, log = root / DATABASE, root / LOG
    copied.mkdir()
    workspace = Workspace.open(root)
    workspace.import_file(write_pairs(("a", "b")))
    first, second = (database, log) if older == "database" else (log, database)
    shutil.copy(first, copied)
    workspace.store.rows("CHECKPOINT")
    workspace.import_file(write_pairs(("c", "d"), name="more"))
    shutil.copy(second, copied)
    workspace.close()
    said_once(anywhere("-w", copied, "versions", "ls"), 4, "copied while it was open", "move the .wal file away")
    called = anywhere("-w", copied, "doctor", "--json")
    [bad] = [check for check in called.json["checks"] if check["status"] == "bad"]
    assert (called.code, "copied while it was open" in bad["detail"]) == (4, True)
    (copied / LOG).rename(copied / "away")
    assert anywhere("-w", copied, "doctor").code == 0
    assert sources(anywhere("-w", copied, "versions", "ls", "--json")) == ({} if older == "database" else {"pairs": 1})


# Damage


@pytest.fixture
def blocks(bench, root, many) -> bytes:
    """The database's bytes, with rows in them."""
    assert bench("import", many).code == 0
    return (root / DATABASE).read_bytes()


@pytest.mark.parametrize("fault", ["cut", "changed", "changed head", "emptied"])
def test_damage_is_found_and_told_and_is_never_called_our_bug(bench, root, blocks, fault):
    damaged = bytearray(blocks)
    if fault == "cut":
        del damaged[len(damaged) // 2 :]
    elif fault == "changed":
        for offset in range(3 * 4096 + 100, len(damaged), 1 << 18):  # something in every block
            damaged[offset] ^= 0xFF
    elif fault == "changed head":
        damaged[4096 + 64] ^= 0xFF
        damaged[8192 + 64] ^= 0xFF
    else:
        damaged.clear()
    (root / DATABASE).write_bytes(damaged)
    called = bench("doctor", "--json")
    bad = " ".join(check["detail"] for check in called.json["checks"] if check["status"] == "bad")
    assert called.code == 4
    assert "damaged" in bad
    assert "Restore a copy" in bad
    for argv in (["examples", "many"], ["vacuum"]):
        said_once(bench(*argv), 4, "damaged")


def test_a_damaged_log_is_told_with_what_to_do(bench, root):
    with duckdb.connect(str(root / DATABASE)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        for n in range(50):
            connection.execute("INSERT INTO rejects (source_id, row, reason, raw) VALUES (1, ?, 'reason', 'x')", [n])
    log = (root / LOG).read_bytes()
    half = len(log) // 2
    (root / LOG).write_bytes(log[:half] + log[half:].replace(b"reason", b"season", 1))
    said_once(bench("versions", "ls"), 4, ".wal", "is damaged", "move the .wal file away")
    (root / LOG).unlink()
    assert_intact(root)


def test_words_in_a_path_are_not_taken_for_what_went_wrong(anywhere, tmp_path):
    root = tmp_path / "Could not set lock - No space left on device"
    Workspace.init(root).close()
    (root / DATABASE).write_bytes(b"not a database " * 500)
    said_once(anywhere("-w", root, "versions", "ls"), 4, "is not a workbench database")
