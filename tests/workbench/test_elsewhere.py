"""Jobs that run on another machine: packed here, run where nothing but `trainer` is installed, fetched back."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import multiprocessing
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from trainer import devices
from trainer.environment import NEEDED, requirements
from workbench import elsewhere, experiments
from workbench.elsewhere import fetch, pack
from workbench.errors import BadInput, NotFound, UsageProblem
from workbench.experiments import Question
from workbench.workspace import Workspace

from ..chapters import needs_fork, put_starter, run_page

pytestmark = needs_fork

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.fixture
def root(tmp_path, tiny_model, monkeypatch) -> Path:
    """The folder of a workspace with versions `a` and `b`, an eval set, and a model that is known as `tiny`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(tiny_model)
    ws = Workspace.init(tmp_path / "ws")
    for name, answer in (("a", "yes"), ("b", "no")):
        pairs = [{"prompt": f"Question {i}?", "completion": f"{answer} {i}"} for i in range(20)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        ws.import_file(Path(f"{name}.jsonl"), name=f"{name}-rows")
        ws.freeze(f"{name}-rows", name)
    items = [{"prompt": f"Item {i}?", "completion": f"yes {i}"} for i in range(4)]
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    ws.import_evalset(Path("items.jsonl"), "items")
    ws.close()
    return tmp_path / "ws"


@pytest.fixture
def planned(root) -> experiments.Experiment:
    ws = Workspace.open(root)
    question = Question("a", "b", model="./tiny", trained_tokens=300, seeds=1, max_new_tokens=4)
    experiment = experiments.plan(ws, question)
    ws.close()
    return experiment


def distributions(names: tuple[str, ...]) -> set[str]:
    """The distributions of these names that are installed, and all that they need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


def other_machine(folder: Path) -> Path:
    """An environment with what `requirements.txt` would install, and nothing else; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in distributions(NEEDED):
        distribution = importlib.metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files or [] if ".." not in Path(file).parts}:
            place = Path(str(distribution.locate_file(top)))
            if top != "__pycache__" and place.exists() and not (site / top).exists():
                (site / top).symlink_to(place)
    return folder / "bin" / "python"


