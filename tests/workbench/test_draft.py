"""What people do by hand: committed at once, undone for good, and what a freeze or a recipe makes of it."""

from __future__ import annotations

import json
import time

import pytest

from filters.step import Score
from workbench import curation
from workbench.errors import BadInput, NotFound, Problem, Stopped, UsageProblem
from workbench.store.scores import StoredScores
from workbench.store.windows import ViewQuery
from workbench.tui.listing import write_rows
from workbench.workspace import Workspace


@pytest.fixture
def ws(tmp_path):
    """A workspace with source `rows`: ten rows, two of them equal, and one rejected row in the middle."""
    workspace = Workspace.init(tmp_path / "ws")
    rows = [
        {"prompt": f"Question {i}?", "completion": f"Answer {'same' if i in (3, 7) else i} [/INST]"} for i in range(10)
    ]
    rows[3]["prompt"] = rows[7]["prompt"] = "Same?"
    lines = [json.dumps(row) for row in rows]
    lines.insert(5, "{broken")
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    workspace.import_file(tmp_path / "rows.jsonl", name="rows")
    yield workspace
    workspace.close()


def ids(ws, name="rows", **query):
    view = ws.view(ViewQuery(name, **query))
    try:
        return view.ids(0, view.rows)
    finally:
        view.close()


def states(ws, name="rows"):
    view = ws.view(ViewQuery(name))
    try:
        return [row.state for row in view.window(0, view.rows)]
    finally:
        view.close()


def answers(ws, name):
    return [json.loads(m)[-1]["content"] for batch in ws.rows(name) for m in batch.column("messages").to_pylist()]


def test_what_is_dropped_stays_in_sight_and_leaves_with_its_reason_when_frozen(ws):
    draft, every = ws.draft("rows"), ids(ws)
    assert draft.drop(every[2:4], "off topic") == 2
    assert draft.drop(every[2:5], "again") == 3, "another reason is another value"
    assert states(ws) == ["kept"] * 2 + ["dropped"] * 3 + ["kept"] * 5
    frozen, new = ws.freeze("rows", "v")
    assert (frozen.rows, new) == (7, True)
    [stage] = ws.show_version("v").stages
    assert [(step.name, step.rows_in, step.dropped) for step in stage.steps] == [("manual", 10, 3)]
    [row, *_] = ws.examples("v", which="dropped").rows
    assert (row.step, row.detail) == ("manual", "again")
    assert ws.diff("rows", "v").removed == 3
    assert not [check for check in ws.check() if check.problem]


def test_an_edit_is_a_new_example_in_the_place_of_the_old_one(ws):
    draft, every = ws.draft("rows"), ids(ws)
    new = draft.edit(every[1], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])
    assert states(ws)[1] == "edited"
    assert ws.detail("rows", every[1]).messages[-1]["content"] == "mended"
    assert ws.detail("rows", every[1]).shown_id == new
    assert len(ids(ws)) == 10, "the source is what was imported"
    ws.freeze("rows", "v")
    assert answers(ws, "v")[1] == "mended"
    assert answers(ws, "rows")[1] != "mended"
    assert ws.store.rows("SELECT parent_id FROM examples WHERE id = ?", [new]) == [(every[1],)]
    assert ids(ws, search="mended") == [every[1]]
    assert not [check for check in ws.check() if check.problem]
    for broken in ([{"role": "user", "content": "Q"}], [{"content": "Q"}]):
        with pytest.raises(BadInput):
            draft.edit(every[1], broken)


def test_undo_and_redo_outlive_the_process_and_say_what_they_do(ws, tmp_path):
    every = ids(ws)
    draft = ws.draft("rows")
    draft.drop(every[:1], "first")
    draft.label(every[1:3], "good")
    draft.drop(every[4:6], "third")
    ws.close()
    again = Workspace.open(tmp_path / "ws")
    draft = again.draft("rows")
    assert draft.undo() == "dropped 2 rows (third)"
    assert draft.undo() == "labelled 2 rows good"
    assert (draft.summary().dropped, draft.summary().labelled) == (1, 0)
    assert draft.redo() == "labelled 2 rows good"
    assert again.store.rows("SELECT example_id, label FROM labels ORDER BY 1") == [(id, "good") for id in every[1:3]]
    draft.restore(every[:1])
    assert draft.redo() is None, "something else was done since"
    assert [draft.undo() for _ in range(4)] == [
        "restored 1 row", "labelled 2 rows good", "dropped 1 row (first)", None,
    ]  # fmt: skip
    assert draft.summary().changes_rows is False
    assert len(again.store.rows("FROM operations")) == 10, "the log only grows"
    again.close()


