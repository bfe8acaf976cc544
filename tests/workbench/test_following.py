"""How far a job is, by its events alone."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.following import PlannedRun, Progress

RUNS = [PlannedRun("baseline-0", "baseline", 0), PlannedRun("candidate-0", "candidate", 0)]


def events() -> list[dict[str, Any]]:
    """A job of two runs of 10 steps, a second each, and 5 seconds to evaluate a run."""
    told: list[dict[str, Any]] = [{"event": "started", "pid": 1, "t": 0.0}]
    told += [{"event": "stage", "what": what, "t": 1.0} for what in ("loading the model", "tokenising")]
    told += evaluation("base", 2.0)
    told += [{"event": "run-done", "run": "base", "t": 7.0}]
    told += [{"event": "budget", "steps": 10, "seconds_per_run": None, "seconds_per_evaluation": 5.0, "t": 7.0}]
    at = 7.0
    for run in RUNS:
        told += [
            {"event": "train", "run": run.id, "step": step, "steps": 10, "loss": 3 - step / 10, "trained_tokens": step,
             "tokens_per_second": None if step == 1 else 50.0, "t": at + step}
            for step in range(1, 11)
        ]  # fmt: skip
        told += evaluation(run.id, at + 10)
        at += 15
        told += [{"event": "run-done", "run": run.id, "seconds": 15.0, "t": at}]
    return [*told, {"event": "done", "t": at}]


def evaluation(run: str, start: float) -> list[dict[str, Any]]:
    passes = [("reference answers", 1.0), ("own answers", 5.0)]
    return [
        {"event": "evaluate", "run": run, "what": what, "done": 4, "total": 4, "t": start + at} for what, at in passes
    ]


def after(last: dict[str, Any] | None = None, **wanted: Any) -> Progress:
    """Progress up to the first event that has these fields."""
    progress = Progress(RUNS)
    for event in events():
        progress.take(event)
        if all(event.get(key) == value for key, value in wanted.items()):
            return progress
    raise AssertionError(f"no event {wanted}")


def test_a_merged_run_takes_an_evaluation():
    merged = PlannedRun("merged-0", "merged", 0, merged=True)
    progress = Progress([*RUNS, merged])
    for event in events()[:-1]:
        progress.take(event)
    assert progress.seconds_left(37.0) == pytest.approx(5.0)
    progress.take({"event": "evaluate", "run": "merged-0", "what": "own answers", "done": 0, "total": 4, "t": 39.0})
    assert (progress.current(), progress.evaluated) == (merged, 0.5)
    assert progress.seconds_left(39.0) == pytest.approx(2.5)
    progress.take({"event": "run-done", "run": "merged-0", "seconds": 5.0, "t": 42.0})
    assert (progress.share(), progress.seconds_left(42.0)) == (1.0, 0.0)


def test_what_is_done_now_is_told_from_the_first_event_to_the_last():
    assert Progress(RUNS).phase == ""
    assert after(event="started").phase == "preparing"
    assert after(what="tokenising").phase == "tokenising"
    base = after(event="evaluate", run="base")
    assert (base.phase, base.current(), base.evaluated) == ("evaluating", None, 0.5)
    training = after(event="train", run="candidate-0", step=3)
    assert (training.phase, training.current(), training.step, training.steps) == ("training", RUNS[1], 3, 10)
    assert training.speed == 50.0
    done = after(event="done")
    assert (done.phase, done.run, done.share()) == ("", "", 1.0)


def test_the_share_never_goes_back_and_ends_at_one():
    progress, shares = Progress(RUNS), []
    for event in events():
        progress.take(event)
        shares.append(progress.share())
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_the_time_left_is_known_from_the_second_step_on_and_becomes_exact():
    assert after(event="train", step=1).seconds_left(8.0) is None
    # 8 steps of a second and an evaluation of 5 are left of this run, 15 seconds of the next.
    assert after(event="train", step=2).seconds_left(9.0) == 8 + 5 + 15
    assert after(event="train", run="candidate-0", step=4).seconds_left(26.0) == 11
    assert after(event="train", run="candidate-0", step=4).seconds_left(28.0) == 9
    assert after(event="done").seconds_left(99.0) == 0


def test_a_budget_in_minutes_tells_the_time_before_the_first_step():
    progress = Progress(RUNS)
    progress.take({"event": "budget", "steps": 10, "seconds_per_run": 60.0, "seconds_per_evaluation": 5.0, "t": 1.0})
    assert progress.seconds_left(1.0) == 120


def test_losses_are_kept_by_run_and_a_step_trained_again_counts_once():
    progress = after(event="train", run="baseline-0", step=4)
    progress.take({"event": "stopped", "t": 30.0})
    assert progress.phase == ""
    progress.take({"event": "started", "pid": 2, "t": 40.0})
    for step, loss in ((4, 9.0), (5, 8.0)):
        progress.take({"event": "train", "run": "baseline-0", "step": step, "steps": 10, "loss": loss,
                       "trained_tokens": 1, "tokens_per_second": None, "t": 40.0 + step})  # fmt: skip
    assert progress.losses == {"baseline-0": {1: 2.9, 2: 2.8, 3: 2.7, 4: 9.0, 5: 8.0}}


def test_a_run_resumed_in_its_evaluation_counts_its_training_as_done():
    progress = after(event="run-done", run="base")
    progress.take({"event": "budget", "steps": 10, "seconds_per_run": 15.0, "seconds_per_evaluation": 5.0, "t": 50.0})
    progress.take({"event": "evaluate", "run": "baseline-0", "what": "own answers", "done": 0, "total": 4, "t": 51.0})
    assert (progress.phase, progress.step) == ("evaluating", 10)
    assert progress.share() > 0.3


def test_a_snapshot_stays_as_it_was():
    progress = after(event="train", run="baseline-0", step=2)
    before = progress.snapshot()
    progress.take(events()[-2])
    assert before.losses == {"baseline-0": {1: 2.9, 2: 2.8}}
    assert not before.seconds


def test_an_event_of_a_later_release_is_passed_over():
    progress = after(event="train", run="baseline-0", step=2)
    progress.take({"event": "something new", "t": 1.0})
    assert progress.phase == "training"


def test_runs_side_by_side_are_counted_together():
    """Two workers tell in turn: the share is of both, and the time left is that of the slower one."""
    progress = Progress(RUNS)
    progress.take({"event": "started", "pid": 1, "t": 0.0})
    for step in range(1, 6):
        for run in RUNS:
            progress.take(
                {"event": "train", "run": run.id, "step": step, "steps": 10, "loss": 3.0, "trained_tokens": step,
                 "tokens_per_second": None, "t": float(step)}
            )  # fmt: skip
    assert progress.share() == pytest.approx(0.7 * 0.5)
    # Steps of a second each, no evaluation seen: 10 s a run, of which 0.65 are left to either at the same time.
    assert progress.seconds_left(5.0) == pytest.approx(6.5)
    progress.take({"event": "run-done", "run": RUNS[0].id, "seconds": 12.0, "t": 12.0})
    # The evaluation of that run took 7 of its 12 s, as it will of the other one, which has made half of its steps.
    assert progress.share() == progress.snapshot().share() == pytest.approx((1 + 5 / 12 * 0.5) / 2)
    progress.take({"event": "stopped", "t": 13.0})
    assert (progress.share(), progress.run) == (0.5, "")
