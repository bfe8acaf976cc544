"""Experiments in the app: asked, started, followed, left, found again, stopped, resumed; with real jobs."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from trainer.protocol import DONE, Events, holding
from workbench import experiments
from workbench.comparing import Jobs, listing, setup
from workbench.controls import make_controls
from workbench.errors import BadInput, Stopped
from workbench.experiments import Question
from workbench.jobs import is_running
from workbench.store import experiments as rows
from workbench.tui.app import WorkbenchApp
from workbench.tui.messages import Failure
from workbench.tui.widgets.checks import Checks
from workbench.tui.widgets.choice import Choice
from workbench.tui.widgets.compare_dialog import CompareDialog
from workbench.tui.widgets.live_view import LiveView
from workbench.tui.widgets.loss_plot import LossPlot
from workbench.tui.widgets.table import Table
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace


@pytest.fixture
def ws(compared_copy, forked_jobs) -> Iterator[Workspace]:
    """A workspace with versions `yes` and `no` and one finished comparison."""
    workspace = Workspace.open(compared_copy)
    yield workspace
    workspace.close()


async def go(tui, pilot, **args) -> None:
    """To the experiments."""
    pilot.app.go("experiments", **args)
    await tui.until(pilot, lambda: pilot.app.current_mode == "experiments")
    await tui.until(pilot, lambda: pilot.app.bench_screen().query("#experiments"))


def now(app: WorkbenchApp) -> str:
    """The state of the experiment under the cursor."""
    current = app.bench_screen().current  # type: ignore[union-attr]
    return current.state if current else ""


async def asked(tui, pilot, **fields: str) -> CompareDialog:
    """The dialog, once it stands, filled in."""
    await tui.until(pilot, lambda: isinstance(pilot.app.screen, CompareDialog) and pilot.app.screen.focused)
    dialog = pilot.app.screen
    for name, value in fields.items():
        dialog.query_one(f"#{name}", Input).value = value
    return dialog


async def test_asked_started_followed_stopped_resumed_left_and_found_again(tui, ws, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        await pilot.press("c")
        await tui.until(pilot, lambda: "which is the baseline" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "which is the candidate" in tui.screen_text(app))
        await pilot.press("down", "enter")
        dialog = await asked(tui, pilot, budget="4000", seeds="1")
        assert dialog.query_one("#evalset", Choice).value == "items"
        # One seed needs a run that measures the noise.
        await tui.until(pilot, lambda: "3 runs" in tui.screen_text(app))
        assert "in all, by earlier runs of this model" in tui.screen_text(app)
        assert "The smallest effect to be found is not known yet" in tui.screen_text(app)
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.current_mode == "experiments" and now(app) == "running")
        assert "no vs yes" in tui.screen_text(app)
        await tui.until(pilot, lambda: "step" in tui.screen_text(app) and app.screen.query_one(LossPlot).display, 90)
        assert "loss by step" in tui.screen_text(app)
        folder = ws.runs_dir / app.screen.current.id
        await pilot.press("x")
        await tui.until(pilot, lambda: "Stop no vs yes?" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: now(app) == "stopped", 60)
        assert "is stopped; resumed" in tui.said(app)
        assert not is_running(folder)
        assert list(folder.glob("results/*/checkpoints/checkpoint-*")), "it goes on from here"
        await pilot.press("r")
        await tui.until(pilot, lambda: now(app) == "running")
    assert is_running(folder), "leaving the app does not stop it"

    async with tui.running(ws, base="yes") as pilot:
        app = pilot.app
        await tui.until(pilot, lambda: app.experiments.seen.experiments[-1].state == "running")
        await tui.until(pilot, lambda: tui.said(app).startswith("yes against no: "), 120)
        assert app.current_mode == "browse", "it is told on whatever screen one is"
        await go(tui, pilot)
        await tui.until(pilot, lambda: now(app) == "done")
        [_, listed] = listing(ws)
        assert listed.verdict is not None
        line = next(line for line in tui.screen_text(app).splitlines() if "no vs yes" in line)
        assert line.replace("▌", " ").split()[:3] == ["no", "vs", "yes"]
        assert listed.verdict in line
        assert f"{listed.delta:+.3f}" in line
        await tui.until(pilot, lambda: f"yes against no: {listed.verdict}" in tui.screen_text(app))
        assert app.screen.query_one(VerdictView).display
        assert not app.screen.query_one(LiveView).display


async def test_two_versions_that_another_screen_marked_are_asked_about_in_their_order(tui, ws):
    async with tui.running(ws, base="yes") as pilot:
        await go(tui, pilot, compare=("yes", "no"))
        await asked(tui, pilot)
        await tui.until(pilot, lambda: "This was compared before" in tui.screen_text(pilot.app))
        await pilot.press("ctrl+x")
        await tui.until(pilot, lambda: "Nothing is left to be trained" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert text.index("baseline    no") < text.index("candidate   yes")
        assert "4 runs." in text
        await pilot.press("ctrl+x")
        await tui.until(pilot, lambda: "This was compared before" in tui.screen_text(pilot.app))
        await pilot.press("tab")
        assert isinstance(pilot.app.focused, Choice), "enter starts from every field"
        await pilot.press("enter")
        await tui.until(pilot, lambda: not isinstance(pilot.app.screen, CompareDialog))
        assert len(rows.states(ws.store)) == 1, "the same question has its answer"
        await go(tui, pilot, compare=("no", "no"))
        await asked(tui, pilot)
        assert "The same version twice" in tui.screen_text(pilot.app)


WRONG = [
    ("model", "./nowhere", "there is no such folder"),
    ("budget", "soon", "The budget is a number"),
    ("budget", "", "The budget is a number"),
    ("seeds", "1.5", "Seeds is a whole number"),
    ("seeds", "0", "Seeds is a whole number"),
]


async def test_what_is_wrong_is_said_in_the_dialog_and_goes_when_it_is_put_right(tui, ws):
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        await go(tui, pilot, compare=("no", "yes"))
        dialog = await asked(tui, pilot)
        for field, value, told in WRONG:
            before = dialog.query_one(f"#{field}", Input).value
            await asked(tui, pilot, **{field: value})
            await tui.until(pilot, lambda told=told: told in tui.screen_text(app))
            await pilot.press("enter")
            await tui.until(pilot, lambda told=told: told in tui.screen_text(app))
            assert app.screen is dialog
            await asked(tui, pilot, **{field: before})
            await tui.until(pilot, lambda told=told: told not in tui.screen_text(app))
            await tui.until(pilot, lambda: "4 runs" in tui.screen_text(app))
        assert len(rows.states(ws.store)) == 1


async def test_several_candidates_and_controls_are_asked_for_with_what_they_take(tui, ws, tmp_path, monkeypatch):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(f'{{"prompt": "Question {n}?", "completion": "few {n}"}}\n' for n in range(10)))
    ws.import_file(path, name="few-rows")
    ws.freeze("few-rows", "few")
    there = [version.name for version in ws.versions()]
    async with tui.running(ws, base="yes", size=(100, 40)) as pilot:
        app = pilot.app

        def all_told() -> str:
            parts = [str(one.content) for one in app.screen.query(Static) if one.display]
            return " ".join(" ".join(parts).split())

        def told(text: str) -> bool:
            return text in all_told()

        await go(tui, pilot, compare=("yes", "no", "few"))
        dialog = await asked(tui, pilot)
        await tui.until(pilot, lambda: told("candidates no, few"))
        await tui.until(pilot, lambda: told("baseline yes (30 rows), candidate no (30 rows), candidate2 few (10 rows)"))
        assert told("4 runs taken over from"), "those of yes and no"
        assert told("Smallest effect to be found, by earlier runs of this setting:")
        await asked(tui, pilot, budget="300")
        await tui.until(pilot, lambda: told("Warning: 300 trained tokens are 1 optimizer steps"))
        text = all_told()
        assert text.index("Warning") < text.index("6 runs"), "on a small screen the last lines are out of sight"
        await asked(tui, pilot, budget="1500")
        await tui.until(pilot, lambda: told("taken over"))
        await pilot.press("ctrl+n")
        await tui.until(pilot, lambda: "30 rows  no" in tui.screen_text(app))
        await pilot.press("down", "enter")
        await tui.until(pilot, lambda: told("candidate few") and told("4 runs."))
        await pilot.press("ctrl+n")
        await tui.until(pilot, lambda: "10 rows  few" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.screen is dialog)
        assert told("candidate few"), "the only one stays"
        checks = dialog.query_one(Checks)
        checks.focus()
        await pilot.press("space")
        await tui.until(pilot, lambda: told("random-k yes-random-k-10 (10 rows)"))
        assert checks.chosen == ("random-k",)
        await pilot.press("left", "space")
        await tui.until(pilot, lambda: told("full yes (30 rows)"))
        dialog.query_one("#unit", Choice).action_turn(-1)
        await tui.until(pilot, lambda: told("The control full takes as long as all rows of the baseline do"))
        dialog.query_one("#unit", Choice).action_turn(-1)
        await asked(tui, pilot, budget="1.5")
        await tui.until(pilot, lambda: told("The budget is a whole number: how often"))
        await asked(tui, pilot, budget="2")
        await tui.until(pilot, lambda: told("Leave the control full out."))
        checks.action_turn()
        await tui.until(pilot, lambda: told("How long it takes shows in the first steps"))
        assert [version.name for version in ws.versions()] == there, "nothing is made before it starts"
        begun: list[Question] = []
        monkeypatch.setattr(app.experiments.jobs, "begin", lambda ask, cancelled: begun.append(ask) or "none")
        await pilot.press("enter")
        await tui.until(pilot, lambda: bool(begun))
        [ask] = begun
        assert (ask.baseline, ask.candidates, ask.controls) == ("yes", ("few",), ("random-k",))
        assert (ask.epochs, ask.minutes, ask.trained_tokens, ask.seeds) == (2, None, None, 2)


async def test_rows_shared_with_the_eval_set_and_a_source_for_a_version_are_said_in_the_dialog(tui, ws):
    ws.hold_out("no-rows", "held", 3)
    async with tui.running(ws, base="yes") as pilot:
        await go(tui, pilot, compare=("no", "yes"))
        dialog = await asked(tui, pilot)
        dialog.query_one("#evalset", Choice).focus()
        await pilot.press("right")
        await tui.until(pilot, lambda: "have the prompt of an item of eval set 'held'" in tui.screen_text(pilot.app))
        assert "ctrl+w" in tui.screen_text(pilot.app)
        dialog.post_message(Failure(BadInput("no row can be an eval item")))
        await tui.until(pilot, lambda: "No row can be an eval item" in tui.screen_text(pilot.app))
        assert "ctrl+w" not in tui.screen_text(pilot.app), "nothing is shared"
        await pilot.press("ctrl+w")
        await tui.until(pilot, lambda: "no-without-held" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: "4 runs" in tui.screen_text(pilot.app))
        assert "yes-without-held" in tui.screen_text(pilot.app), "both have the three prompts"
        assert {version.rows for version in ws.versions() if "without" in version.name} == {27}
        await pilot.press("escape")
        await go(tui, pilot, compare=("no-rows", "yes"))
        await asked(tui, pilot)
        await tui.until(pilot, lambda: "only frozen versions are trained on" in tui.screen_text(pilot.app))


async def test_esc_while_it_is_planned_starts_no_job(tui, ws, monkeypatch):
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def plan(*args):
        begun.set()
        assert go_on.wait(20)
        try:
            return planned(*args)
        finally:
            over.set()

    planned = experiments.plan
    started: list[str] = []
    async with tui.running(ws, base="yes") as pilot:
        app = pilot.app
        monkeypatch.setattr(experiments, "plan", plan)
        monkeypatch.setattr(app.experiments.jobs, "start", started.append)
        await go(tui, pilot, compare=("no", "no"))
        await asked(tui, pilot)
        await tui.until(pilot, lambda: "4 runs" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, begun.is_set)
        await pilot.press("escape")
        await tui.until(pilot, lambda: not isinstance(app.screen, CompareDialog))
        go_on.set()
        await tui.until(pilot, over.is_set)
        await tui.until(pilot, lambda: len(rows.states(ws.store)) == 1)
        await pilot.pause(0.2)
        assert started == []
        assert len(rows.states(ws.store)) == 1, "what was planned is taken back"


def test_what_was_called_off_while_it_was_planned_leaves_no_version_of_a_control(ws, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(f'{{"prompt": "Question {n}?", "completion": "few {n}"}}\n' for n in range(10)))
    ws.import_file(path, name="few-rows")
    ws.freeze("few-rows", "few")
    there = [version.name for version in ws.versions()]
    question = replace(setup(ws, "yes", "few").question, controls=("random-k",))
    with pytest.raises(Stopped):
        Jobs(ws).begin(question, lambda: True)
    assert [version.name for version in ws.versions()] == there
    assert len(rows.states(ws.store)) == 1
    baseline, few = (ws.store.version(name) for name in ("yes", "few"))
    make_controls(ws, ["random-k"], baseline, {"candidate": few}, dry_run=False)  # one that was there is kept
    there.append("yes-random-k-10")
    with pytest.raises(Stopped):
        Jobs(ws).begin(question, lambda: True)
    assert [version.name for version in ws.versions()] == there


async def test_what_was_planned_and_never_started_says_so_and_can_be_started_or_deleted(tui, ws, monkeypatch):
    id = experiments.plan(ws, setup(ws, "no", "yes").question).id
    started: list[str] = []
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        monkeypatch.setattr(app.experiments.jobs, "start", started.append)
        await go(tui, pilot, show=id)
        await tui.until(pilot, lambda: now(app) == "planned")
        assert tui.screen_text(app).count("not started") >= 2, "in the list and below it"
        await pilot.press("x")
        await tui.until(pilot, lambda: tui.said(app) == "No job runs here.")
        await pilot.press("r")
        await tui.until(pilot, lambda: started == [id])
        assert tui.said(app) == "no vs yes is started."
        await pilot.press("X")
        await tui.until(pilot, lambda: "Delete experiment no vs yes?" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: len(rows.states(ws.store)) == 1)
        await tui.until(pilot, lambda: now(app) == "done")
        assert not (ws.runs_dir / id).exists()


async def test_the_report_of_a_result_is_written_and_never_over_another_file(tui, ws, tmp_path):
    out = tmp_path / "r.md"
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        await go(tui, pilot)
        await tui.until(pilot, lambda: now(app) == "done")
        await pilot.press("w")
        await tui.until(pilot, lambda: "Write the report of yes vs no to" in tui.screen_text(app))
        await pilot.press("escape")
        tui.type_text(app, f":report {out}\n")
        await tui.until(pilot, lambda: "Wrote the report to" in tui.said(app))
        assert out.read_text().startswith("# no against yes")
        out.write_text("mine")
        tui.type_text(app, f":report {out}\n")
        await tui.until(pilot, lambda: "there already" in tui.said(app))
        assert out.read_text() == "mine"


async def test_deleting_an_experiment_is_asked_about_says_what_goes_and_frees_its_versions(tui, ws):
    [(id, _)] = rows.states(ws.store)
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        await go(tui, pilot)
        with holding(ws.runs_dir / id):
            await pilot.press("X")
            await tui.until(pilot, lambda: "the job of yes vs no runs" in tui.said(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.screen.query_one(VerdictView).has_focus_within)
        await pilot.press("X")
        await tui.until(pilot, lambda: "Delete experiment yes vs no?" in tui.screen_text(app))
        asked = " ".join(tui.screen_text(app).replace("│", " ").split())
        assert "answers and adapters go (" in asked
        assert "yes and no can be deleted after it" in asked
        await pilot.press("n")
        await tui.until(pilot, lambda: "Delete experiment" not in tui.screen_text(app))
        assert len(rows.states(ws.store)) == 1
        await pilot.press("X")
        await tui.until(pilot, lambda: "Delete experiment yes vs no?" in tui.screen_text(app))
        await pilot.press("y")
        await tui.until(pilot, lambda: "No experiment yet" in tui.screen_text(app))
        assert tui.said(app) == "Deleted yes vs no."
        assert not (ws.runs_dir / id).exists()
        tui.type_text(app, ":delete\n")
        await tui.until(pilot, lambda: tui.said(app) == "There is no experiment to delete.")
        ws.remove_version("no")
        tui.type_text(app, ":delete nowhere\n")
        await tui.until(pilot, lambda: "no experiment 'nowhere'" in tui.said(app))


async def test_without_an_eval_set_one_is_imported_from_the_dialog(tui, workspace, tmp_path):
    path = tmp_path / "measure.jsonl"
    path.write_text('{"prompt": "How far?", "completion": "Ten miles."}\n' * 2)
    async with tui.running(workspace, base="curated") as pilot:
        app = pilot.app
        await go(tui, pilot)
        assert "No experiment yet: c trains two versions alike" in tui.screen_text(app)
        await pilot.press("x")
        await tui.until(pilot, lambda: tui.said(app) == "No job runs here.")
        tui.type_text(app, ":compare curated curated\n")
        dialog = await asked(tui, pilot)
        await tui.until(pilot, lambda: "There is no eval set to measure on" in tui.screen_text(app))
        assert "workbench " not in tui.screen_text(app).partition("no eval set")[2], "the app has the workspace open"
        await pilot.press("enter")
        assert app.screen is dialog
        await pilot.press("ctrl+e")
        await tui.until(pilot, lambda: "Import an eval set" in tui.screen_text(app))
        tui.type_text(app, f"{path}\n")
        await tui.until(pilot, lambda: "What to call the eval set" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: dialog.query_one("#evalset", Choice).value == "measure")
        assert "There is no eval set" not in tui.screen_text(app)
        await pilot.press("escape")


async def test_without_an_eval_set_rows_are_held_out_from_the_dialog_and_left_out_of_the_versions(
    tui, workspace, tiny_model
):
    async with tui.running(workspace, base="curated") as pilot:
        app = pilot.app
        await go(tui, pilot, compare=("curated", "curated"))
        dialog = await asked(tui, pilot, model=str(tiny_model))
        await tui.until(pilot, lambda: "makes one of a file; ctrl+o" in tui.screen_text(app))
        await pilot.press("ctrl+o")
        await tui.until(pilot, lambda: "Hold rows out of which" in tui.screen_text(app))
        assert "has the flaws of" in tui.screen_text(app)
        await pilot.press("enter")  # what is in view
        await tui.until(pilot, lambda: "How many items, out of curated?" in tui.screen_text(app))
        tui.type_text(app, "50\n")
        await tui.until(pilot, lambda: "What to call the eval set" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: dialog.query_one("#evalset", Choice).value == "curated-held-out")
        assert [(made.name, made.rows) for made in workspace.evalsets()] == [("curated-held-out", 50)]
        await tui.until(pilot, lambda: "ctrl+w" in tui.screen_text(app))
        await pilot.press("ctrl+w")
        await tui.until(pilot, lambda: "curated-without-curated-held-out" in tui.screen_text(app))
        assert workspace.versions()[-1].rows == workspace.versions()[0].rows - 50
        await pilot.press("escape")


async def test_rows_are_held_out_by_command_and_a_wrong_number_or_name_is_said(tui, workspace):
    async with tui.running(workspace) as pilot:
        app = pilot.app
        tui.type_text(app, ":hold-out rows\n")
        await tui.until(pilot, lambda: "How many items, out of rows?" in tui.screen_text(app))
        await pilot.press(*"many", "enter")
        await tui.until(pilot, lambda: "items are a whole number" in tui.said(app))
        tui.type_text(app, ":hold-out nowhere\n")
        await tui.until(pilot, lambda: "no source or version 'nowhere'" in tui.said(app))
        tui.type_text(app, ":hold-out rows\n")
        await tui.until(pilot, lambda: "How many items, out of rows?" in tui.screen_text(app))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "What to call the eval set" in tui.screen_text(app))
        await pilot.press(*"held", "enter")
        await tui.until(pilot, lambda: "held is an eval set of 6 items; 6 rows of rows have" in tui.said(app))
        assert [made.name for made in workspace.evalsets()] == ["held"]


async def test_a_failed_job_shows_its_sentence_and_where_its_log_is(tui, ws):
    [(id, _)] = rows.states(ws.store)
    folder = ws.runs_dir / id
    unfinish(ws, folder)
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        with holding(folder):
            await go(tui, pilot)
            await tui.until(pilot, lambda: now(app) == "running")
            what = "the \x1b[2J rows [/are] odd"
            Events(folder).emit("error", what=what, where="arm baseline", do="Look.", exit_code=3)
        await tui.until(pilot, lambda: now(app) == "failed")
        assert "arm baseline: the ␛[2J rows [/are] odd. Look." in tui.said(app)
        text = tui.screen_text(app)
        assert "rows [/are] odd" in text
        assert "Its log:" in text
        assert "\x1b" not in text


async def test_what_runs_is_drawn_in_two_ways_at_every_size_and_without_colour(tui, ws, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    [(id, _)] = rows.states(ws.store)
    folder = ws.runs_dir / id
    unfinish(ws, folder)
    async with tui.running(ws, base="yes", size=(80, 24)) as pilot:
        app = pilot.app
        with holding(folder):
            await go(tui, pilot)
            await tui.until(pilot, lambda: now(app) == "running")
            for step in range(1, 6):
                Events(folder).emit("train", run="candidate-1", step=step, steps=9, loss=3 - step / 9,
                                    trained_tokens=step, tokens_per_second=50.0)  # fmt: skip
            await tui.until(pilot, lambda: "step 5 of 9" in tui.screen_text(app))
            for size in ((80, 24), (160, 48), (60, 20)):
                await pilot.resize_terminal(*size)
                await tui.until(pilot, lambda: "⣿ baseline yes" in tui.screen_text(app))
                text = tui.screen_text(app)
                assert "× candidate no" in text
                assert any(mark in text for mark in "⠑⠒⠤⠢⣀⢄"), "the lines of the baseline"
                assert text.count("×") > 3, "the dots of the candidate"
                assert "50 tokens/s" in text
                assert re.search(r"running \d\d%", text)
            app.action_toggle_theme()
            await tui.until(pilot, lambda: "× candidate no" in tui.screen_text(app))
            await pilot.press("enter")
            await tui.until(pilot, lambda: not app.screen.query_one(Table).display)
            await pilot.press("escape")
            await tui.until(pilot, lambda: app.screen.query_one(Table).display)


async def test_going_through_many_results_opens_the_one_that_the_cursor_rests_on(tui, ws, monkeypatch):
    with ws.store.transaction() as cursor:
        cursor.execute(
            """INSERT INTO experiments BY NAME
               SELECT experiments.* REPLACE ('copy-' || i AS id, created_at + to_seconds(i) AS created_at)
               FROM experiments, range(1, 9) AS copies(i)"""
        )
    opened: list[str] = []
    monkeypatch.setattr(VerdictView, "show_experiment", lambda view, id: opened.append(id))
    async with tui.running(ws, base="yes") as pilot:
        app = pilot.app
        await go(tui, pilot)
        await tui.until(pilot, lambda: opened == ["copy-8"])
        await pilot.press(*"jjjj")
        await tui.until(pilot, lambda: opened[-1] == "copy-4")
        assert len(opened) < 5, "those that were only passed are not read"
        await pilot.press("enter")
        await tui.until(pilot, lambda: app.screen.query_one(VerdictView).has_focus_within)
        await pilot.press("escape")
        await tui.until(pilot, lambda: app.screen.query_one("#experiments").has_focus)


def unfinish(ws: Workspace, folder: Path) -> None:
    """As if the job had not come to its last run."""
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET state = 'running', result = NULL")
    (folder / DONE).unlink()
    shutil.rmtree(folder / "results" / "candidate-1")
