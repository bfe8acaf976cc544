from __future__ import annotations

import pytest

from .test_run import _recipe


def words(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


@pytest.fixture
def near(bench, write_pairs, tmp_path):
    """The command inside a workspace whose version `v` was made by minhash at 0.8 from rows of known similarity."""
    rows = [
        (words(0, 44), "the longest answer of them all"),  # 40 runs of five words
        (words(2, 46), "a shorter answer"),  # 38 of 42 with the first: 0.905
        (words(6, 50), "short"),  # 34 of 46 with the first: 0.739; 36 of 44 with the second: 0.818
        (words(100, 140), "alone"),
    ]
    assert bench("import", write_pairs(*rows), "--name", "rows").code == 0
    recipe = _recipe(tmp_path, "exact: {}; minhash: {on: prompt, threshold: 0.8, max_drop: 1}")
    assert bench("run", recipe, "--from", "rows", "--name", "v").code == 0
    return bench


def fallen(report):
    (step,) = report.json["steps"]
    return {
        member["row"]: (cluster["survivor"]["row"], round(member["similarity"], 3))
        for cluster in step["clusters"]
        for member in cluster["members"]
    }


def test_a_version_shows_who_fell_for_whom_and_how_alike_they_are(near):
    assert fallen(near("dupes", "v", "--step", "minhash", "--json")) == {1: (0, 0.905)}
    shown = near("dupes", "v")
    assert shown.code == 0
    assert "0.905" in shown.out
    assert "kept" in shown.out


def test_the_threshold_moves_both_ways_without_comparing_again(near):
    assert fallen(near("dupes", "v", "--threshold", "0.95", "--json")) == {}
    assert fallen(near("dupes", "v", "--threshold", "0.9", "--json")) == {1: (0, 0.905)}
    # The second row falls first, so the third cannot fall for it: it falls only where it is like the first.
    assert fallen(near("dupes", "v", "--threshold", "0.75", "--json")) == {1: (0, 0.905)}
    assert fallen(near("dupes", "v", "--threshold", "0.7", "--json")) == {1: (0, 0.905), 2: (0, 0.739)}
    moved = near("dupes", "v", "--threshold", "0.7")
    assert "2 (was 1)" in moved.out


def test_what_a_moved_threshold_says_is_what_a_run_at_it_does(imported, tmp_path):
    made = _recipe(tmp_path, "minhash: {on: both, threshold: 0.85, max_drop: 1}", "made")
    imported("run", made, "--from", "raw", "--name", "v")
    for threshold in (0.72, 0.8, 0.97):
        said = fallen(imported("dupes", "v", "--threshold", threshold, "--limit", 999, "--members", 999, "--json"))
        again = _recipe(tmp_path, f"minhash: {{on: both, threshold: {threshold}, max_drop: 1}}", "again")
        imported("run", again, "--from", "raw", "--name", f"v{threshold}")
        assert said
        assert said == fallen(imported("dupes", f"v{threshold}", "--limit", 999, "--members", 999, "--json"))


def test_a_source_is_looked_through_now_and_nothing_is_written(near):
    assert fallen(near("dupes", "rows", "--json")) == {1: (0, 0.905)}
    assert fallen(near("dupes", "rows", "--threshold", "0.7", "--json")) == {1: (0, 0.905), 2: (0, 0.739)}
    assert near("dupes", "rows", "--method", "exact", "--json").json["steps"][0]["dropped"] == 0
    assert near("dupes", "rows", "--on", "response").code == 0
    assert len(near("versions", "ls", "--json").json["versions"]) == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["v", "--threshold", "0.5"], "0.7"),
        (["v", "--step", "semantic"], "exact, minhash"),
        (["v", "--on", "prompt"], "--method"),
        (["rows", "--step", "exact"], "--method"),
        (["rows", "--method", "exact", "--threshold", "0.9"], "no threshold"),
        (["nowhere"], "nowhere"),
        (["v", "--conflicts", "--step", "exact"], "--conflicts"),
    ],
)
def test_what_cannot_be_asked_is_said(near, argv, says):
    refused = near("dupes", *argv)
    assert refused.code == 2
    assert says in refused.err


