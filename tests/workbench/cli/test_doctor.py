"""`workbench doctor`: what it finds, what it repairs, and what it leaves alone."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import duckdb
import pytest

from trainer.protocol import LOCK, PLAN, holding
from workbench import diagnosis
from workbench.maintenance import repairs
from workbench.workspace import DATABASE, Workspace

from .conftest import assert_intact


def execute(root: Path, *statements: str) -> None:
    """Change the database as nobody should: with somebody else's SQL."""
    with duckdb.connect(str(root / DATABASE)) as connection:
        for sql in statements:
            connection.execute(sql)


def found(called, status: str) -> dict[str, str]:
    return {check["what"]: check["detail"] for check in called.json["checks"] if check["status"] == status}


@pytest.fixture
def answers(monkeypatch):
    """answers("y", "n"): somebody at a terminal who answers so."""

    def give(*lines: str) -> None:
        terminal = io.StringIO("".join(f"{line}\n" for line in lines))
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", terminal)

    return give


ORPHANS = (
    "INSERT INTO rejects (source_id, row, reason, raw) VALUES (77, 0, 'no reason', 'raw')",
    "INSERT INTO examples (id, source_id, row, content_hash, messages) VALUES (990, 77, 0, sha256('[]'), '[]')",
    "INSERT INTO steps (id, recipe_run_id, position, name, dropped, finished) VALUES (77, 77, 0, 's', 1, true)",
    "INSERT INTO decisions (step_id, example_id, reason) VALUES (77, 1, 'r')",
    "INSERT INTO version_examples VALUES (77, 0, 1)",
    "INSERT INTO eval_items (eval_set_id, item, messages) VALUES (77, 0, '[]')",
    "INSERT INTO item_metrics VALUES ('gone', 0, 'm', 1, 1)",
    "INSERT INTO generations VALUES ('gone', 0, 't', 'stop')",
    "INSERT INTO operation_rows VALUES (77, 1, 'label', NULL, 'good')",
)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    """A workspace with a source of two rows and a reject, a version and an eval set, in which all is well."""
    folder = tmp_path_factory.mktemp("frozen")
    path = folder / "pairs.jsonl"
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}, {"prompt": "e", "completion": 7}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace.init(folder / "ws")
    workspace.import_file(path)
    workspace.freeze("pairs", "v")
    workspace.import_evalset(path, "e")
    assert [check for check in workspace.check() if check.problem] == []
    workspace.close()
    return folder / "ws"


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("DELETE FROM examples WHERE id = 2", "version v has its hash"),
        ("UPDATE examples SET messages = replace(messages, 'b', 'c')", "examples have their content hash"),
        ("DELETE FROM sources", "examples that something names have a source"),
        ("UPDATE version_examples SET pos = pos + 1", "positions in versions are dense from 0"),
        ("UPDATE eval_items SET messages = '[]'", "eval set e has its hash"),
        ("DELETE FROM rejects", "source pairs: rows are imported or rejected"),
    ],
)
def test_what_was_changed_behind_its_back_is_found_and_is_no_matter_for_repair(root, frozen, sql, what):
    shutil.copytree(frozen, root, dirs_exist_ok=True)
    execute(root, sql)
    workspace = Workspace.open(root)
    try:
        assert what in [check.what for check in workspace.check() if check.problem]
        assert repairs(workspace) == []
    finally:
        workspace.close()