def test_the_page_is_run_and_its_export_where_only_trainer_is(tmp_path, tiny_model, fork_job, monkeypatch):
    """docs/running-jobs.md as it stands, but for `python`: the one of a machine with what trainer needs alone."""
    monkeypatch.setattr(devices, "_PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    put_starter(tmp_path, 40)
    python = other_machine(tmp_path / "venv")
    gone = ["duckdb", "textual", "workbench", "filters", "sentence_transformers", "faiss"]
    asked = f"import importlib.util as i; print([n for n in {gone} if i.find_spec(n)])"
    found = subprocess.run([python, "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = f"--model {tiny_model} --trained-tokens 80 --max-new-tokens 2 --answers 0 --preset short"
    options = {"compare": f"{small} --seeds 1", "train": small}
    ran = run_page("docs/running-jobs.md", tmp_path, fork_job, options, {"python -m": f"{python} -m"})
    assert not [one for one in ran if not one.as_told]
    [there] = [one for one in ran if str(python) in one.line]
    assert (there.out, there.err) == ("", "")
    packed = tmp_path / "elsewhere" / "packed"
    assert (packed / "cache" / "tokens").is_dir(), "the tokens lie outside of the folder"
    [job] = (packed / "runs").iterdir()
    told = (job / "results" / "baseline-0" / "metrics.parquet").read_bytes()
    assert (
        tmp_path / "elsewhere" / "runs" / job.name / "results" / "baseline-0" / "metrics.parquet"
    ).read_bytes() == told
    assert ran[-1].line.startswith("workbench experiments resume")
    assert "baseline" in ran[-1].out or "trained" in ran[-1].out


def test_what_another_machine_installs_is_what_trainer_imports():
    tops = importlib.metadata.packages_distributions()
    there = distributions(NEEDED)
    missing = set()
    for path in TRAINER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in (name.split(".")[0] for name in names):
                if name not in sys.stdlib_module_names | {"trainer", "lm_eval", ""}:
                    missing |= {by.lower().replace("_", "-") for by in tops[name]} - there
    assert not missing
    assert all("+" not in line for line in requirements()), "a build for the devices of this machine"


def test_decisions_of_the_first_minute_stay_here_until_a_run_was_made(planned, tmp_path):
    results = planned.folder / "results"
    for path in ("model.json", "budget.json", "events.jsonl", "results/base/summary.json"):
        (planned.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (planned.folder / path).write_text("{}")
    inputs = {"plan.json", "baseline.parquet", "candidate.parquet", "eval.parquet", "general.txt"}
    packed = pack(planned.folder, tmp_path / "fresh").folder / "runs" / planned.id
    assert {path.name for path in packed.iterdir()} == inputs
    (results / "baseline-0").mkdir()
    (results / "baseline-0" / "summary.json").write_text("{}")
    packed = pack(planned.folder, tmp_path / "begun").folder / "runs" / planned.id
    assert {path.name for path in packed.iterdir()} == inputs | {"model.json", "budget.json", "results"}


def test_an_export_that_breaks_off_leaves_nothing(planned, tmp_path, monkeypatch):
    def stopped() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(elsewhere, "requirements", stopped)
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        pack(planned.folder, tmp_path / "packed")
    assert set(tmp_path.iterdir()) == before


def test_a_copy_that_lost_a_file_on_its_way_is_refused_and_what_is_here_stays(planned, tmp_path):
    packed = pack(planned.folder, tmp_path / "packed").folder / "runs" / planned.id
    for run in ("base", *(run.id for run in planned.plan.runs)):
        (packed / "results" / run).mkdir(parents=True)
        for name in ("summary.json", "metrics.parquet", "generations.parquet"):
            (packed / "results" / run / name).write_text("{}")
    for name in ("model.json", "budget.json", "events.jsonl", "log.txt", "done.json"):
        (packed / name).write_text("{}")
    (planned.folder / "results" / "baseline-0").mkdir(parents=True)
    for lost in ("results/candidate-0/metrics.parquet", "results/base/summary.json", "budget.json"):
        kept = (packed / lost).rename(tmp_path / "lost")
        with pytest.raises(BadInput, match=f"{lost} is not in this copy. Copy the whole folder again"):
            fetch(planned.folder, packed)
        kept.rename(packed / lost)
        assert [path.name for path in (planned.folder / "results").iterdir()] == ["baseline-0"]
    (packed / "results/candidate-0/metrics.parquet").unlink()
    (packed / "results/candidate-0/failed.json").write_text('{"what": "No.", "where": "", "do": "", "exit_code": 1}')
    fetch(planned.folder, packed)
    assert (planned.folder / "results" / "base" / "summary.json").exists()
    assert (planned.folder / "done.json").exists()


def test_what_cannot_come_back_is_refused_and_changes_nothing(planned, tmp_path):
    packed = pack(planned.folder, tmp_path / "packed").folder
    with pytest.raises(UsageProblem, match="not an empty folder"):
        pack(planned.folder, packed)
    (planned.folder / "results").mkdir()
    with pytest.raises(UsageProblem, match="not done there"):
        fetch(planned.folder, packed)
    with pytest.raises(NotFound, match=f"no run folder {planned.id} here"):
        fetch(planned.folder, tmp_path)
    (packed / "runs" / planned.id / "done.json").write_text("{}")
    (planned.folder / "done.json").write_text("{}")
    for refused in (lambda: fetch(planned.folder, packed), lambda: pack(planned.folder, tmp_path / "new")):
        with pytest.raises(UsageProblem, match="all made"):
            refused()
    (planned.folder / "done.json").unlink()
    plan = packed / "runs" / planned.id / "plan.json"
    plan.write_text(plan.read_text().replace('"max_new_tokens": 4', '"max_new_tokens": 5'))
    with pytest.raises(UsageProblem, match="another experiment's"):
        fetch(planned.folder, packed)
    assert (planned.folder / "results").is_dir()
