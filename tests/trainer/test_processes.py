"""One job made by several processes, as `accelerate launch` starts them: the numbers of one, and one that writes."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from accelerate.state import AcceleratorState  # noqa: E402

from trainer.__main__ import _work  # noqa: E402
from trainer.conversation import canonical_json  # noqa: E402
from trainer.environment import environment  # noqa: E402
from trainer.plan import Budget, Evaluation, ExperimentPlan, Run, TrainingSetting  # noqa: E402
from trainer.protocol import Events, read_events, run_as_job  # noqa: E402

from .test_experiment import chat, parquet  # noqa: E402


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_setting) -> Callable[[str], Path]:
    """Makes a run folder whose one run has six steps of rows of very unequal lengths."""

    def make(name: str) -> Path:
        out = tmp_path_factory.mktemp(name)
        parquet(out / "a.parquet", [chat(f"{i}?", "yes " * (1 + i * i % 11)) for i in range(40)])
        items = [chat(f"eval {i}", f"yes {i}") for i in range(5)]
        table = [
            {"item": i, "messages": canonical_json(m), "tools": None, "cluster": str(i)} for i, m in enumerate(items)
        ]
        pq.write_table(pa.Table.from_pylist(table), out / "eval.parquet")
        # Answers are of 5 to 45 tokens: some steps are a row, which only one of two processes can get.
        training = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=40, micro_tokens=96)
        plan = ExperimentPlan(
            model=tiny_setting,
            training=training,
            budget=Budget(trained_tokens=40 * 6),
            arms={"a": "a.parquet"},
            runs=[Run(id="a-0", arm="a", seed=0)],
            evaluation=Evaluation(max_new_tokens=4),
        )
        (out / "plan.json").write_text(plan.model_dump_json())
        return out

    return make


@pytest.fixture(scope="module")
def alone(job, fork_job) -> Path:
    """The folder of a job that one process made."""
    folder = job("alone")
    assert fork_job("trainer", folder).wait() == 0
    return folder


@pytest.fixture
def together() -> Iterator[Callable[..., list[int]]]:
    """Starts the job of a folder in two processes that find each other; gives their ids.

    With `stop_at` the second one gets a SIGTERM when it has made so many steps.
    """
    started: list[int] = []

    def start(folder: Path, stop_at: int | None = None) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pids = []
        for rank in range(2):
            pid = os.fork()
            if pid == 0:
                code = 70
                try:
                    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
                    os.environ |= place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                    AcceleratorState._reset_state(reset_partial_state=True)  # what the parent did and knew
                    environment.cache_clear()
                    torch.set_num_threads(1)
                    if rank == 1:
                        stop_itself(stop_at)
                    code = run_as_job(folder, _work)
                finally:
                    os._exit(code)
            pids.append(pid)
        started.extend(pids)
        return pids

    yield start
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def stop_itself(at: int | None) -> None:
    """Let this process send itself a SIGTERM when it tells of an optimizer step."""
    emit = Events.emit

    def told(self: Events, event: str, **fields: object) -> None:
        emit(self, event, **fields)
        if event == "train" and fields["step"] == at:
            os.kill(os.getpid(), signal.SIGTERM)

    Events.emit = told


def codes(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def summary(folder: Path) -> dict:
    return json.loads((folder / "results" / "a-0" / "summary.json").read_text())


def measured(folder: Path, run: str) -> dict[tuple[int, str], tuple[float, float]]:
    rows = pq.read_table(folder / "results" / run / "metrics.parquet").to_pylist()
    assert len({(row["item"], row["metric"]) for row in rows}) == len(rows)
    return {(row["item"], row["metric"]): (row["value"], row["weight"]) for row in rows}


def kinds(folder: Path) -> list[str]:
    return [str(event["event"]) for event in read_events(folder)[0]]


def test_two_processes_give_the_numbers_of_one(job, alone, together):
    both = job("both")
    assert codes(together(both)) == [0, 0], (both / "log.txt").read_text()
    one, two = summary(alone), summary(both)
    assert two["environment"]["processes"] == "2"
    for same in ("steps", "trained_tokens", "left_out"):
        assert two[same] == one[same]
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert two["sanity"] == pytest.approx(one["sanity"], abs=1e-4)
    assert one["losses"][-1] < one["losses"][0] - 0.1, "so little was learnt that nothing could differ"
    for run in ("base", "a-0"):
        expected, found = measured(alone, run), measured(both, run)
        assert list(found) == list(expected)
        for key, (value, weight) in expected.items():
            assert found[key] == (pytest.approx(value, abs=1e-3), weight), key
        texts = [pq.read_table(folder / "results" / run / "generations.parquet") for folder in (alone, both)]
        assert texts[0].column("item").to_pylist() == texts[1].column("item").to_pylist()
    told = kinds(both)
    assert [told.count(kind) for kind in ("started", "train", "run-done", "done")] == [1, 6, 2, 1]


def test_a_stop_of_one_process_stops_all_of_them_with_one_checkpoint_to_go_on_from(job, alone, together):
    both = job("both")
    assert codes(together(both, stop_at=3)) == [6, 6]
    assert kinds(both)[-1] == "stopped"
    [checkpoint] = (both / "results" / "a-0" / "checkpoints").glob("checkpoint-*")
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] == 4
    assert codes(together(both)) == [0, 0], (both / "log.txt").read_text()
    assert summary(both)["losses"] == pytest.approx(summary(alone)["losses"], abs=1e-3)