def test_rows_that_belong_to_nothing_are_removed_and_kept_in_a_file(bench, root, write_pairs):
    bench("import", write_pairs(("a", "b"), ("c", "d")))
    bench("versions", "freeze", "pairs", "--name", "v")
    execute(root, *ORPHANS)
    called = bench("doctor", "--json")
    assert called.code == 4
    assert all("--repair" in detail for detail in found(called, "bad").values())
    repaired = bench("doctor", "--json", "--repair", "--yes")
    assert (repaired.code, len(repaired.json["repaired"])) == (0, 1)
    [kept] = root.glob("removed-*.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert sorted(row["table"] for row in rows) == sorted(sql.split()[2] for sql in ORPHANS)
    [reject] = [row["row"] for row in rows if row["table"] == "rejects"]
    assert (reject["source_id"], reject["row"], reject["reason"], reject["raw"]) == (77, 0, "no reason", "raw")
    assert_intact(root)
    assert [version["rows"] for version in bench("versions", "ls", "--json").json["versions"]] == [2]


def test_half_files_of_killed_processes_go_and_what_a_job_writes_now_stays(bench, root):
    halves = [
        root / ".workbench.duckdb.part",
        root / "cache" / ".a.parquet.part",
        root / "runs" / "x" / ".plan.json.part",
    ]
    busy = root / "runs" / "busy" / ".vectors.parquet.part"
    mine = root / "notes.part"
    for path in (*halves, busy, mine):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with holding(busy.parent):
        called = bench("doctor", "--json")
        assert (called.code, found(called, "note")["half files"].split()[0]) == (0, "3")
        repaired = bench("doctor", "--json", "--repair", "--yes").json["repaired"]
    assert repaired == ["3 half files removed"]
    assert [path.exists() for path in (*halves, busy, mine)] == [False, False, False, True, True]


def test_run_folders_of_no_experiment_go_only_by_choice_and_never_under_a_job(bench, root, answers):
    idle, busy, kept = (root / "runs" / name for name in ("embed-idle", "embed-busy", "embed-kept"))
    execute(root, "INSERT INTO experiments (id, name, state) VALUES ('abc', 'a vs b', 'done')")
    for folder in (idle, busy, kept, root / "runs" / "abc"):
        folder.mkdir()
        (folder / PLAN).write_text("{}")
    with holding(busy):
        notes = found(bench("doctor", "--json"), "note")
        assert {what for what in notes if what.startswith("run folder")} == {
            f"run folder {folder.name}" for folder in (idle, busy, kept)
        }
        assert "runs now" in notes["run folder embed-busy"]
        assert bench("doctor", "--json", "--repair", "--yes").json["repaired"] == []
        answers("y", "n")
        called = bench("doctor", "--repair")
        assert "embed-busy" not in called.err
        assert [folder.exists() for folder in (idle, busy, kept)] == [False, True, True]
        removed = bench("doctor", "--json", "--repair", "--yes", "--run-folders").json["repaired"]
    assert removed == ["run folder embed-kept removed"]
    assert sorted(path.name for path in (root / "runs").iterdir()) == ["abc", "embed-busy"]
    assert not (root / "runs" / "abc" / LOCK).exists()


@pytest.mark.parametrize("argv", [["--yes"], ["--repair", "--run-folders"]])
def test_options_that_belong_to_others_are_refused_without_them(bench, argv):
    assert bench("doctor", *argv).code == 2


@pytest.mark.parametrize("argv", [["--repair"], ["--repair", "--json"]])
def test_repairs_that_nobody_can_be_asked_about_are_refused_and_none_to_ask_about_are_no_matter(
    bench, root, argv, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert bench("doctor", *argv).code == 0
    half = root / ".workbench.duckdb.part"
    half.write_text("half")
    refused = bench("doctor", *argv)
    assert (refused.code, half.exists()) == (2, True)
    assert "nobody to ask about repairs" in refused.err


def test_a_folder_that_is_no_workspace_is_a_wrong_call_only_where_it_was_named(anywhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_WORKSPACE", raising=False)
    assert anywhere("-w", tmp_path / "nowhere", "doctor").code == 2
    called = anywhere("doctor", "--json")
    assert (called.code, called.json["workspace"]) == (0, None)
    assert "none" in found(called, "note")


def test_a_missing_library_is_no_fault_of_the_workspace(bench, monkeypatch):
    monkeypatch.setattr(diagnosis, "LIBRARIES", (*diagnosis.LIBRARIES, "no-such-library"))
    called = bench("doctor", "--json")
    assert (called.code, found(called, "bad")) == (5, {"no-such-library": "missing: pip install no-such-library"})


def test_the_caches_and_their_sizes_are_shown(bench, root):
    (root / "cache" / "x").write_bytes(bytes(123_000))
    shown = found(bench("doctor", "--json"), "ok")
    assert shown["cache"].endswith(", 123.0 kB")
    assert "cache for models" in shown