def test_dropping_twice_for_one_reason_is_nothing_to_undo(ws):
    draft, every = ws.draft("rows"), ids(ws)
    draft.drop(every, "all")
    assert draft.drop(every[:3], "all") == 0
    draft.undo()
    assert draft.summary().dropped == 0


def test_a_recipe_on_a_source_with_a_draft_does_the_draft_first(ws, tmp_path):
    recipe = tmp_path / "exact.yaml"
    recipe.write_text("steps:\n  - exact\n")
    draft, every = ws.draft("rows"), ids(ws)
    draft.drop(every[:2], "boring")
    dry = ws.run_recipe(recipe, ["rows"], "v", dry_run=True)
    made = ws.run_recipe(recipe, ["rows"], "v")
    for report in (dry, made):
        assert [(s.name, s.rows_in, s.dropped) for s in report.steps] == [("manual", 10, 2), ("exact", 8, 1)]
        assert (report.rows_in, report.rows_out) == (10, 7)
    assert ws.run_recipe(recipe, ["rows"], "v").new is False
    draft.undo()
    assert ws.run_recipe(recipe, ["rows"], "w").rows_out == 9
    assert not [check for check in ws.check() if check.problem]


@pytest.mark.parametrize("way", ["run", "freeze"])
def test_what_people_do_while_a_version_is_made_is_not_in_it(ws, tmp_path, monkeypatch, way):
    recipe, every, draft = tmp_path / "exact.yaml", ids(ws), ws.draft("rows")
    recipe.write_text("steps:\n  - exact\n")
    draft.drop(every[:1], "before")

    def change(*_):
        draft.undo()
        draft.drop(every[5:7], "meanwhile")
        draft.edit(every[8], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])

    if way == "run":
        changes = iter([change])
        ws.run_recipe(recipe, ["rows"], "v", progress=lambda *_: next(changes, id)(0))
    else:
        (tmp_path / "items.jsonl").write_text(json.dumps({"prompt": "Question 7 ?", "completion": "x"}))
        ws.import_evalset(tmp_path / "items.jsonl", "items")
        compared = curation.overlapping_members
        monkeypatch.setattr(curation, "overlapping_members", lambda *given: [change(), compared(*given)][1])
        ws.freeze("rows", "v", ["items"])
    assert ids(ws, "v") == every[1:7] + every[7 if way == "freeze" else 8 :]
    [stage] = ws.show_version("v").stages
    told = [("manual", 10, 1), ("exact", 9, 1) if way == "run" else ("without", 9, 0)]
    assert [(step.name, step.rows_in, step.dropped) for step in stage.steps] == told
    assert draft.summary().dropped == 2, "it stays in the draft, for the next version"
    assert not [check for check in ws.check() if check.problem]


def test_a_stopped_run_is_not_gone_on_with_from_the_version_that_its_draft_became(ws, tmp_path):
    recipe = tmp_path / "two.yaml"
    recipe.write_text("steps:\n  - exact\n  - length: {on: response, max_words: 1000}\n")
    ws.draft("rows").drop(ids(ws)[:1], "dull")

    def stop(done, total, what):
        if what == "length":
            raise Stopped("Stopped")

    with pytest.raises(Stopped):
        ws.run_recipe(recipe, ["rows"], "x", progress=stop)
    ws.freeze("rows", "v")
    made = ws.run_recipe(recipe, ["v"], "w")
    assert [(step.name, step.rows_in, step.dropped) for step in made.steps] == [("exact", 9, 1), ("length", 8, 0)]
    assert ws.run_recipe(recipe, ["rows"], "x").resumed == 1
    assert not [check for check in ws.check() if check.problem]


