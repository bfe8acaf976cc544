"""An experiment of five runs, killed without warning at many points and started again each time.

Every job is a child forked from this process, so that the libraries are loaded once. A child counts its moments, that
is events told and files opened, renamed or removed in the run folder, and kills itself at one of them. The moments are
drawn by a fixed seed; what was hit is listed where a test fails.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer import evaluate, finetune  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.experiment import run_experiment  # noqa: E402
from trainer.plan import Budget, Evaluation, ExperimentPlan, ModelSetting, Run, TrainingSetting  # noqa: E402
from trainer.protocol import DONE, Events, read_events, run_as_job  # noqa: E402

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked, which this system cannot do")

TRAINING = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=40, micro_tokens=128, max_length=200)
RUNS = [Run(id=f"{arm}-{seed}", arm=arm, seed=seed) for seed in (0, 1) for arm in ("a", "b")]
RUNS.append(Run(id="a-noise", arm="a", seed=1000))
MOST = 60.0  # seconds that a child may take on a busy machine

Moment = Callable[[str], bool]
"""Whether to kill at a moment, by its name: `train a-0 3`, `open metrics.parquet`, ..."""


def chat(question: str, answer: str) -> str:
    return canonical_json([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


def make_folder(folder: Path, model: ModelSetting) -> Path:
    folder.mkdir()
    for arm, answer in (("a", "yes"), ("b", "no")):
        texts = [chat(f"{i}?", f"{answer} {i}") for i in range(40)]
        rows = {"content_hash": [content_hash(t) for t in texts], "messages": texts, "tools": [None] * len(texts)}
        pq.write_table(pa.table({k: pa.array(v, pa.string()) for k, v in rows.items()}), folder / f"{arm}.parquet")
    items = [{"item": i, "messages": chat(f"eval {i}", f"yes {i}"), "tools": None, "cluster": str(i)} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(items), folder / "eval.parquet")
    plan = ExperimentPlan(
        model=model,
        training=TRAINING,
        budget=Budget(trained_tokens=200),
        arms={"a": "a.parquet", "b": "b.parquet"},
        runs=RUNS,
        evaluation=Evaluation(max_new_tokens=4),
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    return folder


def forked_job(folder: Path, kill_at: Moment) -> tuple[int | None, str]:
    """Run the folder's job in a child that kills itself at a moment: its exit code or None, and the moment."""
    hit = folder / "hit"
    hit.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            torch.set_num_threads(1)
            _watch(folder, kill_at, hit)
            code = run_as_job(folder, run_experiment)
        finally:
            os._exit(code)
    guard = threading.Timer(MOST, os.kill, (pid, signal.SIGKILL))
    guard.start()
    _, status = os.waitpid(pid, 0)
    guard.cancel()
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status), ""
    assert hit.exists(), f"the job hung: {(folder / 'log.txt').read_text()[-2000:]}"
    return None, hit.read_text()


def _watch(folder: Path, kill_at: Moment, hit: Path) -> None:
    """Within this process: tell `kill_at` of every moment, and die where it says so."""
    inside = str(folder)
    busy = False

    def moment(name: str) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        if kill_at(name):
            hit.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)
        busy = False

    def audit(event: str, args: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(args[0]).startswith(inside):
            moment(f"{event} {os.path.relpath(str(args[0]), inside)}")

    emit = Events.emit

    def told(self: Events, event: str, **fields: object) -> None:
        emit(self, event, **fields)
        moment(
            " ".join(str(part) for part in (event, fields.get("run"), fields.get("step"), fields.get("what")) if part)
        )

    def half_written(metrics: object, path: Path) -> None:
        write(metrics, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        moment(f"half of {path.parent.name}/{path.name}")
        path.write_bytes(whole)

    write = evaluate.write_measured
    sys.modules["trainer.runs"].write_measured = half_written
    Events.emit = told
    sys.addaudithook(audit)


def never(_: str) -> bool:
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_setting) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("kills") / "whole", tiny_setting)
    assert forked_job(folder, never) == (0, "")
    return folder


def numbers(folder: Path, run: str) -> dict[tuple[int, str], float]:
    table = pq.read_table(folder / "results" / run / "metrics.parquet").to_pylist()
    assert len({(row["item"], row["metric"]) for row in table}) == len(table)
    return {(row["item"], row["metric"]): row["value"] for row in table}


def test_killed_at_any_point_an_experiment_ends_as_if_nothing_had_been(
    undisturbed, tmp_path, tiny_setting, monkeypatch
):
    monkeypatch.setattr(finetune, "CHECKPOINT_SECONDS", 0.0)
    folder = make_folder(tmp_path / "cut", tiny_setting)
    places = [
        "half of base/metrics.parquet",
        "train a-0 3",
        "half of a-0/generations.parquet",
        "run-done a-0",
        "open results/b-0/checkpoints/checkpoint-4/trainer_state.json",
        "evaluate b-0 own answers",
        "open results/b-0/.summary.json.part",
        "os.rmdir results/b-0/checkpoints",
        "os.rename results/a-1/.summary.json.part",
    ]
    draw = random.Random(8)
    drawn = [draw.randrange(1, 60) for _ in range(5)]
    kills: list[str] = []
    repeated: list[str] = []
    for aim in [*places, *drawn, None]:
        finished = {path.parent.name for path in folder.glob("results/*/summary.json")}
        _, position = read_events(folder)
        code, hit = forked_job(folder, _at(aim))
        kills.append(hit or f"ended with {code}")
        events, _ = read_events(folder, position)
        repeated += [f"{e['event']} {e['run']}" for e in events if e.get("run") in finished]
        if code is not None:
            break
    assert code == 0, kills
    assert repeated == [], kills
    assert set(places) <= set(kills), kills
    assert len(kills) == len(places) + len(drawn) + 1, kills
    assert (folder / DONE).exists()
    for run in ("base", *(run.id for run in RUNS)):
        assert numbers(folder, run) == pytest.approx(numbers(undisturbed, run), abs=1e-5), (run, kills)
        texts = [pq.read_table(f / "results" / run / "generations.parquet").to_pylist() for f in (folder, undisturbed)]
        assert texts[0] == texts[1], (run, kills)
        told = [json.loads((f / "results" / run / "summary.json").read_text()) for f in (folder, undisturbed)]
        assert told[0].get("losses") == pytest.approx(told[1].get("losses"), abs=1e-5), (run, kills)


def _at(aim: str | int | None) -> Moment:
    """A moment by its name, or after so many of them."""
    seen = 0

    def here(name: str) -> bool:
        nonlocal seen
        seen += 1
        return seen == aim if isinstance(aim, int) else name == aim

    return here
