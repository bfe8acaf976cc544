"""What was compared and how it stands: jobs that run, have ended, were stopped or failed; and what is told before."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from trainer.protocol import DONE, EVENTS, Events, holding
from workbench import asked_data, experiments
from workbench.comparing import Jobs, Listed, apart_from, duration, listing, promises, setup
from workbench.errors import BadInput, Problem
from workbench.experiments import Question, foresee
from workbench.store import experiments as rows
from workbench.workspace import Workspace


@pytest.fixture
def ws(compared_copy) -> Iterator[Workspace]:
    workspace = Workspace.open(compared_copy)
    yield workspace
    workspace.close()


@pytest.fixture
def only(ws) -> str:
    """The id of the experiment that is there."""
    [row] = rows.experiments(ws.store)
    return row.id


def unsettle(ws: Workspace, id: str, *, whole: bool) -> None:
    """As if the job had only just ended; not `whole`: before its last run was done."""
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET state = 'running', result = NULL WHERE id = ?", [id])
    if not whole:
        folder = ws.runs_dir / id
        (folder / DONE).unlink()
        shutil.rmtree(folder / "results" / "candidate-1")


def seen(jobs: Jobs) -> tuple[Listed, list[str]]:
    look = jobs.look()
    [listed] = look.experiments
    return listed, look.ended


def ask(ws: Workspace, a: str = "yes", b: str | None = "no", **other: object) -> Question:
    return replace(setup(ws, a, "").question, candidate=b, **other)  # type: ignore[arg-type]


def test_a_finished_experiment_is_listed_with_what_was_asked_and_what_came_out(ws, only):
    [listed] = listing(ws)
    result = json.loads(rows.find_experiment(ws.store, only).result or "")
    assert (listed.id, listed.name, listed.state) == (only, "yes vs no", "done")
    assert (listed.budget, listed.seeds, listed.evalset) == ("1,500 tokens", 2, "items")
    assert (listed.verdict, listed.delta) == (result["verdict"], result["metrics"][0]["delta"])
    assert listed.progress is None


def test_a_job_that_ended_while_nobody_looked_gets_its_result_once_and_is_told_once(ws, only):
    [before] = listing(ws)
    unsettle(ws, only, whole=True)
    jobs = Jobs(ws)
    listed, ended = seen(jobs)
    assert replace(listed, finished_at=None) == replace(before, finished_at=None)
    assert ended == [f"no against yes: {before.verdict} ({before.delta:+.3f} nats a token)."]
    assert seen(jobs) == (listed, [])


def test_a_job_that_runs_is_seen_by_its_lock_and_followed_by_its_events(ws, only):
    unsettle(ws, only, whole=False)
    folder = ws.runs_dir / only
    jobs = Jobs(ws)
    with holding(folder):
        first, ended = seen(jobs)
        assert (first.state, ended) == ("running", [])
        Events(folder).emit("started", pid=1)
        told = {"run": "candidate-1", "step": 2, "steps": 9, "loss": 1.5, "trained_tokens": 9, "tokens_per_second": 5.0}
        Events(folder).emit("train", **told)
        listed, _ = seen(jobs)
        assert listed.progress is not None
        assert (listed.progress.phase, listed.progress.step) == ("training", 2)
        assert first.progress is not None
        assert first.progress.step != 2, "what was seen before stays as it was"
        assert seen(jobs)[0].progress is listed.progress, "nothing new: nothing to draw again"
        Events(folder).emit("stopped")
    listed, ended = seen(jobs)
    assert (listed.state, ended) == ("stopped", ["yes vs no is stopped; resumed, it goes on where it was."])
    assert rows.states(ws.store) == [(only, "stopped")]
    assert seen(jobs)[1] == []


def test_a_job_that_failed_is_told_with_its_own_sentence_and_that_stays(ws, only):
    unsettle(ws, only, whole=False)
    Events(ws.runs_dir / only).emit("error", what="the rows are odd", where="arm baseline", do="Look.", exit_code=3)
    listed, ended = seen(Jobs(ws))
    assert (listed.state, listed.why) == ("failed", "arm baseline: the rows are odd. Look.")
    assert ended == ["yes vs no failed: arm baseline: the rows are odd. Look."]
    listed, ended = seen(Jobs(ws))
    assert (listed.state, listed.why, ended) == ("failed", "arm baseline: the rows are odd. Look.", [])
    assert listed.log == ws.runs_dir / only / "log.txt"


def test_a_job_that_was_killed_is_told_with_its_log(ws, only):
    unsettle(ws, only, whole=False)
    events = ws.runs_dir / only / EVENTS
    events.write_text("".join(line for line in events.read_text().splitlines(True) if '"done"' not in line))
    listed, _ = seen(Jobs(ws))
    assert listed.state == "failed"
    assert "without a word" in listed.why
    assert "log.txt" in listed.why


def test_results_that_cannot_be_read_are_a_failure_that_is_told_once(ws, only):
    unsettle(ws, only, whole=True)
    (ws.runs_dir / only / "results" / "candidate-1" / "metrics.parquet").write_text("torn")
    jobs = Jobs(ws)
    listed, ended = seen(jobs)
    assert listed.state == "failed"
    assert "candidate-1: results cannot be read" in listed.why
    assert ended == [f"yes vs no failed: {listed.why}"]
    assert seen(jobs) == (listed, [])


def test_a_folder_that_comes_back_finished_from_elsewhere_gets_its_result(ws, only):
    folder = ws.runs_dir / only
    shutil.copytree(folder, folder.with_name("elsewhere"))
    unsettle(ws, only, whole=False)
    with ws.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET state = 'stopped'")
    jobs = Jobs(ws)
    assert seen(jobs)[0].state == "stopped"
    shutil.rmtree(folder)
    folder.with_name("elsewhere").rename(folder)
    assert seen(jobs)[0].state == "done"


def test_an_experiment_whose_folder_is_gone_says_so(ws, only):
    unsettle(ws, only, whole=False)
    shutil.rmtree(ws.runs_dir / only)
    jobs = Jobs(ws)
    assert seen(jobs)[0].state == "stopped"
    with pytest.raises(Problem, match="folder is gone"):
        jobs.start(only)


def test_a_job_is_stopped_in_its_first_moment_and_counts_as_stopped(ws):
    planned = experiments.plan(ws, ask(ws, trained_tokens=1800))
    jobs = Jobs(ws)
    jobs.start(planned.id)
    jobs.start(planned.id)  # it runs: nothing happens
    assert jobs.look().experiments[-1].state == "running"
    jobs.stop(planned.id)
    look = jobs.look()
    assert (look.experiments[-1].state, look.experiments[-1].why) == ("stopped", "")
    assert rows.states(ws.store)[-1] == (planned.id, "stopped")


# --- before it starts ---


def test_looking_ahead_writes_nothing_and_tells_what_planning_gives(ws):
    before = (set(ws.runs_dir.iterdir()), rows.states(ws.store))
    ahead = foresee(ws, ask(ws, "no", "yes"))
    assert (set(ws.runs_dir.iterdir()), rows.states(ws.store)) == before
    assert experiments.plan(ws, ask(ws, "no", "yes")) == ahead
    assert foresee(ws, ask(ws)).done


def test_rows_shared_with_an_eval_set_are_counted_once_however_often_one_asks(ws, monkeypatch):
    counted: list[tuple[str, str]] = []
    count = Workspace.overlaps
    monkeypatch.setattr(Workspace, "overlaps", lambda ws, *names: counted.append(names) or count(ws, *names))
    monkeypatch.setattr(asked_data, "_shared", {})
    for tokens in (1600, 1700, 1800):
        foresee(ws, ask(ws, trained_tokens=tokens))
    assert counted == [("yes", "items"), ("no", "items")]
    ws.hold_out("no-rows", "held", 3)
    for _ in range(2):
        with pytest.raises(BadInput, match="3 rows of version 'yes'"):
            foresee(ws, ask(ws, evalset="held"))


def test_a_version_is_frozen_apart_from_an_eval_set_only_where_they_share_rows(ws):
    assert apart_from(ws, "yes", "items") == "yes"
    ws.hold_out("no-rows", "held", 3)
    assert apart_from(ws, "yes", "held") == "yes-without-held"
    assert ws.overlaps("yes-without-held", "held") == 0
    assert apart_from(ws, "yes", "held") == "yes-without-held", "asked again it is there"


def test_history_tells_time_disk_and_smallest_effect_and_without_it_that_is_said(ws):
    known = foresee(ws, ask(ws, "no", "yes", seeds=3))
    assert known.seconds is not None
    assert known.mde is not None
    assert len(known.taken) == 4, "the other way round they are the same runs"
    head, taken, time, effect, disk, memory, warning = promises(known)
    assert head.startswith("no vs yes · 6 runs · 1,500 trained tokens a run · ")
    assert taken.startswith("4 runs taken over from ")
    assert time == f"about {duration(known.seconds)} in all, by earlier runs of this model"
    assert effect == f"smallest effect to be found, by earlier runs of this setting: {known.mde:.3f} nats"
    assert disk.startswith("about ")
    assert memory.startswith("about "), memory
    assert "of memory at most, where" in memory
    assert warning.startswith("warning: 1,500 trained tokens are 6 optimizer steps")
    longer = foresee(ws, ask(ws, "no", "yes", trained_tokens=150_000))
    assert longer.seconds is not None
    assert longer.seconds > 5 * known.seconds
    assert longer.disk is not None
    assert known.disk is not None
    assert longer.disk > known.disk, "four new runs, not two"
    assert "not known yet" in promises(longer)[2], "another budget is another setting"
    stranger = foresee(ws, ask(ws, "no", "yes", quantize="nf4"))
    assert stranger.seconds is None
    assert "not known yet" in promises(stranger)[1]
    assert "did not differ at all" in promises(replace(known, mde=math.inf))[3]
    assert not any("effect" in told for told in promises(foresee(ws, ask(ws, "no", None)))), "one arm has none to find"


def test_minutes_are_what_they_are(ws):
    ahead = foresee(ws, ask(ws, "no", "yes", trained_tokens=None, minutes=2.5))
    assert ahead.seconds == 150
    assert "2.5 minutes" in promises(ahead)[0]
    assert not any("hardly do" in told for told in promises(ahead))
    short = foresee(ws, ask(ws, "no", "yes", trained_tokens=None, minutes=0.001))
    assert any("0.001 minutes will hardly do" in told for told in promises(short))


def test_a_comparison_begins_as_the_last_one_was_asked(ws, tmp_path):
    begin = setup(ws, "yes", "no")
    assert (begin.last, begin.evalsets) == ("yes vs no", [("items", 6)])
    assert foresee(ws, begin.question).id == rows.experiments(ws.store)[0].id, "all that makes a number is the same"
    empty = Workspace.init(tmp_path / "empty")
    begin = setup(empty, "a", "b")
    assert (begin.last, begin.evalsets) == ("", [])
    assert (begin.question.minutes, begin.question.seeds) == (10.0, 3)
    empty.close()


@pytest.mark.parametrize(
    ("seconds", "told"), [(40, "40 s"), (89.6, "90 s"), (120, "2 min"), (7000, "117 min"), (12_000, "3 h 20 min")]
)
def test_times_are_told_for_people(seconds, told):
    assert duration(seconds) == told