def test_nothing_is_deleted_that_a_recipe_works_on(ws, tmp_path):
    recipe, refused = tmp_path / "exact.yaml", []
    recipe.write_text("steps:\n  - exact\n")
    ws.freeze("rows", "v")
    (tmp_path / "others.jsonl").write_text(json.dumps({"prompt": "Q", "completion": "A"}))
    ws.import_file(tmp_path / "others.jsonl", name="others")

    def remove(*_):
        for name in ("v", "others"):
            for way in (ws.check_removable, ws.remove):
                with pytest.raises(UsageProblem, match="worked on"):
                    way(name)
                refused.append(name)

    assert ws.run_recipe(recipe, ["v", "others"], "w", dry_run=True, progress=remove).rows_in == 11
    assert refused
    recipe.write_text("steps:\n  - minhash: {against: [others, nowhere]}\n")
    with pytest.raises(NotFound):
        ws.run_recipe(recipe, ["v"], "w")
    ws.remove("others")
    ws.remove("v")
    assert [named.name for named in (*ws.sources(), *ws.versions())] == ["rows"]


def test_a_row_that_a_recipe_dropped_can_come_back(ws, tmp_path):
    recipe = tmp_path / "exact.yaml"
    recipe.write_text("steps:\n  - exact\n")
    ws.run_recipe(recipe, ["rows"], "v")
    [gone] = ids(ws, "v", which="dropped")
    draft = ws.draft("v")
    assert draft.restore([gone]) == 1
    frozen, _ = ws.freeze("v", "w")
    assert (frozen.rows, ids(ws, "w")[-1]) == (10, gone)
    draft.drop([gone], "no, it should go")
    assert ws.freeze("v", "x")[0].rows == 9
    assert draft.restore([gone]) == 1, "a second time, too"
    assert ws.freeze("v", "y")[0].rows == 10
    assert not [check for check in ws.check() if check.problem]


def test_one_restore_of_rows_that_people_and_recipes_dropped_is_one_to_undo(ws, tmp_path):
    recipe = tmp_path / "exact.yaml"
    recipe.write_text("steps:\n  - exact\n")
    ws.run_recipe(recipe, ["rows"], "v")
    draft, [gone], every = ws.draft("v"), ids(ws, "v", which="dropped"), ids(ws, "v")
    draft.drop(every[:2], "dull")
    assert draft.restore([gone, *every]) == 3
    assert ids(ws, "v", which="kept") == [*every, gone]
    assert draft.undo() == "restored 3 rows", "as many as changed"
    assert ids(ws, "v", which="dropped") == [*every[:2], gone]


def test_a_row_that_a_recipe_dropped_is_not_dropped_again_by_hand(ws, tmp_path):
    recipe = tmp_path / "exact.yaml"
    recipe.write_text("steps:\n  - exact\n")
    ws.run_recipe(recipe, ["rows"], "v")
    draft, [gone], every = ws.draft("v"), ids(ws, "v", which="dropped"), ids(ws, "v")
    assert draft.drop([gone], "dull") == 0
    assert draft.undo() is None
    assert draft.drop([gone, every[0]], "dull") == 1
    assert draft.log(1) == ["dropped 1 row (dull)"]
    assert dict(ws.facets("v").states) == {"kept": 8, "dropped": 2, "edited": 0}
    ws.freeze("v", "w")
    assert not [check for check in ws.check() if check.problem]


def test_an_edit_of_a_row_that_a_recipe_dropped_counts_once_the_row_is_taken_back(ws):
    recipe = ws.root / "r.yaml"
    recipe.write_text("steps:\n  - exact\n")
    ws.run_recipe(recipe, ["rows"], "v")
    draft, [gone] = ws.draft("v"), ids(ws, "v", which="dropped")
    draft.edit(gone, [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])
    assert (draft.summary().edited, draft.summary().changes_rows) == (0, False)
    assert dict(ws.facets("v").states)["edited"] == len(ids(ws, "v", which="edited")) == 0
    draft.restore([gone])
    assert (draft.summary().edited, draft.summary().restored) == (1, 1)
    assert ids(ws, "v", which="edited") == [gone]


def test_rows_in_two_inputs_are_dropped_only_where_both_let_go(ws):
    ws.freeze("rows", "v")
    every = ids(ws)
    ws.draft("rows").drop(every[:2], "here")
    recipe = ws.root / "none.yaml"
    recipe.write_text("steps:\n  - length: {on: response, max_words: 1000}\n")
    report = ws.run_recipe(recipe, ["rows", "v"], "both")
    assert (report.rows_in, report.rows_out) == (10, 10)
    assert not [check for check in ws.check() if check.problem]


def test_labels_are_checked_and_reasons_wanted(ws):
    draft = ws.draft("rows")
    with pytest.raises(BadInput, match="no label"):
        draft.label(ids(ws), "great")
    with pytest.raises(BadInput, match="reason"):
        draft.drop(ids(ws), "  ")
    with pytest.raises(NotFound):
        ws.draft("other")


