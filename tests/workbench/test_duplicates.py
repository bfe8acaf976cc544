"""Clusters read by pages, thresholds moved by the pairs that were kept, and what people decide about duplicates."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import pytest

from workbench.duplicate_review import accept, carry_out, keep_instead, reject
from workbench.duplicates import OpenDuplicates, stepped, steps_of
from workbench.errors import UsageProblem
from workbench.workspace import Workspace


def words(start, stop):
    return " ".join(f"w{i}" for i in range(start, stop))


ROWS = [
    # In runs of five words; row 0 is preferred to 1, 1 to 2 and so on, by the length of the answer.
    (words(0, 44), 9),
    (words(2, 46), 8),  # 0.905 with row 0
    (words(6, 50), 7),  # 0.739 with row 0, 0.818 with row 1
    (words(10, 54), 6),  # 0.600 with row 0, 0.667 with row 1, 0.818 with row 2
    (words(100, 144), 5),
    (words(100, 144), 4),  # equal to row 4
    (words(200, 240), 3),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with source `rows` and version `v`: row 5 fell in `exact`, 1 and 3 in `minhash` at 0.8."""
    folder = tmp_path_factory.mktemp("duplicates") / "ws"
    path = folder.with_name("rows.jsonl")
    lines = [{"prompt": prompt, "completion": words(900, 900 + length)} for prompt, length in ROWS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = folder.with_name("recipe.yaml")
    recipe.write_text("steps:\n  - exact: {on: prompt}\n  - minhash: {on: prompt, threshold: 0.8}\n")
    workspace = Workspace.init(folder)
    workspace.import_file(path, name="rows")
    workspace.run_recipe(recipe, ["rows"], "v")
    workspace.close()
    return folder


@pytest.fixture
def ws(made, tmp_path):
    workspace = Workspace.open(shutil.copytree(made, tmp_path / "ws"))
    yield workspace
    workspace.close()


@pytest.fixture
def opened(ws):
    """The step `minhash`."""
    found = OpenDuplicates(ws.store, "v", steps_of(ws.store, "v")[1])
    yield found
    found.close()


def lines(opened):
    """The list: the row of each survivor, and below it (row, similarity, standing) of those that fall for it."""
    return [
        row.row if row.is_survivor else (row.row, round(row.similarity, 3), row.standing)
        for row in opened.clusters.window(0, 99)
    ]


def id_of(ws, row):
    return ws.store.rows("SELECT id FROM examples WHERE row = ? AND parent_id IS NULL", [row])[0][0]


def kept(ws, name="v"):
    """Which rows a freeze would hold."""
    version, _ = ws.freeze(name, f"frozen-{random.getrandbits(32)}")
    found = ws.store.rows(
        "SELECT e.row FROM version_examples v JOIN examples e ON e.id = v.example_id WHERE v.version_id = ? ORDER BY 1",
        [version.id],
    )
    return [row for (row,) in found]


def test_a_list_has_each_survivor_above_the_rows_that_fell_for_it(ws, opened):
    assert lines(opened) == [0, (1, 0.905, "fell"), 2, (3, 0.818, "fell")]
    (survivor, member) = opened.clusters.window(2, 2)
    assert (survivor.members, member.of, member.source) == (1, survivor.id, "rows")
    assert opened.clusters.position_of(member.id) == 3
    assert opened.clusters.ids(1, 3) == [id_of(ws, 1), id_of(ws, 2)]


def test_a_moved_threshold_is_listed_from_the_pairs_that_were_kept(opened):
    assert opened.move(0.7).counts.rows == 2
    assert lines(opened) == [0, (1, 0.905, "fell"), (2, 0.739, "kept")], "row 3 was like row 2 alone, which falls now"
    assert opened.move(0.9).counts.clusters == 1
    assert lines(opened) == [0, (1, 0.905, "fell")]
    assert opened.move(0.8) == opened.summary
    assert lines(opened) == [0, (1, 0.905, "fell"), 2, (3, 0.818, "fell")]
    with pytest.raises(UsageProblem, match="out of reach"):
        opened.move(0.69)


def test_fewer_may_fall_only_where_pairs_below_the_threshold_were_not_judged(ws):
    step = steps_of(ws.store, "v")[1]
    hedges = {}
    for name, given in {"plain": {}, "unjudged": {"answer_threshold": 0.8}}.items():
        for target in (None, 4):
            params = step.params | given | {"target": target}
            opened = OpenDuplicates(ws.store, "v", replace(step, params=params))
            hedges[name, target] = [opened.move(at).hedge for at in (0.75, 0.8, 0.9)]
            opened.close()
    assert hedges.pop(("unjudged", None)) == ["at most ", "", ""]
    assert all(hedge == ["", "", ""] for hedge in hedges.values()), "with a target they are judged down to the floor"


def test_a_row_with_more_near_ones_than_pairs_are_kept_makes_the_count_of_another_threshold_about(ws, tmp_path):
    path, recipe = tmp_path / "crowd.jsonl", tmp_path / "crowd.yaml"
    crowd = [{"prompt": f"{words(0, 44)} n{n}", "completion": words(900, 903 + n)} for n in range(25)]
    path.write_text("".join(json.dumps(line) + "\n" for line in crowd))
    recipe.write_text("steps: [{minhash: {on: prompt, threshold: 0.8, max_drop: 1}}]")
    ws.import_file(path, name="crowd")
    ws.run_recipe(recipe, ["crowd"], "w")
    opened = OpenDuplicates(ws.store, "w", steps_of(ws.store, "w")[0])
    assert [opened.move(at).hedge for at in (0.8, 0.9)] == ["", "about "]
    opened.close()


def test_a_cluster_is_read_by_pages_however_large_it_is(ws):
    """A survivor with 30,000 rows: a page of it holds no more than was asked for."""
    from workbench.store.duplicates import OpenClusters, falls_table

    with ws.store.transaction(rows=True) as cursor:
        cursor.execute(
            """INSERT INTO examples (id, source_id, row, content_hash, messages)
               SELECT 1000 + i, 1, 1000 + i, 'x', '[{"role":"user","content":"q"}]' FROM range(30000) t(i)"""
        )
    clusters = OpenClusters(ws.store, None)
    try:
        counts = clusters.show(falls_table([(1001 + i, 1000, 0.9) for i in range(29_999)]))
        assert (counts.rows, counts.clusters, counts.largest) == (29_999, 1, 30_000)
        assert [row.pos for row in clusters.window(20_000, 3)] == [20_000, 20_001, 20_002]
        (cluster,) = clusters.clusters(0, 10, members=5)
        assert (cluster.size, len(cluster.members)) == (29_999, 5)
    finally:
        clusters.close()


def test_the_next_hundredth_is_the_next_also_from_a_threshold_between_two():
    assert [stepped(0.8, 1), stepped(0.8, -1), stepped(0.29, 1), stepped(0.7071, 1), stepped(0.7071, -1)] == [
        0.81,
        0.79,
        0.3,
        0.71,
        0.7,
    ]


def test_a_rejected_cluster_comes_back_and_undo_takes_that_back_also_after_a_restart(ws, opened):
    told = carry_out(ws.draft("v"), opened, reject(opened, survivors=[id_of(ws, 0)]))
    assert told == "Took back 1 row. u undoes."
    assert lines(opened)[1] == (1, 0.905, "back")
    assert kept(ws) == [0, 1, 2, 4, 6]
    opened.close()
    folder = ws.root
    ws.close()
    again = Workspace.open(folder)
    try:
        assert again.draft("v").undo() == "took back 1 row (minhash at 0.8)"
        assert kept(again) == [0, 2, 4, 6]
    finally:
        again.close()


def test_an_accepted_row_leaves_with_its_survivor_and_similarity_in_the_ledger(ws, opened):
    opened.move(0.7)
    told = carry_out(ws.draft("v"), opened, accept(opened, ids=[id_of(ws, 2)]))
    assert told == "Dropped 1 row, took back 1 row. u undoes.", "row 3 had fallen for row 2 alone"
    assert kept(ws) == [0, 3, 4, 6]
    ws.freeze("v", "w")
    (gone,) = [row for row in ws.examples("w", which="dropped").rows if row.step == "manual"]
    assert (gone.row, gone.duplicate_of) == (2, id_of(ws, 0))
    assert gone.detail == "duplicate of rows row 0 (minhash 0.739)"
    ((score,),) = ws.store.rows("SELECT DISTINCT score FROM decisions WHERE detail LIKE 'duplicate of%'")
    assert score == pytest.approx(0.739, abs=0.001)
    assert ws.check()
    assert not [check for check in ws.check() if check.problem]


def test_all_at_a_threshold_makes_the_version_what_a_run_at_it_would(ws, opened, tmp_path):
    for threshold in (0.9, 0.72, 0.8):
        opened.move(threshold)
        carry_out(ws.draft("v"), opened, accept(opened))
        recipe = tmp_path / f"at{threshold}.yaml"
        recipe.write_text(f"steps: [{{exact: {{on: prompt}}}}, {{minhash: {{on: prompt, threshold: {threshold}}}}}]")
        ws.run_recipe(recipe, ["rows"], f"at{threshold}")
        assert kept(ws) == [row for (row,) in ws.store.rows(
            """SELECT e.row FROM version_examples v JOIN examples e ON e.id = v.example_id
               JOIN versions w ON w.id = v.version_id WHERE w.name = ? ORDER BY 1""", [f"at{threshold}"])]  # fmt: skip
    assert ws.draft("v").summary().dropped == ws.draft("v").summary().restored == 0, "as the recipe left it"


def test_all_that_fell_can_be_taken_back_at_once(ws, opened):
    opened.move(0.95)
    assert carry_out(ws.draft("v"), opened, reject(opened)) == "Took back 2 rows. u undoes."
    assert kept(ws) == [0, 1, 2, 3, 4, 6], "row 5 fell in another step"
    assert carry_out(ws.draft("v"), opened, reject(opened)) == "Nothing changed: the rows stand so already."


def test_all_of_one_step_leaves_alone_what_was_decided_in_another(ws, tmp_path):
    """Step 3 kept the pair of rows 2 and 3 as well, but nobody decided there."""
    recipe = tmp_path / "twice.yaml"
    two = ", ".join(f"{{minhash: {{on: prompt, threshold: {at}}}}}" for at in (0.9, 0.95))
    recipe.write_text(f"steps: [{{exact: {{on: prompt}}}}, {two}]")
    ws.run_recipe(recipe, ["rows"], "twice")
    draft = ws.draft("twice")
    exact, first, second = (OpenDuplicates(ws.store, "twice", step) for step in steps_of(ws.store, "twice"))
    try:
        first.move(0.8)
        assert carry_out(draft, first, accept(first)) == "Dropped 1 row. u undoes."
        for other in (exact, second):
            other_own = [row.id for row in other.clusters.window(0, 9) if not row.is_survivor]
            assert accept(other).would == ""
            assert reject(other).back == other_own
        assert kept(ws, "twice") == [0, 2, 4, 6]
        first.move(0.9)
        assert accept(first).would == "takes back 1 row", "in the step where it was decided"
    finally:
        for opened in (exact, first, second):
            opened.close()


def test_another_survivor_takes_the_place_and_rows_that_are_not_like_it_come_back(ws, opened):
    opened.move(0.7)  # 1 and 2 fall for 0
    carry_out(ws.draft("v"), opened, accept(opened))
    told = carry_out(ws.draft("v"), opened, keep_instead(opened, id_of(ws, 2)))
    assert told == "Dropped 1 row, took back 1 row, put 1 row under another survivor. u undoes."
    assert kept(ws) == [2, 3, 4, 6]
    (head, first, second) = opened.clusters.window(0, 3)
    assert (head.standing, first.of, second.standing) == ("dropped", second.id, "kept")
    assert round(first.similarity, 3) == 0.818, "with the row that survives now"
    told = carry_out(ws.draft("v"), opened, keep_instead(opened, head.id))
    assert kept(ws) == [0, 3, 4, 6], "and back again"
    opened.move(0.8)  # 2 is not in that cluster, so 1 alone may take the place of 0
    carry_out(ws.draft("v"), opened, keep_instead(opened, id_of(ws, 1)))
    assert 1 in kept(ws)
    assert 0 not in kept(ws)


def test_what_was_decided_before_a_freeze_is_listed_after_it_and_can_be_decided_otherwise(ws, opened):
    exact = OpenDuplicates(ws.store, "v", steps_of(ws.store, "v")[0])
    opened.move(0.7)
    carry_out(ws.draft("v"), opened, accept(opened, ids=[id_of(ws, 2)]))  # row 3 comes back: it was like 2 alone
    carry_out(ws.draft("v"), exact, keep_instead(exact, id_of(ws, 5)))
    ws.freeze("v", "v2")
    steps = steps_of(ws.store, "v2")
    after, equal = OpenDuplicates(ws.store, "v2", steps[1]), OpenDuplicates(ws.store, "v2", steps[0])
    draft = ws.draft("v2")
    try:
        assert lines(equal) == [5, (4, 1.0, "fell")]
        assert lines(after) == [0, (1, 0.905, "fell"), (2, 0.739, "fell")]
        told = carry_out(draft, after, keep_instead(after, id_of(ws, 2)))
        assert told == "Took back 1 row, put 1 row under another survivor. u undoes.", "at 0.8 row 0 is not like row 2"
        assert kept(ws, "v2") == [0, 2, 3, 5, 6]
        carry_out(draft, after, reject(after))
        carry_out(draft, equal, reject(equal))
        assert kept(ws, "v2") == [0, 1, 2, 3, 4, 5, 6]
        ws.freeze("v2", "v3")
        last = OpenDuplicates(ws.store, "v3", steps[1])
        assert lines(last) == [0, (1, 0.905, "kept"), 2, (3, 0.818, "kept")], "row 2 is up again: as the run had it"
        assert carry_out(ws.draft("v3"), last, accept(last)) == "Dropped 2 rows. u undoes."
        assert kept(ws, "v3") == [0, 2, 4, 5, 6]
        last.close()
    finally:
        for found in (exact, after, equal):
            found.close()


def test_of_equal_rows_any_survives(ws):
    exact = OpenDuplicates(ws.store, "v", steps_of(ws.store, "v")[0])
    try:
        assert lines(exact) == [4, (5, 1.0, "fell")]
        with pytest.raises(UsageProblem, match="has no threshold"):
            exact.move(0.9)
        carry_out(ws.draft("v"), exact, keep_instead(exact, id_of(ws, 5)))
        assert kept(ws) == [0, 2, 5, 6]
    finally:
        exact.close()


def test_what_a_person_dropped_for_another_reason_is_left_alone(ws, opened):
    draft = ws.draft("v")
    draft.drop([id_of(ws, 0)], "off topic")
    draft.restore([id_of(ws, 1)])
    told = carry_out(draft, opened, accept(opened, survivors=[id_of(ws, 0)]))
    assert "stayed: the survivor is not among the rows" in told, "or none of the cluster would be left"
    assert 1 in kept(ws)
    draft.drop([id_of(ws, 2)], "off topic")
    opened.move(0.7)
    carry_out(draft, opened, reject(opened))
    assert 2 not in kept(ws)


def test_rows_that_are_left_by_their_survivor_are_told_and_one_of_them_can_take_its_place(ws, opened):
    draft = ws.draft("v")
    assert [draft.down_for([id_of(ws, row)]) for row in (0, 1, 2, 4)] == [1, 0, 1, 1]
    assert draft.down_for([id_of(ws, row) for row in range(7)]) == 3
    draft.drop([id_of(ws, 0)], "off topic")
    assert [row.row for row in opened.clusters.window(0, 9) if row.alone] == [1]
    told = carry_out(draft, opened, keep_instead(opened, id_of(ws, 1)))
    assert told == "Took back 1 row. u undoes."
    assert not any(row.alone for row in opened.clusters.window(0, 9))
    assert draft.down_for([id_of(ws, 0)]) == 0
    assert kept(ws) == [1, 2, 4, 6]
    opened.move(0.7)
    draft.restore([id_of(ws, 0)])
    carry_out(draft, opened, accept(opened, ids=[id_of(ws, 2)]))
    assert draft.down_for([id_of(ws, 0)]) == 1, "by hand too"
    draft.drop([id_of(ws, 0)], "off topic")
    ws.freeze("v", "v2")
    after = OpenDuplicates(ws.store, "v2", steps_of(ws.store, "v2")[1])
    assert {row.row for row in after.clusters.window(0, 9) if row.alone} == {2}, "after a freeze too"
    after.close()


def test_a_row_that_is_down_as_a_duplicate_points_at_one_that_is_up_whatever_was_decided(tmp_path):
    """Rows along a line, each like its neighbours: every threshold has other stars."""
    chance = random.Random(2)
    path = tmp_path / "line.jsonl"
    starts = [chance.randrange(0, 36) for _ in range(24)]
    path.write_text(
        "".join(
            json.dumps({"prompt": words(start, start + 44), "completion": words(900, 903 + n % 7)}) + "\n"
            for n, start in enumerate(starts)
        )
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps: [{minhash: {on: prompt, threshold: 0.8, max_drop: 1}}]")
    ws = Workspace.init(tmp_path / "ws")
    ws.import_file(path, name="rows")
    ws.run_recipe(recipe, ["rows"], "v")
    opened = OpenDuplicates(ws.store, "v", steps_of(ws.store, "v")[0])
    draft = ws.draft("v")
    try:
        for _ in range(15):
            opened.move(chance.randrange(70, 100) / 100)
            listed = opened.clusters.window(0, 99)
            if not listed:
                continue
            row = chance.choice(listed)
            decide = chance.choice([accept, accept, reject, keep_instead])
            if decide is keep_instead:
                decision = keep_instead(opened, row.id)
            elif chance.random() < 0.1:
                decision = decide(opened)
            else:
                decision = decide(opened, survivors=[row.id]) if row.is_survivor else decide(opened, ids=[row.id])
            carry_out(draft, opened, decision)
            stands = {
                id: (standing, of)
                for id, standing, of in opened.clusters._ask(
                    f"WITH s AS ({opened.clusters._standings()}) SELECT example_id, standing, of FROM s"
                )
            }
            hanging = [
                id for id, (standing, of) in stands.items()
                if standing in ("fell", "dropped") and stands[of][0] not in ("kept", "back")
            ]  # fmt: skip
            assert not hanging
            if chance.random() < 0.2:
                draft.undo()
    finally:
        opened.close()
        ws.close()
