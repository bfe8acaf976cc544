"""A finished experiment in the app: each tab, each action, over a real store and real models."""

from __future__ import annotations

import csv
import inspect
import json
import math
import re
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from textual import events

from trainer.slices import Slice, SlicedMetric
from trainer.verdict import MetricResult, specs_for
from workbench import experiments, outcomes, results
from workbench.asking import Given
from workbench.errors import Problem
from workbench.experiment_command import judging_command
from workbench.store import experiments as table
from workbench.tui.actions import actions_of
from workbench.tui.messages import Failure
from workbench.tui.screen import BenchScreen
from workbench.tui.widgets import items_pane, verdict_view
from workbench.tui.widgets.arms_pane import ArmsPane
from workbench.tui.widgets.ask_pane import AskPane, Question, question_lines
from workbench.tui.widgets.items_pane import ItemsPane
from workbench.tui.widgets.judge_pane import judge_lines
from workbench.tui.widgets.verdict_lines import item_lines, verdict_lines
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace

from ..planted import plant


class ResultScreen(BenchScreen):
    """Holds the view, as the screen of experiments does."""

    NAME = "result"

    def body(self):
        yield VerdictView()

    def home(self):
        return self.query_one(VerdictView).home()

    def arrive(self, id=""):
        self.query_one(VerdictView).show_experiment(id)

    def escape(self):
        return self.query_one(VerdictView).escape()


