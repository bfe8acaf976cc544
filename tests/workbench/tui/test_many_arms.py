"""Experiments of many arms in the app: sweeps over settings, merged arms, several candidates; over planted results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from workbench import experiments, outcomes
from workbench.comparing import listing, told
from workbench.experiments import Experiment
from workbench.following import PlannedRun
from workbench.store.experiments import find_experiment
from workbench.sweep import Sweep
from workbench.tui.experiment_list import listed_rows
from workbench.tui.widgets.arms_pane import ArmsPane
from workbench.tui.widgets.loss_plot import marks
from workbench.tui.widgets.table import Cell, Table
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace

from ..planted import SUMMARY, plant

COST = {"tokens_per_second": 50.0, "peak_bytes": 3_000_000_000, "estimated_bytes": 2_500_000_000}


@pytest.fixture
def ws(compared_copy):
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


def made(ws: Workspace, means: Mapping[str, float], **asked) -> Experiment:
    """An experiment asked as the one there is, but for `asked`, to its end: arms have `means` by what they are called.

    The adapter of the arm number n is of 20 + n MB.
    """
    [first, *_] = listing(ws)
    question = replace(experiments.asked(find_experiment(ws.store, first.id)), **asked)
    experiment = experiments.plan(ws, question)
    called = replace(experiment, arms={arm: arm for arm in experiment.arms})
    runs = plant(called, lambda arm: means[experiment.labels[arm]])
    for run in runs:
        path = experiment.folder / "results" / run / SUMMARY
        summary = json.loads(path.read_text())
        if summary["arm"] in experiment.plan.merged:
            continue
        saved = 20_000_000 + 1_000_000 * list(experiment.arms).index(summary["arm"])
        path.write_text(json.dumps(summary | {"cost": COST | {"saved_bytes": saved}}))
    outcomes.conclude(ws, experiment.id)
    return experiment


@pytest.fixture
def arms(ws, tui):
    """`async with arms(experiment, size) as (pilot, pane)`: the tab on the arms of it, filled."""

    @asynccontextmanager
    async def opened(experiment: Experiment, size=(160, 48)):
        async with tui.running(ws, base="no", size=size) as pilot:
            app = pilot.app
            app.go("experiments", show=experiment.id)
            await tui.until(pilot, lambda: bool(app.screen.query(VerdictView)))
            view = app.screen.query_one(VerdictView)
            await tui.until(pilot, lambda: view.shown is not None and view.shown.id == experiment.id)
            await pilot.press("enter", "7")
            pane = view.query_one(ArmsPane)
            await tui.until(pilot, lambda: pane.table.has_focus and "against A" in tui.screen_text(app))
            yield pilot, pane

    return opened


def shown_rows(table: Table) -> dict[str, dict[str, str]]:
    """The rows of a table as they read, by their first named cell and their column."""
    titles = [column.title for column in table._columns]
    read = [
        [str(cell.text if isinstance(cell, Cell) else "" if cell is None else cell) for cell in table._values[key]]
        for key in table.keys
    ]
    return {
        next(cell for cell in cells if cell and not cell[:1].isdigit()): dict(zip(titles, cells, strict=True))
        for cells in read
    }


async def test_a_sweep_is_told_by_its_settings_with_what_each_took(arms, ws, tui):
    means = {"lora": 2.0, "dora": 2.0, "full": 1.8}
    sweep = made(ws, means, candidate=None, sweep=Sweep(methods=("lora", "dora", "full")))
    *_, listed = listing(ws)
    assert told(listed) == "Against lora: dora no difference detected, full better."
    async with arms(sweep) as (pilot, pane):
        ranked = shown_rows(pane.query_one("#ranking", Table))
        assert [ranked[name]["MB saved"] for name in ("lora", "dora", "full", "base")] == ["20.0", "21.0", "22.0", "-"]
        assert {ranked["full"][column] for column in ("GB peak", "tokens/s", "GB told")} == {"3.00", "50", "2.50"}
        assert (ranked["full"][""], ranked["dora"][""]) == ("▲ better", "= no difference")
        text = " ".join(tui.screen_text(pilot.app).split())
        assert "p is corrected (Holm) over the 2 pairs of settings." in text
        assert "the most memory in use while a run trained" in text
        await pilot.resize_terminal(80, 24)
        await tui.until(pilot, lambda: "tokens/s" in tui.screen_text(pilot.app))
        assert "GB peak" in tui.screen_text(pilot.app), "it goes before how much was trained on"
        await pilot.press("6")
        await tui.until(pilot, lambda: "The arms of a sweep are not judged" in tui.screen_text(pilot.app))


async def test_a_sweep_of_two_versions_says_whether_the_data_does_the_same_under_each_setting(arms, ws, tui):
    means = {"yes, lora": 2.0, "yes, full": 2.0, "no, lora": 1.8, "no, full": 2.2}
    sweep = made(ws, means, sweep=Sweep(methods=("lora", "full")))
    *_, listed = listing(ws)
    first, second, *_ = told(listed).split(". ")
    assert first == "Against yes, lora: no, lora better, yes, full no difference detected"
    assert second == "Against yes, full: no, full worse."
    async with arms(sweep) as (pilot, pane):
        text = " ".join(tui.screen_text(pilot.app).split())
        assert "no against yes turns around: better under lora; worse under full." in text
        assert "over the 2 pairs of versions and over the 1 pair of settings" in text
        assert [row["A is"] for row in shown_rows(pane.table).values()] == [
            "the baseline", "by the same setting", "the baseline",
        ]  # fmt: skip


async def test_merged_arms_are_ranked_beside_those_that_are_trained_and_took_nothing(arms, ws, tui):
    merged = "ties(yes + no)"
    means = {"yes": 2.0, "no": 2.1, merged: 1.9}
    experiment = made(ws, means, trained_tokens=2560, merges=("ties:yes+no",))
    async with arms(experiment) as (_, pane):
        ranked = shown_rows(pane.query_one("#ranking", Table))
        assert (ranked[merged]["GB peak"], ranked[merged]["rows"], ranked[merged]["tokens"]) == ("-", "-", "0")
        assert ranked["no"]["GB peak"] == "3.00"


async def test_the_list_has_no_change_of_one_candidate_for_that_of_all_and_pairs_are_gone_through_fast(
    arms, ws, tui, monkeypatch
):
    means = {"yes": 2.0, "no": 2.5}
    experiment = made(ws, means, trained_tokens=2560, more=("yes",))
    opened: list[int] = []
    read = VerdictView._open
    async with arms(experiment) as (pilot, _):
        rows = dict(listed_rows(listing(ws), []))
        assert [cells[3] for cells in rows.values()].count(None) == 1
        assert rows[experiment.id][3] is None
        monkeypatch.setattr(
            VerdictView, "_open", lambda view, id, number: opened.append(number) or read(view, id, number)
        )
        tui.type_ahead(pilot.app, "b", "b")
        await tui.until(pilot, lambda: len(opened) == 2)
        assert opened == [1, 0], "the second is not lost while the first is read"


def test_lines_of_arms_have_marks_of_their_own_but_for_those_that_are_not_trained():
    runs = [PlannedRun(f"{arm}-0", arm, 0) for arm in ("baseline", *(f"candidate{n}" for n in range(23)))]
    merged = PlannedRun("merged-0", "merged", 0, merged=True)
    found = marks([*runs, merged])
    assert found["baseline"] == "⣿"
    assert len(set(found.values())) == 24
    assert "merged" not in found
    assert next(iter(marks(runs[2:]).values())) == "×", "what was taken over has no line"
