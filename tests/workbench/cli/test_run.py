from __future__ import annotations

import json

import pytest

from workbench.workspace import Workspace

from .conftest import assert_intact

KEYS = {"version", "rows_in", "rows_out", "manifest_hash", "steps"}


def _recipe(tmp_path, steps: str, name: str = "own"):
    path = tmp_path / f"{name}.yaml"
    path.write_text("steps:\n" + "".join(f"  - {step}\n" for step in steps.split("; ")))
    return path


def test_every_row_is_in_the_version_or_has_one_written_reason(imported, root, recipe):
    report = imported("run", recipe, "--from", "raw", "--name", "curated", "--json").json
    assert set(report) >= KEYS
    assert [step["name"] for step in report["steps"]] == ["exact", "length", "refusal"]
    assert all(sum(step["reasons"].values()) == step["dropped"] for step in report["steps"])
    workspace = Workspace.open(root)
    ids = {name: [i for b in workspace.rows(name) for i in b.column("id").to_pylist()] for name in ("raw", "curated")}
    dropped = [id for (id,) in workspace.store.rows("SELECT example_id FROM decisions")]
    workspace.close()
    assert dropped
    assert sorted(ids["curated"] + dropped) == ids["raw"]
    assert len(ids["curated"]) == report["rows_out"] == report["rows_in"] - len(dropped)
    assert ids["curated"] == sorted(ids["curated"])  # the order of the input


def test_again_with_the_same_content_changes_nothing(curated, root, recipe):
    first = curated("versions", "show", "curated", "--json").json
    again = curated("run", recipe, "--from", "raw", "--name", "curated", "--json").json
    assert again["new"] is False
    assert again["manifest_hash"] == first["manifest_hash"]
    assert again["steps"] == first["stages"][0]["steps"]
    workspace = Workspace.open(root)
    assert workspace.store.rows("SELECT count(*) FROM recipe_runs") == [(1,)]
    workspace.close()


def test_another_recipe_with_the_same_result_is_the_same_version(imported, root, tmp_path):
    a = _recipe(tmp_path, "exact: {on: both}", "a")
    b = _recipe(tmp_path, "exact: {on: both}; length: {on: response, max_words: 100000}", "b")
    first = imported("run", a, "--from", "raw", "--name", "v", "--json").json
    again = imported("run", b, "--from", "raw", "--name", "v", "--json")
    assert (again.code, again.json["new"]) == (0, False)
    assert again.json["manifest_hash"] == first["manifest_hash"]
    assert_intact(root)


def test_a_name_that_stands_for_other_content_is_refused_and_the_work_is_not_lost(curated, tmp_path):
    other = _recipe(tmp_path, "exact: {on: both}; random-k: {k: 50, seed: 1}")
    refused = curated("run", other, "--from", "raw", "--name", "curated")
    assert refused.code == 2
    assert "versions rm curated" in refused.err
    taken_over = curated("run", other, "--from", "raw", "--name", "fifty", "--json").json
    assert (taken_over["rows_out"], taken_over["resumed_steps"]) == (50, 2)


def test_two_workspaces_give_one_manifest_hash(curated, anywhere, tmp_path, alpaca, recipe):
    here = curated("versions", "show", "curated", "--json").json
    Workspace.init(tmp_path / "second").close()
    anywhere("-w", tmp_path / "second", "import", alpaca, "--name", "elsewhere")
    there = anywhere("-w", tmp_path / "second", "run", recipe, "--from", "elsewhere", "--name", "x", "--json").json
    assert there["manifest_hash"] == here["manifest_hash"]


def test_a_dry_run_says_what_the_run_will_do_and_writes_no_version(imported, root, recipe):
    dry = imported("run", recipe, "--from", "raw", "--dry-run", "--json").json
    assert dry["version"] is None
    assert imported("versions", "ls", "--json").json["versions"] == []
    workspace = Workspace.open(root)
    assert workspace.store.rows("SELECT count(*) FROM decisions") == [(0,)]
    workspace.close()
    real = imported("run", recipe, "--from", "raw", "--name", "curated", "--json").json
    assert (dry["manifest_hash"], dry["rows_out"]) == (real["manifest_hash"], real["rows_out"])


def test_rows_that_come_by_two_ways_count_once_and_keep_their_first_place(imported, tmp_path):
    imported("run", _recipe(tmp_path, "random-k: {k: 40, seed: 0}"), "--from", "raw", "--name", "forty")
    every = _recipe(tmp_path, "length: {on: response, max_words: 100000}", "every")
    report = imported("run", every, "--from", "forty,raw", "--name", "all", "--json").json
    assert report["rows_in"] == 999
    forty = [e["id"] for e in imported("examples", "forty", "--limit", 40, "--json").json["examples"]]
    first = [e["id"] for e in imported("examples", "all", "--limit", 40, "--json").json["examples"]]
    assert first == forty