def test_removing_a_version_forgets_its_draft(ws):
    ws.freeze("rows", "v")
    ws.draft("v").drop(ids(ws, "v")[:1], "x")
    ws.remove_version("v")
    assert ws.store.rows("SELECT (SELECT count(*) FROM operations), (SELECT count(*) FROM draft_rows)") == [(0, 0)]


def test_windows_hold_any_part_of_the_list_in_order(ws):
    view = ws.view(ViewQuery("rows"))
    whole = view.window(0, 100)
    assert [row.pos for row in whole] == list(range(10))
    assert [row.id for row in view.window(4, 3)] == [row.id for row in whole[4:7]] == view.ids(4, 7)
    assert view.position_of(whole[6].id) == 6
    assert (whole[0].prompt, whole[0].response, whole[0].turns) == ("Question 0?", "Answer 0 [/INST]", 2)
    view.close()
    assert view.window(0, 10) == []


def test_filters_search_and_order(ws):
    every = ids(ws)
    assert ids(ws, search="QUESTION 4") == [every[4]]
    assert ids(ws, search='role":"user') == [], "the text is searched, not its JSON"
    assert ids(ws, where="prompt LIKE '%9%' OR pos < 2") == [every[0], every[1], every[9]]
    assert ids(ws, sort="prompt_chars")[:2] == [every[3], every[7]], "equal keys keep their order"
    assert ids(ws, sort="prompt_chars", descending=True)[-2:] == [every[3], every[7]]
    assert ids(ws, source="rows") == every
    ws.draft("rows").drop(every[:3], "x")
    assert ids(ws, which="kept") == every[3:]
    assert ids(ws, which="dropped", where="reason = 'x' AND step = 'manual'") == every[:3]
    with pytest.raises(UsageProblem, match="cannot be run"):
        ids(ws, where="nonsense(1)")
    for attack in ("true); DROP TABLE examples; --", "true) ; SELECT (1"):
        with pytest.raises(UsageProblem):
            ids(ws, where=attack)


def test_hits_are_read_while_more_are_looked_for_and_kept_when_it_is_called_off(ws, monkeypatch):
    monkeypatch.setattr("workbench.store.search._PIECES", (3, 3))
    every = ids(ws)
    told = []

    def found(view):
        told.append((view.rows, view.hits, round(view.share, 1), [row.id for row in view.window(0, 99)]))

    ws.view(ViewQuery("rows", search="question"), on_found=found).close()
    [first, *_, last] = told
    assert first == (3, 3, 0.3, every[:3])
    assert last == (8, 8, 1.0, [id for id in every if id not in (every[3], every[7])])
    told.clear()
    stopped = ws.view(ViewQuery("rows", search="question"), cancelled=lambda: len(told) == 2, on_found=found)
    assert (stopped.rows, round(stopped.share, 1), stopped.position_of(every[4])) == (5, 0.6, 3)
    stopped.close()
    told.clear()
    ordered = ws.view(
        ViewQuery("rows", sort="prompt_chars", descending=True), cancelled=lambda: len(told) == 2, on_found=found
    )
    assert [(rows, hits) for rows, hits, *_ in told] == [(0, 3), (0, 6)], "an order is known at the end alone"
    assert ordered.ids(0, 9) == [every[0], every[1], every[2], every[4], every[5], every[3]]
    ordered.close()


@pytest.mark.parametrize("sort", [None, "turns"])
def test_a_condition_that_would_take_minutes_is_called_off_amid_its_query(ws, sort):
    began, told = time.monotonic(), []
    endless = "pos < 2 AND (SELECT count(*) FROM range(1000000000000) t(i) WHERE i % 7 = pos) > 0"
    query = ViewQuery("rows", where=endless, sort=sort)
    view = ws.view(query, cancelled=lambda: time.monotonic() - began > 0.2, on_found=told.append)
    assert (view.rows, view.share, view.window(0, 9), told) == (0, 0, [], [])
    view.close()
    assert time.monotonic() - began < 10