def test_a_version_without_deduplicators_says_how_to_look(bench, write_pairs):
    bench("import", write_pairs(("a", "b")), "--name", "rows")
    bench("versions", "freeze", "rows", "--name", "v")
    shown = bench("dupes", "v")
    assert (shown.code, "--method minhash" in shown.err) == (0, True)


def test_a_threshold_moves_also_where_rows_were_known_before(near, write_pairs, tmp_path):
    """Rows 0 and 2 stand on both sides, and are like each other both ways: neither falls for the other."""
    more = [(words(0, 44), "the longest answer of them all"), (words(6, 50), "short"), (words(200, 240), "new")]
    near("import", write_pairs(*more, name="grown"), "--name", "grown")
    recipe = _recipe(tmp_path, "minhash: {against: [grown], threshold: 0.9, max_drop: 1}", "new")
    assert near("run", recipe, "--from", "grown,rows", "--name", "x").code == 0
    moved = near("dupes", "x", "--threshold", "0.7", "--json")
    assert moved.code == 0
    (step,) = moved.json["steps"]
    assert (step["dropped"], step["dropped_then"]) == (6, 6), "three known, two equal to known ones, one near"


def test_the_ledger_has_the_survivor_and_the_similarity_of_every_row_that_fell(near):
    (gone,) = near("versions", "diff", "rows", "v", "--json").json["examples"]
    assert gone["survivor"] == {"source": "rows", "row": 0}
    assert round(gone["similarity"], 3) == 0.905
    assert "like rows:0 (0.905)" in near("versions", "diff", "rows", "v").out
    (fell,) = near("examples", "v", "--dropped", "--json").json["examples"]
    assert (fell["survivor"], round(fell["score"], 3)) == ({"source": "rows", "row": 0}, 0.905)
    assert "for rows row 0 (id 1, 0.905 alike)" in near("examples", "v", "--dropped").out


def test_clusters_and_their_rows_come_in_pages(near):
    (step,) = near("dupes", "rows", "--threshold", "0.7", "--members", "1", "--json").json["steps"]
    (cluster,) = step["clusters"]
    assert (cluster["size"], len(cluster["members"])) == (2, 1)
    assert "and 1 more" in near("dupes", "rows", "--threshold", "0.7", "--members", "1").out
    beyond = near("dupes", "v", "--step", "minhash", "--offset", "1")
    assert "it has 1 cluster" in beyond.err


def test_rows_of_one_template_are_told_from_the_word_on_in_which_they_differ(bench, write_pairs):
    asked = [f"{words(0, 60)} {city}, and then {words(60, 64)}" for city in ("Rome", "Bern")]
    bench("import", write_pairs((asked[0], "a long answer"), (asked[1], "short"), (words(0, 60), "no")), "--name", "t")
    shown = bench("dupes", "t", "--threshold", "0.7", "--on", "prompt").out.splitlines()
    members = {line.split("  ", 2)[1]: line for line in shown if " row " in line}
    assert members["t row 0"].endswith("…")
    assert "w0 w1 w2" in members["t row 0"]
    assert members["t row 1"].endswith("t row 1  … Bern, and then w60 w61 w62 w63")
    assert members["t row 2"].endswith("t row 2  … w59"), "it ends there"


def test_conflicts_are_listed_and_nothing_falls(near, write_pairs, tmp_path):
    assert "looked for conflicts" in near("dupes", "v", "--conflicts").err
    asked = [(words(0, 30), "The river goes down to the sea."), (words(0, 30), "Nobody ever found that out again!")]
    near("import", write_pairs(*asked, name="asked"), "--name", "asked")
    assert near("run", _recipe(tmp_path, "conflicts: {}", "look"), "--from", "asked", "--name", "c").code == 0
    (step,) = near("dupes", "c", "--conflicts", "--json").json["steps"]
    assert (step["step"], step["dropped"], step["listed"]) == ("conflicts", 0, 1)
    shown = near("dupes", "c", "--conflicts")
    assert "Nobody ever found" in shown.out
    assert "Nothing of this was dropped" in shown.err