def test_no_row_left_is_bad_input_and_names_the_step(imported, tmp_path):
    nothing = _recipe(tmp_path, "exact: {on: both}; length: {on: response, min_words: 100000, max_drop: 1}")
    for options in ([], ["--dry-run"]):
        called = imported("run", nothing, "--from", "raw", "--name", "none", *options)
        assert called.code == 3
        assert "step length" in called.err
    assert imported("versions", "ls", "--json").json["versions"] == []


def test_the_wipe_out_guard_stops_and_can_be_overruled_without_doing_the_work_again(imported, tmp_path):
    harsh = _recipe(tmp_path, "exact: {on: both}; length: {on: response, min_words: 80}")
    stopped = imported("run", harsh, "--from", "raw", "--name", "long")
    assert stopped.code == 3
    assert "--allow-wipeout" in stopped.err
    allowed = imported("run", harsh, "--from", "raw", "--name", "long", "--allow-wipeout", "--json").json
    assert allowed["resumed_steps"] == 1
    assert allowed["rows_out"] < 500


def test_what_fell_with_the_guard_off_is_not_taken_over_with_the_guard_on(imported, tmp_path):
    emptied = _recipe(tmp_path, "length: {on: response, min_words: 80}; length: {min_words: 100000, max_drop: 1}")
    unguarded = imported("run", emptied, "--from", "raw", "--name", "none", "--allow-wipeout")
    assert "leaves none" in unguarded.err
    guarded = imported("run", emptied, "--from", "raw", "--name", "none")
    assert (guarded.code, "--allow-wipeout" in guarded.err) == (3, True)


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["no-such.yaml", "--from", "raw", "--name", "v"], 3, "no-such.yaml"),
        (["no-such-name", "--from", "raw", "--name", "v"], 2, "no such recipe"),
        (["RECIPE", "--from", "rew", "--name", "v"], 2, "Did you mean raw?"),
        (["RECIPE", "--from", ",", "--name", "v"], 2, "--from"),
        (["RECIPE", "--from", "raw", "--name", "raw"], 2, "name of a source"),
        (["RECIPE", "--from", "raw", "--name", "a/b"], 2, "cannot be a name"),
        (["BAD", "--from", "raw", "--name", "v"], 3, "bad.yaml:2"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_runs(imported, recipe, tmp_path, argv, code, says):
    bad = _recipe(tmp_path, "exactt", "bad")
    named = {"RECIPE": str(recipe), "BAD": str(bad)}
    called = imported("run", *[named.get(part, part) for part in argv])
    assert (called.code, called.out) == (code, "")
    assert says in called.err


def test_scores_are_computed_once_for_the_same_content(curated, root, tmp_path):

    def scores() -> list[tuple[str, int]]:
        workspace = Workspace.open(root)
        rows = workspace.store.rows("SELECT scorer, count(*) FROM scores GROUP BY ALL ORDER BY ALL")
        doubled = workspace.store.rows(
            "SELECT 1 FROM scores GROUP BY content_hash, scorer, fingerprint HAVING count(*) > 1"
        )
        workspace.close()
        assert doubled == []
        return rows

    before = scores()
    assert before
    # Another threshold on the same score: nothing new to compute.
    curated("run", _recipe(tmp_path, "length: {on: response, min_words: 4}"), "--from", "curated", "--name", "more")
    assert scores() == before


@pytest.mark.model
@pytest.mark.usefixtures("forked_jobs")
def test_embeddings_come_from_a_job_once_and_from_the_cache_after(imported, root, tmp_path, write_pairs):
    rows = [
        ("How do I boil an egg so that the yolk stays soft?", "Boil it for six minutes and cool it at once in water."),
        ("How can I boil an egg with a soft yolk?", "Boil it for six minutes, then cool it at once in cold water."),
        ("Which planet is the largest in our solar system?", "Jupiter is the largest planet of our solar system."),
    ]
    imported("import", write_pairs(*rows), "--name", "eggs")
    semantic = _recipe(tmp_path, "semantic: {on: prompt, threshold: 0.85, answer_threshold: 0}")
    report = imported("run", semantic, "--from", "eggs", "--name", "one-egg", "--json")
    assert report.code == 0, report.err
    assert report.json["rows_out"] == 2
    cached = sorted((root / "cache" / "embeddings").rglob("*.arrow"))
    assert cached
    assert list((root / "runs").iterdir()) == []
    assert imported("run", semantic, "--from", "eggs", "--name", "two", "--json").json["rows_out"] == 2
    assert sorted((root / "cache" / "embeddings").rglob("*.arrow")) == cached
    [gone] = imported("versions", "diff", "eggs", "one-egg", "--json").json["examples"]
    assert gone["survivor"] == {"source": "eggs", "row": 1 - gone["row"]}
    workspace = Workspace.open(root)
    [(similarity,)] = workspace.store.rows(
        "SELECT similarity FROM duplicate_pairs WHERE step_id = (SELECT min(id) FROM steps WHERE name = 'semantic')"
    )
    workspace.close()
    assert 0.85 <= similarity <= 1


def test_json_is_one_object_on_stdout_and_notes_go_to_stderr(imported, recipe):
    called = imported("run", recipe, "--from", "raw", "--name", "curated", "--json")
    assert json.loads(called.out)
    assert called.out.count("\n") == 1
    assert "Why rows left" in imported("run", recipe, "--from", "raw", "--name", "curated").err


def test_only_what_is_new_against_a_version_that_is_there(curated, root, tmp_path, write_pairs):
    known = curated("examples", "curated", "--json").json["examples"][0]["messages"]
    rows = [(known[0]["content"], "another answer"), ("a question that nobody has asked before, I should think", "a")]
    curated("import", write_pairs(*rows), "--name", "more")
    recipe = _recipe(tmp_path, "minhash: {on: prompt, against: [curated], max_drop: 1}")
    report = curated("run", recipe, "--from", "more", "--name", "new", "--json").json
    assert report["steps"][0]["reasons"] == {"near duplicate": 1}
    (dropped,) = curated("examples", "new", "--dropped", "--json").json["examples"]
    assert dropped["duplicate_of"] is not None
    whole = curated("run", recipe, "--from", "raw", "--name", "rest", "--json")
    assert whole.code == 0
    assert (
        whole.json["steps"][0]["reasons"]["known row"] == curated("versions", "show", "curated", "--json").json["rows"]
    )
    assert_intact(root)
    refused = curated("sources", "rm", "raw")
    assert (refused.code, "rest" in refused.err) == (2, True)
    refused = curated("versions", "rm", "curated")
    assert (refused.code, "compared with" in refused.err) == (2, True)
    unknown = _recipe(tmp_path, "minhash: {against: [nowhere]}", "unknown")
    refused = curated("run", unknown, "--from", "more", "--name", "x")
    assert refused.code == 2
    assert "nowhere" in refused.err


def test_a_run_against_other_rows_is_another_run(curated, tmp_path, write_pairs):
    """A name may come to stand for other rows; what fell for the old ones is not taken over."""
    curated("import", write_pairs(("where does the longest river of the world begin", "x")), "--name", "known")
    curated("import", write_pairs(("where does the longest river of the world begin", "y"), name="b"), "--name", "more")
    recipe = _recipe(tmp_path, "minhash: {against: [known], max_drop: 1}; random-k: {k: 5}")
    assert curated("run", recipe, "--from", "more", "--name", "v").code == 3, "no row is left"
    removed = curated("sources", "rm", "known")
    assert removed.code == 0, removed.err
    curated("import", write_pairs(("what else", "x"), name="c"), "--name", "known")
    assert curated("run", recipe, "--from", "more", "--name", "v", "--json").json["rows_out"] == 1


def test_a_source_that_reasons_name_stays_while_the_version_does(imported, root, tmp_path, write_pairs):
    asked = "where does the longest river of the world begin"
    imported("import", write_pairs((asked, "x"), name="a"), "--name", "known")
    imported("import", write_pairs((asked, "y"), ("what else is there to ask", "z"), name="b"), "--name", "more")
    recipe = _recipe(tmp_path, "minhash: {against: [known], max_drop: 1}")
    assert imported("run", recipe, "--from", "more", "--name", "new").code == 0
    refused = imported("sources", "rm", "known")
    assert refused.code == 2
    assert "versions rm new" in refused.err
    imported("versions", "rm", "new")
    assert imported("sources", "rm", "known").code == 0
    assert_intact(root)


def test_the_overlap_tells_what_only_one_step_drops_and_makes_nothing(imported, root, tmp_path):
    recipe = _recipe(
        tmp_path, "exact: {on: both}; length: {on: response, min_words: 3}; length: {on: response, min_words: 5}"
    )
    line = ("run", recipe, "--from", "raw", "--name", "v", "--overlap")
    found = imported(*line, "--dry-run", "--json").json["overlap"]
    exact, short, shorter = found["steps"]
    assert found["rows"] == 999
    assert exact["alone"] == 14
    assert short["only"] == 0  # all that it drops the stricter one drops too
    assert short["shared"][2] == short["alone"] > 0
    assert 0 < shorter["only"] <= shorter["alone"] - short["alone"]
    shown = imported(*line)
    assert shown.code == 0
    assert "any of them drops" in shown.out
    assert f"{short['alone']:,} length (3)" in shown.out
    assert "overlap" not in imported(*line[:-1], "--json").json
    assert_intact(root)
