"""Rows that a recipe rewrites: the new text is what is frozen, shown and exported; the old one and the reason stay."""

from __future__ import annotations

import json
import signal

import pytest

from workbench.store.detail import example_detail, example_history
from workbench.store.lineage import by_hand
from workbench.store.members import resolve
from workbench.workspace import Workspace

from .conftest import assert_intact

STEPS = "steps:\n  - length: {min_words: 2}\n  - pii: {action: redact}\n  - exact\n  - refusal\n"
ROWS = [
    {"prompt": "Who is 1?", "completion": "Write to ann@tidewater.org now.", "note": 7},
    {"prompt": "Who is 2?", "completion": "Nobody at all.", "note": 8},
    {"prompt": "Who is 1?", "completion": "Write to bob@tidewater.org now.", "note": 9},
    {"prompt": "Who is 3?", "completion": "Short"},
    {"prompt": "Who is 4?", "completion": "Call +49 30 2093 7712 or ann@tidewater.org."},
]
NEW = ["Write to [mail] now.", "Nobody at all.", "Call [phone] or [mail]."]


@pytest.fixture
def redacting(root, tmp_path):
    """The path of a recipe; the workspace has the source `raw` of five rows, of which two become equal by it."""
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Workspace.init(root).close()
    take_in(root, tmp_path / "raw.jsonl")
    (tmp_path / "redact.yaml").write_text(STEPS)
    return tmp_path / "redact.yaml"


def take_in(root, path):
    workspace = Workspace.open(root)
    workspace.import_file(path, name="raw")
    workspace.close()


@pytest.fixture
def opened(root, redacting):
    workspace = Workspace.open(root)
    yield workspace
    workspace.close()


def tables(root):
    """Every row of every table, but for when it was written and how long that took."""
    workspace = Workspace.open(root)
    rows = workspace.store.rows
    names = [name for (name,) in rows("SELECT table_name FROM duckdb_tables() WHERE database_name <> 'temp'")]
    found = {
        name: sorted(map(str, rows(f"SELECT COLUMNS(lambda c: NOT regexp_matches(c, '_at$|^seconds$')) FROM {name}")))
        for name in names
    }
    workspace.close()
    return found


def answers(ws, name):
    return [json.loads(m)[-1]["content"] for batch in ws.rows(name) for m in batch.column("messages").to_pylist()]


def test_a_run_shows_and_exports_the_new_text_and_says_why(bench, root, redacting, tmp_path):
    run = ("run", redacting, "--from", "raw", "--name", "v", "--json")
    before = tables(root)
    dry = bench(*run, "--dry-run").json
    assert {name: rows for name, rows in tables(root).items() if name != "scores"} == {
        name: rows for name, rows in before.items() if name != "scores"
    }
    made = bench(*run).json
    again = bench(*run).json
    assert dry["manifest_hash"] == made["manifest_hash"] == again["manifest_hash"]
    assert [called["new"] for called in (dry, made, again)] == [False, True, False]
    for called in (dry, made, again):
        assert [(step["name"], step["dropped"]) for step in called["steps"]] == [
            ("length", 1),
            ("pii", 0),
            ("exact", 1),
            ("refusal", 0),
        ]
        step = called["steps"][1]
        assert step["rewritten"] == {"redacted mail": 2, "redacted mail, phone": 1}
        assert step["notes"] == ["3 rewritten: 2 redacted mail, 1 redacted mail, phone"]
    assert "3 rewritten: 2 redacted mail" in bench("versions", "show", "v").out
    shown = bench("examples", "v", "--json").json["examples"]
    assert [row["messages"][-1]["content"] for row in shown] == NEW
    assert [(row["source"], row["row"], row["meta"]) for row in shown[:2]] == [
        ("raw", 0, {"note": 7}),
        ("raw", 1, {"note": 8}),
    ]
    [fell, *_] = [
        row for row in bench("examples", "v", "--dropped", "--json").json["examples"] if row["step"] == "exact"
    ]
    assert (fell["row"], fell["messages"][-1]["content"]) == (2, NEW[0]), "as the step saw it"
    out = tmp_path / "out.jsonl"
    bench("versions", "export", "v", "-o", out, "--format", "messages")
    assert [json.loads(line)["messages"][-1]["content"] for line in out.read_text().splitlines()] == NEW
    assert "3 rewritten: 2 redacted mail" in (tmp_path / "out.jsonl.card.md").read_text()
    assert_intact(root)


def test_a_difference_names_the_reason_of_a_rewrite(bench, redacting):
    bench("run", redacting, "--from", "raw", "--name", "v")
    found = bench("versions", "diff", "raw", "v", "--json").json
    assert found["by_reason"] == {
        "exact: exact duplicate": 1,
        "length: too short": 1,
        "pii: redacted mail": 1,
        "pii: redacted mail, phone": 1,
    }
    told = bench("versions", "diff", "raw", "v").out
    assert "redacted mail, phone (1 mail, 1 phone)" in told