def test_rows_of_a_list_are_written_whole_and_come_back_as_they_were(ws, tmp_path):
    every = ids(ws)
    ws.draft("rows").edit(every[4], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])
    view = ws.view(ViewQuery("rows", where="id >= 5"))
    for ending in ("jsonl", "json", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert ws.export_view(view, out) == view.rows
        ws.import_file(out, name=ending)
        assert answers(ws, ending) == [row.response for row in view.window(0, 99)]
        with pytest.raises(BadInput, match="is there already"):
            ws.export_view(view, out)
    with pytest.raises(BadInput, match="endings"):
        ws.export_view(view, tmp_path / "out.csv")
    view.close()


def test_a_list_that_is_closed_while_it_is_written_leaves_no_file(ws, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.store.windows._BATCH", 3)
    view = ws.view(ViewQuery("rows"))
    batches = view.batches()
    previews = view.previews()
    assert next(batches).num_rows == 3
    assert [next(previews).pos for _ in range(3)] == [0, 1, 2]
    view.close()
    with pytest.raises(Problem, match="closed"):
        list(batches)
    with pytest.raises(Problem, match="closed"):
        ws.export_view(view, tmp_path / "out.jsonl")
    with pytest.raises(Problem, match="closed"):
        write_rows(previews, tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out*"))


def test_each_facet_counts_the_rows_that_it_lists(ws, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - exact: {}\n  - repetition: {}\n  - length: {on: prompt, min_words: 2}\n")
    ws.draft("rows").drop(ids(ws)[8:9], "dull")
    ws.run_recipe(recipe, ["rows"], "v")
    draft, every = ws.draft("v"), ids(ws, "v")
    back = ids(ws, "v", which="dropped", step="length")
    draft.restore(back[:1])
    draft.drop([every[0], back[0]], "x")
    draft.restore(ids(ws, "v", which="dropped", step="exact"))
    draft.edit(every[1], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])
    draft.edit(every[2], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "mended"}])
    draft.drop(every[2:3], "x")
    hashes = [content_hash for batch in ws.rows("v") for content_hash in batch.column("content_hash").to_pylist()]
    scores = StoredScores(ws.store)
    scores.put({content_hash: Score(number / 7) for number, content_hash in enumerate(hashes)}, "taste", "f")
    scores.close()
    found = ws.facets("v")
    assert "taste" in dict(found.scorers)
    assert dict(found.states) == {which: len(ids(ws, "v", which=which)) for which in ("kept", "dropped", "edited")}
    assert found.steps == [(step, len(ids(ws, "v", which="dropped", step=step))) for step, _ in found.steps]
    assert "manual" in dict(found.steps)
    assert found.sources == [("rows", len(ids(ws, "v", source="rows")))]
    for scorer, scored_rows in found.scorers:
        bins = ws.histogram("v", scorer, 3)
        assert [count for *_, count in bins] == [
            len(ids(ws, "v", score=(scorer, low, below))) for low, below, _ in bins
        ], "the highest value is in the last bin, also when it filters"
        scored = f"content_hash IN (SELECT content_hash FROM scores WHERE scorer = '{scorer}' AND state = 'ok')"
        assert sum(count for *_, count in bins) == len(ids(ws, "v", where=scored)) == scored_rows > 0


def test_facets_count_and_scores_are_binned(ws, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - exact\n  - repetition\n")
    ws.run_recipe(recipe, ["rows"], "v")
    ws.draft("v").drop(ids(ws, "v")[:2], "x")
    found = ws.facets("v")
    assert dict(found.states) == {"kept": 7, "dropped": 3, "edited": 0}
    assert (found.sources, found.steps) == ([("rows", 9)], [("manual", 2), ("exact", 1)])
    assert found.scorers == [("repetition", 9)]
    bins = ws.histogram("v", "repetition", bins=4)
    assert sum(rows for *_, rows in bins) == 9
    assert ws.histogram("v", "nothing") == []
    low, below, count = next(b for b in bins if b[2])
    assert len(ids(ws, "v", score=("repetition", low, below + 1e-9))) >= count


def test_the_history_of_a_row_is_told(ws, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - exact\n")
    ws.run_recipe(recipe, ["rows"], "v")
    every = ids(ws)
    ws.draft("rows").label([every[7]], "bad")
    told = ws.history("rows", ws.detail("rows", every[7])).told
    assert told[0] == "came as row 8 of source rows"
    assert "dropped on the way to version v by exact" in told[1]
    assert "row 3 of rows" in told[1]
    assert told[2] == "by hand in rows: labelled 1 row bad"
    assert ws.history("rows", ws.detail("rows", every[0])).told[-1] == "in version v"
    assert ws.history("rows", ws.detail("rows", every[3])).also_in == [("rows", 8)]
