"""Jobs that run on another machine: packed here, run where nothing but `trainer` is installed, fetched back."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from trainer.environment import NEEDED, requirements
from workbench import experiments
from workbench.elsewhere import fetch, pack
from workbench.errors import NotFound, UsageProblem
from workbench.experiments import Question
from workbench.workspace import Workspace

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


def call(capsys, monkeypatch, *argv: object) -> tuple[int, str, str]:
    from workbench.cli import main

    monkeypatch.setattr(sys, "argv", ["workbench", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


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


def test_an_exported_experiment_runs_where_only_trainer_is_and_gets_its_verdict_here(
    root, tmp_path, tiny_model, capsys, monkeypatch
):
    setting = ("--model", "./tiny", "--trained-tokens", 300, "--seeds", 1, "--max-new-tokens", 4)
    code, out, err = call(capsys, monkeypatch, "-w", root, "compare", "a", "b", *setting, "--export", "packed")
    assert code == 0, err
    [id] = [path.name for path in (root / "runs").iterdir()]
    assert f"experiment {id}" in out
    assert f"workbench experiments resume {id} --from packed" in err
    packed = shutil.move("packed", tmp_path / "there")
    (tmp_path / "there" / "tiny").symlink_to(tiny_model)
    python = other_machine(tmp_path / "venv")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    gone = "duckdb textual workbench filters sentence_transformers faiss"
    asked = f"import importlib.util as i; print([n for n in {gone.split()!r} if i.find_spec(n)])"
    found = subprocess.run([python, "-c", asked], cwd=packed, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    done = subprocess.run([python, *f"-m trainer runs/{id}".split()], cwd=packed, env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), (packed / "runs" / id / "log.txt").read_text()
    assert (packed / "cache" / "tokens").is_dir(), "the tokens lie outside of the folder"
    code, out, err = call(capsys, monkeypatch, "-w", root, "experiments", "resume", id, "--from", packed, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["experiment"], result["primary"]) == (id, "response_nll")
    told = (packed / "runs" / id / "results" / "baseline-0" / "metrics.parquet").read_bytes()
    assert (root / "runs" / id / "results" / "baseline-0" / "metrics.parquet").read_bytes() == told


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