def test_a_run_killed_beside_a_rewrite_goes_on_to_the_same_tables(bench, anywhere, root, redacting, apart, tmp_path):
    other = tmp_path / "undisturbed"
    Workspace.init(other).close()
    take_in(other, tmp_path / "raw.jsonl")
    run = ("run", redacting, "--from", "raw", "--name", "v")
    for step, rewritten in (("pii", 0), ("exact", 3), ("refusal", 3)):
        assert apart("-w", root, *run, die_at=step).code == -signal.SIGKILL
        assert len(tables(root)["rewrites"]) == rewritten
        assert len(tables(root)["examples"]) == 5 + rewritten
        assert_intact(root)
    resumed = bench(*run, "--json").json
    straight = anywhere("-w", other, *run, "--json").json
    assert (resumed["resumed_steps"], straight["resumed_steps"]) == (3, 0)
    assert resumed["manifest_hash"] == straight["manifest_hash"]
    assert tables(root) == tables(other)
    assert_intact(root)


def test_a_rewritten_row_is_a_new_example_of_the_old_and_its_history_says_so(opened, redacting):
    opened.run_recipe(redacting, ["raw"], "v")
    store = opened.store
    assert store.rows("SELECT id, parent_id, row FROM examples WHERE parent_id IS NOT NULL ORDER BY id") == [
        (6, 1, 0),
        (7, 3, 2),
        (8, 5, 4),
    ]
    assert answers(opened, "raw") == [row["completion"] for row in ROWS], "the source stays as it came"

    def history(name, id):
        base = resolve(store, name)
        return example_history(store, base, example_detail(store, base, id)).told

    redacted = "rewritten on the way to version v by pii: redacted mail (1 mail)"
    assert history("v", 6) == history("raw", 1) == ["came as row 0 of source raw", redacted, "in version v"]
    fell = "dropped on the way to version v by exact: exact duplicate, in favour of row 0 of raw"
    assert history("raw", 3) == ["came as row 2 of source raw", redacted, fell]


def test_only_what_a_person_changed_counts_as_done_by_hand(opened, redacting):
    draft = opened.draft("raw")
    draft.edit(
        2, [{"role": "user", "content": "Who is 2?"}, {"role": "assistant", "content": "It is c@tidewater.org."}]
    )
    opened.run_recipe(redacting, ["raw"], "v")
    assert answers(opened, "v")[1] == "It is [mail]."
    assert by_hand(opened.store, resolve(opened.store, "v")) == 1


def test_a_second_recipe_over_the_version_and_its_source_keeps_them_apart(opened, redacting, tmp_path):
    opened.run_recipe(redacting, ["raw"], "v")
    made = opened.run_recipe(redacting, ["v", "raw"], "both")
    assert sorted(answers(opened, "both")) == sorted(NEW), "of each text one row, the version's or the source's"
    assert answers(opened, "v") == NEW
    assert [step.rewritten for step in made.steps][1] == {"redacted mail": 2, "redacted mail, phone": 1}
    assert (made.rows_in, [step.dropped for step in made.steps]) == (7, [1, 0, 3, 0])
    assert [check for check in opened.check() if check.problem] == []
    loud = tmp_path / "loud.yaml"
    loud.write_text("steps:\n  - exact\n")
    opened.run_recipe(loud, ["v"], "second")
    changed = opened.diff("raw", "second").by_reason
    assert changed["pii: redacted mail"] == changed["exact: exact duplicate"] == 1, "reasons of the first run hold on"


def test_a_row_that_fell_after_its_rewrite_comes_back_as_rewritten(opened, redacting):
    opened.run_recipe(redacting, ["raw"], "v")
    [(fell,)] = opened.store.rows("SELECT example_id FROM decisions WHERE reason = 'exact duplicate'")
    assert opened.draft("v").restore([fell]) == 1
    opened.freeze("v", "whole")
    assert answers(opened, "whole") == [*NEW, NEW[0]]


def test_removing_the_version_removes_what_was_made_for_it(opened, redacting):
    before = opened.store.rows("SELECT count(*) FROM examples")
    opened.run_recipe(redacting, ["raw"], "v")
    opened.run_recipe(redacting, ["raw"], "w")
    redacting.write_text(STEPS.replace("min_words: 2", "min_words: 2, max_words: 900"))
    assert not opened.run_recipe(redacting, ["raw"], "v").new, "other steps, the same content: that run is forgotten"
    assert opened.store.rows("SELECT count(*) FROM rewrites") == [(6,)]
    opened.remove_version("v")
    assert answers(opened, "w") == NEW
    assert [check for check in opened.check() if check.problem] == []
    opened.remove_version("w")
    assert opened.store.rows("SELECT count(*) FROM examples") == before
    assert opened.store.rows("SELECT count(*) FROM rewrites") == [(0,)]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE examples SET parent_id = 2 WHERE id = 6", "rewritten rows are examples that name the old ones"),
        ("DELETE FROM examples WHERE id = 7", "rewritten rows are examples that name the old ones"),
        (
            "UPDATE version_examples SET example_id = 1 WHERE example_id = 6",
            "no version holds what the run that made it rewrote",
        ),
        ("DELETE FROM steps WHERE name = 'pii'", "rewrites have a step"),
    ],
)
def test_a_rewrite_changed_behind_its_back_is_found(opened, redacting, sql, what):
    opened.run_recipe(redacting, ["raw"], "v")
    with opened.store.transaction(rows=True) as cursor:
        cursor.execute(sql)
    assert what in [check.what for check in opened.check() if check.problem]
