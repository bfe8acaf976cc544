"""Comparisons from the command line to the tables, with a tiny model: real jobs, kills, ctrl-c, resume."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.protocol import EVENTS, read_events
from workbench.jobs import is_running, run_job
from workbench.workspace import Workspace

from ...forked import Forked, ForkedCommand
from ...waiting import until

ITEMS = 8
METRICS = 10
OF_THE_BASE = 9
"""The untrained model has none of the two about what was trained on, and the length of each prompt is noted with it."""
SEEDS = 2
KEYS = {
    "experiment", "baseline", "candidate", "seeds", "trained_tokens", "scope", "verdict", "primary", "metrics",
}  # fmt: skip
METRIC_KEYS = {
    "name", "role", "higher_is_better", "baseline", "candidate", "delta", "ci", "p", "p_decisive", "mde", "verdict",
}  # fmt: skip


def counting(prompt: str, n: int) -> list[dict[str, str]]:
    """Rows that count from 1 in answers of varied length."""
    return [{"prompt": prompt.format(i), "completion": " ".join(str(k) for k in range(1, i % 6 + 3))} for i in range(n)]


def noise(n: int) -> list[dict[str, str]]:
    """The prompts of `counting`, answered by characters that no number has."""
    draw = random.Random(0)
    return [
        {"prompt": f"Count to {i}.", "completion": "".join(draw.choice("QWXZ#@!?%&") for _ in range(12))}
        for i in range(n)
    ]


@dataclass(frozen=True)
class Lab:
    """A workspace with versions `good`, `bad` and `fewer`, an eval set that is like `good`, and a tiny model."""

    root: Path
    model: Path
    start_job: Callable[[str, Path], Forked]

    def argv(self, *argv: object) -> list[str]:
        return ["-w", str(self.root), *map(str, argv)]

    def compare(self, a: str, b: str, *options: object, tokens: int = 600) -> list[str]:
        """A comparison of two runs of seconds, on a fixed date: midnight would make it another question."""
        setting = ("--model", self.model, "--trained-tokens", tokens, "--max-new-tokens", 4, "--date", "2026-01-01")
        return self.argv("compare", a, b, *setting, *options)

    def fork(self, argv: list[str]) -> ForkedCommand:
        """The command, and its job, as processes that find their libraries loaded."""
        return ForkedCommand(argv, self.root.parent, self.start_job)

    def start(self, argv: list[str]) -> subprocess.Popen[str]:
        """The command as a user starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "workbench", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # what a terminal has
        )

    def folders(self) -> set[Path]:
        return set((self.root / "runs").glob("*"))

    def count(self, sql: str) -> Any:
        workspace = Workspace.open(self.root)
        try:
            return workspace.store.rows(sql)
        finally:
            workspace.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory, tiny_model, fork_job) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    workspace = Workspace.init(folder / "ws")
    for name, rows in (
        ("good", counting("Count to {}.", 60)),
        ("bad", noise(60)),
        ("fewer", counting("Count to {}.", 50)),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace.import_file(folder / f"{name}.jsonl", name=f"{name}-rows")
        workspace.freeze(f"{name}-rows", name)
    items = counting("Please count up to {}.", ITEMS)
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    workspace.import_evalset(folder / "items.jsonl", "items")
    workspace.close()
    return Lab(folder / "ws", tiny_model, fork_job)


@dataclass(frozen=True)
class Ended:
    """A comparison that ran in a process of its own, and what was seen of it meanwhile."""

    code: int
    out: str
    err: str
    folder: Path
    opened_meanwhile: bool
    attached: list[dict[str, Any]]

    @property
    def json(self) -> dict[str, Any]:
        [line] = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


def wait_for(process: subprocess.Popen[str] | ForkedCommand, look: Callable[[], Path | None]) -> Path:
    def alive() -> Path | None:
        assert process.poll() is None, process.communicate()
        return look()

    return until(alive)


def seen(lab: Lab, before: set[Path], event: str, run: str) -> Callable[[], Path | None]:
    """A function that gives the new experiment's folder once it has told `event` of `run`."""

    def look() -> Path | None:
        for folder in lab.folders() - before:
            if any(e["event"] == event and e["run"] == run for e in read_events(folder)[0]):
                return folder
        return None

    return look


@pytest.fixture(scope="module")
def worse(lab) -> Ended:
    """`good` against `bad`, with somebody else at work in the workspace and at the job meanwhile."""
    before = lab.folders()
    process = lab.fork(lab.compare("good", "bad", "--seeds", SEEDS, "--gate", "--json"))
    folder = wait_for(process, seen(lab, before, "train", "baseline-0"))
    workspace = Workspace.open(lab.root)
    workspace.close()
    opened = is_running(folder)
    attached: list[dict[str, Any]] = []
    run_job("trainer", folder, attached.append)
    out, err = process.communicate(timeout=90)
    return Ended(process.returncode, out, err, folder, opened, attached)


def test_json_has_the_keys_that_other_programs_rely_on(worse):
    told = worse.json
    assert told.keys() >= KEYS
    assert (told["baseline"], told["candidate"], told["seeds"]) == ("good", "bad", SEEDS)
    assert told["trained_tokens"].keys() == {"baseline", "candidate"}
    measured = ["response_nll", "prompt_gain", "stop_rate", "repetition", "general_nll", "regurgitation", "general_kl"]
    assert {metric["name"] for metric in told["metrics"]} == set(measured)
    assert [shift["name"] for shift in told["shifts"]] == ["answer_tokens", "has_list", "has_code", "has_heading"]
    for metric in told["metrics"]:
        assert metric.keys() >= METRIC_KEYS
        assert len(metric["ci"]) == 2
        assert metric["role"] in {"primary", "guardrail", "report"}


def test_garbage_is_called_worse_and_the_gate_closes(worse):
    told = worse.json
    assert (worse.code, told["verdict"]) == (7, "worse")
    [primary] = [metric for metric in told["metrics"] if metric["role"] == "primary"]
    assert (primary["name"], primary["verdict"]) == (told["primary"], "worse")
    assert 0 < primary["ci"][0] < primary["delta"] < primary["ci"][1]
    assert primary["delta"] == pytest.approx(primary["candidate"] - primary["baseline"], abs=1e-6)


def test_both_arms_are_trained_on_equally_many_tokens(worse):
    counts = worse.json["trained_tokens"].values()
    assert max(counts) - min(counts) < 20
    assert all(abs(count - 600) < 128 for count in counts)


def test_while_the_job_runs_the_workspace_is_free_for_others(worse):
    assert worse.opened_meanwhile


def test_a_second_caller_sees_the_same_job_to_its_end(worse):
    assert worse.attached[-1]["event"] == "done"
    assert [event["event"] for event in read_events(worse.folder)[0]].count("started") == 1


def test_progress_is_told_on_stderr_with_plan_and_budget(worse):
    assert "4 runs · 600 trained tokens a run" in worse.err
    assert "steps of 256, 512 trained tokens" in worse.err
    assert "baseline: 57 rows" in worse.err
    assert "left out: 3 held out to watch training" in worse.err


def test_every_run_and_item_is_in_the_tables_and_the_adapters_are_kept(lab, worse):
    id = worse.json["experiment"]
    for table in ("item_metrics", "generations"):
        per_run = lab.count(
            f"SELECT r.arm, r.seed, count(*) FROM runs r JOIN {table} m ON m.run_id = r.id "
            f"WHERE r.id LIKE '{id}/%' AND m.eval_item >= 0 GROUP BY ALL ORDER BY ALL"
        )
        expected = ITEMS * (METRICS if table == "item_metrics" else 1)
        of_the_base = ITEMS * (OF_THE_BASE if table == "item_metrics" else 1)
        assert per_run == [("base", 0, of_the_base)] + [
            (arm, s, expected) for arm in ("baseline", "candidate") for s in range(SEEDS)
        ]
    windows = lab.count(
        "SELECT r.arm, m.metric, count(DISTINCT m.eval_item) > 10 FROM runs r JOIN item_metrics m ON m.run_id = r.id "
        f"WHERE r.id LIKE '{id}/%' AND m.eval_item < 0 GROUP BY ALL ORDER BY ALL"
    )
    trained = [(arm, metric, True) for arm in ("baseline", "candidate") for metric in ("general_kl", "general_nll")]
    assert windows == [("base", "general_nll", True), *trained], "the untrained model is no distance from itself"
    assert len(worse.json["adapters"]) == 2 * SEEDS
    for folder in worse.json["adapters"].values():
        assert (Path(folder) / "adapter_model.safetensors").exists()
    assert all(sanity["gradient_reach"] == 1.0 for sanity in worse.json["sanity"].values())


def test_the_same_question_again_runs_no_job_and_gives_the_same_answer(lab, worse, anywhere):
    before = (worse.folder / EVENTS).read_bytes()
    folders = lab.folders()
    again = anywhere(*lab.compare("good", "bad", "--seeds", SEEDS, "--json"))
    assert again.code == 0, "worse is an exit code of --gate alone"
    assert again.json == worse.json
    assert "was run before" in again.err
    assert ((worse.folder / EVENTS).read_bytes(), lab.folders()) == (before, folders)
    gated = anywhere(*lab.compare("good", "bad", "--seeds", SEEDS, "--gate"))
    assert gated.code == 7
    assert "bad against good: worse" in gated.out


def test_a_job_that_outlived_its_terminal_is_concluded_when_it_is_looked_at(lab, worse, anywhere):
    id = worse.json["experiment"]
    workspace = Workspace.open(lab.root)
    with workspace.store.transaction() as cursor:
        cursor.execute("UPDATE experiments SET state = 'running', result = NULL WHERE id = ?", [id])
    workspace.close()
    shown = anywhere("-w", lab.root, "experiments", "show", id, "--json")
    assert (shown.code, shown.json) == (0, worse.json)


@pytest.fixture(scope="module")
def killed(lab, worse) -> Ended:
    """`fewer` against itself, one seed, killed with its job after the first run and then asked again."""
    before = lab.folders()
    argv = lab.compare("fewer", "fewer", "--seeds", 1, "--json", "--gate")
    process = lab.fork(argv)
    folder = wait_for(process, seen(lab, before, "run-done", "baseline-0"))
    process.kill()
    pid = next(e["pid"] for e in read_events(folder)[0] if e["event"] == "started")
    os.kill(int(str(pid)), signal.SIGKILL)
    process.communicate()
    assert lab.count("SELECT state FROM experiments WHERE result IS NULL") == [("running",)]
    assert [path.parent.name for path in folder.glob("results/*/summary.json")] == ["baseline-0"]
    process = lab.fork(argv)
    out, err = process.communicate(timeout=90)
    return Ended(process.returncode, out, err, folder, False, [])


def test_killed_with_its_job_and_asked_again_it_ends_whole(lab, killed):
    told = killed.json
    assert [e["event"] for e in read_events(killed.folder)[0]].count("started") == 2
    for table in ("item_metrics", "generations"):
        doubled = lab.count(f"SELECT * FROM {table} GROUP BY ALL HAVING count(*) > 1")
        assert doubled == []
        runs = lab.count(
            f"SELECT run_id, count(*) FROM {table} WHERE run_id LIKE '{told['experiment']}/%' AND eval_item >= 0 "
            "GROUP BY ALL ORDER BY 1"
        )
        expected = ITEMS * (METRICS if table == "item_metrics" else 1)
        assert runs == [(f"{told['experiment']}/{run}", expected) for run in ("baseline-0", "candidate-1")]
    assert lab.count("SELECT id FROM runs GROUP BY id HAVING count(*) > 1") == []
    assert lab.count("SELECT state FROM experiments WHERE result IS NULL") == []


def test_the_same_version_twice_is_no_difference_between_two_different_models(killed):
    told = killed.json
    assert (killed.code, told["verdict"]) == (0, "no difference detected")
    answers = [(Path(folder) / "adapter_model.safetensors").read_bytes() for folder in told["adapters"].values()]
    assert len(answers) == 2
    assert answers[0] != answers[1], "equal seeds would compare a run with itself"
    assert told["metrics"][0]["delta"] != 0


def test_one_seed_speaks_of_two_runs_and_takes_its_noise_from_earlier_ones(killed):
    assert killed.json["scope"] == "these two runs"
    assert killed.json["metrics"][0]["mde"] is not None
    assert "smallest effect to be found, by earlier runs" in killed.err


def test_the_base_is_measured_once_for_a_model_and_eval_set(lab, worse, killed):
    plans = [json.loads((ended.folder / "plan.json").read_text()) for ended in (worse, killed)]
    assert [plan["base"] for plan in plans] == [True, False]
    assert not (killed.folder / "results" / "base").exists()
    assert killed.json["means"]["base"] == worse.json["means"]["base"]
    assert lab.count("SELECT count(*) FROM runs WHERE arm = 'base'") == [(1,)]


@pytest.fixture(scope="module")
def stopped(lab, worse) -> Ended:
    """A setting that is new, one seed, stopped by ctrl-c in its first run."""
    before = lab.folders()
    process = lab.start(lab.compare("good", "bad", "--seeds", 1, tokens=500))
    folder = wait_for(process, seen(lab, before, "train", "baseline-0"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    return Ended(process.returncode, out, err, folder, False, [])


@pytest.mark.usefixtures("forked_jobs")
def test_ctrl_c_stops_the_job_and_resume_finishes_it(lab, stopped, anywhere):
    assert (stopped.code, stopped.out) == (6, "")
    assert stopped.err.splitlines()[-1] == "Stopped. The same command resumes where it was."
    assert not is_running(stopped.folder)
    id = stopped.folder.name

    def state() -> tuple[str, str | None]:
        [found] = [
            e for e in anywhere("-w", lab.root, "experiments", "ls", "--json").json["experiments"] if e["id"] == id
        ]
        return found["state"], found["verdict"]

    assert state() == ("stopped", None)
    shown = anywhere("-w", lab.root, "experiments", "show", id)
    assert shown.code == 2
    assert f"experiments resume {id}" in shown.err
    resumed = anywhere("-w", lab.root, "experiments", "resume", id[:6], "--json")
    assert resumed.code == 0
    assert resumed.json["experiment"] == id
    assert state() == ("done", resumed.json["verdict"])
    assert set(resumed.json["adapters"]) == {"baseline-0", "candidate-0", "baseline-noise"}
    assert resumed.json["scope"] == "these two runs"
    assert resumed.json["metrics"][0]["mde"] is not None


def test_experiments_are_listed_and_shown_for_people_and_programs(lab, worse, anywhere):
    listed = anywhere("-w", lab.root, "experiments", "ls")
    assert any(line.split()[:4] == [worse.folder.name, "good", "vs", "bad"] for line in listed.out.splitlines())
    assert anywhere("-w", lab.root, "experiments", "show", worse.folder.name, "--json").json == worse.json
    shown = anywhere("-w", lab.root, "experiments", "show", worse.folder.name, "--answers", 2).out
    assert "bad against good: worse" in shown
    assert shown.count("prompt     Please count up to") == 2
    for missing in ("zzz", "good vs nobody"):
        called = anywhere("-w", lab.root, "experiments", "show", missing)
        assert called.code == 2
        assert "experiments ls" in called.err


def test_an_empty_workspace_has_no_experiments_and_says_how_to_make_one(bench):
    called = bench("experiments", "ls")
    assert (called.code, called.out) == (0, "")
    assert "workbench compare" in called.err
    assert bench("experiments", "ls", "--json").json == {"experiments": []}
    assert bench("experiments", "resume", "x").code == 2


# --- questions that cannot be asked ---


@pytest.fixture
def copy(lab, tmp_path) -> Path:
    """The lab's workspace to change at will."""
    shutil.copytree(lab.root, tmp_path / "copy", ignore=shutil.ignore_patterns("runs"))
    return tmp_path / "copy"


def test_a_version_that_knows_the_eval_prompts_is_refused_and_the_way_out_works(lab, copy, anywhere, tmp_path):
    rows = [*counting("Count to {}.", 20), {"prompt": "please COUNT up  to 3.", "completion": "leak"}]
    (tmp_path / "leaky.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    anywhere("-w", copy, "import", tmp_path / "leaky.jsonl")
    anywhere("-w", copy, "versions", "freeze", "leaky", "--name", "leaks")
    called = anywhere("-w", copy, "compare", "good", "leaks")
    assert (called.code, called.out) == (3, "")
    assert "1 rows of version 'leaks'" in called.err
    command = called.err.split("workbench ", 1)[1].strip().rstrip(".").split()
    clean = ["clean" if word == "V" else word for word in command]
    assert anywhere("-w", copy, *clean).code == 0
    workspace = Workspace.open(copy)
    version = workspace.store.version("clean")
    assert version is not None
    assert version.rows == 20
    assert workspace.overlaps("clean", "items") == 0
    workspace.close()


def test_a_source_is_no_version_and_the_command_that_makes_one_is_given(lab, copy, anywhere):
    called = anywhere("-w", copy, "compare", "good-rows", "bad")
    assert (called.code, called.out) == (2, "")
    assert "workbench versions freeze good-rows --name V" in called.err
    unknown = anywhere("-w", copy, "compare", "good", "nobody")
    assert unknown.code == 2
    assert "nobody" in unknown.err


def test_with_two_eval_sets_it_asks_which_and_with_none_how_to_get_one(lab, copy, bench, write_pairs, anywhere):
    assert bench("import", write_pairs(("a", "b c"), ("d", "e f"))).code == 0
    bench("versions", "freeze", "pairs", "--name", "v")
    called = bench("compare", "v", "v")
    assert called.code == 2
    assert "workbench evalset import FILE" in called.err
    anywhere("-w", copy, "evalset", "import", write_pairs(("x", "y"), name="other"), "--name", "second")
    called = anywhere("-w", copy, "compare", "good", "bad")
    assert called.code == 2
    assert "items, second" in called.err
    assert "--evalset" in called.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--trained-tokens", "300", "--minutes", "1"], "Give one of them"),
        (["--minutes", "0"], "--minutes must be more than 0"),
        (["--minutes", "-1"], "--minutes must be more than 0"),
        (["--seeds", "0"], "--seeds must be 1 or more"),
        (["--trained-tokens", "0"], "--trained-tokens"),
        (["--evalset", "nobody"], "nobody"),
    ],
)
def test_a_question_that_means_nothing_is_a_usage_error_and_notes_nothing(lab, copy, anywhere, options, says):
    before = experiments_in(copy)
    called = anywhere("-w", copy, "compare", "good", "bad", *options)
    assert (called.code, called.out) == (2, "")
    assert says in called.err
    assert experiments_in(copy) == before


def experiments_in(root: Path) -> int:
    workspace = Workspace.open(root)
    count = int(workspace.store.rows("SELECT count(*) FROM experiments")[0][0])
    workspace.close()
    return count


def test_a_model_that_cannot_be_had_is_told_before_anything_is_noted(lab, copy, anywhere):
    before = experiments_in(copy)
    called = anywhere("-w", copy, "compare", "good", "bad", "--model", "no-such-org/none", "--trained-tokens", 300)
    assert (called.code, called.out) == (5, "")
    assert called.err.startswith("error: model no-such-org/none: ")
    assert experiments_in(copy) == before


@pytest.mark.usefixtures("forked_jobs")
def test_what_the_job_finds_wrong_comes_back_with_its_exit_code(lab, copy, anywhere, tmp_path):
    shutil.copytree(lab.model, tmp_path / "no-weights", ignore=shutil.ignore_patterns("*.safetensors"))
    called = anywhere("-w", copy, "compare", "good", "bad", "--model", tmp_path / "no-weights", "--minutes", 1)
    assert (called.code, called.out) == (5, "")
    assert called.err.splitlines()[-1].startswith(f"error: model {tmp_path / 'no-weights'}: it could not be loaded")
    assert "Traceback" not in called.err
    states = [e["state"] for e in anywhere("-w", copy, "experiments", "ls", "--json").json["experiments"]]
    assert states.count("failed") == 1