@pytest.fixture
def ws(compared_copy, forked_jobs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


@pytest.fixture
def shown(ws) -> results.Finished:
    return results.open_result(ws, "yes vs no")


@pytest.fixture
def view(ws, tui):
    """`async with view(size) as (pilot, view)`: the app over the workspace with the result of `yes vs no` open."""

    @asynccontextmanager
    async def opened(size=(120, 40), experiment="yes vs no"):
        async with tui.running(ws, base="no", size=size) as pilot:
            pilot.app.add_mode("result", ResultScreen)
            pilot.app.go("result", id=experiment)
            await tui.until(pilot, lambda: bool(pilot.app.screen.query(VerdictView)))
            found = pilot.app.screen.query_one(VerdictView)
            await tui.until(pilot, lambda: found._shown is not None or "no result yet" in tui.screen_text(pilot.app))
            yield pilot, found

    return opened


async def test_the_verdict_is_told_as_it_is_with_its_intervals(view, tui, shown):
    async with view((80, 24)) as (pilot, _):
        await tui.until(pilot, lambda: "response NLL" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert f"no against yes: {shown.result['verdict']}, for {shown.result['scope']}." in " ".join(text.split())
        assert "A yes (baseline) · B no (candidate)" in text
        assert "response_nll" not in text
        [line] = [line for line in text.splitlines() if "response NLL" in line]
        assert "●" in line
        assert line.index("●") < line.index("│"), "worse is on the left"
        await pilot.press("G")
        await tui.until(pilot, lambda: "checks of all runs" in tui.screen_text(pilot.app))


async def test_items_are_listed_worst_first_sorted_by_any_column_and_written_to_a_file(view, tui, shown, tmp_path):
    async with view() as (pilot, found):
        await pilot.press("2")
        await tui.until(pilot, lambda: "better on 0, ▼ worse on 6" in tui.screen_text(pilot.app))
        listed = found.query_one(ItemsPane).table
        assert listed.has_focus
        nll = [item.change("response_nll") for item in shown.items]
        assert listed.current == str(nll.index(max(nll)))
        await pilot.press("s", "S", "g")
        assert listed.current == "0", "by number"
        await pilot.press("m")
        await tui.until(pilot, lambda: "prompt gain (nats/token) · ↑ higher is better" in tui.screen_text(pilot.app))
        await pilot.press("colon", *"metric", "space", *"nonsense", "enter")
        await tui.until(pilot, lambda: "Metrics: response_nll, prompt_gain" in tui.said(pilot.app))
        await pilot.press("colon", *"metric", "space", *"response_nll", "enter")
        await tui.until(pilot, lambda: "response NLL (nats/token) · ↓ lower is better" in tui.screen_text(pilot.app))
        out = tmp_path / "items.csv"
        tui.type_text(pilot.app, f":export-table {out}\n")
        await tui.until(pilot, lambda: "6 rows are in" in tui.said(pilot.app))
        rows = list(csv.DictReader(out.open()))
        assert [float(row["B - A"]) for row in rows] == pytest.approx(nll)


def measure_many(ws: Workspace, like: results.Finished, items: int) -> str:
    """A second experiment, as `like`, that was measured on that many items; its id."""
    with ws.store.transaction() as cursor:
        run = "replace(run_id, ?, 'many') AS run_id"
        for sql in (
            f"""INSERT INTO eval_sets BY NAME SELECT * REPLACE (99 AS id, 'large' AS name, {items} AS rows)
                FROM eval_sets""",
            f"""INSERT INTO eval_items BY NAME SELECT i.* REPLACE (99 AS eval_set_id, n AS item)
                FROM eval_items i, range({items}) r(n) WHERE i.item = n % 6""",
            "INSERT INTO experiments BY NAME SELECT * REPLACE ('many' AS id, 'a large one' AS name, "
            'replace(plan, \'"evalset": "items"\', \'"evalset": "large"\') AS plan) FROM experiments',
        ):
            cursor.execute(sql)
        cursor.execute(
            """INSERT INTO runs BY NAME SELECT * REPLACE (replace(id, ?, 'many') AS id, 'many' AS experiment_id)
               FROM runs WHERE experiment_id IS NOT NULL""",
            [like.id],
        )
        cursor.execute(
            f"""INSERT INTO item_metrics BY NAME SELECT m.* REPLACE ({run}, n AS eval_item, value + n * 7 % 31 AS value)
                FROM item_metrics m, range({items}) r(n) WHERE eval_item = 0 AND run_id NOT LIKE '%/base'""",
            [like.id],
        )
    return "many"


async def test_thousands_of_items_are_listed_and_sorted_at_once(view, tui, ws, shown):
    id = measure_many(ws, shown, 6000)
    async with view((160, 48), experiment=id) as (pilot, found):
        before = time.thread_time()  # of the thread that answers keys
        await pilot.press("2")
        listed = found.query_one(ItemsPane).table
        await tui.until(pilot, lambda: len(listed.keys) == 6000 and listed.has_focus)
        await pilot.press("s", "G")
        await tui.until(pilot, lambda: re.search("▌ +0 ", tui.screen_text(pilot.app)) is not None)
        spent = time.thread_time() - before
        assert (listed.keys[0], listed.current) == ("5999", "0")
        assert spent < 1.0, "one that laid out every row took several seconds"


async def test_the_cursor_in_the_items_is_not_carried_to_another_experiment(view, tui, ws, shown):
    id = measure_many(ws, shown, 40)
    async with view(experiment=id) as (pilot, found):
        pane = found.query_one(ItemsPane)
        await pilot.press("2")
        await tui.until(pilot, lambda: len(pane.table.keys) == 40)
        tui.type_text(pilot.app, ":item 3\n")
        await tui.until(pilot, lambda: found.tab == "answers" and pane.item == 3)
        found.show_experiment(shown.id)
        await tui.until(pilot, lambda: len(pane.table.keys) == 6)
        worst = max(shown.items, key=lambda item: item.change("response_nll")).item
        assert (pane.item, pane.table.keys[0]) == (worst, str(worst)), "it begins at the first"


async def test_answers_stand_side_by_side_where_there_is_room_and_below_each_other_elsewhere(view, tui):
    async with view((120, 40)) as (pilot, found):
        await pilot.press("2")
        await tui.until(pilot, lambda: found.item is not None)
        await pilot.press("enter")
        await tui.until(pilot, lambda: "reference" in tui.screen_text(pilot.app))
        heads = [line for line in tui.screen_text(pilot.app).splitlines() if "A yes" in line]
        assert len(heads) == 1
        assert "base" in heads[0]
        assert "B no" in heads[0]
        await pilot.resize_terminal(80, 40)

        def stacked() -> bool:
            lines = tui.screen_text(pilot.app).splitlines()
            return any("B no" in line for line in lines) and not any("A yes" in x and "B no" in x for x in lines)

        await tui.until(pilot, stacked)
        await pilot.press("escape")
        await tui.until(pilot, lambda: found.tab == "items" and found.query_one(ItemsPane).table.has_focus)


async def test_one_goes_from_item_to_item_and_from_seed_to_seed(view, tui, ws, shown):
    async with view((100, 60)) as (pilot, found):
        await pilot.press("n")
        await tui.until(pilot, lambda: found.item is not None)
        first = found.item
        nll = [item.change("response_nll") for item in shown.items]
        assert first == nll.index(max(nll)), "the worst one first"
        await tui.until(pilot, lambda: f" item {first} of 6" in tui.screen_text(pilot.app))
        await pilot.press("n")
        await tui.until(pilot, lambda: found.item != first and f" item {found.item} of 6" in tui.screen_text(pilot.app))
        await pilot.press("N")
        await tui.until(pilot, lambda: f" item {first} of 6" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":item 3\n")
        await tui.until(pilot, lambda: " item 3 of 6" in tui.screen_text(pilot.app))
        assert "seed 0" in tui.screen_text(pilot.app)
        await pilot.press("full_stop")
        await tui.until(pilot, lambda: "seed 1" in tui.screen_text(pilot.app))
        answer = results.item_answers(ws, shown, 3, 1).answers[2]
        assert (answer.arm, answer.seed) == ("candidate", 1)
        assert answer.text.split()[0] in tui.screen_text(pilot.app)
        tui.type_text(pilot.app, ":item 6\n")
        await tui.until(pilot, lambda: "Items go from 0 to 5" in tui.said(pilot.app))


async def test_a_tab_that_is_painted_before_it_is_laid_out_is_filled_all_the_same(view, tui):
    async with view() as (pilot, found):
        await tui.until(pilot, lambda: "response NLL" in tui.screen_text(pilot.app))
        found.action_open_tab("ask")
        pilot.app.screen._compositor.update_widgets({found.query_one(AskPane)})  # as a repaint that comes first does
        assert found.region
        await tui.until(pilot, lambda: "What do the models make of a prompt" in tui.screen_text(pilot.app))


async def test_answers_that_are_asked_for_before_the_items_are_listed_come_when_they_are(view, tui, monkeypatch):
    ready, listed = threading.Event(), items_pane.item_rows

    def slowly(*args, **options):
        ready.wait(20)
        return listed(*args, **options)

    monkeypatch.setattr(items_pane, "item_rows", slowly)
    async with view() as (pilot, found):
        await pilot.press("n")
        assert (found.tab, found.item) == ("answers", None)
        ready.set()
        await tui.until(pilot, lambda: f" item {found.item} of 6" in tui.screen_text(pilot.app))


async def test_a_failure_of_something_else_takes_no_answers_away(view, tui, monkeypatch):
    ready, laid = threading.Event(), verdict_view.item_lines

    def slowly(*args):
        ready.wait(20)
        return laid(*args)

    monkeypatch.setattr(verdict_view, "item_lines", slowly)
    async with view() as (pilot, found):
        await pilot.press("2")
        await tui.until(pilot, lambda: found.item is not None)
        await pilot.press("n")
        found.query_one(ItemsPane).post_message(Failure(Problem("the table cannot be written")))
        await tui.until(pilot, lambda: "the table cannot be written" in tui.said(pilot.app))
        ready.set()
        await tui.until(pilot, lambda: f" item {found.item} of 6" in tui.screen_text(pilot.app))


async def test_tabs_go_round_by_key_and_by_mouse(view, tui):
    async with view() as (pilot, found):
        seen = []
        for _ in verdict_view.TABS:
            await pilot.press("right_square_bracket")
            seen.append(found.tab)
        assert seen == [*verdict_view.TABS[1:], "verdict"]
        await pilot.press("left_square_bracket")
        assert found.tab == verdict_view.TABS[-1]
        for tab in verdict_view.PANES:
            await pilot.press(tab.KEY)
            assert (found.tab, found.home().has_focus) == (tab.NAME, True)
        await pilot.click("Tabs", offset=(11, 0))
        await tui.until(pilot, lambda: found.tab == "items")


async def test_all_three_answer_a_prompt_of_ones_own_and_without_a_job_when_asked_again(
    view, tui, ws, shown, monkeypatch
):
    async with view((160, 48)) as (pilot, found):
        await pilot.press("a", *"Item", "space", *"3", "question_mark", "enter")
        ask = found.query_one(AskPane)
        await tui.until(pilot, lambda: bool(ask.questions) and not ask.running, 120)
        [question] = ask.questions
        for arm, run in (("base", "base"), ("baseline", "baseline-0"), ("candidate", "candidate-0")):
            stored = pq.read_table(ws.runs_dir / shown.id / "results" / run / "generations.parquet").to_pylist()
            assert question.given[arm].text == next(row["text"] for row in stored if row["item"] == 3)
        await tui.until(pilot, lambda: tui.screen_text(pilot.app).count("tokens") == 3)
        assert ask.box.has_focus, "for the next one"
        monkeypatch.setattr("workbench.jobs.start", None)
        tui.type_text(pilot.app, "Item 3?\n")
        await tui.until(pilot, lambda: len(ask.questions) == 2 and not ask.running)
        assert ask.questions[1].given == question.given
        assert ask.box.text == ""
        await pilot.press("escape")
        assert ask.text.has_focus
        assert found.tab == "ask"


async def test_a_question_is_called_off_by_ctrl_c_and_one_is_answered_at_a_time(view, tui):
    async with view() as (pilot, found):
        ask = found.query_one(AskPane)
        tui.type_text(pilot.app, ":ask long way round\n")
        await tui.until(pilot, lambda: ask.running is not None)
        assert not ask.ask("another")
        await pilot.press("ctrl+c")
        await tui.until(pilot, lambda: ask.running is None, 60)
        assert "Another question is being answered" in tui.said(pilot.app)
        await tui.until(pilot, lambda: "called off; asked again" in tui.screen_text(pilot.app))
        assert len(ask.questions) == 1
        assert found.tab == "ask"
        assert found.check_action("call_off", ()) is False, "ctrl+c is free again"


async def test_escape_calls_off_then_leaves_the_box_then_the_view(view, tui):
    async with view() as (pilot, found):
        ask = found.query_one(AskPane)
        running = Question([{"role": "user", "content": "?"}], 0)
        ask.questions.append(running)
        await pilot.press("a", "x", "escape")
        assert (running.called_off, ask.box.has_focus, ask.box.text) == (True, True, "x")
        running.running = False
        await pilot.press("escape")
        assert ask.text.has_focus
        await pilot.press("escape")
        await tui.until(pilot, lambda: pilot.app.current_mode == "browse")


async def test_what_cannot_be_asked_is_told_and_the_app_lives_on(view, tui, ws, shown):
    (ws.runs_dir / shown.id / "results" / "baseline-0" / "adapter" / "adapter_config.json").unlink()
    async with view() as (pilot, found):
        tui.type_text(pilot.app, ":ask anything\n")
        await tui.until(pilot, lambda: "baseline-0 is no longer there" in tui.said(pilot.app))
        await tui.until(pilot, lambda: "baseline-0 is no longer there" in tui.screen_text(pilot.app).split("▔")[0])
        assert found.query_one(AskPane).running is None
        await pilot.press("1")
        await tui.until(pilot, lambda: "response NLL" in tui.screen_text(pilot.app))


async def test_a_system_turn_stands_before_prompts_until_it_is_taken_away(view, tui, ws, shown):
    (ws.runs_dir / shown.id / "results" / "baseline-0" / "adapter" / "adapter_config.json").unlink()  # nothing runs
    async with view() as (pilot, found):
        ask = found.query_one(AskPane)
        tui.type_text(pilot.app, ":system Be brief.\n")
        await tui.until(pilot, lambda: "A system turn stands" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":ask one\n")
        await tui.until(pilot, lambda: "system turn: Be brief." in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: not ask.running and "no longer there" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":system\n")
        await tui.until(pilot, lambda: "without a system turn" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":ask two\n")
        await tui.until(pilot, lambda: len(ask.questions) == 2)
        assert [[turn["role"] for turn in q.turns] for q in ask.questions] == [["system", "user"], ["user"]]


async def test_a_hostile_paste_is_shown_as_glyphs_and_asked_as_it_was(view, tui, monkeypatch):
    async with view() as (pilot, found):
        ask = found.query_one(AskPane)
        asked = []
        monkeypatch.setattr(ask, "ask", lambda prompt: asked.append(prompt) or True)
        await pilot.press("a", "x")
        text = tui.hostile.replace("\ud800", "")
        pilot.app.post_message(events.Paste(f"{text}\nsecond line"))
        await tui.until(pilot, lambda: "second line" in ask.box.text)
        assert "\x1b" not in ask.box.text
        await pilot.press("ctrl+j", "y", "enter")
        await tui.until(pilot, lambda: bool(asked))
        assert asked == [f"x{text}\nsecond line\ny"]
        pilot.app.post_message(events.Paste("z" * 60_000))
        await tui.until(pilot, lambda: "at most 50,000 characters" in tui.said(pilot.app))


async def test_hostile_items_and_answers_of_a_million_characters_are_shown_and_keys_go_on(view, tui, ws, shown):
    for run in (*shown.runs["candidate"].values(), *shown.runs["base"].values()):
        row = table.RunRow(run, shown.id, "candidate", None, 0, "s", "done", "{}")
        answers = pa.table({"item": [5], "text": [tui.hostile[:-1] + "漢" * 1_000_000], "finish": ["length"]})
        metrics = pa.table({"item": [5], "metric": ["response_nll"], "value": [1.0], "weight": [1.0]})
        if run not in shown.runs["base"].values():
            table.save_run(ws.store, row, metrics, answers)
    async with view((160, 48)) as (pilot, found):
        tui.type_text(pilot.app, ":item 5\n")
        await tui.until(pilot, lambda: "first 100,000 of 1,000,0" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert "[/INST] [bold]x[/]" in text
        assert not set("\x1b\x07\u202e") & set(text)
        await pilot.press("G", "2")
        await tui.until(pilot, lambda: found.tab == "items")


async def test_an_experiment_without_a_result_is_told_as_such(view, tui, ws, shown):
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET result = NULL, state = 'stopped'")
    (ws.runs_dir / shown.id / "results" / "candidate-1" / "summary.json").unlink()
    async with view() as (pilot, _):
        await tui.until(pilot, lambda: "it has no result yet (" in tui.screen_text(pilot.app))
        await pilot.press("2", "n", "m", "full_stop", "a", "x", "enter", "escape")
        assert pilot.app.is_running


async def test_a_version_that_was_trained_alone_is_shown_without_a_verdict(view, tui, shown):
    alone = {"verdict": None, "candidate": None, "metrics": [], "sentences": []}
    arms = {arm: name for arm, name in shown.arms.items() if arm != "candidate"}
    runs = {arm: ids for arm, ids in shown.runs.items() if arm != "candidate"}
    trained = replace(shown, result=shown.result | alone, arms=arms, runs=runs)
    async with view() as (pilot, found):
        found.post_message(VerdictView._Opened(replace(trained, id="alone")))
        await tui.until(pilot, lambda: "yes, trained alone" in tui.screen_text(pilot.app))
        [line] = [line for line in tui.screen_text(pilot.app).splitlines() if "response NLL" in line]
        assert len(line.split()) == 5, "base and A"
        await pilot.press("2")
        await tui.until(pilot, lambda: "lower is better · means of 2 seeds" in tui.screen_text(pilot.app))
        assert "B - A" not in tui.screen_text(pilot.app)
        await pilot.press("enter")
        await tui.until(pilot, lambda: "reference" in tui.screen_text(pilot.app))
        assert "A yes" in tui.screen_text(pilot.app)


async def test_commands_typed_over_an_open_result_are_meant_for_it(ws, tui, shown, tmp_path):
    async with tui.running(ws, base="no", size=(100, 40)) as pilot:
        pilot.app.go("experiments", show=shown.id)
        await tui.until(pilot, lambda: bool(pilot.app.screen.query(VerdictView)))
        found = pilot.app.screen.query_one(VerdictView)
        await tui.until(pilot, lambda: found._shown is not None)
        await pilot.press("enter", "2")
        await tui.until(pilot, lambda: found.query_one(ItemsPane).table.has_focus)
        out = tmp_path / "items.json"
        tui.type_text(pilot.app, f":export-table {out}\n")
        await tui.until(pilot, lambda: "6 rows are in" in tui.said(pilot.app))
        assert {"item", "B - A", "prompt"} <= set(json.loads(out.read_text())[0])


SLICED = [
    Slice("maths", 40, 40, 2.0, 1.9, -0.1, (-0.15, -0.05), 0.0001, 0.00003, "better"),
    Slice("history", 20, 12, 2.0, 2.2, 0.2, (0.1, 0.3), 0.01, 0.02, "worse"),
    Slice("[/INST] \x1b[2J", 15, 15, 2.0, 2.01, 0.01, (-math.inf, math.inf), 0.8, 0.8, "no difference detected"),
    Slice("verse", 3, 3),
]


def sliced(shown: results.Finished) -> results.Finished:
    """The result as if its eval set had tasks, and a guardrail had got worse in one."""
    by_task = SlicedMetric("response_nll", "task", tuple(SLICED), 7).as_json()
    other = SlicedMetric("stop_rate", "language", (replace(SLICED[1], name="de"),), 0).as_json()
    return replace(shown, result=shown.result | {"slices": [by_task, other]})


async def test_slices_are_listed_with_what_was_tested_and_by_another_metric_on_demand(view, tui, shown, tmp_path):
    async with view((80, 24)) as (pilot, found):
        found.post_message(VerdictView._Opened(sliced(shown)))
        await pilot.press("5")
        await tui.until(pilot, lambda: "maths" in tui.screen_text(pilot.app))
        lines = [" ".join(line.split()) for line in tui.screen_text(pilot.app).splitlines()]
        for told in (
            "task maths 40 -0.100 -0.150 … -0.050 <.0001 ▲ better",
            "task history 20 +0.200 +0.100 … +0.300 0.02 ▼ worse 12",
            "task [/INST] ␛[2J 15 +0.010 unknown 0.8 =",
            "task verse 3 too few",
            "task 7 no slice",
        ):
            assert any(told in line for line in lines), (told, lines)
        text = " ".join(tui.screen_text(pilot.app).split())
        assert "response NLL (nats/token) · ↓ lower is better · it decides the verdict" in text
        assert "p is corrected over the slices of a kind (Holm)" in text
        assert "stop rate is worse in language de: +0.200 on 20 items." in text
        await pilot.press("m")
        await tui.until(pilot, lambda: "a guardrail of the verdict" in tui.screen_text(pilot.app))
        assert "maths" not in tui.screen_text(pilot.app)
        tui.type_text(pilot.app, ":metric nonsense\n")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Metrics with slices: response_nll, stop_rate.")
        tui.type_text(pilot.app, ":metric response_nll\n")
        await tui.until(pilot, lambda: "maths" in tui.screen_text(pilot.app))
        out = tmp_path / "slices.json"
        tui.type_text(pilot.app, f":export-table {out}\n")
        await tui.until(pilot, lambda: "5 rows are in" in tui.said(pilot.app))
        assert [row["p"] for row in json.loads(out.read_text())] == [0.00003, 0.02, 0.8, None, None]


async def test_where_there_are_no_slices_and_no_judge_it_is_said_how_to_get_them(view, tui, shown, ws):
    async with view((100, 40)) as (pilot, _):
        await pilot.press("5")
        await tui.until(pilot, lambda: "The items of items make no slices" in tui.screen_text(pilot.app))
        assert "`workbench evalset import`" in tui.screen_text(pilot.app)
        await pilot.press("6")
        await tui.until(pilot, lambda: "No judge was asked" in tui.screen_text(pilot.app))
        command = judging_command(ws, shown.id)
        assert command.startswith("workbench compare yes no --model ")
        assert command.endswith("--judge helpfulness")
        assert command.replace(" ", "") in "".join(tui.screen_text(pilot.app).split())
        await pilot.press("7")
        await tui.until(pilot, lambda: "Two versions were compared." in tui.screen_text(pilot.app))


def judged(shown: results.Finished, **state) -> results.Finished:
    """The result as if a judge had been asked."""
    told = {"scorer": "judge-pairs-helpfulness", "pairs": 12, "judged": 10, "flips": 3, "failed": 2, "waiting": 0}
    rates = [
        MetricResult(name, "primary", True, 0.5, rate, rate - 0.5, ci, 0.02, 0.03, 0.2, verdict).as_json()
        for name, rate, ci, verdict in (
            ("win_rate", 0.7, (0.1, 0.3), "better"),
            ("win_rate_controlled", 0.55, (-math.inf, math.inf), "no difference detected"),
        )
    ]
    metrics = rates if not state.get("waiting") else shown.result["metrics"]
    judge = {"state": "", "why": "", **told, **state}
    item = replace(shown.items[0], values={"win_rate": {"baseline": 0.5, "candidate": 1.0}})
    return replace(
        shown,
        result=shown.result | {"judge": judge, "metrics": metrics},
        metrics=(*specs_for({"win_rate"}), *shown.metrics),
        items=[item, *shown.items[1:]],
    )


def test_a_judge_is_told_with_both_orders_equal_length_and_what_was_not_judged(shown):
    lines = ["".join(text for text, _ in line) for line in judge_lines(judged(shown), 78)]
    [rate] = [line for line in lines if line.startswith("win rate  ")]
    assert "70%" in rate
    assert rate.index("│") < rate.index("●"), "better is on the right"
    text = " ".join(" ".join(lines).split())
    assert "▲ better · 95% interval 60% to 80% · p 0.03 · smallest found 20%" in text
    assert "win rate, of equal length" in text
    assert "55% interval unknown" in text
    assert "10 of 12 pairs of answers" in text
    assert "3 (30%) of them got another verdict in the other order: these are ties." in text
    assert "2 pairs had no usable verdict" in text
    assert "B's answers were preferred on 1 item, A's on 0" in text
    control = shown.whole | {"comparisons": [shown.whole["comparisons"][0] | {"control": "random-k"}]}
    lines = judge_lines(replace(judged(shown), whole=control), 78)
    assert not any("preferred on" in text for line in lines for text, _ in line), "items have it against the baseline"


def test_a_judge_that_is_not_through_is_told_with_what_goes_on_with_it(shown):
    waiting = judged(shown, waiting=8, judged=4, why="the budget of 8 calls is spent")
    text = " ".join("".join(text for text, _ in line) for line in judge_lines(waiting, 78))
    assert "spoken on 4 of 12 pairs of answers (the budget of 8 calls is spent)" in text
    assert f"`workbench experiments resume {shown.id}`" in text
    assert "Leave the app" in text, "it has the workspace open"


async def test_every_pair_of_many_arms_is_listed_and_opens(view, tui, ws, shown):
    asked = experiments.asked(table.find_experiment(ws.store, shown.id))
    many = experiments.plan(ws, replace(asked, more=("yes",)))
    plant(many, {"yes": 2.0, "no": 2.5, "base": 3.0}.__getitem__)
    outcomes.conclude(ws, many.id)
    async with view((80, 24), experiment=many.id) as (pilot, found):
        await pilot.press("7")
        await tui.until(pilot, lambda: "against A" in tui.screen_text(pilot.app))
        pairs = found.query_one(ArmsPane).table
        assert (pairs.keys, pairs.current) == (["0", "1"], "0")
        text = tui.screen_text(pilot.app)
        assert "over the 2 pairs with the baseline." in " ".join(text.split())
        assert "Ranked by the mean" in text
        assert "not trained" in text
        await pilot.press("j", "enter")
        await tui.until(pilot, lambda: "Pair 2 of 2" in tui.screen_text(pilot.app))
        assert (found.tab, found.shown.number) == ("verdict", 1)
        await pilot.press("7")
        assert pairs.current == "1"


@pytest.mark.parametrize("width", [30, 79, 118, 158])
def test_every_line_fits_its_width_whatever_the_text_holds(shown, tui, width):
    hostile = tui.hostile + "long " * 100 + "漢" * 300
    item = results.Item(1, hostile, hostile, hostile, shown.items[0].values)
    answers = [results.Answer(arm, 0, hostile, 10_000, "length") for arm in shown.arms]
    found = results.ItemAnswers(item, [{"role": hostile, "content": hostile}], hostile, answers)
    question = Question([{"role": "user", "content": hostile}], 0, given={"base": Given(hostile, "stop", 3)})
    lines = item_lines(shown, found, width) + question_lines(shown, [question], width)
    named = replace(judged(shown), result=judged(shown).result | {"candidate": hostile})
    lines += [*judge_lines(named, width), *verdict_lines(shown, width)]
    texts = ["".join(text for text, _ in line) for line in lines]
    assert not set("\x1b\x07\u202e\ud800\n") & set("".join(texts))
    if width >= 79:
        assert max(cell_len(text) for text in texts) <= width


def test_where_the_interval_alone_did_not_decide_it_is_said_what_did(shown):
    metrics = [
        {**metric, "ci": [0.1, 0.3], "delta": 0.2, "p": 0.01, "p_decisive": p, "verdict": "no difference detected"}
        for metric, p in zip(shown.result["metrics"][:4], (0.2, 0.01, 0.01, 0.01), strict=True)
    ]
    told = replace(shown, result=shown.result | {"metrics": metrics})
    lines = ["".join(text for text, _ in line) for line in verdict_lines(told, 100)]
    [said] = [line for line in lines if "decided on p = 0.2" in line]
    assert "= no difference detected" in said
    assert not any("decided on p = 0.01" in line for line in lines)


def test_the_keys_of_the_view_are_its_own_and_do_what_they_say():
    taken = {key for action in actions_of("app") for key in action.keys}
    for action in actions_of("results"):
        assert not taken & set(action.keys) - {"escape"}, action
        method = getattr(VerdictView, f"action_{action.name.split('(')[0]}")
        if action.takes:
            inspect.signature(method).bind(None, "text")
